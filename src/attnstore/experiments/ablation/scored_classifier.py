"""The classifier under ablation and its labeled evaluation set."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from attnstore.datasets import corpora, gold_labels, label_names
from attnstore.datasets.corpora import Dataset
from attnstore.errors import DatasetError, ModelError, UsageError
from attnstore.experiments import targets
from attnstore.experiments.metrics import Targets
from attnstore.models import checkpoints
from attnstore.models.checkpoints import Checkpoint
from attnstore.naming import SINGLE
from attnstore.storage import layout
from attnstore.uncertainty import shared_texts

if TYPE_CHECKING:
    from attnstore.experiments.ablation.disabled_passes import Inputs
    from attnstore.models.attention_hook import Capturer

_VERSION = 1
"""Increment when the same subject would give different results."""


@dataclass(frozen=True)
class Subject:
    """A checkpoint and the examples of a dataset that it is scored on.

    chosen: example numbers, (n,); targets: label numbers or scores, (n,); metrics: by name, the
    primary one first; sample, seed: size and seed of a random sample, None for every example;
    order: the dataset's class number of each output of the head.
    """

    checkpoint: Checkpoint
    dataset: Dataset
    chosen: npt.NDArray[np.int64]
    targets: Targets
    metrics: tuple[str, ...]
    max_length: int
    sample: int | None
    seed: int | None
    order: tuple[int, ...]

    def classes(self, outputs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Convert output numbers to the dataset's class numbers, so that F1 refers to its label 1."""
        if self.order == tuple(range(len(self.order))):
            return outputs
        return np.array(self.order, np.float64)[outputs.astype(np.int64)]

    @property
    def sources(self) -> npt.NDArray[np.int64]:
        """Number the source of each input from 0, (n,): inputs that share a text have one source."""
        rows = self.dataset.frame[self.chosen]
        texts, pairs = (
            np.where(rows[c].is_null(), 0, np.maximum(rows[c].hash().to_numpy(), 1)).astype(
                np.uint64
            )
            for c in ("text", "text_pair")
        )
        first = shared_texts.sources(texts, pairs)
        own = np.where(first < 0, np.arange(len(first)), first)
        return np.unique(own, return_inverse=True)[1].astype(np.int64)

    @property
    def identity(self) -> str:
        """Return the SHA-256 over everything that determines the outputs, names excluded."""
        content = [
            _VERSION, self.checkpoint.fingerprint, self.checkpoint.tokenizer_fingerprint,
            self.dataset.fingerprint, self.dataset.label_column, self.max_length, self.metrics,
            hashlib.sha256(self.chosen.astype("<i8").tobytes()).hexdigest(),
        ]  # fmt: skip
        if self.order != tuple(range(len(self.order))):
            content.append(self.order)
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def part(self, chosen: npt.NDArray[np.int64]) -> Subject:
        """Return the subject restricted to some of its examples, given by position, (k,)."""
        return Subject(
            self.checkpoint, self.dataset, self.chosen[chosen], self.targets[chosen], self.metrics,
            self.max_length, len(chosen), self.seed, self.order,
        )  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """A subject in memory. targets, sources: in the order of the inputs, sorted by length."""

    model: Any
    inputs: Inputs
    targets: Targets
    sources: npt.NDArray[np.int64]


def find(
    model: str,
    dataset: str,
    *,
    limit: int | None = 1000,
    seed: int = 0,
    max_length: int = 128,
    labeled: bool = True,
    **columns: str | None,
) -> Subject:
    """Find a checkpoint and read its evaluation set; no model is loaded, nothing is written.

    labeled: read the targets; without them each is -1. columns: split, text, pair, label, as
    `corpora.load` takes them. Raises ModelError (no task head, or one for other labels), DatasetError
    (no inputs, no labels), UsageError.
    """
    checkpoint = checkpoints.resolve(model)
    outputs = checkpoints.output_names(checkpoint)
    if outputs is None:
        raise ModelError(
            f"Model {checkpoint.name!r} has no head for sequence classification or regression, so "
            "there is no score; fine-tune it with `attnstore finetune`, or give a checkpoint "
            "that has one."
        )
    read = corpora.load(dataset, **columns)
    chosen = read.select(limit, seed)
    if not len(chosen):
        raise DatasetError(
            f"{read.source} has no row with text, so there is nothing to score; give another dataset."
        )
    if max_length < 2 or max_length > (checkpoint.max_positions or max_length):
        raise UsageError(
            f"The max-length is {max_length}; {checkpoint.name} takes 2 to "
            f"{checkpoint.max_positions or 'any number of'} tokens."
        )
    none = np.full(len(chosen), -1, np.int64)
    true = _targets(read, chosen, checkpoint, outputs) if labeled else none
    sampled = len(chosen) < len(read.frame) - read.empty
    sample, sample_seed = (len(chosen), seed) if sampled else (None, None)
    order = label_names.order(gold_labels.class_names(read) or (), outputs) or tuple(
        range(len(outputs))
    )
    metrics = targets.metrics(read.name, is_score=len(outputs) == 1)
    return Subject(checkpoint, read, chosen, true, metrics, max_length, sample, sample_seed, order)


def _targets(
    dataset: Dataset, chosen: npt.NDArray[np.int64], checkpoint: Checkpoint, outputs: list[str]
) -> Targets:
    """Convert labels to output numbers of the head, or to scores."""
    if len(outputs) > 1:
        return gold_labels.classes(dataset, chosen, outputs, checkpoint.name)
    labels = gold_labels.labels(dataset, chosen, dataset.source)
    remedy = "and the head gives a score: give a checkpoint of this task."
    return gold_labels.scores(labels, dataset.source, remedy)


@dataclass(frozen=True)
class Prepared:
    """A model and its tokenized inputs, sorted by length.

    capturer: makes batches and knows which inputs may share one; tokenizer: of the model; rows: as
    `tokenize.tokenize` gives them; order: place of each in the subject.
    """

    capturer: Capturer
    tokenizer: Any
    rows: pl.DataFrame
    order: npt.NDArray[np.int64]

    def batch(self, at: slice) -> dict[str, Any]:
        """Return some inputs as the model takes them."""
        types, ids = (self.rows[column][at].to_list() for column in ("type_ids", "token_ids"))
        return self.capturer.batch(ids, None if types[0] is None else types)


def prepare(subject: Subject, device: str = "auto") -> Prepared:
    """Load the model with its head in float32 and eval mode, and tokenize its inputs.

    Raises ModelError if the weights lack the head or do not belong to the configuration, or if
    outputs of one input depend on others.
    """
    from attnstore.datasets import tokenize
    from attnstore.models import architectures, loading, probe, sample_inputs

    checkpoint = subject.checkpoint
    target_device = loading.pick_device(device)
    model = loading.load_classifier(checkpoint).to(target_device)
    tokenizer = loading.load_tokenizer(checkpoint)
    rows = tokenize.tokenize(subject.dataset.frame[subject.chosen], tokenizer, subject.max_length)
    rows = tokenize.refuse_tokenless(rows)
    order = np.argsort(rows["length"].to_numpy(), kind="stable")
    rows = rows[order]
    if architectures.text_part(model) is not model:
        raise ModelError(
            f"Model {checkpoint.name!r} is a {type(model).__name__}, whose encoder is only a part of "
            "it: its heads cannot be disabled and its tokens not be weighed; use a BERT-like encoder."
        )
    capturer = probe.examine(model, sample_inputs.items(rows), checkpoint.n_layers)
    if capturer.way.batching == SINGLE:
        raise ModelError(
            f"What {type(model).__name__} computes of an input depends on what runs with it or ran "
            "before it, so its heads and tokens cannot be compared; use a BERT-like encoder."
        )
    return Prepared(capturer, tokenizer, rows, order)


def load(subject: Subject, device: str = "auto") -> Loaded:
    """Load the model and its inputs in batches by length. Raises ModelError as `prepare` does."""
    from attnstore.experiments.ablation.disabled_passes import Inputs

    prepared = prepare(subject, device)
    lengths = prepared.rows["length"].cast(pl.Int64).to_numpy()
    rule, order = prepared.capturer.way.batching, prepared.order
    batches = [(at, prepared.batch(at)) for at in layout.batches(lengths, rule=rule)]
    inputs = Inputs(len(prepared.rows), tuple(batches))
    return Loaded(prepared.capturer.model, inputs, subject.targets[order], subject.sources[order])
