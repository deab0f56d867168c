"""Is a difference of two scores more than chance? The paired bootstrap over the inputs.

Both predictions are scored on the same random resamples of the inputs (Efron and Tibshirani 1993;
Koehn 2004 for paired systems): what an input does to both cancels out. A resample is a row of
weights, how often each input is in it, so all resamples are scored with matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES = 2000
_AT_ONCE = 1 << 22
"""Weights in memory at the same time (32 MiB)."""


def weighted(metric: str, weights: Floats, targets: Floats, predicted: Floats) -> Floats:
    """(resamples,): a metric where each input counts as often as its weight says; NaN if undefined.

    weights: (resamples, n); targets, predicted: (n,) label numbers, or scores. The metrics are those
    of `tuning.metrics`.
    """
    return _METRICS[metric](weights, targets, predicted)


def _accuracy(weights: Floats, targets: Floats, predicted: Floats) -> Floats:
    right = (targets == predicted).astype(np.float64)
    found: Floats = np.divide(weights @ right, weights.sum(1))
    return found


def _f1(weights: Floats, targets: Floats, predicted: Floats) -> Floats:
    """2 TP / (2 TP + FP + FN) of label 1; 0 where nothing is predicted or is label 1."""
    right = weights @ ((targets == 1) & (predicted == 1))
    said: Floats = weights @ ((targets == 1).astype(float) + (predicted == 1))
    found: Floats = np.divide(2 * right, said, out=np.zeros_like(said), where=said > 0)
    return found


def _pearson(weights: Floats, targets: Floats, predicted: Floats) -> Floats:
    return _correlation(weights, np.broadcast_to(targets, weights.shape), predicted[None])


def _spearman(weights: Floats, targets: Floats, predicted: Floats) -> Floats:
    return _correlation(weights, _ranks(weights, targets), _ranks(weights, predicted))


def _ranks(weights: Floats, values: Floats) -> Floats:
    """(resamples, n): the rank of each input's value in each resample, ties at their mean rank."""
    levels, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    edges = np.searchsorted(place[order], np.arange(len(levels)))
    per_level = np.add.reduceat(weights[:, order], edges, axis=1)
    below = np.cumsum(per_level, axis=1) - per_level
    return (below + (per_level + 1) / 2)[:, place]


def _correlation(weights: Floats, a: Floats, b: Floats) -> Floats:
    share = weights / weights.sum(1, keepdims=True)
    (a, spread_a), (b, spread_b) = _centred(share, a), _centred(share, b)
    product, spread = (share * a * b).sum(1), spread_a * spread_b
    found: Floats = np.divide(product, spread, out=np.full_like(product, np.nan), where=spread > 0)
    return found


def _centred(share: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Values less their weighted mean, and their spread: 0 where only rounding moves them."""
    centred = values - (share * values).sum(1, keepdims=True)
    spread = np.sqrt((share * centred * centred).sum(1))
    return centred, np.where(spread > 1e-12 * np.abs(values).max(), spread, 0)


_METRICS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "accuracy": _accuracy, "f1": _f1, "pearson": _pearson, "spearman": _spearman,
}  # fmt: skip


def score(metric: str, targets: Floats, predicted: Floats) -> float:
    """A metric over the inputs as they are."""
    return float(weighted(metric, np.ones((1, len(targets))), targets, predicted)[0])


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
