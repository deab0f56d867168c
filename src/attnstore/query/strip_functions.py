"""The SQL function that cuts maps into strips, which the view attention unnests.

DuckDB takes 2048 rows at a time. Where all of them come from one strip, what is the same for its weights
(layer, head, example) stays one value for it, and grouping by it costs a third. So a strip is as long as that,
and the last one of a map is filled up with what lies behind it, to be left out by its cells. Small maps share
such 2048 rows, and the last one before a larger map is filled up so that its strips begin with new ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from attnstore.query import arrow, map_reader
from attnstore.query.map_reader import Keys, MapReader
from attnstore.storage.reads import Ints

FILLED = 1024
"""Weights of the smallest map whose last strip is filled up: of a smaller one too little would be its own."""
COUNTED = 1 << 22
"""Cells of the largest map whose numbers stay in memory, for all strips: of longer inputs they would be gigabytes."""


class StripFunctions:
    """The function of one session. reader: its arrays."""

    def __init__(self, reader: MapReader) -> None:
        self._reader = reader
        self._counted = np.arange(1 << 16, dtype=np.int32)

    def over_maps(self) -> list[tuple[Callable[..., pa.Array], list[Any], str]]:
        """List the functions over maps: call, further parameters, result."""
        return [(self._strip, ["BIGINT", "BIGINT"], "STRUCT(cells INTEGER[], weights FLOAT[])")]

    def _strip(
        self,
        run_key: Keys,
        layer: Ints,
        head: Ints,
        cell: Ints,
        length: Ints,
        start: Any,
        size: Any,
    ) -> pa.StructArray:
        self._reader.require_lengths(run_key, length)
        first, most = (arrow.integers(x) for x in (start, size))
        map_reader.refuse_less(first, 0, "start")
        map_reader.refuse_less(most, 1, "n")
        own = np.clip(length**2 - first, 0, most)
        map_reader.require_room(own)
        weights, begins = self._reader.in_disk_order(run_key, layer, head, cell + first, own)
        shown = _filled(own, most, length**2 >= FILLED)
        shown = np.where(shown <= len(weights) - begins, shown, own)
        cells, places = self._cells(first, shown)
        fields = arrow.list_views(cells, places, shown), arrow.list_views(weights, begins, shown)
        return pa.StructArray.from_arrays(list(fields), ["cells", "weights"])

    def _cells(self, first: Ints, shown: Ints) -> tuple[npt.NDArray[np.int32], Ints]:
        """Return numbers of cells, and where those of each strip begin; DuckDB calls from several threads at once."""
        end = int((first + shown).max())
        if end > COUNTED:
            places = np.cumsum(shown) - shown
            cells = np.arange(int(shown.sum()), dtype=np.int32)
            return cells + np.repeat((first - places).astype(np.int32), shown), places
        numbers = self._counted
        if len(numbers) < end:
            numbers = self._counted = np.arange(2 * end, dtype=np.int32)
        return numbers, first


def _filled(own: Ints, most: Ints, alone: npt.NDArray[np.bool_]) -> Ints:
    """Return how many weights each strip shows, so that those of larger maps begin at multiples of `most`.

    Args:
        own: Weights of each strip's map in it.
        most: Weights that a strip may have.
        alone: True for a strip that is filled up by itself; of others that follow each other, the last one
            is filled up to a multiple.
    """
    shown = np.where(alone, most, own)
    last = np.flatnonzero(~alone & np.append(alone[1:], False))
    if last.size:
        behind = np.cumsum(np.where(alone, 0, own))[last]
        shown[last] += -np.diff(behind, prepend=0) % most[last]
    return shown
