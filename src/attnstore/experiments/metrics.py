"""GLUE metrics and losses, from the outputs of a model's head and the targets.

Accuracy; F1 of label 1 (MRPC, QQP); Pearson and Spearman (STS-B). Shares of 1, not percent. Every
metric weights each input by its count, so many resamples are scored at once.
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
    """Convert a head's outputs (…, n, labels) to class numbers or scores (…, n)."""
    best: Floats = outputs.argmax(-1) if outputs.shape[-1] > 1 else outputs[..., 0]
    return best.astype(np.float64)


def scores(
    names: Sequence[str], outputs: npt.NDArray[Any], targets: npt.NDArray[Any]
) -> dict[str, float | None]:
    """Compute each metric by name; None if undefined (a correlation with a constant).

    Args:
        names: metrics, as in METRICS.
        outputs: (n, labels), or (n, 1) for a score.
        targets: (n,) numbers of labels, or scores.
    """
    predicted = predictions(outputs)
    values = {name: score(name, targets.astype(np.float64), predicted) for name in names}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def score(metric: str, targets: Floats, predicted: Floats) -> float:
    """Compute a metric with each input counted once; NaN if undefined. targets, predicted: (n,)."""
    return float(weighted(metric, np.ones((1, len(targets))), targets, predicted)[0])


def losses(outputs: Floats, targets: Targets) -> Floats:
    """Compute mean cross entropy (nats) or squared error, (sets,), of outputs (sets, n, labels)."""
    if outputs.shape[-1] == 1:
        squares: Floats = ((outputs[..., 0] - targets) ** 2).mean(1)
        return squares
    top = outputs.max(-1, keepdims=True)
    spread = top[..., 0] + np.log(np.exp(outputs - top).sum(-1))
    entropy: Floats = (spread - outputs[:, np.arange(len(targets)), targets.astype(int)]).mean(1)
    return entropy


def weighted(metric: str, weights: Floats, targets: Floats, predicted: Floats) -> Floats:
    """Compute a metric per resample, (resamples,), inputs weighted by count; NaN if undefined.

    weights: (resamples, n); targets, predicted: (n,) label numbers, or scores.
    """
    return METRICS[metric](weights, targets, predicted)


def _accuracy(weights: Floats, targets: Floats, predicted: Floats) -> Floats:
    right = (targets == predicted).astype(np.float64)
    accuracies: Floats = np.divide(weights @ right, weights.sum(1))
    return accuracies


def _f1(weights: Floats, targets: Floats, predicted: Floats) -> Floats:
    """Compute 2 TP / (2 TP + FP + FN) of label 1; 0 if label 1 is neither predicted nor true."""
    right = weights @ ((targets == 1) & (predicted == 1))
    total: Floats = weights @ ((targets == 1).astype(float) + (predicted == 1))
    f1: Floats = np.divide(2 * right, total, out=np.zeros_like(total), where=total > 0)
    return f1


def _pearson(weights: Floats, targets: Floats, predicted: Floats) -> Floats:
    return _correlation(weights, np.broadcast_to(targets, weights.shape), predicted[None])


def _spearman(weights: Floats, targets: Floats, predicted: Floats) -> Floats:
    return _correlation(weights, _ranks(weights, targets), _ranks(weights, predicted))


def _ranks(weights: Floats, values: Floats) -> Floats:
    """Rank each input's value in each resample, (resamples, n); ties get their mean rank."""
    levels, level_of = np.unique(values, return_inverse=True)
    order = np.argsort(level_of, kind="stable")
    edges = np.searchsorted(level_of[order], np.arange(len(levels)))
    per_level = np.add.reduceat(weights[:, order], edges, axis=1)
    below = np.cumsum(per_level, axis=1) - per_level
    return (below + (per_level + 1) / 2)[:, level_of]


def _correlation(weights: Floats, a: Floats, b: Floats) -> Floats:
    share = weights / weights.sum(1, keepdims=True)
    (a, spread_a), (b, spread_b) = _centred(share, a), _centred(share, b)
    product, spread = (share * a * b).sum(1), spread_a * spread_b
    r: Floats = np.divide(product, spread, out=np.full_like(product, np.nan), where=spread > 0)
    return r


def _centred(share: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Subtract the weighted mean; return centered values and spread (0 within rounding error)."""
    centred = values - (share * values).sum(1, keepdims=True)
    spread = np.sqrt((share * centred * centred).sum(1))
    return centred, np.where(spread > 1e-12 * np.abs(values).max(), spread, 0)


METRICS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "accuracy": _accuracy, "f1": _f1, "pearson": _pearson, "spearman": _spearman,
}  # fmt: skip
"""Metrics by name."""
