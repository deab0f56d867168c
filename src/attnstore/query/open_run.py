"""The arrays of a run as the SQL functions use them, with checks of what is asked for."""

from __future__ import annotations

import numpy as np

from attnstore.errors import QueryError
from attnstore.naming import require_held
from attnstore.storage.array_shape import Shape
from attnstore.storage.arrays import RunArrays
from attnstore.storage.reads import Ints


class OpenRun:
    """The open arrays of a run, with checks of layers, heads, lengths and slices."""

    def __init__(self, opened: RunArrays, shape: Shape) -> None:
        self.arrays, self._shape = opened, shape
        self._rows = np.full((max(opened.layers) + 1, max(opened.heads) + 1), -1, np.int64)
        n_heads = len(opened.heads)
        rows = np.arange(len(opened.layers) * n_heads).reshape(-1, n_heads)
        self._rows[np.ix_(opened.layers, opened.heads)] = rows

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
            require_held(self.arrays.run, "head", int(head[wrong[0]]), self.arrays.heads)
        return rows

    def require_lengths(self, length: Ints) -> None:
        """Raise QueryError for a length in tokens that no input has."""
        if (wrong := np.flatnonzero(length > self._shape.longest)).size:
            raise QueryError(
                f"Run {self.arrays.run} was asked for an input of {length[wrong[0]]} tokens, and it "
                f"takes {self._shape.longest} at most; map_places gives the length of each."
            )

    def require_inside(self, array: str, start: Ints, count: Ints) -> None:
        """Raise QueryError for a slice that does not lie within an array."""
        size = self._shape.cells if array == "maps" else self._shape.tokens
        wrong = np.flatnonzero((start < 0) | (count < 0) | (count > size) | (start > size - count))
        if wrong.size:
            at = wrong[0]
            raise QueryError(
                f"Run {self.arrays.run} was asked for {count[at]} weights from offset {start[at]} of "
                f"{array}, which has {size} per head; map_places gives the place of each map."
            )
