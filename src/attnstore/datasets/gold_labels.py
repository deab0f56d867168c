"""Gold labels of a dataset as outputs of a head: classes by name, or scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from attnstore.datasets import label_names
from attnstore.datasets.corpora import Dataset
from attnstore.errors import DatasetError

_SCORE = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")


def class_names(dataset: Dataset) -> tuple[str, ...] | None:
    """Return the class names from the source, or else from the GLUE task of that name."""
    return dataset.label_names or label_names.GLUE.get(dataset.name)


def are_scores(labels: list[str]) -> bool:
    """Return True if all labels are numbers and at least one has a fraction."""
    return bool(labels) and all(map(_SCORE.fullmatch, labels)) and any("." in x for x in labels)


def labels(dataset: Dataset, chosen: npt.NDArray[np.int64], place: str) -> pl.Series:
    """Return the labels of some examples; each must have one.

    Args:
        dataset: the dataset.
        chosen: example numbers, (n,).
        place: name of the source in errors.

    Raises:
        DatasetError: there is no column of labels, or a label is missing.
    """
    values = dataset.frame["label"][chosen]
    if dataset.label_column is not None and not values.null_count():
        return values
    problem = "no column of labels" if dataset.label_column is None else (
        f"no label in {values.null_count()} of {len(values)} rows"
    )  # fmt: skip
    raise DatasetError(
        f"{place} has {problem}; give a labeled dataset, or name the column with --label."
    )


def scores(found: pl.Series, place: str, remedy: str) -> npt.NDArray[Any]:
    """Convert labels to scores, (n,) float64. Raises DatasetError, with the remedy, for a non-number."""
    wrong = [label for label in found.unique(maintain_order=True) if not _SCORE.fullmatch(label)]
    if wrong:
        raise DatasetError(f"{place} has label {wrong[0]!r}, which is no score; {remedy}")
    return found.cast(pl.Float64).to_numpy()


def classes(
    dataset: Dataset, chosen: npt.NDArray[np.int64], outputs: Sequence[str], model: str
) -> npt.NDArray[np.int64]:
    """Return the output of a head that the label of each example belongs to, (n,).

    Args:
        dataset: the dataset.
        chosen: example numbers, (n,).
        outputs: what the head calls its outputs, in their order.
        model: name of the model in errors.

    Raises:
        DatasetError: a label is missing.
        ModelError: names of both sides do not match.
    """
    values = labels(dataset, chosen, dataset.source)
    numbers = label_names.match(
        dataset.frame["label"].drop_nulls().unique().to_list(), class_names(dataset),
        outputs, dataset.source, model,
    )  # fmt: skip
    return values.replace_strict(numbers, return_dtype=pl.Int64).to_numpy()
