"""SQL functions over what a run holds beside its weights: value norms, mixing ratios, names of kinds.

sql/schema/session/1-weights.sql describes their arguments and results.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import pyarrow as pa

from attnstore import map_kinds
from attnstore.query import arrow, map_reader
from attnstore.query.kernels import Floats
from attnstore.query.map_reader import Keys, MapReader
from attnstore.storage import array_kinds
from attnstore.storage.reads import Ints

_RATIOS = array_kinds.MIXING.components
_LAYER: list[Any] = ["UBIGINT", "SMALLINT", "BIGINT", "BIGINT"]


class KindFunctions:
    """The functions of one session beside those over maps. reader: its arrays."""

    def __init__(self, reader: MapReader) -> None:
        self._reader = reader

    def functions(self) -> list[tuple[str, Callable[..., pa.Array], list[Any], str, bool]]:
        """List the functions: name, call, parameters, result; True for one that may give NULL."""
        ratios = ", ".join(f"{name} FLOAT" for name in _RATIOS)
        head, mixing = [*_LAYER[:2], "SMALLINT", *_LAYER[2:]], f"STRUCT({ratios})[]"
        return [
            ("known_kind", self._known_kind, ["VARCHAR"], "VARCHAR", False),
            ("attention_value_norms", _over_nulls(self._value_norms), head, "FLOAT[]", True),
            ("attention_mixing", _over_nulls(self._mixing), _LAYER, mixing, True),
            ("attention_to_itself", self._to_itself, _LAYER, "FLOAT[]", False),
        ]

    def _known_kind(self, names: Any) -> Any:
        """Return names of kinds of maps as they are. Raises UnknownNameError for a name of none."""
        for name in set(names.to_pylist()):  # `unique` imports all of pyarrow.compute
            self._reader.keys.know(name)
        return names

    def _value_norms(
        self, run_key: Any, layer: Any, head: Any, start: Any, count: Any
    ) -> pa.ListArray:
        keys, layers, starts, counts = _numbers(run_key, layer, start, count)
        heads = arrow.integers(head)
        _refuse(counts)
        norms, lacking = self._reader.per_token(
            map_kinds.VALUE_NORM, keys, layers, heads, starts, counts
        )
        return arrow.lists(norms, counts, np.isnan(norms), lacking)

    def _mixing(self, run_key: Any, layer: Any, start: Any, count: Any) -> pa.ListArray:
        keys, layers, starts, counts = _numbers(run_key, layer, start, count)
        _refuse(counts)
        ratios: dict[str, Floats] = {}
        for number, name in enumerate(_RATIOS):
            at = (keys, layers, np.full(len(layers), number), starts, counts)
            ratios[name], lacking = self._reader.per_token(map_kinds.MIXING, *at)
        return arrow.lists(arrow.structs(ratios), counts, missing=lacking)

    def _to_itself(self, run_key: Any, layer: Any, cell: Any, length: Any) -> pa.ListArray:
        keys, layers, cells, lengths = _numbers(run_key, layer, cell, length)
        self._reader.require_lengths(keys, lengths)
        ends = np.cumsum(lengths)
        means = np.empty(ends[-1], np.float32)
        for row, (key, n) in enumerate(zip(keys.tolist(), lengths.tolist(), strict=True)):
            heads = np.unique(self._reader.heads(key)[1])
            one, at = np.full(len(heads), 1), np.arange(n)
            maps = (keys[row] * one.astype(np.uint64), layers[row] * one, heads, cells[row] * one)
            total = np.zeros(n)
            for _, values in self._reader.maps(*maps, n * one):
                total += values.reshape(-1, n, n)[:, at, at].sum(axis=0, dtype=np.float64)
            means[ends[row] - n : ends[row]] = total / len(heads)
        return arrow.lists(means, lengths)


def _over_nulls(function: Callable[..., pa.ListArray]) -> Callable[..., pa.ListArray]:
    """Wrap a function that may give NULL: rows with a NULL argument are NULL, and it never sees them."""

    @wraps(function)  # DuckDB reads the number of parameters off the signature
    def call(*columns: Any) -> pa.ListArray:
        whole = [c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for c in columns]
        if not any(column.null_count for column in whole):
            return function(*whole)
        kept = np.logical_and.reduce([arrow.numbers(c.is_valid().cast(pa.uint8())) for c in whole])
        at = np.flatnonzero(kept)
        if not len(at):
            return pa.nulls(len(kept), pa.null())
        rows = np.cumsum(kept) - 1
        part = function(*(column.take(arrow.column(at)) for column in whole))
        return part.take(arrow.column(rows, kept == 0))

    return call


def _refuse(count: Ints) -> None:
    map_reader.refuse_less(count, 0, "n")
    map_reader.require_room(count)


def _numbers(run_key: Any, *columns: Any) -> tuple[Keys, Ints, Ints, Ints]:
    """Convert the Arrow columns of a layer's maps."""
    layer, start, count = (arrow.integers(column) for column in columns)
    return arrow.keys(run_key), layer, start, count
