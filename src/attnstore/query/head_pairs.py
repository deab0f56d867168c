"""Every two heads of an input compared at once: the maps are read once, a stripe of rows at a time.

Clark et al. 2019, section 6, compare all heads by the Jensen-Shannon divergence of their rows. One
logarithm per pair and cell is all that it takes: the divergence of p and q is the entropy of their mean
less the mean of their entropies, and entropies of rows are computed once. Where two rows nearly agree, that
difference is rounding, and the ratio p / mean is taken instead (`kernels.divergence`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from attnstore.query import kernels
from attnstore.query.kernels import Floats

_CELLS = 1 << 16
"""Cells per step, of all heads together, so that they stay in a core's cache."""
_NEAR = np.float32(1e-3)
"""Divergence (base 2) below which rounding of the entropies would show."""

Doubles = npt.NDArray[np.float64]


def compare_every(
    stripes: Iterable[tuple[Floats, Floats]], same: bool
) -> tuple[Doubles, Doubles, Doubles]:
    """Compare every head's map of an input with every other head's.

    Args:
        stripes: Some rows of all maps, (n, rows, L), and of the maps they are compared with, (m, rows, L).
        same: True if both are the same maps: then only j > i is computed, and the rest is NaN.

    Returns:
        Per pair (n, m): the cosine of the flattened weights, the mean over from-tokens of the
        Jensen-Shannon distance (root of the divergence to base 2), and Pearson's correlation of the
        flattened weights: NaN where all weights of a map are equal.
    """
    totals: list[Doubles] = []
    cells = 0
    for maps, others in stripes:
        mean = np.float32(1 / maps.shape[2])  # of maps whose rows sum to 1
        sums = [*_sums(maps, others, mean), _distances(maps, others, same)]
        totals = [a + b for a, b in zip(totals, sums, strict=True)] if totals else sums
        cells += maps.shape[1] * maps.shape[2]
    products, one, other, one_squares, other_squares, distances = totals
    cosines = _angle(
        products + mean * (one + other.T) + cells * mean**2,
        *(s + 2 * mean * x + cells * mean**2 for s, x in ((one_squares, one), (other_squares, other))),
    )  # fmt: skip
    pearson = _angle(
        products - one * other.T / cells,
        *(_variance(s, x, cells) for s, x in ((one_squares, one), (other_squares, other))),
    )  # fmt: skip
    distances *= mean
    if same:
        twice = np.tril_indices(len(products))
        for values in (cosines, distances, pearson):
            values[twice] = np.nan
    return cosines, distances, pearson


def _angle(products: Doubles, one: Doubles, other: Doubles) -> Doubles:
    """Divide products (n, m) by the roots of squares (n, 1) and (m, 1)."""
    return np.clip(products / np.sqrt(one * other.T), -1, 1)


def _variance(squares: Doubles, sums: Doubles, cells: int) -> Doubles:
    """Sum the squares about the mean, NaN where they are rounding."""
    variance = squares - sums**2 / cells
    return np.where(variance > kernels.CONSTANT * (squares + 1 / cells), variance, np.nan)


def _sums(maps: Floats, others: Floats, mean: np.float32) -> tuple[Doubles, ...]:
    """Sum what cosine and correlation need of weights less a number near their mean.

    Returns:
        Products (n, m), sums (n, 1) and (m, 1), squares (n, 1) and (m, 1).
    """
    one, other = (x.reshape(len(x), -1) - mean for x in (maps, others))
    sums = (x.sum(axis=1, keepdims=True, dtype=np.float64) for x in (one, other))
    squares = (np.vecdot(x, x)[:, None].astype(np.float64) for x in (one, other))
    return (one @ other.T).astype(np.float64), *sums, *squares


def _distances(maps: Floats, others: Floats, same: bool) -> Doubles:
    """Sum over some rows the Jensen-Shannon distance of every pair, (n, m)."""
    n, m, length = len(maps), len(others), maps.shape[2]
    totals = np.zeros((n, m))
    step = max(1, _CELLS // (max(n, m) * length))
    for start in range(0, maps.shape[1], step):
        one, other = (np.ascontiguousarray(x[:, start : start + step]) for x in (maps, others))
        own, others_own = kernels.negative_entropy(one), kernels.negative_entropy(other)
        for head in range(n):
            beside = slice(head + 1 if same else 0, m)
            middle = other[beside] + one[head]
            middle *= np.float32(0.5)
            apart = (others_own[beside] + own[head]) * np.float32(0.5)
            apart -= kernels.negative_entropy(middle)
            apart *= np.float32(1 / np.log(2))
            near = np.nonzero(apart < _NEAR)
            if len(near[0]):
                apart[near] = kernels.divergence(one[head][near[1]], other[beside][near])
            totals[head, beside] += np.sqrt(np.maximum(apart, 0)).sum(axis=1)
    return totals
