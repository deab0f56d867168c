"""Check that the rows of stored maps sum to 1, within the rounding of their precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from attnstore.naming import ROW_OFF
from attnstore.storage.arrays import RunArrays
from attnstore.storage.precision import PRECISIONS
from attnstore.storage.reads import Ints

_CELLS_AT_ONCE = 1 << 20
"""Weights that are read and summed together (4 MiB)."""


def tolerance(precision: str, length: Ints) -> npt.NDArray[np.floating[Any]]:
    """Compute the largest allowed distance from 1 of the sum of a stored row of L weights.

    It is the tolerance of capture plus the bound of the rounding.
    """
    return ROW_OFF + PRECISIONS[precision].row_rounding(length)


def wrong(run: RunArrays, precision: str, inputs: pl.DataFrame, sinks: bool = False) -> str | None:
    """Describe the first wrong sum in a block's maps and `received`; None if all are right.

    inputs: the block's rows of `inputs` in storage order; sinks: True if attention sinks may take
    any share of a row.
    """
    length = inputs["length"].cast(pl.Int64).to_numpy()
    per_row = np.repeat(length, length)  # one entry per token: its row of the map has L weights
    allowed = {"maps": tolerance(precision, per_row), "received": tolerance("float32", length)}
    sizes = {"maps": per_row, "received": length}
    owner = {"maps": np.repeat(np.arange(len(length)), length), "received": np.arange(len(length))}
    first = {"maps": inputs["cell"][0], "received": inputs["token_cell"][0]}
    stored, unit = run.as_stored(), PRECISIONS[precision].row_unit or 1
    n_heads = len(run.layers) * len(run.heads)
    at_once = max(1, _CELLS_AT_ONCE // int(per_row.sum()))
    for begin in range(0, n_heads, at_once):
        rows = np.arange(begin, min(begin + at_once, n_heads))
        for array, parts in sizes.items():
            if len(rows) == n_heads:
                start = int(first[array])
                weights = stored.stretch(array, start, start + int(parts.sum())).ravel()
            else:
                at, count = np.full(len(rows), first[array]), np.full(len(rows), parts.sum())
                weights = stored.gather(array, rows, at, count)
            ends = np.cumsum(np.tile(parts, len(rows)))
            sums = np.add.reduceat(weights, np.concatenate(([0], ends[:-1])))
            sums = sums.reshape(len(rows), -1) / (unit if array == "maps" else 1)
            above, below = sums - 1, -sums if sinks else 1 - sums
            off = np.argwhere(~(np.maximum(above, below) <= allowed[array]))  # NaN is wrong too
            if len(off):
                row, where = off[0]
                layer, head = divmod(int(rows[row]), len(run.heads))
                expected = "at most 1" if sinks else "1"
                return (
                    f"{array} of layer {run.layers[layer]}, head {run.heads[head]} do not sum to {expected}, "
                    f"first in example {inputs['example'][int(owner[array][where])]} "
                    f"({sums[row, where]:.4g})"
                )
    return None
