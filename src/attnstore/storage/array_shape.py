"""The layout of a run's arrays, taken from the run's record.

A description on disk (zarr.json) has no checksum, so arrays are opened by the `Shape` of the record,
whose fragment has one; a description that differs from it is damage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attnstore.errors import DamageError
from attnstore.storage import array_kinds, chunks, layout
from attnstore.storage.precision import FLOAT32, PRECISIONS, Precision
from attnstore.storage.run_record import RunRecord


@dataclass(frozen=True)
class Axis:
    """The last axis of an array: cell or token, the sizes of a shard and of a chunk along it.

    rows: size of the array's second axis.
    """

    name: str
    shard: int
    chunk: int
    rows: int


@dataclass(frozen=True)
class Shape:
    """Shape of a run's arrays, as its record gives it.

    layers, heads: the 0-based numbers along the first two axes; shards: of each array;
    shard_cells, chunk_cells: of `maps` along its last axis; shard_tokens, chunk_tokens: of `received`;
    longest: tokens of an input at most.
    """

    precision: str
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    shards: int
    shard_cells: int
    chunk_cells: int
    shard_tokens: int
    chunk_tokens: int
    longest: int

    @property
    def record(self) -> list[int]:
        """Return the column `layout` of the run's record: shards, then the four sizes."""
        sizes = self.shard_cells, self.chunk_cells, self.shard_tokens, self.chunk_tokens
        return [self.shards, *sizes]

    @property
    def cells(self) -> int:
        """Return the cells of `maps` per layer and head."""
        return self.shards * self.shard_cells

    @property
    def tokens(self) -> int:
        """Return the tokens of `received` per layer and head."""
        return self.shards * self.shard_tokens

    def axis(self, array: str) -> Axis:
        """Return the last axis of an array, and the size of its second one."""
        kind = None if array in ("maps", "received") else array_kinds.find(array)
        cells = array == "maps" or (kind is not None and kind.last == "cell")
        shard, chunk = (
            (self.shard_cells, self.chunk_cells)
            if cells
            else (self.shard_tokens, self.chunk_tokens)
        )
        rows = len(self.heads) if kind is None else kind.rows(self.heads)
        return Axis("cell" if cells else "token", shard, chunk, rows)

    def stored(self, array: str) -> Precision:
        """Return how an array stores its numbers."""
        return PRECISIONS[self.precision] if array == "maps" else FLOAT32

    def metadata(self, array: str) -> dict[str, Any]:
        """Return the part of zarr.json of an array that describes its numbers (Zarr v3)."""
        kind, axis = self.stored(array).dtype, self.axis(array)
        shard, chunk = axis.shard, axis.chunk
        further = array not in ("maps", "received")
        axes = [len(self.layers), axis.rows]
        swapped = {"configuration": {"endian": "little"}} if kind.itemsize > 1 else {}
        blosc = {"name": "blosc", "configuration": chunks.blosc(kind)}
        inner = [{"name": "bytes", **swapped}, blosc, {"name": "crc32c"}]
        number = {"name": "bytes", "configuration": {"endian": "little"}}
        sharding = {
            "chunk_shape": [1, 1, chunk],
            "codecs": inner,
            "index_codecs": [number, {"name": "crc32c"}],
            "index_location": "end",
        }
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [*axes, self.shards * shard],
            "data_type": kind.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [*axes, shard]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": "NaN" if further else 0 if kind.kind == "u" else 0.0,
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        }


def planned(
    precision: str, layers: Sequence[int], heads: Sequence[int], shards: int, longest: int
) -> Shape:
    """Return the shape of a run being planned, with the sizes of this version."""
    return Shape(
        precision, tuple(layers), tuple(heads), shards,
        layout.SHARD_CELLS, layout.CHUNK_CELLS, layout.SHARD_TOKENS, layout.CHUNK_TOKENS, longest,
    )  # fmt: skip


def of_record(run: str, record: RunRecord, end: int | None = None) -> Shape:
    """Return the shape in a run's record.

    end: cells after the run's last input, for a record of an earlier version, which lacks the column
    `layout`. Raises DamageError for a record that gives none.
    """
    longest = record.longest or layout.SHARD_TOKENS
    layers, heads, sizes = record.layers, record.heads, record.layout
    if sizes is None and end is not None:
        shards = -(-end // layout.SHARD_CELLS)
        return planned(record.precision, layers, heads, shards, longest)
    numbers = [*layers, *heads]
    sound = (
        record.precision in PRECISIONS
        and layers and heads and sizes and len(sizes) == 5 and min(sizes) > 0
        and sizes[1] % sizes[2] == 0 and sizes[3] % sizes[4] == 0
        and len({*layers}) == len(layers) and len({*heads}) == len(heads)
        and all(0 <= n < 1 << 15 for n in numbers)
    )  # fmt: skip
    if sizes is None or not sound:
        raise DamageError(
            f"The record of run {run} gives no arrays ({record.precision}, {len(layers)} "
            f"layers, {len(heads)} heads, layout {sizes and [*sizes]}); drop the run and ingest it again."
        )
    shards, shard_cells, chunk_cells, shard_tokens, chunk_tokens = sizes
    return Shape(
        record.precision, layers, heads,
        shards, shard_cells, chunk_cells, shard_tokens, chunk_tokens, longest,
    )  # fmt: skip
