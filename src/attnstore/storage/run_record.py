"""The record of a run: the one row of its fragment of table `runs`, typed.

A record of an earlier version lacks some columns; they are None here. A record is read as it was
written: `array_shape.of_record` refuses one that gives no arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import polars as pl

from attnstore.storage import fragments
from attnstore.storage.backend import Backend
from attnstore.storage.fragments import Fragment

_LISTS = ("layers", "heads", "layout")


@dataclass(frozen=True)
class RunRecord:
    """One run as it was planned; `COMMENT ON COLUMN runs.…` in `sql/schema/index` explains the columns.

    run, run_key, model, dataset: its names in the store, empty for a run that is not registered
    yet; layers, heads: 0-based numbers; layout: see `array_shape.Shape.record`, None
    for a run of an earlier version.
    """

    run: str = ""
    run_key: int = 0
    identity: str = ""
    model: str = ""
    dataset: str = ""
    precision: str = ""
    max_length: int = 0
    pad_to: int | None = None
    layers: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    disabled: str | None = None
    disabled_value: str | None = None
    sample: int | None = None
    seed: int | None = None
    planned: int = 0
    n_tokens: int = 0
    n_cells: int = 0
    n_blocks: int = 0
    n_empty: int = 0
    n_truncated: int = 0
    capture_version: int | None = None
    captured: str = "interface"
    batching: str = "mixed"
    sinks: bool = False
    attnstore_version: str | None = None
    torch_version: str | None = None
    transformers_version: str | None = None
    tokenizers_version: str | None = None
    created: datetime | None = None
    layout: tuple[int, ...] | None = None

    @property
    def n_maps(self) -> int:
        """Return the number of maps of one input: layers times heads."""
        return len(self.layers) * len(self.heads)

    @property
    def longest(self) -> int:
        """Return the maximum length of an input in tokens, padding included."""
        return self.pad_to or self.max_length

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> RunRecord:
        """Make a record of a row of `runs`; columns that are missing or NULL get their defaults."""
        values = {f.name: row[f.name] for f in fields(cls) if row.get(f.name) is not None}
        return cls(**values | {name: tuple(values[name]) for name in _LISTS if name in values})

    def to_frame(self) -> pl.DataFrame:
        """Return the record as the one row of its fragment."""
        row = {f.name: getattr(self, f.name) for f in fields(self)}
        row |= {name: list(row[name]) for name in _LISTS if row[name] is not None}
        return pl.DataFrame([row], schema_overrides={"run_key": pl.UInt64})


def read(backend: Backend, fragment: Fragment) -> RunRecord:
    """Read the record in a fragment of `runs`. Raises DamageError."""
    return RunRecord.of_row(fragments.read(backend, fragment).row(0, named=True))
