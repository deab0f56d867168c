"""The packing plan, which gives every map its cells: pure arithmetic without I/O.

Maps are laid end to end along one axis `cell`: an input of length L owns L² consecutive cells,
row by row (from-token major), at the same offset for every layer and head. One shard is one
block of inputs, the unit of work, retry and commit. An input never crosses a shard boundary
unless it is longer than a shard; then its block owns several. The plan depends on the lengths
alone, so any process on any machine makes the same one, and blocks can be computed in any order.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attnstore.naming import EQUAL, MIXED, SINGLE

Ints = npt.NDArray[np.int64]

SHARD_CELLS = 1 << 19
"""Cells of one shard of `maps` along the cell axis (for BERT-base in float16: 151 MB raw)."""
CHUNK_CELLS = 1 << 15
"""Cells of one inner chunk, the least that is decoded to read one map (64 KiB in float16)."""
SHARD_TOKENS = 1 << 15
"""Tokens of one shard of `received` along the token axis; a block never holds more."""
CHUNK_TOKENS = 1 << 12
"""Tokens of one inner chunk of `received`."""
BATCH_TOKENS = 1024
"""Tokens of one forward pass, padding included: what a layer makes of them fits a core's cache."""


@dataclass(frozen=True)
class Plan:
    """Position of each input of a run; row i is the i-th input in storage order.

    order: index into the lengths given to `plan`; length: tokens of the input;
    block: its block; cell: offset of its maps (cells); token: offset of its tokens (tokens).
    first_shard, shards: per block, the shards of `maps` (and, the first of them, of `received`)
    that belong to it.
    """

    order: Ints
    length: Ints
    block: Ints
    cell: Ints
    token: Ints
    first_shard: Ints
    shards: Ints

    @property
    def n_blocks(self) -> int:
        """Return the number of blocks."""
        return len(self.first_shard)

    @property
    def n_shards(self) -> int:
        """Return the number of shards of each array."""
        return int(self.shards.sum())


def plan(
    lengths: npt.ArrayLike, shard_cells: int = SHARD_CELLS, shard_tokens: int = SHARD_TOKENS
) -> Plan:
    """Pack inputs of the given lengths (tokens) into blocks, shortest first, ties in given order.

    Raises ValueError for a length below 1 or above `shard_tokens`.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    if sizes.size and (sizes.min() < 1 or sizes.max() > shard_tokens):
        raise ValueError(f"lengths must lie in 1..{shard_tokens}")
    order = np.argsort(sizes, kind="stable")
    length = sizes[order]
    block, cell, token, first, shards = _fill(length, shard_cells, shard_tokens)
    return Plan(
        order, length, block, cell, token, np.array(first, np.int64), np.array(shards, np.int64)
    )


def _fill(
    length: Ints, shard_cells: int, shard_tokens: int
) -> tuple[Ints, Ints, Ints, list[int], list[int]]:
    """Walk the sorted lengths once, closing a block when the next input does not fit."""
    block, cell, token = (np.empty_like(length) for _ in range(3))
    first: list[int] = []
    shards: list[int] = []
    cells_left = tokens_left = 0
    for i, n in enumerate(length.tolist()):
        if not first or n * n > cells_left or n > tokens_left:
            first.append(first[-1] + shards[-1] if first else 0)
            shards.append(max(1, -(-n * n // shard_cells)))
            next_cell, next_token = first[-1] * shard_cells, first[-1] * shard_tokens
            cells_left, tokens_left = shards[-1] * shard_cells, shard_tokens
        block[i], cell[i], token[i] = len(first) - 1, next_cell, next_token
        next_cell, next_token = next_cell + n * n, next_token + n
        cells_left, tokens_left = cells_left - n * n, tokens_left - n
    return block, cell, token, first, shards


def batches(length: Ints, tokens: int = BATCH_TOKENS, rule: str = MIXED) -> list[slice]:
    """Cut inputs in storage order (lengths ascending) into forward passes.

    Each holds at most `tokens` tokens after padding to its longest, and at least one input. rule:
    one of naming.BATCHINGS, which inputs may share a pass.
    """
    cuts = [0]
    for i, n in enumerate(length.tolist()):
        full = (i + 1 - cuts[-1]) * n > tokens
        apart = rule == SINGLE or (rule == EQUAL and n != length[i - 1])
        if i > cuts[-1] and (full or apart):
            cuts.append(i)
    return [slice(a, b) for a, b in zip(cuts, [*cuts[1:], len(length)], strict=True) if b > a]


def stretches(length: Ints) -> list[slice]:
    """Cut sorted lengths into stretches of equal length, each of which fits one tensor."""
    if not len(length):
        return []
    cuts = [0, *(np.flatnonzero(np.diff(length)) + 1).tolist(), len(length)]
    return [slice(a, b) for a, b in itertools.pairwise(cuts)]
