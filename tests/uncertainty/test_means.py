"""Intervals of means in Python: Student's without skew, Hall's with it, cluster-robust with shared sources."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats

from attnstore import mean_interval, mean_test
from attnstore.uncertainty.means import mean_tests, share_tests

Array = npt.NDArray[np.float64]


def _hall(t: float, draws: Array) -> float:
    """Hall's statistic of a t from these draws."""
    skew = scipy.stats.skew(draws) / np.sqrt(len(draws))
    return float(t + skew * (t**2 / 3 + 1 / 6) + skew**2 * t**3 / 27)


@pytest.mark.parametrize("n", [2, 5, 29, 30, 400])
def test_without_skew_the_interval_and_p_are_student_s(n: int) -> None:
    """scipy's one-sample t test gives the same ends and p for symmetric values, whatever n."""
    half = np.random.default_rng(n).normal(0, 1, n // 2)
    values = np.concatenate([half, -half, np.zeros(n % 2)]) + 0.1
    ours, theirs = mean_test(values), scipy.stats.ttest_1samp(values, 0)
    assert ours.mean == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.interval == ("t" if n >= 10 else "t, few")


@pytest.mark.parametrize("n", [3, 5, 30, 400])
def test_an_end_is_the_mean_whose_bent_t_is_a_quantile_of_student_s(n: int) -> None:
    """Of skewed values: Hall's statistic at each end is the quantile of t; p is its tail at 0."""
    values = np.random.default_rng(n).exponential(size=n)
    ours = mean_test(values)
    assert ours.low is not None
    assert ours.high is not None
    error = values.std(ddof=1) / np.sqrt(n)
    quantile = scipy.stats.t.ppf(0.975, n - 1)
    at_ends = [_hall((values.mean() - end) / error, values) for end in (ours.low, ours.high)]
    assert at_ends == pytest.approx([quantile, -quantile])
    tail = scipy.stats.t.sf(_hall(values.mean() / error, values), n - 1)
    assert ours.p == pytest.approx(2 * tail)


def test_whole_sources_of_equal_size_are_the_draws() -> None:
    """Three inputs a source give the interval of the means of sources."""
    values = np.random.default_rng(0).normal(size=(40, 3)) + np.arange(40)[:, None]
    ours = mean_interval(values.ravel(), np.repeat(np.arange(40), 3).tolist())
    theirs = mean_interval(values.mean(1))
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert ours.interval == "t by source"


@pytest.mark.parametrize("shared", [False, True])
def test_the_order_of_the_inputs_does_not_show(shared: bool) -> None:
    """Every digit is the same: threads of a query bring the values in any order."""
    draw = np.random.default_rng(2)
    values, sources = draw.lognormal(size=500), draw.integers(0, 90, 500)
    answers = set()
    for _ in range(5):
        order = draw.permutation(500)
        answers.add(mean_test(values[order], sources[order].tolist() if shared else None))
    assert len(answers) == 1


def test_sources_of_unequal_size_follow_the_cluster_robust_formula() -> None:
    """Inputs without a source are a source each; sums of residuals of sources give error and skew."""
    draw = np.random.default_rng(1)
    sources = ["a"] * 7 + ["b"] * 2 + [None] * 20
    values = draw.normal(size=29)
    centred = values - values.mean()
    sums = np.array([centred[:7].sum(), centred[7:9].sum(), *centred[9:]])
    error = np.sqrt(22 / 21 * np.square(sums).sum()) / 29
    ours = mean_interval(values, sources)
    assert ours.low is not None
    assert ours.high is not None
    at_ends = [_hall((values.mean() - end) / error, sums) for end in (ours.low, ours.high)]
    assert at_ends == pytest.approx(scipy.stats.t.ppf([0.975, 0.025], 21))


def test_equal_values_have_no_width_and_no_test() -> None:
    """Nothing is known of their spread; the interval says so, and of differences of 0 p is 1."""
    assert mean_test([0.1] * 7)[1:] == (pytest.approx(0.1), pytest.approx(0.1), "all equal", None)
    assert mean_test([0, 0, 0]) == (0, 0, 0, "all equal", 1)


def test_ends_stay_within_the_range_of_the_measure() -> None:
    """An interval that would leave the range ends at it."""
    ours = mean_interval([0.0, 0.0, 0.0, 0.0, 1.0], least=0, most=1)
    assert ours.low == 0
    assert ours.high is not None
    assert 0.2 < ours.high <= 1


def test_one_input_or_one_source_has_no_interval() -> None:
    """There is a mean, no ends and no p, and the word for why."""
    assert mean_test([0.5]) == (0.5, None, None, "one input", None)
    assert mean_test([0.5, 0.7], ["a", "a"]) == (pytest.approx(0.6), None, None, "one source", None)
    assert mean_test([]) == (None, None, None, None, None)


def test_missing_values_are_left_out() -> None:
    """NaN is no value, with its source."""
    assert mean_interval([1, np.nan, 3], ["a", "a", "b"]) == mean_interval([1, 3])


def _sums(hits: npt.ArrayLike, sizes: npt.ArrayLike, inputs: int) -> dict[str, npt.NDArray[Any]]:
    """What share_tests takes, of one group: hits and sizes of its sources, and the number of inputs."""
    h, n = np.asarray(hits, float), np.asarray(sizes, float)
    names = {"h": h, "n": n, "hh": h * h, "hn": h * n, "nn": n * n}
    names |= {"hhh": h**3, "hhn": h * h * n, "hnn": h * n * n, "nnn": n**3}
    counts = {"draws": np.array([len(h)]), "inputs": np.array([inputs])}
    return {k: np.array([v.sum()]) for k, v in names.items()} | counts


@pytest.mark.parametrize("shared", [False, True])
def test_a_share_is_the_mean_over_things_where_those_of_one_source_are_one_draw(
    shared: bool,
) -> None:
    """Counts of sources give what one value per thing gives, with its input or that input's source."""
    draw = np.random.default_rng(3)
    sizes = draw.integers(1, 9, 40)
    hits = draw.binomial(sizes, 0.3)
    owners = np.repeat(np.arange(20), 2) if shared else np.arange(40)
    summed = [np.bincount(owners, x) for x in (hits, sizes)]
    ours = share_tests(_sums(*summed, 40), np.zeros(1), np.ones(1))
    values = np.concatenate([[1.0] * h + [0.0] * (n - h) for h, n in zip(hits, sizes, strict=True)])
    wanted = mean_test(values, owners.repeat(sizes).tolist(), 0, 1)
    found = [float(x[0]) for x in (ours.mean, ours.low, ours.high, ours.p)]
    assert found == pytest.approx([wanted.mean, wanted.low, wanted.high, wanted.p], rel=1e-9)
    assert ours.interval == ["t by source" if shared else "t"]


@pytest.mark.parametrize(("hits", "mean"), [([1, 2, 4], 1 / 3), ([3, 6, 12], 1), ([0, 0, 0], 0)])
def test_equal_shares_have_no_width(hits: list[int], mean: float) -> None:
    """Rounding is no spread: a third of every source, all of it, nothing."""
    ours = share_tests(_sums(hits, [3, 6, 12], 3), np.zeros(1), np.ones(1))
    assert [ours.mean[0], ours.low[0], ours.high[0]] == pytest.approx([mean] * 3)
    assert ours.interval == ["all equal"]


def test_a_mean_that_is_no_number_has_no_interval() -> None:
    """NaN among the values of a group: it is not said that they are equal."""
    ends = np.array([0.0]), np.array([1.0])
    tests = mean_tests(np.array([np.nan, 0.5]), np.zeros(2, np.uint64), np.array([2]), *ends)
    assert (tests.interval, np.isnan(tests.mean[0])) == ([None], True)


def test_a_share_of_one_source_or_of_none_has_no_interval() -> None:
    """As for means."""
    one = share_tests(_sums([2], [3], 2), np.zeros(1), np.ones(1))
    assert (one.interval, np.isnan(one.low[0])) == (["one source"], True)
    none = share_tests(_sums([], [], 0), np.zeros(1), np.ones(1))
    assert (none.interval, np.isnan(none.mean[0])) == ([None], True)
