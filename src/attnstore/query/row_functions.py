"""SQL functions over some of the tokens of maps, which `map_reader` reads; `row_kernels` computes.

sql/schema/session/7-positions.sql describes their arguments and results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from attnstore.errors import QueryError
from attnstore.query import arrow, kernels, map_reader, row_kernels
from attnstore.query.map_reader import Keys, MapReader
from attnstore.query.row_kernels import Best, Marks, Within
from attnstore.storage.reads import Ints

_BEST = "STRUCT(to_pos INTEGER[], weight FLOAT[], total FLOAT[])"
WITHIN = "STRUCT(sent FLOAT[], received FLOAT[], distance DOUBLE)"


class RowFunctions:
    """The functions over some tokens of maps of one session. reader: its arrays."""

    def __init__(self, reader: MapReader) -> None:
        self._reader = reader

    def over_maps(self) -> list[tuple[Callable[..., pa.Array], list[Any], str]]:
        """List the functions over maps: each with its arguments after those of a map, and its result."""
        return [
            (self._row_best, ["TINYINT[]", "TINYINT[]"], _BEST),
            (self._within, ["TINYINT[]", "BOOLEAN"], WITHIN),
        ]

    def _row_best(
        self,
        run_key: Keys,
        layer: Ints,
        head: Ints,
        cell: Ints,
        length: Ints,
        rows: Any,
        columns: Any,
    ) -> pa.StructArray:
        sending, receiving = _marks(length, rows), _marks(length, columns)
        ends, parts = np.concatenate(([0], np.cumsum(length))), []
        for at, values in self._reader.maps(run_key, layer, head, cell, length):
            tokens = slice(ends[at.start], ends[at.stop])
            parts.append(row_kernels.best(values, length[at], sending[tokens], receiving[tokens]))
        found = Best(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        return arrow.structs(
            {
                "to_pos": arrow.lists(found.place, length, found.place < 0),
                "weight": arrow.lists(found.weight, length, np.isnan(found.weight)),
                "total": arrow.lists(found.total, length, np.isnan(found.total)),
            }
        )

    def _within(
        self,
        run_key: Keys,
        layer: Ints,
        head: Ints,
        cell: Ints,
        length: Ints,
        tokens: Any,
        renormalise: Any,
    ) -> pa.StructArray:
        marks, shares = _marks(length, tokens), arrow.flags(renormalise)
        ends, parts = np.concatenate(([0], np.cumsum(length))), []
        for at, values in self._reader.maps(run_key, layer, head, cell, length):
            here = marks[ends[at.start] : ends[at.stop]]
            parts.append(row_kernels.within(values, length[at], here, shares[at]))
        return _sums(Within(*(np.concatenate(c) for c in zip(*parts, strict=True))), length)


def even_within(tokens: Any, among: Any, looks_back: Any) -> pa.StructArray:
    """Sum even attention over some tokens (among) of the marked ones, as `attention_within` sums that of a map."""
    values, length, _ = arrow.items(tokens)
    marks, attended, back = values.astype(bool), _marks(length, among), arrow.flags(looks_back)
    parts = []
    for at in kernels.pieces(length**2, map_reader.PIECE_CELLS):
        here = slice(length[: at.start].sum(), length[: at.stop].sum())
        maps = row_kernels.even(length[at], attended[here], back[at])
        none = np.zeros(len(length[at]), bool)
        parts.append(row_kernels.within(maps, length[at], marks[here], none))
    return _sums(Within(*(np.concatenate(c) for c in zip(*parts, strict=True))), length)


def _sums(found: Within, length: Ints) -> pa.StructArray:
    return arrow.structs(
        {
            "sent": arrow.lists(found.sent, length, np.isnan(found.sent)),
            "received": arrow.lists(found.received, length, np.isnan(found.received)),
            "distance": found.distance,
        }
    )


def _marks(length: Ints, marks: Any) -> Marks:
    """Return the marks of all inputs' tokens, end to end.

    Raises:
        QueryError: There is not one mark per token.
    """
    values, counts, _ = arrow.items(marks)
    if (wrong := np.flatnonzero(counts != length)).size:
        raise QueryError(
            f"A function was given {counts[wrong[0]]} marks for an input of {length[wrong[0]]} tokens; "
            "give 1 or 0 for each token."
        )
    return values.astype(bool)
