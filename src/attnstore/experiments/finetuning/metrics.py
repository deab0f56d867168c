"""The metrics of GLUE, from what a model's head gives and what is right.

Accuracy; F1 of label 1 (MRPC, QQP); Pearson and Spearman (STS-B). Shares of 1, not per cent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

Array = npt.NDArray[Any]


def scores(names: Sequence[str], logits: Array, targets: Array) -> dict[str, float | None]:
    """Each metric by name; None where it is not defined (a correlation with a constant).

    logits: (n, labels), or (n, 1) for a score; targets: (n,) numbers of labels, or scores.
    """
    predicted = logits.argmax(1) if logits.shape[1] > 1 else logits[:, 0]
    found = {name: METRICS[name](predicted, targets) for name in names}
    return {name: None if math.isnan(value) else value for name, value in found.items()}


def accuracy(predicted: Array, targets: Array) -> float:
    """The share of predictions that are right."""
    return float((predicted == targets).mean())


def f1(predicted: Array, targets: Array) -> float:
    """F1 of label 1: 2 TP / (2 TP + FP + FN); 0 where nothing is predicted or is label 1."""
    right = int(np.sum((predicted == 1) & (targets == 1)))
    said = int(np.sum(predicted == 1) + np.sum(targets == 1))
    return 2 * right / said if said else 0.0


def pearson(predicted: Array, targets: Array) -> float:
    """Pearson's correlation."""
    return _correlation(predicted, targets, "pearson")


def spearman(predicted: Array, targets: Array) -> float:
    """Spearman's rank correlation, ties at their mean rank."""
    return _correlation(predicted, targets, "spearman")


def _correlation(predicted: Array, targets: Array, method: Any) -> float:
    both = pl.DataFrame({"a": predicted.astype(np.float64), "b": targets.astype(np.float64)})
    return float(both.select(pl.corr("a", "b", method=method)).item())


METRICS: dict[str, Callable[[Array, Array], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "pearson": pearson,
    "spearman": spearman,
}
"""Every metric by name."""
