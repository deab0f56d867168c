"""The typed record of a run."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import datetime

import polars as pl
import pytest

from attnstore.display import records
from attnstore.errors import DamageError
from attnstore.storage import array_shape
from attnstore.storage.run_record import RunRecord

RECORD = RunRecord(
    run="m/d", run_key=2**64 - 1, identity="ab", model="m", dataset="d", precision="float16",
    max_length=8, layers=(0, 2), heads=(1,), planned=3, created=datetime(2026, 1, 2),
    layout=(1, 4, 2, 4, 2), sinks=True, batching="single",
)  # fmt: skip


@pytest.mark.parametrize("record", [RECORD, replace(RECORD, layout=None, pad_to=9)])
def test_a_record_comes_back_from_its_row(record: RunRecord) -> None:
    """What is written into a fragment is what is read from it, keys of 64 bits included."""
    assert RunRecord.of_row(record.to_frame().row(0, named=True)) == record


def test_a_record_of_an_earlier_version_gets_defaults() -> None:
    """Columns that a record lacks, or that are NULL, have the values that runs had before them."""
    row = RECORD.to_frame().drop("batching", "captured", "layout", "torch_version")
    record = RunRecord.of_row(row.with_columns(sinks=pl.lit(None, pl.Boolean)).row(0, named=True))
    assert (record.batching, record.captured, record.sinks) == ("mixed", "interface", False)
    assert record.layout is None
    assert record.torch_version is None


def test_a_record_without_arrays_is_damage() -> None:
    """A record without layers is one sentence, not a missing key."""
    record = RunRecord.of_row(RECORD.to_frame().drop("layers").row(0, named=True))
    with pytest.raises(DamageError, match="The record of run m/d gives no arrays"):
        array_shape.of_record("m/d", record)


def test_the_columns_of_a_run_are_attributes() -> None:
    """`store.run(name).layers` is `store.run(name).record["layers"]`, also in another process."""
    run = pickle.loads(
        pickle.dumps(records.RunRecord("m/d", {"layers": [0, 2], "state": "complete"}))
    )
    assert run.layers == run.record["layers"] == [0, 2]
    assert "state" in dir(run)
    with pytest.raises(AttributeError, match="no column 'layer'; it has layers, state"):
        _ = run.layer
