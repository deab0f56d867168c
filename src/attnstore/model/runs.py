"""What a run is: its identity, its plan, and its record in the store.

A run is a model over a dataset with its settings. People name it (`minilm/mrpc`), its content
identifies it: asking for the same again finds the run, other content under the same name becomes
the next revision (`minilm/mrpc@2`). The plan of every input is written before the first forward
pass; the run's record is written last.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from attnstore import store
from attnstore.care import leftovers
from attnstore.disk import description, fragments, indexing, layout, locks, shapes
from attnstore.disk.fragments import Fragment
from attnstore.disk.shapes import Shape
from attnstore.errors import DamageError, ModelError, UsageError
from attnstore.headsets import UNIFORM, VALUES, heads_text, parse_heads
from attnstore.model import checkpoints
from attnstore.model.checkpoints import Checkpoint
from attnstore.names import CAPTURE_VERSION, PRECISIONS
from attnstore.text.corpora import Dataset

_KEY = {"run_key": pl.UInt64}
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
        """The key that the rows of its fragments carry; the index gives keys of its own."""
        return int(self.record["run_key"])

    @cached_property
    def shape(self) -> Shape:
        """How its arrays lie, as its record says."""
        old = self.record.get("layout") is None  # an earlier version planned it
        return shapes.of_record(
            self.run, self.record, description.end_of(self.plan) if old else None
        )

    @cached_property
    def plan(self) -> pl.DataFrame:
        """The planned inputs in storage order, as far as a forward pass needs them."""
        found = fragments.listing(self.root, "inputs", self.run)
        fragment = max(found, key=lambda f: f.modified)  # a kill may leave an older one beside it
        return pl.read_parquet(
            fragments.local(self.root, fragment),
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
            if (record["identity"], record["run"]) == (run_identity, fragment.owner):
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

    inputs, capturer = _plan_inputs(checkpoint, dataset, chosen, settings), None
    if found is None:
        examined = examining.examine(checkpoint, inputs, settings, device)
        checkpoint, capturer = examined.checkpoint, examined.capturer
        record = _record(examined, dataset, settings, wanted, inputs)
    else:  # something beside its record is missing
        record = found.record
    with locks.registry(root), contextlib.ExitStack() as held:
        found = find(root, wanted)  # another process may have planned it meanwhile
        run = found.run if found else _name(root, f"{checkpoint.name}/{dataset.name}", wanted)
        if found is None:  # a drop or a copy may be at work under that name
            held.enter_context(locks.hold(store.run_lock(root, run), what=f"Run {run}"))
        leftovers.discard(root, run, found.key if found else indexing.run_key(run, wanted))
        return _register(root, checkpoint, dataset, run, record, inputs, found), capturer


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
    inputs = inputs.filter(~pl.col("empty")).drop("empty")
    if inputs.is_empty():
        raise UsageError(
            f"No text of {dataset.source} gives a token with the tokenizer of {checkpoint.name}: "
            "nothing to ingest."
        )
    _refuse_foreign_tokens(checkpoint, inputs)
    plan = layout.plan(inputs["length"].to_numpy())
    return inputs[plan.order].with_columns(
        block=pl.Series(plan.block, dtype=pl.Int32),
        cell=pl.Series(plan.cell, dtype=pl.Int64),
        token_cell=pl.Series(plan.token, dtype=pl.Int64),
    )


def _refuse_foreign_tokens(checkpoint: Checkpoint, inputs: pl.DataFrame) -> None:
    """ModelError for tokens or segments that the model has no row for."""
    from attnstore.model import models

    highest = int(inputs["token_ids"].explode().to_numpy().max())
    segment = int(inputs["type_ids"].list.max().fill_null(0).max())  # type: ignore[arg-type]
    if highest >= checkpoint.vocab_size:
        finding = f"gives token {highest} and the model has {checkpoint.vocab_size}"
    elif segment > 1 and segment >= models.segments(checkpoint):
        finding = f"gives segment {segment} and the model has {models.segments(checkpoint)}"
    else:
        return
    raise ModelError(
        f"The tokenizer of {checkpoint.name} {finding}: they do not belong together; copy the "
        "tokenizer files from the model's own checkpoint."
    )


def _record(
    examined: Examined, dataset: Dataset, settings: Settings, wanted: str, inputs: pl.DataFrame
) -> dict[str, Any]:
    """The row of `runs`, but for the names under which the store keeps run, model and dataset."""
    way, checkpoint = examined.capturer.way, examined.checkpoint
    length = inputs["length"].cast(pl.Int64)
    usable = len(dataset.frame) - dataset.empty
    sampled = settings.limit is not None and settings.limit < usable
    chosen = settings.limit if sampled and settings.limit else usable
    tokenless = chosen - len(inputs)
    changed = disabled(checkpoint, settings)
    layers = sorted(set(settings.layers or way.layers))
    heads = kept(settings.heads, way.n_heads, "head")
    plan, longest = layout.plan(length.to_numpy()), settings.pad_to or settings.max_length
    return {
        "identity": wanted, "precision": settings.precision, "max_length": settings.max_length,
        "pad_to": settings.pad_to, "layers": layers, "heads": heads,
        "disabled": changed, "disabled_value": settings.disable_value if changed else None,
        "sample": settings.limit if sampled else None, "seed": settings.seed if sampled else None,
        "planned": len(inputs), "n_tokens": int(length.sum()), "n_cells": int((length**2).sum()),
        "n_blocks": plan.n_blocks, "n_empty": dataset.empty + tokenless,
        "n_truncated": int(inputs["truncated"].sum()), "capture_version": CAPTURE_VERSION,
        "captured": way.captured, "batching": way.batching, "sinks": way.sinks,
        "attnstore_version": version("attnstore"),
        **{f"{package}_version": version(package) for package in _PACKAGES},
        "created": datetime.now(UTC).replace(tzinfo=None, microsecond=0),
        "layout": shapes.planned(settings.precision, layers, heads, plan.n_shards, longest).record,
    }  # fmt: skip


def _register(
    root: Path,
    checkpoint: Checkpoint,
    dataset: Dataset,
    run: str,
    record: dict[str, Any],
    inputs: pl.DataFrame,
    found: Run | None,
) -> Run:
    """Write what describes a run, its record last, under the registry's lock.

    found: the run, where the store has its record already and something else of it was missing.
    """
    wanted = record["identity"]
    names = {"model": keep_model(root, checkpoint), "dataset": keep_dataset(root, dataset)}
    key = found.key if found else indexing.run_key(run, wanted)
    record = found.record if found else {**record, "run": run, "run_key": key, **names}
    inputs = inputs.with_columns(pl.lit(key, pl.UInt64).alias("run_key"))
    n_shards = layout.plan(inputs["length"].to_numpy()).n_shards
    shape = shapes.planned(
        record["precision"], record["layers"], record["heads"], n_shards,
        record["pad_to"] or record["max_length"],
    )  # fmt: skip
    description.describe(root, run, shape)
    _write_once(root, "inputs", run, wanted, inputs)
    _write_once(root, "runs", run, wanted, pl.DataFrame([record], schema_overrides=_KEY))
    return Run(root, run, record)


def _name(root: Path, name: str, wanted: str) -> str:
    """The name of a run to register: that of a damaged record of the same content, else a free one."""
    same = [f.owner for f in fragments.listing(root, "runs") if _is_of(root, f, wanted)]
    return same[0] if same else owner(root, "runs", name, wanted)


def keep_model(root: Path, checkpoint: Checkpoint) -> str:
    """Describe a model in the store, under the registry's lock; returns its name there."""
    others = _of_other_tokenizers(root, checkpoint)
    name = owner(root, "models", checkpoint.name, checkpoint.fingerprint, others)
    _write_once(root, "models", name, checkpoint.fingerprint, _model_row(name, checkpoint))
    return name


def keep_dataset(root: Path, dataset: Dataset) -> str:
    """Keep a dataset's rows in the store, under the registry's lock; returns its name there."""
    name = owner(root, "datasets", dataset.name, dataset.fingerprint)
    _write_once(root, "datasets", name, dataset.fingerprint, _dataset_row(name, dataset))
    _write_once(root, "examples", name, dataset.fingerprint, _examples(name, dataset))
    return name


def _of_other_tokenizers(root: Path, checkpoint: Checkpoint) -> set[str]:
    """Models of the store with these weights and another tokenizer: they are other models."""
    found = set()
    for fragment in fragments.listing(root, "models"):
        if fragment.part == checkpoint.fingerprint[:16]:
            with contextlib.suppress(DamageError):  # it is written anew
                held = fragments.read(root, fragment)["tokenizer_fingerprint"][0]
                if held != checkpoint.tokenizer_fingerprint:
                    found.add(fragment.owner)
    return found


def owner(
    root: Path, table: str, name: str, content: str, others: Collection[str] = frozenset()
) -> str:
    """The name under which some content is kept: `name`, or its next free revision `name@2`.

    others: names that are of other content though their fragments look the same.
    """
    held = {f.owner: f for f in fragments.listing(root, table)}
    number = 1
    while True:
        candidate = name if number == 1 else f"{name}@{number}"
        free = candidate not in held or _is_of(root, held[candidate], content)
        if candidate not in others and free:
            return candidate
        number += 1


def _is_of(root: Path, fragment: Fragment, content: str) -> bool:
    """Whether a record is of some content: its part is the beginning of the SHA-256, its row the whole."""
    if fragment.part != content[:16]:
        return False
    try:
        row = fragments.read(root, fragment).row(0, named=True)
    except DamageError:
        return True  # written anew
    return bool(row.get("identity" if fragment.table == "runs" else "fingerprint") == content)


def _write_once(root: Path, table: str, owner: str, content: str, rows: pl.DataFrame) -> None:
    """Write a fragment unless it is there and whole."""
    found = [f for f in fragments.listing(root, table, owner) if f.part == content[:16]]
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
