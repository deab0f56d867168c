"""The rows of a run's maps along the axis of cells, for a precision whose rows are divided by their sums."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from attnstore.storage.reads import Ints


@dataclass(frozen=True)
class Widened:
    """Requests widened to whole rows of maps, none of them of two inputs.

    row, start, size: (n,) of each; length: weights of each of its rows; before: cells that it begins
    before what was asked for; count: cells that were asked for.
    """

    row: Ints
    start: Ints
    size: Ints
    length: Ints
    before: Ints
    count: Ints

    def divide(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Divide each row by its sum, in place, and return what was asked for. A row of zeros stays."""
        if len(values):
            lengths = np.repeat(self.length, self.size // self.length)
            sums = np.add.reduceat(values, np.cumsum(lengths) - lengths)
            sums[sums == 0] = 1
            if (lengths == lengths[0]).all():
                rows = values.reshape(-1, lengths[0])
                rows /= sums[:, None]
            else:
                values /= np.repeat(sums, lengths)
        if np.array_equal(self.size, self.count):
            return values
        offset = np.cumsum(self.size) - self.size + self.before
        target = np.cumsum(self.count) - self.count
        return values[np.repeat(offset - target, self.count) + np.arange(int(self.count.sum()))]


class RowPlaces:
    """The rows of the maps of a run.

    cell, length: first cell and tokens of each input, in any order; cells: of the whole axis. Unused
    cells between two inputs count as one row.
    """

    def __init__(self, cell: Ints, length: Ints, cells: int) -> None:
        self._cell, self._length, self._cells = cell, length, cells

    @cached_property
    def _table(self) -> tuple[Ints, Ints]:
        """Return the starts of inputs and gaps, with the end of the axis, and the length of their rows."""
        order = np.argsort(self._cell)
        cell, length = self._cell[order], self._length[order]
        end = cell + length**2
        gap_start = np.concatenate(([0], end))
        gap = np.concatenate((cell, [self._cells])) - gap_start
        starts = np.concatenate((cell, gap_start[gap > 0]))
        order = np.argsort(starts)
        lengths = np.concatenate((length, gap[gap > 0]))[order]
        return np.append(starts[order], self._cells), lengths

    def widened(self, row: Ints, start: Ints, count: Ints) -> Widened:
        """Widen requests to whole rows, and split those that reach over several inputs."""
        starts, lengths = self._table
        stop = start + count
        first = np.searchsorted(starts, start, "right") - 1
        n = np.searchsorted(starts, stop, "left") - first
        n[count == 0] = 0
        which = np.repeat(np.arange(len(n)), n)
        at = np.repeat(first - (np.cumsum(n) - n), n) + np.arange(len(which))
        begin, end = np.maximum(start[which], starts[at]), np.minimum(stop[which], starts[at + 1])
        length = lengths[at]
        before, after = (begin - starts[at]) % length, -(end - starts[at]) % length
        size = before + (end - begin) + after
        return Widened(row[which], begin - before, size, length, before, end - begin)
