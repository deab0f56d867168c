"""Plan a run and write what describes it, before its first forward pass.

The texts are tokenized and laid out, the model is loaded and examined with inputs of the run, and
only then is anything written: a model that cannot be captured leaves nothing behind. The plan of
every input is written first, the run's record last.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

import polars as pl

from attnstore.capture import catalog, runs
from attnstore.capture.runs import Run, Settings
from attnstore.datasets.corpora import Dataset
from attnstore.errors import ModelError, UsageError
from attnstore.models import checkpoints
from attnstore.models.checkpoints import Checkpoint
from attnstore.naming import CAPTURE_VERSION
from attnstore.storage import (
    array_blocks,
    array_shape,
    fragments,
    index_rows,
    layout,
    leftovers,
    location,
    locks,
    zarr_metadata,
)
from attnstore.storage.backend import Backend
from attnstore.storage.precision import PRECISIONS
from attnstore.storage.run_record import RunRecord

if TYPE_CHECKING:
    from attnstore.capture.examination import Examined
    from attnstore.models.attention_hook import Capturer


@dataclass(frozen=True)
class Draft:
    """A run before it is registered.

    run: as the store has it already, None for a new one; sound: True if nothing of it is missing;
    inputs: its plan (None where it is sound); record: its row of `runs`, of a new one without the
    names under which the store will keep it; checkpoint: with the sizes that the loaded model shows;
    capturer: the model of a new run, examined and ready to run.
    """

    run: Run | None
    sound: bool
    identity: str
    record: RunRecord
    checkpoint: Checkpoint
    inputs: pl.DataFrame | None = None
    capturer: Capturer | None = None


def draft(
    backend: Backend,
    checkpoint: Checkpoint,
    dataset: Dataset,
    settings: Settings,
    device: str = "auto",
) -> Draft:
    """Find a run or plan it, without writing anything.

    The model of a new run is loaded and examined, on `device`. Raises ModelError, UsageError.
    """
    chosen = dataset.select(settings.limit, settings.seed)
    if not len(chosen):
        raise UsageError(
            f"{dataset.source} has no row with text in {dataset.text_column!r}: nothing to ingest."
        )
    longest = settings.pad_to or settings.max_length
    checkpoints.require_length(checkpoint, longest, "pad-to" if settings.pad_to else "max-length")
    identity = runs.identity(checkpoint, dataset, chosen, settings)
    existing = catalog.find(backend, identity)
    if existing is not None and _sound(backend, existing):
        return Draft(existing, True, identity, existing.record, checkpoint)
    # A run that exists already needs neither torch nor transformers, which take seconds to import.
    from attnstore.capture import examination

    inputs = plan_inputs(checkpoint, dataset.frame[chosen], dataset.source, settings)
    if existing is not None:
        return Draft(existing, False, identity, existing.record, checkpoint, inputs)
    examined = examination.examine(checkpoint, inputs, settings, device)
    record = _record(examined, dataset, settings, identity, inputs)
    return Draft(None, False, identity, record, examined.checkpoint, inputs, examined.capturer)


def register(backend: Backend, dataset: Dataset, planned: Draft) -> Run:
    """Write what describes a run, its record last; what is there and whole stays as it is."""
    if planned.run is not None and planned.sound:
        return planned.run
    identity, checkpoint = planned.identity, planned.checkpoint
    with locks.registry(backend), contextlib.ExitStack() as entered:
        existing = catalog.find(backend, identity)  # another process may have planned it meanwhile
        name = f"{checkpoint.name}/{dataset.name}"
        run = existing.run if existing else _name(backend, name, identity)
        if existing is None:  # a drop or a copy may be at work under that name
            entered.enter_context(locks.hold(location.run_lock(backend, run), what=f"Run {run}"))
        key = existing.key if existing else index_rows.run_key(run, identity)
        leftovers.discard(backend, run, key)
        model = catalog.keep_model(backend, checkpoint)
        dataset_name = catalog.keep_dataset(backend, dataset)
        new = replace(planned.record, run=run, run_key=key, model=model, dataset=dataset_name)
        record = existing.record if existing else new
        _write(backend, run, record, planned.inputs)
        return Run(backend, run, record)


def _sound(backend: Backend, run: Run) -> bool:
    """Return True if everything that `register` writes for a run is there and sound."""
    model, dataset = run.record.model, run.record.dataset
    needed = (("inputs", run.run), ("models", model), ("datasets", dataset), ("examples", dataset))
    for table, owner in needed:
        listed = fragments.listing(backend, table, owner)
        if len(listed) != 1 or not fragments.sound(backend, listed[0]):
            return False
    read = zarr_metadata.reader(backend)
    return zarr_metadata.described(backend, run.run, read) and array_blocks.described(
        backend, run.run, run.shape, read
    )


def plan_inputs(
    checkpoint: Checkpoint, rows: pl.DataFrame, source: str, settings: Settings
) -> pl.DataFrame:
    """Tokenize texts and lay them out.

    Args:
        checkpoint: the model.
        rows: columns example, text, text_pair.
        source: what errors call them.
        settings: their longest length and padding.

    Raises:
        UsageError: no text gives a token.
        ModelError: the tokenizer gives numbers that the model does not have.
    """
    from attnstore.datasets import tokenize
    from attnstore.models import loading

    tokenizer = loading.load_tokenizer(checkpoint)
    inputs = tokenize.tokenize(rows, tokenizer, settings.max_length, settings.pad_to)
    inputs = inputs.filter(~pl.col("empty")).drop("empty")
    if inputs.is_empty():
        raise UsageError(
            f"No text of {source} gives a token with the tokenizer of {checkpoint.name}: "
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
    """Raise ModelError for tokens or segments that the model has no row for."""
    from attnstore.models import loading

    highest = int(inputs["token_ids"].explode().to_numpy().max())
    segment = int(inputs["type_ids"].list.max().fill_null(0).max())  # type: ignore[arg-type]
    if highest >= checkpoint.vocab_size:
        finding = f"gives token {highest} and the model has {checkpoint.vocab_size}"
    elif segment > 1 and segment >= loading.segments(checkpoint):
        finding = f"gives segment {segment} and the model has {loading.segments(checkpoint)}"
    else:
        return
    raise ModelError(
        f"The tokenizer of {checkpoint.name} {finding}: they do not belong together; copy the "
        "tokenizer files from the model's own checkpoint."
    )


def _record(
    examined: Examined, dataset: Dataset, settings: Settings, identity: str, inputs: pl.DataFrame
) -> RunRecord:
    """Make the record of a new run, without the names under which the store keeps run, model, dataset."""
    way, checkpoint = examined.capturer.way, examined.checkpoint
    if way.sinks and PRECISIONS[settings.precision].row_unit:
        raise UsageError(
            f"Rows of the maps of {checkpoint.name} sum to less than 1 (attention sinks), and the precision "
            f"{settings.precision} keeps only shares of a row; give --precision compact."
        )
    length = inputs["length"].cast(pl.Int64)
    usable = len(dataset.frame) - dataset.empty
    sampled = settings.limit is not None and settings.limit < usable
    chosen = settings.limit if sampled and settings.limit else usable
    tokenless = chosen - len(inputs)
    changed = runs.disabled(checkpoint, settings)
    layers = sorted(set(settings.layers or way.layers))
    heads = runs.kept(settings.heads, way.n_heads, "head")
    plan, longest = layout.plan(length.to_numpy()), settings.pad_to or settings.max_length
    shape = array_shape.planned(settings.precision, layers, heads, plan.n_shards, longest)
    return RunRecord(
        identity=identity, precision=settings.precision, max_length=settings.max_length,
        pad_to=settings.pad_to, layers=tuple(layers), heads=tuple(heads),
        disabled=changed, disabled_value=settings.disable_value if changed else None,
        sample=settings.limit if sampled else None, seed=settings.seed if sampled else None,
        planned=len(inputs), n_tokens=int(length.sum()), n_cells=int((length**2).sum()),
        n_blocks=plan.n_blocks, n_empty=dataset.empty + tokenless,
        n_truncated=int(inputs["truncated"].sum()), capture_version=CAPTURE_VERSION,
        captured=way.captured, batching=way.batching, sinks=way.sinks,
        attnstore_version=version("attnstore"),
        torch_version=version("torch"), transformers_version=version("transformers"),
        tokenizers_version=version("tokenizers"),
        created=datetime.now(UTC).replace(tzinfo=None, microsecond=0),
        layout=tuple(shape.record),
    )  # fmt: skip


def _write(backend: Backend, run: str, record: RunRecord, inputs: pl.DataFrame | None) -> None:
    """Describe the arrays of a run, then write its plan, then its record."""
    assert inputs is not None  # a draft that is not sound has them
    inputs = inputs.with_columns(pl.lit(record.run_key, pl.UInt64).alias("run_key"))
    n_shards = layout.plan(inputs["length"].to_numpy()).n_shards
    shape = array_shape.planned(
        record.precision, record.layers, record.heads, n_shards,
        record.longest,
    )  # fmt: skip
    zarr_metadata.describe(backend, run, shape, array_blocks.descriptions(backend, run, shape))
    catalog.write_once(backend, "inputs", run, record.identity, inputs)
    catalog.write_once(backend, "runs", run, record.identity, record.to_frame())


def _name(backend: Backend, name: str, identity: str) -> str:
    """Return the name of a run to register: that of a damaged record of the same content, else a free one."""
    same = [
        f.owner for f in fragments.listing(backend, "runs") if catalog.is_of(backend, f, identity)
    ]
    return same[0] if same else catalog.owner(backend, "runs", name, identity)
