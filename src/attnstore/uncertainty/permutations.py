"""A permutation test for what was measured beside its replacements in the same input.

Under the null hypothesis the measured value of an input and the values of its replacements could
change places: each is as likely to be the measured one (Fisher 1935; Phipson and Smyth 2010 for p).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

PERMUTATIONS = 9_999
"""Random exchanges of each test; the smallest p-value is 1 in 10,000."""
SEED = 0
"""Seed of the exchanges, so that the same values give the same p-value."""


def permutation_p(values: Sequence[Sequence[float] | npt.ArrayLike]) -> float | None:
    """Give the two-sided p-value that the measured values exceed their replacements by chance.

    Args:
        values: Per input the measured value and those of its replacements; an input without a
            replacement is left out.

    Returns:
        The p-value; None without an input that has a replacement.
    """
    rows = [np.asarray(row, np.float64) for row in values]
    sizes = tuple(map(len, rows))
    p = permutation_p_values(sizes, np.concatenate([np.empty(0), *rows])[None])[0]
    return None if np.isnan(p) else float(p)


def permutation_p_values(sizes: Sequence[int], values: Doubles) -> Doubles:
    """Give the p-value of several measures of the same inputs, such as all heads of a model.

    Args:
        sizes: Per input, one more than it has replacements.
        values: Shape (measures, sum of sizes): of each input the measured value comes first.

    Returns:
        Shape (measures,); NaN without an input that has a replacement, and for a measure with NaN.
    """
    draws = np.random.default_rng(SEED)
    measured = np.zeros(len(values))
    exchanged = np.zeros((len(values), PERMUTATIONS))
    starts = np.cumsum(sizes) - sizes
    for start, size in zip(starts, sizes, strict=True):
        if size < 2:
            continue
        own = values[:, start : start + size]
        gains = (own * size - own.sum(1, keepdims=True)) / (size - 1)  # over the mean of the others
        measured += gains[:, 0]
        exchanged += gains[:, draws.integers(size, size=PERMUTATIONS)]
    if not any(size > 1 for size in sizes):
        return np.full(len(values), np.nan)
    least = np.abs(measured) * (1 - 1e-9)  # sums in another order differ in their last digits
    larger = (np.abs(exchanged) >= least[:, None]).sum(1)
    p: Doubles = np.where(np.isnan(measured), np.nan, (larger + 1) / (PERMUTATIONS + 1))
    return p
