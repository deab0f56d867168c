"""Scores on resamples, and the interval of a difference, against scipy-free loops and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scores import METRICS

from attnstore.experiments import metrics
from attnstore.experiments.ablation import bootstrap

CLASSES, SCORES = ("accuracy", "f1"), ("pearson", "spearman")


def _data(metric: str, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, a baseline's predictions, another's; scores with ties."""
    draw = np.random.default_rng(seed)
    if metric in CLASSES:
        return tuple(draw.integers(0, 2, n).astype(float) for _ in range(3))  # type: ignore[return-value]
    targets = draw.integers(0, 6, n) / 2
    return (
        targets,
        (targets + draw.normal(size=n)).round(1),
        (targets + draw.normal(size=n)).round(1),
    )


@given(seed=st.integers(0, 10_000), n=st.integers(8, 40))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("metric", [*CLASSES, *SCORES])
def test_weights_count_inputs_as_repeating_them_would(metric: str, seed: int, n: int) -> None:
    """A metric with weights is GLUE's metric of the inputs repeated that often."""
    targets, predicted, _ = _data(metric, n, seed)
    weights = (
        np.random.default_rng(seed + 1).multinomial(n, np.full(n, 1 / n), size=3).astype(float)
    )
    found = metrics.weighted(metric, weights, targets, predicted)
    for value, row in zip(found, weights.astype(int), strict=True):
        wanted = METRICS[metric](np.repeat(predicted, row), np.repeat(targets, row))
        assert value == pytest.approx(wanted, nan_ok=True, abs=1e-9)
    assert metrics.score(metric, targets, predicted) == pytest.approx(
        METRICS[metric](predicted, targets), nan_ok=True
    )


@pytest.mark.parametrize("metric", [*CLASSES, *SCORES])
def test_interval_is_that_of_a_bootstrap_written_as_a_loop(metric: str) -> None:
    """Percentiles of the difference over resamples drawn one by one, as far as chance allows."""
    targets, baseline, other = _data(metric, 120, 3)
    ((low, high),) = bootstrap.intervals(metric, targets, baseline, [other])
    draw = np.random.default_rng(11)
    found = []
    for _ in range(2000):
        taken = draw.integers(0, 120, 120)
        of = METRICS[metric]
        found.append(of(other[taken], targets[taken]) - of(baseline[taken], targets[taken]))
    wanted = np.percentile(found, (2.5, 97.5))
    assert (low, high) == pytest.approx(tuple(wanted), abs=0.02)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Two predictors of the same quality: the interval of their difference holds 0 in 95 % of cases."""
    draw, held = np.random.default_rng(0), 0
    for _ in range(200):
        targets = draw.integers(0, 2, 150).astype(float)
        one, other = (np.where(draw.random(150) < 0.8, targets, 1 - targets) for _ in range(2))
        ((low, high),) = bootstrap.intervals("accuracy", targets, one, [other], seed=1)
        held += low <= 0 <= high
    assert 0.90 <= held / 200 <= 0.99


def test_pairing_narrows_the_interval() -> None:
    """Predictions that differ in one input of 200 differ by half a percent, give or take little."""
    draw = np.random.default_rng(0)
    targets = draw.integers(0, 2, 200).astype(float)
    baseline = np.where(draw.random(200) < 0.7, targets, 1 - targets)
    other = baseline.copy()
    wrong = np.flatnonzero(baseline != targets)[0]
    other[wrong] = targets[wrong]
    ((low, high),) = bootstrap.intervals("accuracy", targets, baseline, [other])
    assert low == 0
    assert 0.005 <= high <= 0.02


def test_a_constant_has_no_correlation() -> None:
    """Its score and its interval are undefined, and no warning is raised."""
    targets = np.arange(10.0)
    assert np.isnan(metrics.score("pearson", targets, np.ones(10)))
    ends = bootstrap.intervals("spearman", targets, np.ones(10), [targets])[0]
    assert np.isnan(ends).all()


def test_many_inputs_are_resampled_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many resamples are in memory at once changes no interval."""
    targets, baseline, other = _data("accuracy", 50, 5)
    whole = bootstrap.intervals("accuracy", targets, baseline, [other])
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 1000)
    assert bootstrap.intervals("accuracy", targets, baseline, [other]) == whole
