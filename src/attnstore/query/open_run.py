"""The arrays of a run as the SQL functions use them, with checks of what is asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from attnstore import map_kinds
from attnstore.errors import QueryError
from attnstore.map_kinds import MapKind
from attnstore.naming import require_held
from attnstore.query.run_inputs import Ask, HeldBlocks
from attnstore.storage.array_shape import Shape
from attnstore.storage.arrays import Floats, RunArrays
from attnstore.storage.reads import Ints

CELLS = ("maps", "moved")
"""What is read along cells; the rest is along tokens."""


class OpenRun:
    """The weights of a run, with checks of layers, heads, lengths and slices.

    Args:
        opened: Its open arrays.
        shape: Their layout.
        kind: The kind of maps.
        key: run_key of the run in the index.
        ask: Answers questions over the index.

    Attributes:
        arrays: Its open arrays.
        shape: Their layout.
        kind: The kind of maps: here the weights.
        layers, heads: 0-based numbers along its maps; head 0 alone of a kind with one map a layer.
    """

    def __init__(self, opened: RunArrays, shape: Shape, kind: MapKind, key: int, ask: Ask) -> None:
        self.arrays, self.shape, self.kind = opened, shape, kind
        self._key, self._ask = key, ask
        self._held: dict[str, HeldBlocks] = {}
        self.layers, self.heads = opened.layers, (0,) if kind.per_layer else opened.heads
        self._rows = np.full((max(self.layers) + 1, max(self.heads) + 1), -1, np.int64)
        n_heads = len(self.heads)
        rows = np.arange(len(self.layers) * n_heads).reshape(-1, n_heads)
        self._rows[np.ix_(self.layers, self.heads)] = rows

    def rows(self, layer: Ints, head: Ints) -> Ints:
        """Find the row of each (layer, head) in the arrays.

        Raises:
            UnknownNameError: The run does not store a layer or head.
        """
        layers, heads = self._rows.shape
        layer_at, head_at = np.clip(layer, 0, layers - 1), np.clip(head, 0, heads - 1)
        rows: Ints = self._rows[layer_at, head_at]
        wrong = np.flatnonzero((layer_at != layer) | (head_at != head) | (rows < 0))
        if wrong.size:
            require_held(self.arrays.run, "layer", int(layer[wrong[0]]), self.arrays.layers)
            require_held(self.arrays.run, "head", int(head[wrong[0]]), self.heads)
        return rows

    def token_rows(self, array: str, layer: Ints, row: Ints) -> Ints:
        """Find the row of each (layer, head), in 'mixing' of each (layer, ratio), in an array per token.

        Raises:
            UnknownNameError: The run does not store a layer or head.
        """
        if array != map_kinds.MIXING:
            return self.rows(layer, row)
        first = self.rows(layer, np.full(len(layer), self.heads[0]))
        return first // len(self.heads) * self.shape.axis(array).rows + row

    def held(self, array: str) -> HeldBlocks:
        """Return which blocks hold an array."""
        if array not in self._held:
            self._held[array] = HeldBlocks(self._ask, self._key, array)
        return self._held[array]

    def require_lengths(self, length: Ints) -> None:
        """Raise QueryError for a length in tokens that no input has."""
        if (wrong := np.flatnonzero(length > self.shape.longest)).size:
            raise QueryError(
                f"Run {self.arrays.run} was asked for an input of {length[wrong[0]]} tokens, and it "
                f"takes {self.shape.longest} at most; map_places gives the length of each."
            )

    def require_inside(self, array: str, start: Ints, count: Ints) -> None:
        """Raise QueryError for a slice that does not lie within an array."""
        size = self.shape.cells if array in CELLS else self.shape.tokens
        wrong = np.flatnonzero((start < 0) | (count < 0) | (count > size) | (start > size - count))
        if wrong.size:
            at = wrong[0]
            raise QueryError(
                f"Run {self.arrays.run} was asked for {count[at]} weights from offset {start[at]} of "
                f"{array}, which has {size} per head; map_places gives the place of each map."
            )

    def gather(self, array: str, rows: Ints, start: Ints, count: Ints) -> Floats:
        """Read slices one after another.

        Args:
            array: 'maps'; 'received', the means of their columns; 'moved', the maps as heads of a layer
                add up; or an array with a number per token.
            rows: As `rows` gives them.
            start, count: First cell (or token) of each and how many.
        """
        return self.arrays.gather("maps" if array == "moved" else array, rows, start, count)

    def every(self, cell: int, length: int) -> Floats:
        """Read every map of one input: (layers, heads, L, L) float32."""
        if self.kind.name == map_kinds.WEIGHTS:
            return self.arrays.example(cell, length)
        n = len(self.layers) * len(self.heads)
        at = np.full(n, cell), np.full(n, length * length)
        flat = self.gather("maps", np.arange(n), *at)
        return flat.reshape(len(self.layers), len(self.heads), length, length)

    def window(self, start: Ints, end: Ints) -> Floats:
        """Read the maps of inputs that follow each other: first cells, and ends, in order.

        Returns:
            (layers, heads, cells) float32, from the first cell of the first input on.
        """
        if self.kind.name == map_kinds.WEIGHTS:
            flat = self.arrays.stretch("maps", int(start[0]), int(end[-1]))
            return flat.reshape(len(self.layers), len(self.heads), -1)
        cells = np.zeros((len(self.layers), len(self.heads), int(end[-1] - start[0])), np.float32)
        for begin, stop in zip(start.tolist(), end.tolist(), strict=True):
            maps = self.every(begin, round((stop - begin) ** 0.5))
            at = slice(begin - int(start[0]), stop - int(start[0]))
            cells[:, :, at] = maps.reshape(*cells.shape[:2], -1)
        return cells

    def layer_map(self, mean: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Make the map of a layer, whose rows sum to 1, of the mean over its heads of 'moved', (n, n)."""
        return mean
