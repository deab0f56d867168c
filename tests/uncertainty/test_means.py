"""Intervals of means in Python: Student's without shared sources, cluster-robust with them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from attnstore import mean_interval, mean_test


@pytest.mark.parametrize("n", [2, 5, 29, 30, 400])
def test_without_shared_sources_the_interval_and_p_are_student_s(n: int) -> None:
    """scipy's one-sample t test gives the same ends and p, whatever n."""
    values = np.random.default_rng(n).normal(0.1, 1, n)
    ours, theirs = mean_test(values), scipy.stats.ttest_1samp(values, 0)
    assert ours.mean == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.interval == "t"


def test_whole_sources_of_equal_size_are_the_draws() -> None:
    """Three inputs a source give the interval of the means of sources."""
    values = np.random.default_rng(0).normal(size=(40, 3)) + np.arange(40)[:, None]
    ours = mean_interval(values.ravel(), np.repeat(np.arange(40), 3).tolist())
    theirs = scipy.stats.ttest_1samp(values.mean(1), 0).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs))
    assert ours.interval == "t by source"


def test_sources_of_unequal_size_follow_the_cluster_robust_formula() -> None:
    """Inputs without a source are a source each; sums of residuals of sources give the error."""
    draw = np.random.default_rng(1)
    sources = ["a"] * 7 + ["b"] * 2 + [None] * 20
    values = draw.normal(size=29)
    centred = values - values.mean()
    sums = [centred[:7].sum(), centred[7:9].sum(), *centred[9:]]
    error = np.sqrt(22 / 21 * np.square(sums).sum()) / 29
    reach = scipy.stats.t.ppf(0.975, 21) * error
    ours = mean_interval(values, sources)
    assert (ours.low, ours.high) == pytest.approx((values.mean() - reach, values.mean() + reach))


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
