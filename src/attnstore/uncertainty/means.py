"""The 95 % interval of a mean over inputs, and its test against 0, for many groups at once.

Student's t, with two corrections. Inputs that share a source text are one draw: the standard error is that
of sums over sources (cluster-robust), and t has one degree of freedom less than there are sources. Where the
draws are skewed, t is bent by the transformation of Hall 1992, "On the Removal of Skewness by
Transformation", J. R. Statist. Soc. B 54; without skew it is Student's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

COVERAGE = 0.95
"""Share of samples whose interval holds the mean of the population."""
FEW = 10
"""Inputs, or sources, below which a head's interval may cover far less: docs/statistics.md has the simulation."""


class MeanInterval(NamedTuple):
    """A mean over inputs with its 95 % interval.

    Attributes:
        mean: Mean over the values; None without any.
        low: Lower end; None for one input, or one source.
        high: Upper end.
        interval: How it was made: `t`, or `t by source` where inputs share sources; `, few` below 10
            of them, where it may cover too little; or why there is none: `one input`, `one source`,
            `all equal`.
    """

    mean: float | None
    low: float | None
    high: float | None
    interval: str | None


class MeanTest(NamedTuple):
    """A mean of paired differences with its 95 % interval and test.

    Attributes:
        mean: Mean over the differences; None without any.
        low: Lower end; None for one input, or one source.
        high: Upper end.
        interval: How it was made, as in `MeanInterval`.
        p: Two-sided p-value of the mean being 0; None as low.
    """

    mean: float | None
    low: float | None
    high: float | None
    interval: str | None
    p: float | None


class MeanTests(NamedTuple):
    """Means, intervals and tests of several groups: arrays of one length, NaN where there is none."""

    mean: Doubles
    low: Doubles
    high: Doubles
    interval: list[str | None]
    p: Doubles


def mean_interval(
    values: Sequence[float] | npt.ArrayLike,
    sources: Sequence[Any] | None = None,
    least: float | None = None,
    most: float | None = None,
) -> MeanInterval:
    """Give the mean over inputs and its 95 % interval.

    Args:
        values: One value per input, shape (n,); NaN and None are left out.
        sources: What each input shares with others, such as its premise, shape (n,): equal values
            for inputs of one source, None for an input that shares nothing. Without it, none does.
        least: Least value that the measure can have; the interval ends there.
        most: Largest value that it can have.
    """
    return MeanInterval(*mean_test(values, sources, least, most)[:4])


def mean_test(
    values: Sequence[float] | npt.ArrayLike,
    sources: Sequence[Any] | None = None,
    least: float | None = None,
    most: float | None = None,
) -> MeanTest:
    """Give the mean of paired differences, its 95 % interval, and p: two-sided, that the mean is 0.

    Args:
        values: One difference per input, shape (n,); NaN and None are left out.
        sources: As in `mean_interval`.
        least: Least value that a difference can have.
        most: Largest value that it can have.
    """
    numbers = np.asarray(values, np.float64)
    keys = np.zeros(len(numbers), np.uint64) if sources is None else _keys(sources)
    known = ~np.isnan(numbers)
    tests = mean_tests(
        numbers[known],
        keys[known],
        np.array([known.sum()], np.int64),
        np.array([-np.inf if least is None else least]),
        np.array([np.inf if most is None else most]),
    )
    mean, low, high, p = (
        None if np.isnan(column[0]) else float(column[0])
        for column in (tests.mean, tests.low, tests.high, tests.p)
    )
    return MeanTest(mean, low, high, tests.interval[0], p)


def mean_tests(
    values: Doubles, sources: Keys, counts: Ints, least: Doubles, most: Doubles
) -> MeanTests:
    """Give the mean, interval and test of each group.

    Args:
        values: The values of all groups, end to end.
        sources: The source of each value; 0 for one that shares nothing.
        counts: Number of values of each group.
        least: Least value that the measure of each group can have; -inf for any.
        most: Largest value.
    """
    groups = np.repeat(np.arange(len(counts)), counts)
    values, sources = _ordered(values, sources, groups, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(groups, values, len(counts)) / counts
    sums, owner = _sums_of_sources(values - mean[groups], sources, groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = np.bincount(owner, minlength=len(counts))
        moments = tuple(np.bincount(owner, sums**k, len(counts)) / draws for k in (2, 3))
    return _tests_of_moments(mean, moments, draws, counts, counts, (least, most))


def share_tests(sums: dict[str, Doubles], least: Doubles, most: Doubles) -> MeanTests:
    """Give the share of hits among all things of all draws of each group, its interval and test.

    It is the mean over things, where those of one source are one draw: accuracy over the links of
    sentences, in which a longer sentence counts more. All that it takes is sums over sources of whole
    numbers, which have the same digits in any order.

    Args:
        sums: Per group the number of sources (`draws`) and of their inputs (`inputs`), and over
            sources the sums of hits h, of things n, and of their products: `h`, `n`, `hh`, `hn`, `nn`,
            `hhh`, `hhn`, `hnn`, `nnn`. Of a difference, h is hits less hits.
        least: Least value that the share of each group can have.
        most: Largest value.
    """
    draws = sums["draws"].astype(np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):
        m = sums["h"] / sums["n"]
        second = sums["hh"] - 2 * m * sums["hn"] + m**2 * sums["nn"]
        third = sums["hhh"] - 3 * m * sums["hhn"] + 3 * m**2 * sums["hnn"] - m**3 * sums["nnn"]
        second[second < 1e-12 * (sums["hh"] + m**2 * sums["nn"])] = 0  # rounding alone
        moments = second / draws, third / draws
    counts = sums["inputs"].astype(np.int64)
    return _tests_of_moments(m, moments, draws, sums["n"], counts, (least, most))


def _tests_of_moments(
    mean: Doubles,
    moments: tuple[Doubles, ...],
    draws: Ints,
    totals: Doubles | Ints,
    counts: Ints,
    ends: tuple[Doubles, Doubles],
) -> MeanTests:
    """Give intervals and tests of means.

    Args:
        mean: Mean of each group.
        moments: Mean square and mean cube over draws of the residuals, each summed over a draw.
        draws: Draws of each group.
        totals: What the sum over all of a group is divided by to give its mean.
        counts: Inputs of each group.
        ends: Least and largest value of the measure of each group.
    """
    from scipy import special  # here: reading must begin fast

    (second, third), (least, most) = moments, ends
    with np.errstate(invalid="ignore", divide="ignore"):
        error = draws * np.sqrt(second / (draws - 1)) / totals
        skew = np.where(second > 0, third / second**1.5, 0) / np.sqrt(draws)
        quantile = special.stdtrit(draws - 1, (1 + COVERAGE) / 2)
        low = np.minimum(np.maximum(mean - _straight(quantile, skew) * error, least), mean)
        high = np.maximum(np.minimum(mean - _straight(-quantile, skew) * error, most), mean)
        p = 2 * special.stdtr(draws - 1, -np.abs(_bent(mean / error, skew)))
    equal = ~(error > 1e-14 * np.abs(mean))  # but for rounding
    p[equal] = np.where(mean[equal] == 0, 1, np.nan)
    for column in (low, high, p):
        column[draws < 2] = np.nan
    known = np.where(np.isnan(mean), 0, counts)
    return MeanTests(mean, low, high, _names(known, draws, equal), p)


def _bent(t: Doubles, skew: Doubles) -> Doubles:
    """Bend t so that skew of the draws leaves it: Hall's transformation.

    Args:
        t: (mean - mean of the population) / standard error, shape (n,).
        skew: Skewness of the draws divided by the root of their number, shape (n,).
    """
    return t + skew * (t**2 / 3 + 1 / 6) + skew**2 * t**3 / 27


def _straight(bent: Doubles, skew: Doubles) -> Doubles:
    """Invert `_bent`."""
    slope = np.where(np.abs(skew) > 1e-6, skew, 1) / 3
    straight = (np.cbrt(1 + 3 * slope * (bent - skew / 6)) - 1) / slope
    return np.where(np.abs(skew) > 1e-6, straight, bent)


def _ordered(values: Doubles, sources: Keys, groups: Ints, counts: Ints) -> tuple[Doubles, Keys]:
    """Sort the values of each group: threads bring them in any order, which would show in sums."""
    if sources.any():
        order = np.lexsort((values, groups))
        return values[order], sources[order]
    parts = np.split(values, np.cumsum(counts)[:-1])
    return np.concatenate([np.sort(part) for part in parts]) if len(values) else values, sources


def _sums_of_sources(values: Doubles, sources: Keys, groups: Ints) -> tuple[Doubles, Ints]:
    """Sum the values of each source in each group; return the sums and the groups they belong to."""
    shared = np.flatnonzero(sources)
    if not len(shared):
        return values, groups
    kinds, codes = np.unique(sources[shared], return_inverse=True)
    pairs, where = np.unique(groups[shared] * len(kinds) + codes, return_inverse=True)
    alone = np.flatnonzero(sources == 0)
    sums = np.concatenate([values[alone], np.bincount(where, values[shared], len(pairs))])
    owner = np.concatenate([groups[alone], pairs // len(kinds)])
    order = np.lexsort((sums, owner))  # the keys of sources have any order
    return sums[order], owner[order]


def _names(counts: Ints, draws: Ints, equal: npt.NDArray[np.bool_]) -> list[str | None]:
    """Say how the interval of each group was made, or why there is none."""
    return [
        _name(*group) for group in zip(counts.tolist(), draws.tolist(), equal.tolist(), strict=True)
    ]


def _name(count: int, draws: int, equal: bool) -> str | None:
    if not count:
        return None
    if draws < 2:
        return "one source" if count > 1 else "one input"
    if equal:
        return "all equal"
    few = ", few" if draws < FEW else ""
    return f"t{few}" if count == draws else f"t by source{few}"


def _keys(sources: Sequence[Any]) -> Keys:
    """Number the sources from 1; 0 for None."""
    numbers: dict[Any, int] = {None: 0}
    return np.array([numbers.setdefault(source, len(numbers)) for source in sources], np.uint64)
