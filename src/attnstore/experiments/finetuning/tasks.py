"""Tasks for fine-tuning: those of GLUE, or a file or folder with labels.

A task is a name (`mrpc`) or any source that `corpora` reads: a folder with a train and a
validation split, a Hub id, a file. A folder with the name of a GLUE task, or given that name
(`FOLDER=mrpc`), has that task's labels and metrics. A tenth of a single file is held out for
evaluation, the same for every seed.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from attnstore.datasets import corpora, gold_labels, label_names
from attnstore.datasets.corpora import Dataset
from attnstore.errors import DatasetError, SplitError, UsageError
from attnstore.experiments import targets
from attnstore.specs import split_spec

GLUE = {
    task: (label_names.GLUE.get(task, ()), metrics) for task, metrics in targets.METRICS.items()
}
"""Labels in the order of GLUE's numbers (empty: a score) and metrics, by task."""

HELD_OUT = "held-out"
"""Split name of the evaluated tenth of a single file."""


@dataclass(frozen=True)
class Examples:
    """Rows of a dataset to train or evaluate on.

    chosen: example numbers, (n,); targets: (n,), int64 numbers of labels, or float32 scores.
    """

    dataset: Dataset
    split: str
    chosen: npt.NDArray[np.int64]
    targets: npt.NDArray[Any]

    @property
    def frame(self) -> pl.DataFrame:
        """Return the chosen rows: example, text, text_pair, label."""
        return self.dataset.frame[self.chosen]


@dataclass(frozen=True)
class Task:
    """A task with its data. labels: in the order of their numbers, empty for a score."""

    name: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    train: Examples
    validation: tuple[Examples, ...]


def load(
    spec: str,
    data: str | None = None,
    *,
    limit: int | None = None,
    sample_seed: int = 0,
    **columns: str | None,
) -> Task:
    """Load the training examples (a random sample of `limit`) and evaluation examples of a task.

    data: a folder with one folder per task of GLUE, read instead of the Hub; columns: text, pair,
    label, as `corpora.load` takes them. Raises DatasetError (also if labels are missing or
    unknown to the task) or UsageError.
    """
    if data is not None and spec not in GLUE:
        raise UsageError(
            f"The data folder is only for a task of GLUE by name, and {spec!r} is none of "
            f"{', '.join(GLUE)}; leave it out, or name the task."
        )
    source = spec if spec not in GLUE else os.path.join(data, spec) if data else f"glue/{spec}"
    whole, *validation = _datasets(source, columns)
    labels, metrics = GLUE.get(whole.name) or _own(whole)
    train = whole.select(None, 0)
    if validation:
        held_out = tuple(_examples(d, str(d.split), d.select(None, 0), labels) for d in validation)
    else:
        drawn = sorted(random.Random(0).sample(range(len(train)), len(train) // 10))
        held_out = (_examples(whole, HELD_OUT, train[drawn], labels),)
        train = np.delete(train, drawn)
    if limit is not None and limit < 1:
        raise UsageError(f"the limit is {limit}; give 1 or more, or leave it out for all rows")
    if limit is not None and limit < len(train):
        train = np.sort(np.array(random.Random(sample_seed).sample(train.tolist(), limit)))
    return Task(whole.name, labels, metrics, _examples(whole, "train", train, labels), held_out)


def _datasets(source: str, columns: dict[str, str | None]) -> list[Dataset]:
    """Load the training split, then the evaluation splits, if the source has more than one split."""
    if os.path.isfile(os.path.expanduser(split_spec(source)[0])):
        return [corpora.load(source, **columns)]
    try:
        train = corpora.load(source, split="train", **columns)
        validation = corpora.load(source, **columns)
    except SplitError as error:
        raise SplitError(
            f"{error}; a task needs a train and a validation split, or give one file"
        ) from error
    if validation.split != "validation_matched":
        return [train] if validation.split == "train" else [train, validation]
    try:
        other = corpora.load(source, split="validation_mismatched", **columns)
    except SplitError:  # this copy lacks the split
        return [train, validation]
    return [train, validation, replace(other, name=f"{other.name}-mismatched")]


def _own(dataset: Dataset) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Derive labels and metrics of a task outside GLUE from its labels."""
    values = dataset.frame["label"].drop_nulls().unique().to_list()
    if gold_labels.are_scores(values):
        return (), targets.METRICS["stsb"]
    if len(values) == 1:
        raise DatasetError(
            f"{dataset.source} has one label ({values[0]!r}); a task needs two or more"
        )
    if dataset.label_names and set(values) <= {
        *label_names.numbers(dataset.label_names, dataset.label_names)
    }:
        return dataset.label_names, ("accuracy",)
    whole = all(v.isdecimal() for v in values)
    return tuple(sorted(values, key=int if whole else str)), ("accuracy",)


def _examples(
    dataset: Dataset, split: str, chosen: npt.NDArray[np.int64], labels: tuple[str, ...]
) -> Examples:
    """Return the chosen rows with targets. Raises DatasetError for a missing or unknown label."""
    source = f"{dataset.source} ({split})"
    if not len(chosen):
        raise DatasetError(f"{source} has no row with text; give a source with at least one")
    values = gold_labels.labels(dataset, chosen, source)
    if not labels:
        scores = gold_labels.scores(values, source, "fix the labels.").astype(np.float32)
        return Examples(dataset, split, chosen, scores)
    own = dataset.label_names or (labels if labels in _KNOWN else None)
    numbers = label_names.numbers(own, labels)
    wrong = [v for v in values.unique(maintain_order=True) if v not in numbers]
    if wrong:
        raise DatasetError(
            f"{source} has label {wrong[0]!r}, and the task's {len(labels)} labels are "
            f"{', '.join(labels)}; mend the labels, or give the task another name (PATH=name)"
        )
    return Examples(
        dataset, split, chosen, values.replace_strict(numbers, return_dtype=pl.Int64).to_numpy()
    )


_KNOWN = {labels for labels, _ in GLUE.values()}
"""Label sets that a file may also give by number."""
