"""Is a difference of two scores more than chance? The paired bootstrap over the inputs.

Both predictions are scored on the same random resamples of the inputs (Efron and Tibshirani 1993;
Koehn 2004 for paired systems): what an input does to both cancels out. A resample is a row of
weights, how often each input is in it, so all resamples are scored with matrix products.
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
    """Ends of the 95 % interval of score less baseline, for each of several predictions.

    Percentiles of RESAMPLES paired resamples, the same ones for every prediction; NaN where the
    metric is undefined in all of them.
    """
    differences: list[list[Floats]] = [[] for _ in predictions]
    for weights in _resamples(len(targets), seed):
        held = weighted(metric, weights, targets, baseline)
        for found, predicted in zip(differences, predictions, strict=True):
            found.append(weighted(metric, weights, targets, predicted) - held)
    return [_ends(np.concatenate(found)) for found in differences]


def _ends(differences: Floats) -> tuple[float, float]:
    defined = differences[~np.isnan(differences)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, (2.5, 97.5))
    return float(low), float(high)


def _resamples(n: int, seed: int) -> Iterator[Floats]:
    """Weights (some, n) of RESAMPLES resamples of n inputs, piece by piece."""
    draw = np.random.default_rng(seed)
    left, at_once = RESAMPLES, max(1, _AT_ONCE // n)
    while left:
        piece = min(left, at_once)
        yield draw.multinomial(n, np.full(n, 1 / n), size=piece).astype(np.float64)
        left -= piece
