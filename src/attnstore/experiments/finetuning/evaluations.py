"""What models score on tasks: table `evaluations`, one fragment per model and dataset.

Who evaluates names the part after what was evaluated, so that it is never computed twice.
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
    """The parts of all whole evaluations of a store."""
    found = fragments.listing(backend, "evaluations")
    return {f.part for f in found if fragments.whole(backend, f)}


def read(backend: Backend, parts: Sequence[str]) -> pl.DataFrame:
    """The rows of evaluations, in the order of their parts."""
    found = {f.part: f for f in fragments.listing(backend, "evaluations")}
    frames = [fragments.read(backend, found[part]) for part in parts if part in found]
    return pl.concat(frames) if frames else pl.DataFrame(schema=_SCHEMA)


def store(
    backend: Backend,
    part: str,
    model: Checkpoint,
    base: Checkpoint,
    dataset: Dataset,
    scores: Mapping[str, float | None],
    **said: Any,
) -> None:
    """Keep the scores of a model on a dataset, and describe the model and the dataset.

    said: the columns that are the same for every metric, as in view `evaluations`.
    """
    with locks.registry(backend):
        names = {
            "base": catalog.keep_model(backend, base),
            "model": catalog.keep_model(backend, model),
            "dataset": catalog.keep_dataset(backend, dataset),
        }
    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    rows = [
        {**said, **names, "metric": metric, "value": value, "evaluated": now}
        for metric, value in scores.items()
    ]
    frame = pl.DataFrame(rows, schema=_SCHEMA)
    fragments.write(backend, "evaluations", names["model"], part, frame)
