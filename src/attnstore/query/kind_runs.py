"""The maps of a kind beside the weights, read as those of the weights are: stored ones, and kind norm.

A map of kind norm (Kobayashi et al. 2020, "Attention is not only a weight") is the weight times the length of
the value that it moves, divided by the sum of its row. It is computed from the weights and `value_norm` as
it is read.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from attnstore import map_kinds
from attnstore.errors import QueryError
from attnstore.map_kinds import MapKind
from attnstore.query import kernels
from attnstore.query.open_run import CELLS, OpenRun
from attnstore.query.run_inputs import Ask, RunInputs
from attnstore.storage.array_shape import Shape
from attnstore.storage.arrays import Floats, RunArrays
from attnstore.storage.layout import stretches
from attnstore.storage.reads import Ints

_PIECE_CELLS = 1 << 22
"""Cells in memory at once where columns are averaged."""


def opened(arrays: RunArrays, shape: Shape, kind: MapKind, key: int, ask: Ask) -> OpenRun:
    """Open the maps of a kind over the open arrays of a run.

    Args:
        arrays: The arrays.
        shape: Their layout.
        kind: The kind of maps.
        key: run_key of the run in the index.
        ask: Answers questions about the run.
    """
    if kind.name == map_kinds.WEIGHTS:
        return OpenRun(arrays, shape, kind, key, ask)
    return (KindRun if kind.stored else NormRun)(arrays, shape, kind, key, ask)


class KindRun(OpenRun):
    """The maps of a stored kind."""

    @property
    def _array(self) -> str:
        """Return the array that its blocks must hold."""
        return self.kind.name

    @cached_property
    def _inputs(self) -> RunInputs:
        return RunInputs(self._ask, self._key)

    def gather(self, array: str, rows: Ints, start: Ints, count: Ints) -> Floats:
        """Read slices, as `OpenRun.gather` does.

        Raises:
            UnknownNameError: The run lacks the kind, or lacks it for one of the slices.
        """
        self._require_held(array, start, count)
        if array == "received":
            return self._column_means(rows, start, count)
        return self._maps(array, rows, start, count)

    def _maps(self, array: str, rows: Ints, start: Ints, count: Ints) -> Floats:
        return self.arrays.gather(self.kind.name, rows, start, count)

    def _require_held(self, array: str, start: Ints, count: Ints) -> None:
        shard = self.shape.shard_cells if array in CELLS else self.shape.shard_tokens
        held = self.held(self._array)
        wrong = np.flatnonzero(held.lacking(start, count, shard))
        if wrong.size:
            if held.impossible:
                raise map_kinds.impossible(self.arrays.run, self.kind)
            block = None if held.none else held.block_of(int(start[wrong[0]]), shard)
            raise map_kinds.missing(self.arrays.run, self.kind, block)

    def _column_means(self, rows: Ints, start: Ints, count: Ints) -> Floats:
        """Compute the mean of each column of some maps for slices of their tokens."""
        numbers, offsets = self._inputs.of_tokens(start, count)
        places, whole = np.unique(np.stack((rows, numbers)), axis=1, return_inverse=True)
        lengths = self._inputs.length[places[1]]
        means = np.empty(int(lengths.sum()), np.float32)
        begins = np.cumsum(lengths) - lengths
        for piece in kernels.pieces(lengths**2, _PIECE_CELLS):
            cells, n = self._inputs.cell[places[1][piece]], lengths[piece]
            self._require_held("maps", cells, n**2)
            values = self._maps("maps", places[0][piece], cells, n**2)
            at = begins[piece.start]
            means[at : at + int(n.sum())] = kernels.column_means(values, n)
        targets = np.repeat(begins[whole] + offsets - (np.cumsum(count) - count), count)
        return means[targets + np.arange(int(count.sum()))]

    def layer_map(self, mean: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Divide the rows by their sums.

        Raises:
            QueryError: Numbers of the kind may be negative.
        """
        if self.kind.signed:
            raise QueryError(
                f"There is no rollout and no flow of maps of kind {self.kind.name}: their numbers may be negative."
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(mean / mean.sum(axis=1, keepdims=True))


class NormRun(KindRun):
    """The maps of kind norm."""

    @property
    def _array(self) -> str:
        return map_kinds.VALUE_NORM

    def _maps(self, array: str, rows: Ints, start: Ints, count: Ints) -> Floats:
        """Read shares ('maps'), or weights times norms ('moved'), where a head that moves more counts more."""
        numbers, offsets = self._inputs.of_cells(start, count)
        length = self._inputs.length[numbers]
        before, after = offsets % length, -(offsets + count) % length
        if not (before.any() or after.any()):
            return self._whole_rows(array, rows, start, count, numbers)
        size = before + count + after
        values = self._whole_rows(array, rows, start - before, size, numbers)
        begins = np.repeat(np.cumsum(size) - size + before - (np.cumsum(count) - count), count)
        return values[begins + np.arange(int(count.sum()))]

    def _whole_rows(
        self, array: str, rows: Ints, start: Ints, count: Ints, numbers: Ints
    ) -> Floats:
        """Read slices that begin and end with a row of a map; numbers: of their inputs."""
        values = self.arrays.gather("maps", rows, start, count)
        if not values.flags.writeable:
            values = values.copy()
        norms, begins = self._norms(rows, numbers)
        length, at = self._inputs.length[numbers], 0
        for same in stretches(length * (1 << 40) + count):
            n, n_rows = int(length[same.start]), int(count[same.start] // length[same.start])
            size = (same.stop - same.start) * n_rows * n
            maps = values[at : at + size].reshape(-1, n_rows, n)
            kernels.move(maps, norms[begins[same][:, None] + np.arange(n)], array == "maps")
            at += size
        return values

    def _norms(self, rows: Ints, numbers: Ints) -> tuple[Floats, Ints]:
        """Read the norms of the tokens of some heads and inputs, each once; where those of each begin."""
        places, which = np.unique(rows * len(self._inputs.cell) + numbers, return_inverse=True)
        head, number = np.divmod(places, len(self._inputs.cell))
        length = self._inputs.length[number]
        norms = self.arrays.gather(
            map_kinds.VALUE_NORM, head, self._inputs.token_cell[number], length
        )
        return norms, (np.cumsum(length) - length)[which]
