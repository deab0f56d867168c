"""Coverage by simulation: samples of known populations, drawn again and again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from attnstore.uncertainty import means

Array = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Array]

SAMPLES = 8_000
"""Samples of a population: the share that covers is then known to 0.005 (two standard errors)."""
POPULATIONS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda draw, size: draw.normal(1, 1, size), 1.0),
    "uniform": (lambda draw, size: draw.uniform(0, 1, size), 0.5),
    "mildly skewed": (lambda draw, size: draw.beta(2, 10, size), 1 / 6),
    "skewed": (lambda draw, size: draw.beta(0.5, 5, size), 1 / 11),
    "very skewed": (lambda draw, size: draw.lognormal(0, 1, size), np.exp(0.5)),
}
"""Populations of a measure, from those of most heads to those of the worst, with their means."""
LOWEST = {
    "normal": (0.935, 0.94, 0.94, 0.94), "uniform": (0.935, 0.94, 0.94, 0.94),
    "mildly skewed": (0.92, 0.935, 0.94, 0.94), "skewed": (0.87, 0.92, 0.93, 0.94),
    "very skewed": (0.87, 0.90, 0.915, 0.925),
}  # fmt: skip
"""Share of intervals that must cover, for n of 5, 10, 30 and 100."""
SIZES = (5, 10, 30, 100)


def _covered(low: Array, high: Array, mean: float) -> float:
    return float(np.mean((low <= mean) & (mean <= high)))


def _tests(values: Array, sources: Array | None = None) -> means.MeanTests:
    keys = np.zeros(values.size, np.uint64) if sources is None else sources.astype(np.uint64)
    rows, n = values.shape
    nothing = np.full(rows, np.inf)
    return means.mean_tests(values.ravel(), keys, np.full(rows, n, np.int64), -nothing, nothing)


@pytest.mark.parametrize("name", POPULATIONS)
def test_the_interval_covers_the_mean_nearly_as_often_as_it_says(name: str) -> None:
    """Nominal 95 %: over 94 % without skew at any n; with skew more than mean ± 1.96 standard errors does."""
    draw, mean = POPULATIONS[name]
    for n, lowest in zip(SIZES, LOWEST[name], strict=True):
        values = draw(np.random.default_rng(n), (SAMPLES, n))
        tests = _tests(values)
        ours = _covered(tests.low, tests.high, mean)
        reach = 1.96 * values.std(1, ddof=1) / np.sqrt(n)
        normal = _covered(values.mean(1) - reach, values.mean(1) + reach, mean)
        assert lowest <= ours <= 0.98, (name, n)
        assert normal < (lowest if n <= 10 else ours + 0.005), (name, n)


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_by_source_the_interval_covers_where_inputs_share_one(spread: float) -> None:
    """40 premises of 3 hypotheses, whatever share of the variance is the premise's."""
    draw = np.random.default_rng(3)
    shared = spread * draw.normal(size=(SAMPLES, 40, 1))
    values = (shared + draw.normal(size=(SAMPLES, 40, 3))).reshape(SAMPLES, 120)
    sources = np.tile(np.repeat(np.arange(1, 41), 3), SAMPLES)
    ours, naive = _tests(values, sources), _tests(values)
    assert 0.94 <= _covered(ours.low, ours.high, 0) <= 0.965
    if spread:
        assert _covered(naive.low, naive.high, 0) < 0.85


@pytest.mark.parametrize("name", ["normal", "skewed"])
def test_p_is_below_5_percent_in_5_percent_of_samples_without_an_effect(name: str) -> None:
    """At 30 inputs, of a population that is moved to mean 0."""
    draw, mean = POPULATIONS[name]
    p = _tests(draw(np.random.default_rng(7), (SAMPLES, 30)) - mean).p
    assert 0.035 <= np.mean(p < 0.05) <= 0.07
