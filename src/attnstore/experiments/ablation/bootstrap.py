"""Paired bootstrap over the inputs: intervals of the difference between two scores.

Both predictions are scored on the same random resamples of the inputs (Efron and Tibshirani 1993;
Koehn 2004 for paired systems), so effects common to both cancel out. A resample is a row of
weights (the count of each input), so all resamples are scored with matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from attnstore.experiments.metrics import Floats, weighted

RESAMPLES = 2000
_AT_ONCE = 1 << 22
"""Weights in memory at the same time (32 MiB)."""


def intervals(
    metric: str, targets: Floats, baseline: Floats, predictions: Sequence[Floats], seed: int = 0
) -> list[tuple[float, float]]:
    """Return the ends of the 95 % interval of score minus baseline, for each prediction.

    The ends are percentiles of RESAMPLES paired resamples, the same ones for every prediction; NaN
    if the metric is undefined in all of them.
    """
    differences: list[list[Floats]] = [[] for _ in predictions]
    for weights in _resamples(len(targets), seed):
        baseline_scores = weighted(metric, weights, targets, baseline)
        for pieces, predicted in zip(differences, predictions, strict=True):
            pieces.append(weighted(metric, weights, targets, predicted) - baseline_scores)
    return [_ends(np.concatenate(pieces)) for pieces in differences]


def _ends(differences: Floats) -> tuple[float, float]:
    defined = differences[~np.isnan(differences)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, (2.5, 97.5))
    return float(low), float(high)


def _resamples(n: int, seed: int) -> Iterator[Floats]:
    """Yield the weights (resamples, n) of RESAMPLES resamples of n inputs in pieces."""
    draw = np.random.default_rng(seed)
    remaining, at_once = RESAMPLES, max(1, _AT_ONCE // n)
    while remaining:
        piece = min(remaining, at_once)
        yield draw.multinomial(n, np.full(n, 1 / n), size=piece).astype(np.float64)
        remaining -= piece
