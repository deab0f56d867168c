"""What a run is: its identity, its plan, and its record in the store.

A run is a model over a dataset with its settings. People name it (`minilm/mrpc`), its content
identifies it: asking for the same again finds the run, other content under the same name becomes
the next revision (`minilm/mrpc@2`). The plan of every input is written before the first forward
pass; the run's record is written last.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from attnstore.disk import description, fragments, layout, locks
from attnstore.errors import DamageError, ModelError, UsageError
from attnstore.headsets import UNIFORM, VALUES, heads_text, parse_heads
from attnstore.model import checkpoints
from attnstore.model.checkpoints import Checkpoint
from attnstore.names import CAPTURE_VERSION, PRECISIONS
from attnstore.text.corpora import Dataset

if TYPE_CHECKING:
    from attnstore.model.capture import Capturer
    from attnstore.model.examining import Examined

_PACKAGES = ("torch", "transformers", "tokenizers")
"""Packages whose version a run records."""
_PLAN_COLUMNS = (
    "block", "example", "length", "token_ids", "type_ids", "segments", "kinds", "cell", "token_cell",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What shapes a run beside its model and dataset.

    max_length: tokens kept of an input; pad_to: tokens it is padded to (None: not); limit, seed: size and seed of a random sample (None: all);
    layers, heads: 0-based numbers to keep (None: all); disable: heads to disable in the model, as
    `headsets` writes them (None: none), and to what value.
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

    root: Path
    run: str
    record: dict[str, Any]

    @property
    def key(self) -> int:
        """Its key inside the index: the first 32 bits of its identity."""
        return int(self.record["run_key"])

    @cached_property
    def plan(self) -> pl.DataFrame:
        """The planned inputs in storage order, as far as a forward pass needs them."""
        found = fragments.listing(self.root, "inputs", self.run)
        fragment = max(found, key=lambda f: f.modified)  # a kill may leave an older one beside it
        return pl.read_parquet(
            fragments.local(self.root, fragment), columns=list(_PLAN_COLUMNS), glob=False
        )

    @cached_property
    def blocks(self) -> list[slice]:
        """The rows of the plan that each block holds."""
        block = self.plan["block"].to_numpy()
        edges = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(block)]
        return [slice(a, b) for a, b in itertools.pairwise(edges)]


def kept(asked: tuple[int, ...] | None, n: int, what: str) -> list[int]:
    """The layers or heads to keep, sorted; UsageError for a number that the model has not."""
    if asked is None:
        return list(range(n))
    wrong = [x for x in asked if not 0 <= x < n]
    if wrong or not asked:
        raise UsageError(
            f"There is no {what} {wrong[0] if wrong else ''}: the model's {what}s are 0 to {n - 1}."
        )
    return sorted(set(asked))


def disabled(checkpoint: Checkpoint, settings: Settings) -> str | None:
    """The heads to disable in their canonical text; UsageError for one that the model has not."""
    if settings.disable is None:
        return None
    heads = parse_heads(settings.disable, checkpoint.n_layers, checkpoint.n_heads)
    return heads_text(heads, checkpoint.n_heads)


def identity(checkpoint: Checkpoint, dataset: Dataset, chosen: Any, settings: Settings) -> str:
    """SHA-256 over everything that decides what a run stores, but no name."""
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


def find(root: Path, run_identity: str) -> Run | None:
    """The run of that content, if the store has it planned and its record is sound."""
    for fragment in fragments.listing(root, "runs"):
        if fragment.part == run_identity[:16]:
            try:
                record = fragments.read(root, fragment).row(0, named=True)
            except DamageError:
                continue
            return Run(root, fragment.owner, record)
    return None


def prepare(
    root: Path, checkpoint: Checkpoint, dataset: Dataset, settings: Settings, device: str = "auto"
) -> tuple[Run, Capturer | None]:
    """Find or plan a run; whatever of its record is missing or damaged is written anew.

    The model of a new run is loaded and examined first, on `device`: a model that cannot be captured
    leaves nothing behind. Returns the run and that model, ready to run, or None for a run that was
    planned before. Raises ModelError, UsageError.
    """
    chosen = dataset.select(settings.limit, settings.seed)
    if not len(chosen):
        raise UsageError(
            f"{dataset.source} has no row with text in {dataset.text_column!r}: nothing to ingest."
        )
    longest = settings.pad_to or settings.max_length
    checkpoints.require_length(checkpoint, longest, "pad-to" if settings.pad_to else "max-length")
    wanted = identity(checkpoint, dataset, chosen, settings)
    found = find(root, wanted)
    if found is not None and _sound(root, found):
        return found, None
    # A run that exists already needs neither torch nor transformers, which take seconds to import.
    from attnstore.model import examining

    inputs = _plan_inputs(checkpoint, dataset, chosen, settings)
    if found is not None:  # something beside its record is missing
        with locks.registry(root):
            return _register(root, checkpoint, dataset, found.record, inputs, found), None
    examined = examining.examine(checkpoint, inputs, settings, device)
    record = _record(examined, dataset, settings, wanted, inputs)
    with locks.registry(root):
        found = find(root, wanted)  # another process may have planned it meanwhile
        run = _register(root, examined.checkpoint, dataset, record, inputs, found)
    return run, examined.capturer


def _sound(root: Path, run: Run) -> bool:
    """Whether everything that `_register` writes for a run is there and whole."""
    model, dataset = run.record["model"], run.record["dataset"]
    wanted = (("inputs", run.run), ("models", model), ("datasets", dataset), ("examples", dataset))
    for table, owner in wanted:
        found = fragments.listing(root, table, owner)
        if len(found) != 1 or not fragments.whole(root, found[0]):
            return False
    return description.described(root, run.run)


def _plan_inputs(
    checkpoint: Checkpoint, dataset: Dataset, chosen: Any, settings: Settings
) -> pl.DataFrame:
    """Tokenise the chosen examples and lay them out."""
    from attnstore.model import models
    from attnstore.text import tokenise

    rows = dataset.frame[chosen]
    tokenizer = models.load_tokenizer(checkpoint)
    inputs = tokenise.tokenise(rows, tokenizer, settings.max_length, settings.pad_to)
    highest = int(inputs["token_ids"].explode().to_numpy().max())
    if highest >= checkpoint.vocab_size:
        raise ModelError(
            f"The tokenizer of {checkpoint.name} gives token {highest} and the model has "
            f"{checkpoint.vocab_size}: they do not belong together; copy the tokenizer files from "
            "the model's own checkpoint."
        )
    plan = layout.plan(inputs["length"].to_numpy())
    return inputs[plan.order].with_columns(
        block=pl.Series(plan.block, dtype=pl.Int32),
        cell=pl.Series(plan.cell, dtype=pl.Int64),
        token_cell=pl.Series(plan.token, dtype=pl.Int64),
    )


def _record(
    examined: Examined, dataset: Dataset, settings: Settings, wanted: str, inputs: pl.DataFrame
) -> dict[str, Any]:
    """The row of `runs`, but for the names under which the store keeps run, model and dataset."""
    way, checkpoint = examined.capturer.way, examined.checkpoint
    length = inputs["length"].cast(pl.Int64)
    sampled = len(inputs) < len(dataset.frame) - dataset.empty
    changed = disabled(checkpoint, settings)
    return {
        "run_key": int(wanted[:8], 16), "identity": wanted,
        "precision": settings.precision, "max_length": settings.max_length,
        "pad_to": settings.pad_to, "layers": sorted(set(settings.layers or way.layers)),
        "heads": kept(settings.heads, way.n_heads, "head"),
        "disabled": changed, "disabled_value": settings.disable_value if changed else None,
        "sample": settings.limit if sampled else None, "seed": settings.seed if sampled else None,
        "planned": len(inputs), "n_tokens": int(length.sum()), "n_cells": int((length**2).sum()),
        "n_blocks": layout.plan(length.to_numpy()).n_blocks, "n_empty": dataset.empty,
        "n_truncated": int(inputs["truncated"].sum()), "capture_version": CAPTURE_VERSION,
        "captured": way.captured, "batching": way.batching, "sinks": way.sinks,
        "attnstore_version": version("attnstore"),
        **{f"{package}_version": version(package) for package in _PACKAGES},
        "created": datetime.now(UTC).replace(tzinfo=None, microsecond=0),
    }  # fmt: skip


def _register(
    root: Path,
    checkpoint: Checkpoint,
    dataset: Dataset,
    record: dict[str, Any],
    inputs: pl.DataFrame,
    found: Run | None,
) -> Run:
    """Write what describes a run, its record last, under the registry's lock.

    found: the run, where the store has its record already and something else of it was missing.
    """
    wanted = record["identity"]
    names = {"model": keep_model(root, checkpoint), "dataset": keep_dataset(root, dataset)}
    run = found.run if found else owner(root, "runs", f"{checkpoint.name}/{dataset.name}", wanted)
    record = found.record if found else {"run": run, **record, **names}
    inputs = inputs.with_columns(pl.lit(record["run_key"], pl.UInt32).alias("run_key"))
    n_shards = layout.plan(inputs["length"].to_numpy()).n_shards
    description.describe(
        root, run, record["precision"], record["layers"], record["heads"], n_shards
    )
    _write_once(root, "inputs", run, wanted, inputs)
    _write_once(root, "runs", run, wanted, pl.DataFrame([record]))
    return Run(root, run, record)


def keep_model(root: Path, checkpoint: Checkpoint) -> str:
    """Describe a model in the store, under the registry's lock; returns its name there."""
    name = owner(root, "models", checkpoint.name, checkpoint.fingerprint)
    _write_once(root, "models", name, checkpoint.fingerprint, _model_row(name, checkpoint))
    return name


def keep_dataset(root: Path, dataset: Dataset) -> str:
    """Keep a dataset's rows in the store, under the registry's lock; returns its name there."""
    name = owner(root, "datasets", dataset.name, dataset.fingerprint)
    _write_once(root, "datasets", name, dataset.fingerprint, _dataset_row(name, dataset))
    _write_once(root, "examples", name, dataset.fingerprint, _examples(name, dataset))
    return name


def owner(root: Path, table: str, name: str, content: str) -> str:
    """The name under which some content is kept: `name`, or its next free revision `name@2`."""
    held = {f.owner: f.part for f in fragments.listing(root, table)}
    number = 1
    while True:
        candidate = name if number == 1 else f"{name}@{number}"
        if held.get(candidate, content[:16]) == content[:16]:
            return candidate
        number += 1


def _write_once(root: Path, table: str, owner: str, content: str, rows: pl.DataFrame) -> None:
    """Write a fragment unless it is there and whole."""
    found = fragments.listing(root, table, owner)
    if not any(fragments.whole(root, f) for f in found):
        fragments.write(root, table, owner, content[:16], rows)


def _model_row(name: str, checkpoint: Checkpoint) -> pl.DataFrame:
    row = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}
    del row["name"], row["folder"]
    return pl.DataFrame([{"model": name, **row}])


def _dataset_row(name: str, dataset: Dataset) -> pl.DataFrame:
    row = {
        "dataset": name, "source": dataset.source, "split": dataset.split,
        "fingerprint": dataset.fingerprint, "n_rows": len(dataset.frame), "n_empty": dataset.empty,
        "text_column": dataset.text_column, "pair_column": dataset.pair_column,
        "label_column": dataset.label_column,
    }  # fmt: skip
    return pl.DataFrame([row])


def _examples(name: str, dataset: Dataset) -> pl.DataFrame:
    return dataset.frame.select(
        pl.lit(name).alias("dataset"), "example", "text", "text_pair", "label",
        (~dataset.usable()).alias("empty"),
    )  # fmt: skip
