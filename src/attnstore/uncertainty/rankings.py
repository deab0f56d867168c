"""Rank correlations of many pairs of short lists at once, without intervals: ties are handled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
_CELLS = 1 << 20
"""Pairs of items that are compared at a time."""


def kendall(x: npt.ArrayLike, y: npt.ArrayLike, counts: npt.ArrayLike) -> Doubles:
    """Give Kendall's τ-b of each two lists: (concordant - discordant) / √(untied in x · untied in y).

    Kendall 1945, as scipy.stats.kendalltau computes it.

    Args:
        x: Items of all lists, end to end; pairs with a NaN are left out.
        y: Likewise.
        counts: Length of each list, shape (n,).

    Returns:
        One coefficient per list, shape (n,); NaN where all items of a side are equal.
    """
    return _by_length(_kendall, x, y, counts)


def spearman(x: npt.ArrayLike, y: npt.ArrayLike, counts: npt.ArrayLike) -> Doubles:
    """Give Spearman's ρ of each two lists: Pearson's correlation of mean ranks.

    Args:
        x: Items of all lists, end to end; pairs with a NaN are left out.
        y: Likewise.
        counts: Length of each list, shape (n,).

    Returns:
        One coefficient per list, shape (n,); NaN where all items of a side are equal.
    """
    return _by_length(_spearman, x, y, counts)


def _by_length(
    measure: Callable[[Doubles, Doubles], Doubles], x: Any, y: Any, counts: Any
) -> Doubles:
    """Apply a measure of mean ranks, (k, n) and (k, n), to lists of one length n at a time."""
    from scipy import stats  # here: reading must begin fast

    first, second = np.asarray(x, np.float64), np.asarray(y, np.float64)
    sizes, known = np.asarray(counts, np.int64), ~(np.isnan(first) | np.isnan(second))
    lists = np.repeat(np.arange(len(sizes)), sizes)[known]
    first, second, sizes = first[known], second[known], np.bincount(lists, minlength=len(sizes))
    starts, coefficients = np.cumsum(sizes) - sizes, np.full(len(sizes), np.nan)
    for rows in _alike(sizes):
        at = starts[rows][:, None] + np.arange(sizes[rows[0]])
        ranks = (stats.rankdata(side[at], axis=1) for side in (first, second))
        coefficients[rows] = measure(*ranks)
    return coefficients


def _alike(sizes: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the lists of one length of 2 or more, so many at a time as memory allows."""
    order = np.argsort(sizes, kind="stable")
    for size, start, n in zip(*np.unique(sizes[order], return_index=True, return_counts=True), strict=True):  # fmt: skip
        at_once = max(1, _CELLS // max(int(size) ** 2, 1))
        for first in range(start, start + n if size > 1 else start, at_once):
            yield order[first : min(first + at_once, start + n)]


def _kendall(x: Doubles, y: Doubles) -> Doubles:
    (less, _), (lower, higher) = _orders(x), _orders(y)
    agreement = _count(less & lower) - _count(less & higher)
    with np.errstate(invalid="ignore"):
        tau: Doubles = agreement / np.sqrt(_count(less) * _count(lower))
    return tau


Bits = npt.NDArray[np.uint8]


def _orders(ranks: Doubles) -> tuple[Bits, Bits]:
    """Say of every two items if the first is less, and if it is more, in bits (k, n² / 8)."""
    items = (2 * ranks).astype(np.int32)  # mean ranks are whole or halves
    first, second = items[:, :, None], items[:, None, :]
    less, more = (
        np.packbits(order.reshape(len(ranks), -1), axis=1)
        for order in (first < second, first > second)
    )
    return less, more


def _count(bits: Bits) -> Doubles:
    counts: Doubles = np.bitwise_count(bits).sum(1, dtype=np.int64).astype(np.float64)
    return counts


def _spearman(x: Doubles, y: Doubles) -> Doubles:
    first, second = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    sums = [np.einsum("ij,ij->i", *pair) for pair in ((first, second), (first, first), (second, second))]  # fmt: skip
    with np.errstate(invalid="ignore"):
        rho: Doubles = sums[0] / np.sqrt(sums[1] * sums[2])
    return np.clip(rho, -1, 1)
