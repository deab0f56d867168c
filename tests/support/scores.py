"""Metrics of scikit-learn and scipy, to compare ours with."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import scipy.stats
import sklearn.metrics


def _correlation(method: Callable[..., Any]) -> Callable[[Any, Any], float]:
    def correlation(predicted: Any, targets: Any) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a constant
            return float(method(predicted, targets).statistic)

    return correlation


pearson, spearman = _correlation(scipy.stats.pearsonr), _correlation(scipy.stats.spearmanr)

METRICS: dict[str, Callable[[Any, Any], float]] = {
    "accuracy": lambda predicted, targets: sklearn.metrics.accuracy_score(targets, predicted),
    "f1": lambda predicted, targets: sklearn.metrics.f1_score(targets, predicted, zero_division=0),
    "pearson": pearson,
    "spearman": spearman,
}
"""By name; each takes what is predicted and what is right."""
