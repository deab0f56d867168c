"""Runs, models and datasets of a store, by name and by identity.

People name them (`minilm/mrpc`), their content identifies them: asking for the same again finds the
same, other content under the same name becomes the next revision (`minilm/mrpc@2`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import fields
from typing import TYPE_CHECKING

import polars as pl

from attnstore.capture.runs import Run
from attnstore.datasets import gold_labels
from attnstore.datasets.corpora import Dataset
from attnstore.errors import DamageError, UnknownNameError
from attnstore.models.checkpoints import Checkpoint
from attnstore.naming import near
from attnstore.storage import array_shape, fragments, locks, run_record
from attnstore.storage.backend import Backend
from attnstore.storage.fragments import Fragment

if TYPE_CHECKING:
    import torch

_NAMES = pl.List(pl.String)


def find(backend: Backend, run_identity: str) -> Run | None:
    """Return the run of that content, if the store has planned it and its record is sound."""
    for fragment in fragments.listing(backend, "runs"):
        if fragment.part == run_identity[:16]:
            try:
                record = run_record.read(backend, fragment)
                if record.layout is not None:  # which earlier versions did not write
                    array_shape.of_record(fragment.owner, record)
            except DamageError:
                continue
            if (record.identity, record.run) == (run_identity, fragment.owner):
                return Run(backend, fragment.owner, record)
    return None


def named(backend: Backend, name: str) -> Run:
    """Return the run of a name. Raises UnknownNameError, DamageError."""
    runs = {f.owner: f for f in fragments.listing(backend, "runs")}
    if name not in runs:
        suggestion = near(name, runs) or "; `attnstore runs` lists them"
        raise UnknownNameError(f"The store holds no run {name!r}{suggestion}")
    return Run(backend, name, run_record.read(backend, runs[name]))


def keep_model(backend: Backend, checkpoint: Checkpoint) -> str:
    """Describe a model in the store, under the registry's lock; returns its name there."""
    others = _of_other_tokenizers(backend, checkpoint)
    name = owner(backend, "models", checkpoint.name, checkpoint.fingerprint, others)
    write_once(backend, "models", name, checkpoint.fingerprint, _model_row(name, checkpoint))
    return name


def keep_layer_norms(
    backend: Backend, model: str, checkpoint: Checkpoint, module: torch.nn.Module
) -> None:
    """Keep what lies far out in the layer norms of a loaded model, unless the store has it.

    model: its name in the store.
    """
    content = checkpoint.fingerprint
    kept = fragments.listing(backend, "layer_norms", model)
    if not any(f.part == content[:16] and fragments.sound(backend, f) for f in kept):
        from attnstore.models import layer_norms  # imports torch

        rows = layer_norms.rows(module, checkpoint.n_layers)
        rows = rows.select(pl.lit(model).alias("model"), pl.all())
        fragments.write(backend, "layer_norms", model, content[:16], rows)


def keep_dataset(backend: Backend, dataset: Dataset) -> str:
    """Keep a dataset's rows in the store, under the registry's lock; returns its name there."""
    name = owner(backend, "datasets", dataset.name, dataset.fingerprint)
    content, row, examples = (
        dataset.fingerprint,
        _dataset_row(name, dataset),
        _examples(name, dataset),
    )
    if _of_other_rule(backend, name, dataset):  # new fragments of the same part take their place
        fragments.write(backend, "examples", name, content[:16], examples)
        fragments.write(backend, "datasets", name, content[:16], row)
    write_once(backend, "datasets", name, content, row)
    write_once(backend, "examples", name, content, examples)
    return name


def _of_other_rule(backend: Backend, name: str, dataset: Dataset) -> bool:
    """Return True if the store counts the dataset's empty rows as an earlier version did.

    There a row without its second text was empty; its own runs stay as they are.
    """
    for fragment in fragments.listing(backend, "datasets", name):
        if fragment.part == dataset.fingerprint[:16]:
            with contextlib.suppress(DamageError):  # it will be replaced
                return bool(fragments.read(backend, fragment)["n_empty"][0] != dataset.empty)
    return False


def record_base(backend: Backend, model: str, base: str) -> None:
    """Record which model another was trained from; no part of what identifies a run.

    So it can be given later, or again: the record is replaced, and no weight is computed.
    """
    _record(backend, "models", model, pl.Series("base", [base], pl.String))


def record_language(backend: Backend, dataset: str, language: str) -> None:
    """Record the language of a dataset; like a base model, it can be given later, or again."""
    _record(backend, "datasets", dataset, pl.Series("language", [language], pl.String))


def record_label_names(backend: Backend, name: str, dataset: Dataset) -> None:
    """Record the names of a dataset's classes, if it has none: an earlier version or source kept none."""
    names = gold_labels.class_names(dataset)
    rows = fragments.read_one(backend, "datasets", name)
    lacking = rows is None or "label_names" not in rows.columns or rows["label_names"][0] is None
    if names is not None and lacking:
        _record(backend, "datasets", name, pl.Series("label_names", [[*names]], _NAMES))


def _record(backend: Backend, table: str, owner: str, value: pl.Series) -> None:
    """Replace the column of a value in the record of a model or dataset, unless it has that value."""
    rows = fragments.read_one(backend, table, owner)
    if rows is not None and value.name in rows.columns and rows[value.name].equals(value):
        return
    with locks.registry(backend):
        records = fragments.listing(backend, table, owner)
        if not records:  # dropped meanwhile
            return
        newest = max(records, key=lambda f: f.modified)
        row = fragments.read(backend, newest).with_columns(value)
        # A new fragment of the same part takes the older one's place.
        fragments.write(backend, table, owner, newest.part, row)


def _of_other_tokenizers(backend: Backend, checkpoint: Checkpoint) -> set[str]:
    """Return models of the store with these weights and another tokenizer: they are other models."""
    models = set()
    for fragment in fragments.listing(backend, "models"):
        if fragment.part == checkpoint.fingerprint[:16]:
            with contextlib.suppress(DamageError):  # it will be replaced
                fingerprint = fragments.read(backend, fragment)["tokenizer_fingerprint"][0]
                if fingerprint != checkpoint.tokenizer_fingerprint:
                    models.add(fragment.owner)
    return models


def owner(
    backend: Backend, table: str, name: str, content: str, others: Collection[str] = frozenset()
) -> str:
    """Return the name under which content is kept: `name`, or its next free revision `name@2`.

    others: names of other content whose fragments look the same.
    """
    fragment_of = {f.owner: f for f in fragments.listing(backend, table)}
    number = 1
    while True:
        candidate = name if number == 1 else f"{name}@{number}"
        free = candidate not in fragment_of or is_of(backend, fragment_of[candidate], content)
        if candidate not in others and free:
            return candidate
        number += 1


def is_of(backend: Backend, fragment: Fragment, content: str) -> bool:
    """Return True if a record is of that content: its part is the beginning of the SHA-256, its row
    has the whole."""
    if fragment.part != content[:16]:
        return False
    try:
        row = fragments.read(backend, fragment).row(0, named=True)
    except DamageError:
        return True  # it will be replaced
    return bool(row.get("identity" if fragment.table == "runs" else "fingerprint") == content)


def write_once(backend: Backend, table: str, owner: str, content: str, rows: pl.DataFrame) -> None:
    """Write a fragment unless it is there and sound; of a run, unless the record is of that name."""
    same = [f for f in fragments.listing(backend, table, owner) if f.part == content[:16]]
    written = any(fragments.sound(backend, f) for f in same)
    if not written or (table == "runs" and find(backend, content) is None):
        fragments.write(backend, table, owner, content[:16], rows)


def _model_row(name: str, checkpoint: Checkpoint) -> pl.DataFrame:
    row = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}
    del row["name"], row["folder"]
    return pl.DataFrame([{"model": name, **row}])


def _dataset_row(name: str, dataset: Dataset) -> pl.DataFrame:
    row = {
        "dataset": name, "source": dataset.source, "split": dataset.split,
        "fingerprint": dataset.fingerprint, "n_rows": len(dataset.frame), "n_empty": dataset.empty,
        "text_column": dataset.text_column, "pair_column": dataset.pair_column,
        "label_column": dataset.label_column, "language": dataset.language,
        "label_names": gold_labels.class_names(dataset),
    }  # fmt: skip
    return pl.DataFrame([row], schema_overrides={"label_names": _NAMES})


def _examples(name: str, dataset: Dataset) -> pl.DataFrame:
    return dataset.frame.select(
        pl.lit(name).alias("dataset"), "example", "text", "text_pair", "label",
        (~dataset.usable()).alias("empty"),
    )  # fmt: skip
