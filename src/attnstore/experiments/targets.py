"""Labels of a dataset as what a model is to answer: classes or scores, and the metrics for them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from attnstore.datasets import label_names
from attnstore.datasets.corpora import Dataset
from attnstore.errors import DatasetError

METRICS: dict[str, tuple[str, ...]] = {
    "mrpc": ("accuracy", "f1"),
    "stsb": ("pearson", "spearman"),
    "sst2": ("accuracy",),
    "qqp": ("accuracy", "f1"),
    "rte": ("accuracy",),
    "qnli": ("accuracy",),
    "mnli": ("accuracy",),
}
"""Metrics of each task of GLUE, the leading one first."""
_SCORE = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")


def metrics(task: str, is_score: bool) -> tuple[str, ...]:
    """Metrics of a task by its name; of another than GLUE's those that suit its targets."""
    if is_score:
        return METRICS["stsb"]
    return METRICS.get(task, ("accuracy",))


def class_names(dataset: Dataset) -> tuple[str, ...] | None:
    """Names of the classes: those that the source keeps, or those of the task of GLUE."""
    return dataset.label_names or label_names.GLUE.get(dataset.name)


def are_scores(labels: list[str]) -> bool:
    """True if labels are numbers, some of them with a fraction."""
    return bool(labels) and all(map(_SCORE.fullmatch, labels)) and any("." in x for x in labels)


def labels(dataset: Dataset, chosen: npt.NDArray[np.int64], place: str) -> pl.Series:
    """The labels of some examples, all of which must have one.

    Args:
        dataset: the dataset.
        chosen: numbers of the examples.
        place: what errors call it.

    Raises:
        DatasetError: there is no column of labels, or a label is missing.
    """
    found = dataset.frame["label"][chosen]
    if dataset.label_column is not None and not found.null_count():
        return found
    what = "no column of labels" if dataset.label_column is None else (
        f"no label in {found.null_count()} of {len(found)} rows"
    )  # fmt: skip
    raise DatasetError(
        f"{place} has {what}; give a labeled dataset, or name the column with --label."
    )


def scores(found: pl.Series, place: str, remedy: str) -> npt.NDArray[Any]:
    """Labels as scores, (n,) float64. Raises DatasetError, with the remedy, for one that is none."""
    wrong = [label for label in found.unique(maintain_order=True) if not _SCORE.fullmatch(label)]
    if wrong:
        raise DatasetError(f"{place} has label {wrong[0]!r}, which is no score; {remedy}")
    return found.cast(pl.Float64).to_numpy()
