"""Where the inputs of a run lie, and which of its blocks hold an array: asked of the index once per run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from attnstore.errors import QueryError
from attnstore.storage.reads import Ints

Ask = Callable[..., pl.DataFrame]
"""Answers an SQL text over the attached index, with parameters by name."""

_INPUTS = "SELECT cell, token_cell, length FROM idx.core.inputs WHERE run_key = $key ORDER BY cell"
_BLOCKS = """
SELECT b.block, b.first_shard, max(coalesce(len(a.crc32c), -1)) AS shards
FROM idx.core.blocks b
LEFT JOIN idx.core.array_blocks a ON a.run_key = b.run_key AND a.block = b.block AND a."array" = $array
WHERE b.run_key = $key GROUP BY b.block, b.first_shard ORDER BY b.first_shard
"""


class RunInputs:
    """The inputs of a run in the order of their cells: 20 bytes each.

    Attributes:
        cell, token_cell, length: First cell, first token and tokens of each.
    """

    def __init__(self, ask: Ask, key: int) -> None:
        rows = ask(_INPUTS, key=key)
        self.cell, self.token_cell = (rows[c].to_numpy() for c in ("cell", "token_cell"))
        self.length = rows["length"].to_numpy().astype(np.int64)

    def of_cells(self, start: Ints, count: Ints) -> tuple[Ints, Ints]:
        """Find the input of each slice of cells, and where in it the slice begins.

        Raises:
            QueryError: A slice does not lie within one input.
        """
        return self._within(self.cell, self.length**2, start, count, "cells")

    def of_tokens(self, start: Ints, count: Ints) -> tuple[Ints, Ints]:
        """Find the input of each slice of tokens, and where in it the slice begins.

        Raises:
            QueryError: A slice does not lie within one input.
        """
        return self._within(self.token_cell, self.length, start, count, "tokens")

    def _within(
        self, begins: Ints, sizes: Ints, start: Ints, count: Ints, what: str
    ) -> tuple[Ints, Ints]:
        numbers = np.maximum(np.searchsorted(begins, start, side="right") - 1, 0)
        offsets = start - begins[numbers]
        outside = np.flatnonzero((offsets < 0) | (offsets + count > sizes[numbers]))
        if outside.size:
            at = outside[0]
            raise QueryError(
                f"{count[at]} {what} from offset {start[at]} are not of one input; of maps other than the "
                "weights a slice is a part of one map. map_places gives the place of each."
            )
        return numbers, offsets


class HeldBlocks:
    """The committed blocks of a run, and which of them hold an array."""

    def __init__(self, ask: Ask, key: int, array: str) -> None:
        rows = ask(_BLOCKS, key=key, array=array)
        self._blocks, self._first = (rows[c].to_numpy() for c in ("block", "first_shard"))
        self._shards = rows["shards"].to_numpy()
        self._lacking = np.concatenate(([0], np.cumsum(self._shards <= 0)))

    @property
    def none(self) -> bool:
        """Return True if no block holds it."""
        return int(self._lacking[-1]) == len(self._blocks)

    @property
    def impossible(self) -> bool:
        """Return True if it cannot be had of the model."""
        return bool((self._shards == 0).any())

    def lacking(self, start: Ints, count: Ints, shard: int) -> npt.NDArray[np.bool_]:
        """Return True for each slice that a block without the array has a part in.

        Args:
            start, count: First cell (or token) and how many.
            shard: Cells (or tokens) of a shard.
        """
        if not len(self._blocks):
            return np.ones(len(start), bool)
        if not self._lacking[-1]:
            return np.zeros(len(start), bool)
        first, last = (
            self._blocks_of(start, shard),
            self._blocks_of(start + np.maximum(count, 1) - 1, shard),
        )
        return self._lacking[last + 1] > self._lacking[first]

    def block_of(self, start: int, shard: int) -> int:
        """Return the number of the block that a cell (or token) lies in."""
        return int(self._blocks[self._blocks_of(np.array([start]), shard)[0]])

    def _blocks_of(self, at: Ints, shard: int) -> Ints:
        return np.maximum(np.searchsorted(self._first * shard, at, side="right") - 1, 0)
