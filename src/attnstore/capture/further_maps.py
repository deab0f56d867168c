"""Kinds of maps that an ingestion is asked for beside the weights, what they need, and what they take.

    attnstore ingest --model CHECKPOINT --dataset DATASET --maps weights,value_zeroing

The weights of a run are always stored first. Each further kind is then added to its blocks, so that it can
be asked for later, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from attnstore import map_kinds
from attnstore.capture.additions import Addition, Computer, OnBatch, Source
from attnstore.capture.runs import Run, Settings
from attnstore.datasets import gold_labels
from attnstore.datasets.corpora import Dataset
from attnstore.errors import ModelError, UsageError
from attnstore.formatting import size
from attnstore.map_kinds import GRADIENT_GOLD, WEIGHTS, MapKind
from attnstore.models import checkpoints
from attnstore.models.checkpoints import Checkpoint
from attnstore.storage import array_blocks
from attnstore.storage.run_record import RunRecord

Lengths = npt.NDArray[np.int32]
_BYTES = 3.3
"""Bytes on disk of one float32 number of such a map (measured: docs/beyond-weight.md)."""
_BACKWARD = 2.0
"""Forward passes that a forward pass with its backward pass takes as long as."""


@dataclass(frozen=True)
class MapsForecast:
    """What a kind of maps will take.

    run: with the kind; examples: that lack it; bytes: expected on disk; passes: forward passes of the same
    inputs that take as long.
    """

    run: str
    examples: int
    bytes: int
    passes: float

    @property
    def sentence(self) -> str:
        """The forecast as a sentence."""
        if not self.examples:
            return "every example is stored already"
        return (
            f"{self.examples:,} examples to store, about {size(self.bytes)}; it takes as long as about "
            f"{self.passes:,.0f} forward passes over them"
        )


@dataclass(frozen=True)
class FurtherMaps:
    """A kind of maps to add to a run. labels: of a gold label's kind, the output of the head by example."""

    kind: MapKind
    labels: dict[int, int] | None = None

    def addition(self, run: Run, checkpoint: Checkpoint, device: str) -> Addition:
        """Make the job that adds it to the blocks of a run."""
        arguments = (self.kind.name, checkpoint, device, self.labels)
        return Addition(run, [self.kind.name], Source(_computer, arguments))

    def n_lacking(self, run: Run) -> int:
        """Count the blocks of a run, stored or not, that lack it; no fragment is read."""
        held = array_blocks.listed(run.backend, run.run)
        return run.record.n_blocks - sum(name == self.kind.name for name, _ in held)

    def foresee(self, run: str, lengths: Lengths, record: RunRecord) -> MapsForecast:
        """Forecast it for inputs of some lengths (tokens) of a run."""
        kind, squares = self.kind, lengths.astype(np.float64) ** 2
        n_layers, n_heads = len(record.layers), 1 if self.kind.per_layer else len(record.heads)
        if kind.per_layer:  # each token of an input makes a variant of it
            passes = float(squares.sum() / max(lengths.sum(), 1))
        else:
            passes = _BACKWARD * (1 if kind.steps is None else kind.steps * n_layers)
        n_bytes = squares.sum() * n_layers * n_heads * _BYTES
        return MapsForecast(f"{run}, {kind.name}", len(lengths), round(n_bytes), passes)

    def foresee_rest(
        self, run: Run, checkpoint: Checkpoint, device: str, blocks: Sequence[int]
    ) -> MapsForecast:
        """Forecast it for the blocks of a run that lack it. blocks: those that lack the weights, too."""
        addition = self.addition(run, checkpoint, device)
        addition.look()
        lacking = {*blocks, *(unit.number for unit in addition.missing())}
        rows = run.plan.filter(pl.col("block").is_in(list(lacking)))
        return self.foresee(run.run, rows["length"].to_numpy(), run.record)


def kinds(maps: Sequence[str] | str) -> tuple[MapKind, ...]:
    """Return the kinds beside the weights, each once. maps: names, or one text with commas.

    Raises:
        UnknownNameError: There is no such kind.
        UsageError: No array of it can be stored.
    """
    names = maps.split(",") if isinstance(maps, str) else maps
    asked = [map_kinds.find(name) for name in dict.fromkeys(name.strip() for name in names)]
    for kind in asked:
        if not kind.stored:
            raise UsageError(
                f"Maps of kind {kind.name} are computed when they are read, from weights and value norms; "
                f"leave {kind.name} out of the maps to store."
            )
    return tuple(kind for kind in asked if kind.name != WEIGHTS)


def of_run(
    asked: Sequence[MapKind], checkpoint: Checkpoint, dataset: Dataset, settings: Settings
) -> list[FurtherMaps]:
    """Return what each kind needs of a model and a dataset; nothing is loaded.

    Raises ModelError for a checkpoint without a head, or with one for other labels, DatasetError for a
    dataset without labels.
    """
    return [FurtherMaps(kind, _labels(kind, checkpoint, dataset, settings)) for kind in asked]


def _labels(
    kind: MapKind, checkpoint: Checkpoint, dataset: Dataset, settings: Settings
) -> dict[int, int] | None:
    if kind.per_layer:
        return None
    outputs = checkpoints.output_names(checkpoint)
    if outputs is None:
        raise ModelError(
            f"Model {checkpoint.name!r} has no head for sequence classification or regression, so "
            f"there is no output for {kind.name} to explain; give a checkpoint that has one, as `attnstore "
            "finetune` makes."
        )
    if not kind.name.startswith(GRADIENT_GOLD) or len(outputs) == 1:
        return None
    chosen = dataset.select(settings.limit, settings.seed)
    numbers = gold_labels.classes(dataset, chosen, outputs, checkpoint.name)
    return dict(zip(chosen.tolist(), numbers.tolist(), strict=True))


def _computer(
    run: Run,
    kind: str,
    checkpoint: Checkpoint,
    device: str,
    labels: dict[int, int] | None,
    on_batch: OnBatch,
) -> Computer:
    # A run that holds the maps needs no torch, whose import takes longer than everything else then.
    from attnstore.capture.computed_maps import ComputedMaps

    return ComputedMaps(map_kinds.find(kind), run, checkpoint, device, labels, on_batch)
