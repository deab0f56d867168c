"""Rules of verifying a store of many small runs: what a run costs is not paid in calls per run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zarr
from helpers import flip, write_texts

import attnstore
from attnstore.maintenance.verify import verify
from attnstore.storage import arrays, fragments, location, zarr_metadata

RUNS = 8


@pytest.fixture(scope="module")
def root(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of some runs of one or a few texts each, of one shape."""
    folder = tmp_path_factory.mktemp("many")
    texts = write_texts(folder / "texts.jsonl", RUNS, longest=4)
    for n in range(RUNS):
        attnstore.ingest(folder / "store", str(tiny_bert), str(texts), limit=n + 1, max_length=16)
    return folder / "store"


def test_small_runs_are_read_together(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Zarr's description nor a Parquet reader is asked once per run."""
    calls: Counter[str] = Counter()

    def counted(name: str, function: Any) -> Any:
        def once(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return function(*arguments, **options)

        return once

    zarr_metadata._of_any.cache_clear()
    monkeypatch.setattr(zarr, "open_group", counted("groups", zarr.open_group))
    monkeypatch.setattr(pl, "read_parquet", counted("files", pl.read_parquet))
    monkeypatch.setattr(pl, "scan_parquet", counted("files", pl.scan_parquet))
    report = verify(root)
    assert report.findings == []
    assert report.checked.startswith(f"{RUNS} runs, {RUNS} blocks")
    assert calls["groups"] == 1
    assert (
        calls["files"]
        < 3 + len({f.table for f in fragments.listing(location.locate(root))}) + RUNS / 2
    )


def test_each_of_many_runs_is_named_when_it_is_damaged(root: Path) -> None:
    """Reading together hides nobody's fault."""
    names = sorted({f.owner for f in fragments.listing(location.locate(root), "runs")})
    flip(root / arrays.shard_path(names[2], "maps", 0))
    (other,) = fragments.listing(location.locate(root), "inputs", names[5])
    flip(root / other.path)
    found = verify(root).findings
    assert {f.run for f in found} == {names[2], names[5]}


def test_rows_of_fragments_are_counted_together(root: Path) -> None:
    """Of every table, and 0 for a fragment without rows."""
    empty = fragments.write(
        location.locate(root), "links", "texts", "s.1", pl.DataFrame(schema={"a": pl.Int32})
    )
    runs, links = (fragments.listing(location.locate(root), table) for table in ("runs", "links"))
    found = fragments.counts(location.locate(root), [*runs, *links])
    assert found == {**{f.path: 1 for f in runs}, empty: 0}
