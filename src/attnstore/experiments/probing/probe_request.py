"""What a probe is asked for, and what of the store decides its results."""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass
from typing import Any

from attnstore import map_kinds
from attnstore.errors import UsageError
from attnstore.store import Store

FOLDS = 5
REACH = 10
"""Longest offset with a weight of its own, in words; longer ones have the weight of the longest."""
_MOST_FOLDS = 100
_VERSION = 1
"""Increment when the same request would give other results."""
_CHOICES = {
    "by": ("weight", "norm"), "pieces": ("mean", "first"), "specials": ("drop", "renormalise"),
    "punctuation": ("unscored", "drop", "keep"),
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """A probe of one run.

    Attributes:
        run: The run.
        annotation: Source of the dependencies; None if the dataset has one.
        by: weight, or norm: the weight times the length of the vector that it moves, by rows.
        pieces: Pieces that a split word attends from: mean of all, or first.
        specials: drop (special tokens are no words, weights stay as they are) or renormalise (and
            each row over words is divided by its sum).
        punctuation: unscored (its words may be heads, its links are not scored), drop or keep.
        folds: Parts that the source texts are split into; each is scored once, out of sample.
        seed: Of the split.
    """

    run: str
    annotation: str | None = None
    by: str = "weight"
    pieces: str = "mean"
    specials: str = "drop"
    punctuation: str = "unscored"
    folds: int = FOLDS
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UsageError(
                    f"The value of {name} is {getattr(self, name)!r}; give one of {', '.join(known)}."
                )
        if not 2 <= self.folds <= _MOST_FOLDS:
            raise UsageError(f"The folds are {self.folds}; give 2 to {_MOST_FOLDS}.")
        if self.seed < 0:
            raise UsageError(f"The seed is {self.seed}; give 0 or more.")

    @property
    def kind(self) -> str:
        """Return the kind of maps that it reads."""
        return map_kinds.NORM if self.by == "norm" else map_kinds.WEIGHTS


@dataclass(frozen=True)
class Subject:
    """A request with what the store holds for it now.

    Attributes:
        asked: The request, its annotation named.
        identity: Of the run's content.
        inputs: Inputs of the run that are stored.
        layers, heads: Those that the run holds, one item per map of an input.
        content: Checksums of the fragments of the annotation.
    """

    asked: Request
    identity: str
    inputs: int
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    content: str

    @property
    def settings(self) -> str:
        """Return a fingerprint of the settings: results of the same are replaced by newer ones."""
        return _digest([*astuple(self.asked)])

    @property
    def key(self) -> str:
        """Return a fingerprint of everything that decides the results, after that of the settings."""
        content = [_VERSION, REACH, self.identity, self.inputs, self.content]
        return f"{self.settings}-{_digest(content)}"


def _digest(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def find(store: Store, asked: Request) -> Subject:
    """Look up the run and the annotation of a request.

    Raises:
        UnknownNameError: There is no such run, or it has no value norms.
        UsageError: The run holds no maps, or its dataset no dependencies.
        QueryError: The dataset has several annotations with dependencies and none is named.
    """
    run = store.run(asked.run).record
    dataset = run["dataset"]
    if not run["stored"]:
        raise UsageError(f"Run {asked.run} holds no maps yet; ingest it, then probe it.")
    rows = store.sql(
        "SELECT source FROM dependency_source($run, $annotation)",
        run=asked.run, annotation=asked.annotation,
    )  # fmt: skip
    if rows.is_empty():
        by = f" by {asked.annotation}" if asked.annotation else ""
        raise UsageError(
            f"The dataset {dataset} has no dependencies{by}; `attnstore annotate --dataset {dataset} "
            "--with conllu` (of a treebank) or `--with spacy:MODEL` adds some."
        )
    kind = map_kinds.find(asked.kind)
    held = "SELECT complete FROM map_kinds WHERE run = $run AND kind = $kind"
    if store.sql(held, run=asked.run, kind=kind.name)["complete"].to_list() != [True]:
        raise map_kinds.missing(asked.run, kind)
    source = rows["source"].item()
    layers, heads = run["layers"], run["heads"]
    named = Request(**{**vars(asked), "annotation": source})
    return Subject(
        named, run["identity"], run["stored"], tuple(layer for layer in layers for _ in heads),
        tuple(heads) * len(layers), content_of(store, dataset, source),
    )  # fmt: skip


def content_of(store: Store, dataset: str, source: str) -> str:
    """Return the checksums of the fragments that hold an annotation, as view probes compares them."""
    rows = store.sql(
        "SELECT content FROM idx.core.annotation_contents WHERE dataset = $dataset AND source = $source",
        dataset=dataset, source=source,
    )  # fmt: skip
    return str(rows["content"].item())
