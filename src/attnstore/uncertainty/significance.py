"""Tests that are no means: corrections for many heads, flips, correlations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


class Correlation(NamedTuple):
    """A correlation with its 95 % interval and test.

    Attributes:
        r: The coefficient; None where a side is constant, or for under 3 pairs.
        low: Lower end of the interval; None for under 4 pairs.
        high: Upper end.
        p: Two-sided p-value of no correlation; None as r.
    """

    r: float | None
    low: float | None
    high: float | None
    p: float | None


def q_values(p: Sequence[float] | npt.ArrayLike) -> Doubles:
    """Give the false discovery rate at which each of several tests is significant.

    Benjamini and Hochberg 1995, as scipy computes it.

    Args:
        p: p-values, shape (n,); NaN where there is no test.

    Returns:
        q-values, shape (n,); NaN where p is.
    """
    from scipy import stats  # here: reading must begin fast

    values = np.asarray(p, np.float64)
    q = np.full(len(values), np.nan)
    known = ~np.isnan(values)
    if known.any():
        q[known] = stats.false_discovery_control(values[known])
    return q


def mcnemar(to_right: npt.ArrayLike, to_wrong: npt.ArrayLike) -> Any:
    """Give the exact two-sided p-value that inputs become right as often as wrong (McNemar 1947).

    Under it, `to_right` of all flips is a binomial count of probability 1/2.

    Args:
        to_right: Inputs that became right; a number or an array.
        to_wrong: Inputs that became wrong.

    Returns:
        The p-value, 1 without a flip; an array for arrays.
    """
    from scipy import special  # here: reading must begin fast

    right, wrong = np.asarray(to_right, np.float64), np.asarray(to_wrong, np.float64)
    p = np.minimum(2 * special.bdtr(np.minimum(right, wrong), right + wrong, 0.5), 1.0)
    return float(p) if p.ndim == 0 else p


def correlation(
    x: Sequence[float] | npt.ArrayLike, y: Sequence[float] | npt.ArrayLike
) -> Correlation:
    """Give Pearson's correlation, with Fisher's interval and the t test.

    Args:
        x: Values, shape (n,); pairs with a NaN are left out.
        y: Values, shape (n,).
    """
    return _correlation(*_pairs(x, y), ranks=False)


def rank_correlation(
    x: Sequence[float] | npt.ArrayLike, y: Sequence[float] | npt.ArrayLike
) -> Correlation:
    """Give Spearman's rank correlation, with the interval of Bonett and Wright 2000 and the t test.

    Args:
        x: Values, shape (n,); pairs with a NaN are left out.
        y: Values, shape (n,).
    """
    return _correlation(*_pairs(x, y), ranks=True)


def _pairs(x: Any, y: Any) -> tuple[Doubles, Doubles]:
    first, second = np.asarray(x, np.float64), np.asarray(y, np.float64)
    known = np.flatnonzero(~(np.isnan(first) | np.isnan(second)))
    order = known[np.lexsort((second[known], first[known]))]  # sums show the order of their terms
    return first[order], second[order]


def _correlation(x: Doubles, y: Doubles, ranks: bool) -> Correlation:
    from scipy import special, stats  # here: reading must begin fast

    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(None, None, None, None)
    r, p = map(float, (stats.spearmanr if ranks else stats.pearsonr)(x, y))
    if len(x) < 4:
        return Correlation(r, None, None, p)
    width = np.sqrt((1 + r**2 / 2 if ranks else 1) / (len(x) - 3)) * special.ndtri(0.975)
    with np.errstate(divide="ignore"):
        low, high = np.tanh(np.arctanh(r) + np.array([-width, width]))
    return Correlation(r, float(low), float(high), p)
