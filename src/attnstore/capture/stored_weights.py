"""The stored weights of a block, as tensors of inputs of one length, for what is computed without the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from attnstore.capture.runs import Run
from attnstore.storage import layout
from attnstore.storage.arrays import Floats, RunArrays

_CELLS_AT_ONCE = 1 << 22
"""Weights that are read together (16 MiB)."""


@dataclass(frozen=True)
class Part:
    """Maps of a block that are measured together.

    heads: their numbers among all heads of all layers of the run; inputs: their rows in the block; tokens:
    those of these inputs in the block; maps: (inputs, heads, L, L) float32, contiguous.
    """

    heads: slice
    inputs: slice
    tokens: slice
    maps: torch.Tensor


def of_block(run: Run, opened: RunArrays, block: int) -> Iterator[Part]:
    """Read the maps of a block, some heads at a time, each stretch of inputs of one length by itself.

    Rows are divided by their sums where rounding has moved these away from 1. opened: arrays of the run.
    """
    inputs = run.plan[run.blocks[block]]
    length = inputs["length"].cast(int).to_numpy()
    cells, first, n_maps = int((length**2).sum()), int(inputs["cell"][0]), run.record.n_maps
    at_once = max(1, _CELLS_AT_ONCE // cells)
    for begin in range(0, n_maps, at_once):
        heads = slice(begin, min(begin + at_once, n_maps))
        numbers = np.arange(heads.start, heads.stop)
        start, count = np.full(len(numbers), first), np.full(len(numbers), cells)
        weights = opened.gather("maps", numbers, start, count).reshape(len(numbers), -1)
        yield from _stretches(run, weights, heads, length)


def _stretches(
    run: Run, weights: Floats, heads: slice, length: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> Iterator[Part]:
    """Cut the weights of heads (heads, cells) of a block into stretches. length: of its inputs, in tokens."""
    rounded = run.record.precision != "float32" and not run.record.sinks
    cell = token = 0
    for rows in layout.stretches(length):
        n, size = rows.stop - rows.start, int(length[rows.start])
        maps = torch.from_numpy(weights[:, cell : cell + n * size**2])
        maps = maps.reshape(-1, n, size, size).transpose(0, 1).contiguous()
        if rounded:
            maps /= maps.sum(-1, keepdim=True)
        yield Part(heads, rows, slice(token, token + n * size), maps)
        cell, token = cell + n * size**2, token + n * size
