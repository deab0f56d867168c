"""Paired bootstrap over the inputs: intervals and tests of the difference between two scores.

Both predictions are scored on the same random resamples of the inputs (Efron and Tibshirani 1993;
Koehn 2004 for paired systems), so effects common to both cancel out. A resample is a row of
weights (the count of each input), so all resamples are scored with matrix products. Inputs that
share a text are drawn together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from attnstore.experiments.metrics import Floats, weighted

Ints = npt.NDArray[np.int64]
RESAMPLES = 2000
_AT_ONCE = 1 << 22
"""Weights in memory at the same time (32 MiB)."""


def intervals(
    metric: str,
    targets: Floats,
    baseline: Floats,
    predictions: Sequence[Floats],
    seed: int = 0,
    sources: Ints | None = None,
) -> list[tuple[float, float]]:
    """Return the ends of the 95 % interval of score minus baseline, for each prediction.

    The ends are percentiles of RESAMPLES paired resamples, the same ones for every prediction; NaN
    if the metric is undefined in all of them. sources: number of each input's source, (n,).
    """
    return [ends(d) for d in differences(metric, targets, baseline, predictions, seed, sources)]


def differences(
    metric: str,
    targets: Floats,
    baseline: Floats,
    predictions: Sequence[Floats],
    seed: int = 0,
    sources: Ints | None = None,
) -> list[Floats]:
    """Return score minus baseline on each resample where both are defined, for each prediction."""
    pieces: list[list[Floats]] = [[] for _ in predictions]
    for weights in _resamples(len(targets) if sources is None else sources.max() + 1, seed):
        weights = weights if sources is None else weights[:, sources]
        baseline_scores = weighted(metric, weights, targets, baseline)
        for of_one, predicted in zip(pieces, predictions, strict=True):
            of_one.append(weighted(metric, weights, targets, predicted) - baseline_scores)
    return [_defined(np.concatenate(of_one)) for of_one in pieces]


def _defined(values: Floats) -> Floats:
    return values[~np.isnan(values)]


def ends(differences: Floats) -> tuple[float, float]:
    """Return the 2.5th and 97.5th percentile of differences; NaN if there are none."""
    if not len(differences):
        return float("nan"), float("nan")
    low, high = np.percentile(differences, (2.5, 97.5))
    return float(low), float(high)


def p_value(differences: Floats) -> float:
    """Return the two-sided p of no difference: twice the smaller share of resamples beyond 0.

    The share counts the observed sample as one resample more, so p is never 0 (Davison and Hinkley
    1997, section 4.2); 0 itself lies beyond on both sides. NaN if there are no differences.
    """
    if not len(differences):
        return float("nan")
    least = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(min(1, 2 * (1 + least) / (1 + len(differences))))


def _resamples(n: int, seed: int) -> Iterator[Floats]:
    """Yield the weights (resamples, n) of RESAMPLES resamples of n inputs or sources in pieces."""
    draw = np.random.default_rng(seed)
    remaining, at_once = RESAMPLES, max(1, _AT_ONCE // n)
    while remaining:
        piece = min(remaining, at_once)
        yield draw.multinomial(n, np.full(n, 1 / n), size=piece).astype(np.float64)
        remaining -= piece
