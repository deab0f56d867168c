"""The metrics of GLUE and the losses, from the outputs of a model's head and its targets.

Accuracy; F1 of label 1 (MRPC, QQP); Pearson and Spearman (STS-B). Shares of 1, not percent. Every
metric counts each input as often as a weight says, so that many resamples are scored at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Targets = npt.NDArray[np.int64] | npt.NDArray[np.float64]


def predictions(outputs: npt.NDArray[Any]) -> Floats:
    """Numbers of classes or scores (…, n), of a head's outputs (…, n, labels)."""
    best: Floats = outputs.argmax(-1) if outputs.shape[-1] > 1 else outputs[..., 0]
    return best.astype(np.float64)


def scores(
    names: Sequence[str], outputs: npt.NDArray[Any], targets: npt.NDArray[Any]
) -> dict[str, float | None]:
    """Each metric by name; None where it is not defined (a correlation with a constant).

    Args:
        names: metrics, as in METRICS.
        outputs: (n, labels), or (n, 1) for a score.
        targets: (n,) numbers of labels, or scores.
    """
    predicted = predictions(outputs)
    values = {name: score(name, targets.astype(np.float64), predicted) for name in names}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def score(metric: str, targets: Floats, predicted: Floats) -> float:
    """A metric over the inputs as they are; NaN if undefined. targets, predicted: (n,)."""
    return float(weighted(metric, np.ones((1, len(targets))), targets, predicted)[0])


def losses(outputs: Floats, targets: Targets) -> Floats:
    """(sets,): mean cross entropy (nats), or squared error of scores, of outputs (sets, n, labels)."""
    if outputs.shape[-1] == 1:
        squares: Floats = ((outputs[..., 0] - targets) ** 2).mean(1)
        return squares
    top = outputs.max(-1, keepdims=True)
    spread = top[..., 0] + np.log(np.exp(outputs - top).sum(-1))
    entropy: Floats = (spread - outputs[:, np.arange(len(targets)), targets.astype(int)]).mean(1)
    return entropy


def weighted(metric: str, weights: Floats, targets: Floats, predicted: Floats) -> Floats:
    """(resamples,): a metric where each input counts as often as its weight says; NaN if undefined.

    weights: (resamples, n); targets, predicted: (n,) label numbers, or scores.
    """
    return METRICS[metric](weights, targets, predicted)


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


METRICS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "accuracy": _accuracy, "f1": _f1, "pearson": _pearson, "spearman": _spearman,
}  # fmt: skip
"""Every metric by name."""
