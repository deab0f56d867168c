"""Runs: a model over a dataset with its settings, its identity, its record and its plan."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from attnstore.datasets.corpora import Dataset
from attnstore.errors import UsageError
from attnstore.head_sets import UNIFORM, VALUES, heads_text, parse_heads
from attnstore.models.checkpoints import Checkpoint
from attnstore.naming import CAPTURE_VERSION, whole_number
from attnstore.storage import array_shape, fragments, layout, zarr_metadata
from attnstore.storage.array_shape import Shape
from attnstore.storage.backend import Backend
from attnstore.storage.precision import PRECISIONS
from attnstore.storage.run_record import RunRecord

_PLAN_COLUMNS = (
    "block", "example", "length", "token_ids", "type_ids", "segments", "kinds", "cell", "token_cell",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The settings of a run.

    max_length: tokens kept of an input; pad_to: tokens it is padded to (None: not); limit, seed: size
    and seed of a random sample (None: all); layers, heads: 0-based numbers to keep (None: all);
    disable: heads to disable in the model, as `head_sets` writes them (None: none), and to what value.
    """

    max_length: int = 128
    pad_to: int | None = None
    precision: str = "float16"
    limit: int | None = None
    seed: int = 0
    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    disable: str | None = None
    disable_value: str = UNIFORM

    def __post_init__(self) -> None:
        for name in ("layers", "heads"):  # a list or an array becomes what a run's identity takes
            numbers = getattr(self, name)
            if isinstance(numbers, Iterable) and not isinstance(numbers, (str, tuple)):
                object.__setattr__(self, name, tuple(numbers))
        if self.precision not in PRECISIONS:
            raise UsageError(
                f"The precision is {self.precision!r}; give one of {', '.join(PRECISIONS)}."
            )
        if self.disable_value not in VALUES:
            raise UsageError(
                f"The disable-value is {self.disable_value!r}; give one of {', '.join(VALUES)}."
            )
        if not 2 <= self.max_length <= layout.SHARD_TOKENS:
            raise UsageError(
                f"The max-length is {self.max_length}; give 2 to {layout.SHARD_TOKENS} tokens."
            )
        if self.pad_to is not None and not self.max_length <= self.pad_to <= layout.SHARD_TOKENS:
            raise UsageError(
                f"The pad-to is {self.pad_to}; give the max-length ({self.max_length}) or more."
            )
        if self.limit is not None and self.limit < 1:
            raise UsageError(
                f"The limit is {self.limit}; give 1 or more, or none for every example."
            )


@dataclass(frozen=True)
class Run:
    """A planned run in a store. precision, layers, heads: what it keeps; record: its row."""

    backend: Backend
    run: str
    record: RunRecord

    @property
    def key(self) -> int:
        """The key that the rows of its fragments carry; the index gives keys of its own."""
        return self.record.run_key

    @cached_property
    def shape(self) -> Shape:
        """The layout of its arrays, from its record."""
        old = self.record.layout is None  # an earlier version planned it
        return array_shape.of_record(
            self.run, self.record, zarr_metadata.end_of(self.plan) if old else None
        )

    @cached_property
    def plan(self) -> pl.DataFrame:
        """The planned inputs in storage order, as far as a forward pass needs them."""
        plans = fragments.listing(self.backend, "inputs", self.run)
        fragment = max(plans, key=lambda f: f.modified)  # a kill may leave an older one beside it
        return pl.read_parquet(
            fragments.source(self.backend, fragment),
            columns=list(_PLAN_COLUMNS),
            glob=False,
            hive_partitioning=False,
        )

    @cached_property
    def blocks(self) -> list[slice]:
        """The rows of the plan that each block holds."""
        block = self.plan["block"].to_numpy()
        edges = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(block)]
        return [slice(a, b) for a, b in itertools.pairwise(edges)]


def kept(asked: tuple[int, ...] | None, n: int, what: str) -> list[int]:
    """Return the layers or heads to keep, sorted. Raises UsageError for one that the model lacks."""
    if asked is None:
        return list(range(n))
    numbers = [whole_number(what, x) for x in asked]
    wrong = [x for x in numbers if not 0 <= x < n]
    if wrong or not numbers:
        raise UsageError(
            f"There is no {what} {wrong[0] if wrong else ''}: the model's {what}s are 0 to {n - 1}."
        )
    return sorted(set(numbers))


def disabled(checkpoint: Checkpoint, settings: Settings) -> str | None:
    """Return the heads to disable in their canonical text. Raises UsageError for one that the model
    lacks."""
    if settings.disable is None:
        return None
    heads = parse_heads(settings.disable, checkpoint.n_layers, checkpoint.n_heads)
    return heads_text(heads, checkpoint.n_heads)


def identity(checkpoint: Checkpoint, dataset: Dataset, chosen: Any, settings: Settings) -> str:
    """Compute a SHA-256 over everything that decides what a run stores, but no name."""
    content = {
        "capture": CAPTURE_VERSION,
        "layout": [layout.SHARD_CELLS, layout.SHARD_TOKENS, layout.CHUNK_CELLS],
        "model": checkpoint.fingerprint,
        "tokenizer": checkpoint.tokenizer_fingerprint,
        "dataset": dataset.fingerprint,
        "examples": hashlib.sha256(np.asarray(chosen, "<i8").tobytes()).hexdigest(),
        "max_length": settings.max_length,
        "pad_to": settings.pad_to,
        "precision": settings.precision,
        "layers": kept(settings.layers, checkpoint.n_layers, "layer"),
        "heads": kept(settings.heads, checkpoint.n_heads, "head"),
    }
    if heads := disabled(checkpoint, settings):
        content |= {"disabled": heads, "disabled_value": settings.disable_value}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
