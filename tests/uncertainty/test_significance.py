"""Corrections, flips, correlations, shared texts: against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from attnstore import correlation, mcnemar, q_values, rank_correlation
from attnstore.uncertainty import shared_texts


def test_q_values_are_benjamini_and_hochberg_s() -> None:
    """Each is the smallest rate whose step-up procedure rejects it; NaN is no test."""
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.005, 0.5])
    tests = np.sort(p[~np.isnan(p)])
    wanted = [
        min(tests[j] * 5 / (j + 1) for j in range(5) if tests[j] >= value)
        for value in p[[0, 2, 3, 4, 5]]
    ]
    assert q_values(p)[[0, 2, 3, 4, 5]] == pytest.approx(wanted)
    assert np.isnan(q_values(p)[1])


def test_mcnemar_is_the_exact_binomial_test() -> None:
    """4 : 0 and 5 : 0 are not significant; no flip gives 1."""
    for right, wrong in [(4, 0), (5, 0), (3, 9), (6, 6), (0, 11)]:
        assert mcnemar(right, wrong) == pytest.approx(
            scipy.stats.binomtest(right, right + wrong).pvalue
        )
    assert mcnemar(0, 0) == 1


def test_correlations_come_with_fisher_s_interval_and_scipy_s_p() -> None:
    """Pearson's interval is scipy's; ranks widen it by the factor of Bonett and Wright."""
    x, noise = np.random.default_rng(0).normal(size=(2, 30))
    y = x + noise
    theirs = scipy.stats.pearsonr(x, y)
    ends = tuple(theirs.confidence_interval(0.95))
    assert correlation(x, y) == pytest.approx((theirs.statistic, *ends, theirs.pvalue))
    ours, ranks = rank_correlation(x, y), scipy.stats.spearmanr(x, y)
    assert ours.r is not None
    assert ours.low is not None
    assert (ours.r, ours.p) == pytest.approx((ranks.statistic, ranks.pvalue))
    reach = scipy.stats.norm.ppf(0.975) * np.sqrt((1 + ours.r**2 / 2) / 27)
    assert np.arctanh(ours.low) == pytest.approx(np.arctanh(ours.r) - reach)
    assert correlation([1, 2, 3], [1, 1, 1]) == (None, None, None, None)


def test_inputs_share_a_source_through_either_text() -> None:
    """A premise, a second text, or a chain of both make one source; a text shared by none makes none."""
    texts = np.array([1, 1, 2, 3, 4, 5, 6], np.uint64)
    pairs = np.array([10, 11, 11, 0, 12, 0, 12], np.uint64)
    assert shared_texts.sources(texts, pairs).tolist() == [0, 0, 0, -1, 4, -1, 4]
