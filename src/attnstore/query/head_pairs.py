"""Every two heads of an input compared at once: the maps are read once, a stripe of rows at a time.

Clark et al. 2019, section 6, compare all heads by the Jensen-Shannon divergence of their rows. One
logarithm per pair and cell is all that it takes: the divergence of p and q is the entropy of their mean
less the mean of their entropies, and entropies of rows are computed once. Where two rows nearly agree, that
difference is rounding, and the ratio p / mean is taken instead (`kernels.divergence`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from attnstore.query import kernels
from attnstore.query.kernels import Floats, Ints

MEASURES = ("js_divergence", "js_distance", "cosine", "pearson")
"""Measures of how far two maps are from each other, as `distances` has them."""
_CELLS = 1 << 16
"""Cells per step, of all heads together, so that they stay in a core's cache."""
_NEAR = np.float32(1e-3)
"""Divergence (base 2) below which rounding of the entropies would show."""
_ZERO = np.float32(1e-30)
"""Added to weights, so that each has a logarithm; no row of a map notices it."""

Doubles = npt.NDArray[np.float64]
Stripes = Iterable[tuple[Floats, Floats]]
"""Some rows of all maps, (n, rows, L), and of the maps they are compared with, (m, rows, L)."""


def compare_every(stripes: Stripes, same: bool) -> tuple[Doubles, Doubles, Doubles]:
    """Compare every head's map of an input with every other head's.

    Args:
        stripes: The maps, some rows at a time.
        same: True if both are the same maps: then only j > i is computed, and the rest is NaN.

    Returns:
        Per pair (n, m): the cosine of the flattened weights, the mean over from-tokens of the
        Jensen-Shannon distance (root of the divergence to base 2), and Pearson's correlation of the
        flattened weights: NaN where all weights of a map are equal.
    """
    parts, rows, length = [], 0, 0
    for maps, others in stripes:
        parts.append([*_sums(maps, others), _summed(maps, others, same, root=True)])
        rows, length = rows + maps.shape[1], maps.shape[2]
    sums = [np.sum(column, axis=0) for column in zip(*parts, strict=True)]
    cosines, pearson = _angles(sums[:-1], rows, length)
    apart = sums[-1] / rows
    if same:
        twice = np.tril_indices(len(cosines))
        for values in (cosines, apart, pearson):
            values[twice] = np.nan
    return cosines, apart, pearson


def distances(stripes: Stripes, same: bool, measure: str) -> tuple[Doubles, Ints]:
    """Measure how far every head's map of an input is from every other head's.

    Args:
        stripes: The maps, some rows at a time; a row without numbers (NaN) is no row of its head.
        same: True if both are the same maps: then only j > i is computed.
        measure: js_divergence or js_distance: a number per row that both heads have, the divergence to
            base 2 (bits, 0 to 1) or its root. cosine or pearson: one number, 1 less that of the
            flattened maps.

    Returns:
        Per pair (n, m): the sum of these numbers, and how many there are.
    """
    by_row, parts, rows, length = measure.startswith("js_"), [], 0, 0
    for maps, others in stripes:
        root = measure == "js_distance"
        parts.append(
            _summed_where_known(maps, others, same, root) if by_row else _sums(maps, others)
        )
        rows, length = rows + maps.shape[1], maps.shape[2]
    sums = [np.sum(column, axis=0) for column in zip(*parts, strict=True)]
    if by_row:
        return sums[0], sums[1].astype(np.int64)
    apart = 1 - _angles(sums, rows, length)[measure == "pearson"]
    known = ~np.isnan(apart)
    return np.where(known, apart, 0), known.astype(np.int64)


def _angles(sums: list[Doubles], rows: int, length: int) -> tuple[Doubles, Doubles]:
    """Give cosine and Pearson's correlation of pairs of maps (n, m) from the sums of `_sums`."""
    products, one, other, one_squares, other_squares = sums
    cells, mean = rows * length, _middle(length)
    cosines = _angle(
        products + mean * (one + other.T) + cells * mean**2,
        *(s + 2 * mean * x + cells * mean**2 for s, x in ((one_squares, one), (other_squares, other))),
    )  # fmt: skip
    pearson = _angle(
        products - one * other.T / cells,
        *(_variance(s, x, cells) for s, x in ((one_squares, one), (other_squares, other))),
    )  # fmt: skip
    return cosines, pearson


def _middle(length: int) -> np.float32:
    """Return the mean weight of a map whose rows sum to 1."""
    return np.float32(1 / length)


def _angle(products: Doubles, one: Doubles, other: Doubles) -> Doubles:
    """Divide products (n, m) by the roots of squares (n, 1) and (m, 1)."""
    return np.clip(products / np.sqrt(one * other.T), -1, 1)


def _variance(squares: Doubles, sums: Doubles, cells: int) -> Doubles:
    """Sum the squares about the mean, NaN where they are rounding."""
    variance = squares - sums**2 / cells
    return np.where(variance > kernels.CONSTANT * (squares + 1 / cells), variance, np.nan)


def _sums(maps: Floats, others: Floats) -> list[Doubles]:
    """Sum what cosine and correlation need of weights less a number near their mean.

    Returns:
        Products (n, m), sums (n, 1) and (m, 1), squares (n, 1) and (m, 1).
    """
    one, other = (x.reshape(len(x), -1) - _middle(x.shape[2]) for x in (maps, others))
    sums = (x.sum(axis=1, keepdims=True, dtype=np.float64) for x in (one, other))
    squares = (np.vecdot(x, x)[:, None].astype(np.float64) for x in (one, other))
    return [(one @ other.T).astype(np.float64), *sums, *squares]


def _summed(maps: Floats, others: Floats, same: bool, root: bool) -> Doubles:
    """Sum over some rows the Jensen-Shannon divergence, or its root, of every pair, (n, m)."""
    parts = _divergences(maps, others, same)
    sums = [(np.sqrt(x) if root else x).sum(axis=2, dtype=np.float64) for x in parts]
    total: Doubles = np.sum(sums, axis=0)
    return total


def _summed_where_known(maps: Floats, others: Floats, same: bool, root: bool) -> list[Doubles]:
    """Sum as `_summed`, over the rows that both heads of a pair have; return their number, too."""
    parts = _divergences(maps, others, same)
    sums = [np.nansum(np.sqrt(x) if root else x, axis=2, dtype=np.float64) for x in parts]
    one, other = (np.isfinite(x[:, :, 0]).astype(np.float64) for x in (maps, others))
    return [np.sum(sums, axis=0), one @ other.T]


def _divergences(maps: Floats, others: Floats, same: bool) -> Iterator[Floats]:
    """Yield the divergence (base 2) of the rows of every pair, (n, m, some rows); NaN for j <= i if same."""
    n, m, length = len(maps), len(others), maps.shape[2]
    step = max(1, _CELLS // (max(n, m) * length))
    for start in range(0, maps.shape[1], step):
        one, other = (np.ascontiguousarray(x[:, start : start + step]) for x in (maps, others))
        padded, sums, logs = other + _ZERO, np.empty_like(other), np.empty_like(other)
        # of rows p and q: p ln p + q ln q - (p + q) ln((p + q) / 2)
        own, others_own = (
            kernels.negative_entropy(x) + np.float32(np.log(2)) * x.sum(axis=2)
            for x in (one, other)
        )
        together = np.full((n, m, one.shape[1]), np.nan, np.float32)
        for head in range(n):
            beside = slice(head + 1 if same else 0, m)
            both, log = sums[beside], logs[beside]
            np.add(padded[beside], one[head], out=both)
            np.log(both, out=log)
            np.vecdot(both, log, out=together[head, beside])
        apart = own[:, None] + others_own
        apart -= together
        apart *= np.float32(0.5 / np.log(2))
        for head in np.flatnonzero((near := apart < _NEAR).any(axis=(1, 2))).tolist():
            of, rows = np.nonzero(near[head])
            apart[head, of, rows] = kernels.divergence(one[head][rows], other[of, rows])
        yield np.maximum(apart, 0)
