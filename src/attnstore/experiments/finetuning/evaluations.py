"""Scores of models on tasks: table `evaluations`, one fragment per model and dataset.

The caller derives the part from the evaluated content, so no evaluation is computed twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from attnstore.capture import catalog
from attnstore.datasets.corpora import Dataset
from attnstore.models.checkpoints import Checkpoint
from attnstore.storage import fragments, locks
from attnstore.storage.backend import Backend

_SCHEMA = {
    "model": pl.String, "dataset": pl.String, "split": pl.String, "task": pl.String,
    "base": pl.String, "init": pl.String, "seed": pl.Int64, "step": pl.Int64,
    "metric": pl.String, "value": pl.Float64, "n": pl.Int64, "training": pl.String,
    "n_train": pl.Int64, "epochs": pl.Int32, "batch_size": pl.Int32, "learning_rate": pl.Float64,
    "max_length": pl.Int32, "evaluated": pl.Datetime,
}  # fmt: skip


def stored(backend: Backend) -> set[str]:
    """Return the parts of all complete evaluations of a store."""
    evaluations = fragments.listing(backend, "evaluations")
    return {f.part for f in evaluations if fragments.whole(backend, f)}


def read(backend: Backend, parts: Sequence[str]) -> pl.DataFrame:
    """Return the rows of evaluations, in the order of `parts`; missing parts are skipped."""
    by_part = {f.part: f for f in fragments.listing(backend, "evaluations")}
    frames = [fragments.read(backend, by_part[part]) for part in parts if part in by_part]
    return pl.concat(frames) if frames else pl.DataFrame(schema=_SCHEMA)


def store(
    backend: Backend,
    part: str,
    model: Checkpoint,
    base: Checkpoint,
    dataset: Dataset,
    scores: Mapping[str, float | None],
    **columns: Any,
) -> None:
    """Store the scores of a model on a dataset, and register the model and the dataset.

    columns: values shared by every metric, named as in view `evaluations`.
    """
    with locks.registry(backend):
        names = {
            "base": catalog.keep_model(backend, base),
            "model": catalog.keep_model(backend, model),
            "dataset": catalog.keep_dataset(backend, dataset),
        }
    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    rows = [
        {**columns, **names, "metric": metric, "value": value, "evaluated": now}
        for metric, value in scores.items()
    ]
    frame = pl.DataFrame(rows, schema=_SCHEMA)
    fragments.write(backend, "evaluations", names["model"], part, frame)
