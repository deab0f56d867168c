"""Base of ablation and pruning: options of their passes, and a job for one classifier."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import polars as pl

from attnstore.capture import catalog
from attnstore.errors import UsageError
from attnstore.experiments.ablation.scored_classifier import Loaded, Subject
from attnstore.head_sets import UNIFORM, VALUES
from attnstore.job import Job, R, S
from attnstore.storage import fragments, location, locks
from attnstore.storage.backend import Backend

if TYPE_CHECKING:
    from attnstore.experiments.ablation.disabled_passes import Passes


@dataclass(frozen=True)
class Passing:
    """Options of passes through a classifier with heads disabled.

    value: of a disabled head's map, one of VALUES; tokens: in one pass over all settings (None:
    chosen for the device); memory: MiB of cached hidden states. Raises UsageError.
    """

    value: str = UNIFORM
    device: str = "auto"
    tokens: int | None = None
    memory: int = 1024

    def __post_init__(self) -> None:
        if self.value not in VALUES:
            raise UsageError(f"The value is {self.value!r}; give one of {', '.join(VALUES)}.")
        if (self.tokens is not None and self.tokens < 1) or self.memory < 0:
            raise UsageError(
                f"The tokens in one pass are {self.tokens} and the memory {self.memory} MiB; give 1 "
                "and 0 or more."
            )

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Self:
        """Remove these fields from the options of a job and return them as an instance."""
        return cls(**{f.name: options.pop(f.name) for f in fields(cls) if f.name in options})

    def over(self, loaded: Loaded) -> Passes:
        """Return the passes of a loaded classifier over its inputs."""
        # Imported here: a job with nothing to do needs no torch, and its import dominates the run time.
        from attnstore.experiments.ablation.disabled_passes import Passes

        return Passes(loaded.model, loaded.inputs, self.value, self.tokens, self.memory << 20)


class ScoredJob(Job[R, S]):
    """A job for one classifier and one dataset.

    The model is loaded before anything is written, so an unusable model leaves no files behind; if
    the store is complete, nothing is loaded or locked.
    """

    def __init__(self, backend: Backend, subject: Subject, lock: str, doing: str, key: str) -> None:
        """Name the job. key: its identity in the names of locks and fragments."""
        names = f"{subject.checkpoint.name} over {subject.dataset.name}"
        super().__init__(backend, names, lock=f"{lock}-{key}", subject=f"{doing} {names}")
        self.subject, self.key = subject, key

    @property
    @abstractmethod
    def loaded(self) -> Any:
        """Load the model on first access. Raises ModelError for an unusable model."""

    def hold(self, entered: contextlib.ExitStack) -> None:
        """Take the lock if anything is missing, then look again. Raises BusyError, ModelError."""
        self.look()
        if self.missing():
            self.loaded  # noqa: B018 - raises for an unusable model
            location.create(self.backend)
            super().hold(entered)

    @cached_property
    def names(self) -> tuple[str, str]:
        """Return the store's names of model and dataset; registers both on first access."""
        with locks.registry(self.backend):
            model = catalog.keep_model(self.backend, self.subject.checkpoint)
            return model, catalog.keep_dataset(self.backend, self.subject.dataset)

    def rows(self, table: str) -> pl.DataFrame | None:
        """Return this job's stored rows of a table, or None."""
        frames = [
            fragments.read(self.backend, f)
            for f in fragments.listing(self.backend, table)
            if f.part.startswith(self.key) and fragments.whole(self.backend, f)
        ]
        return pl.concat(frames, how="diagonal_relaxed") if frames else None

    def write(self, table: str, part: str, rows: pl.DataFrame) -> None:
        """Commit rows, with the names of model and dataset; part: '' if there is only one."""
        model, dataset = self.names
        named = rows.with_columns(model=pl.lit(model), dataset=pl.lit(dataset))
        name = f"{self.key}.{part}" if part else self.key
        fragments.write(self.backend, table, f"{model}/{dataset}", name, named)
