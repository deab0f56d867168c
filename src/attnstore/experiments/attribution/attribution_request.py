"""What an attribution is asked for: the classifier, its inputs, methods and the explained output."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attnstore.datasets import gold_labels, label_names
from attnstore.errors import UsageError
from attnstore.experiments.ablation import scored_classifier
from attnstore.experiments.ablation.scored_classifier import Subject
from attnstore.models import checkpoints
from attnstore.naming import (
    EXPLAINED,
    GOLD,
    GRADIENT_X_INPUT,
    INTEGRATED_GRADIENTS,
    METHODS,
    PREDICTED,
)

STEPS = 50
"""Default steps of integrated gradients, captum's own."""
_MOST_STEPS = 10_000
_VERSION = 1
"""Increment when the same request would give different values."""


@dataclass(frozen=True)
class Request:
    """A resolved attribution: checkpoint and examples are read, nothing is loaded or written.

    methods: in the order of METHODS; target: one of EXPLAINED; steps: of integrated gradients;
    outputs: names of the head's outputs.
    """

    subject: Subject
    methods: tuple[str, ...]
    target: str
    steps: int
    device: str
    outputs: tuple[str, ...]

    def identity(self, method: str) -> str:
        """Return the SHA-256 over everything that determines the values of a method."""
        steps = self.steps if method == INTEGRATED_GRADIENTS else None
        content = json.dumps([_VERSION, self.subject.identity, method, self.target, steps])
        return hashlib.sha256(content.encode()).hexdigest()


def request(
    model: str,
    dataset: str,
    *,
    methods: Sequence[str] = (GRADIENT_X_INPUT,),
    target: str = PREDICTED,
    steps: int = STEPS,
    device: str = "auto",
    **options: Any,
) -> Request:
    """Find a checkpoint and its examples; nothing is written.

    methods: some of METHODS; target: one of EXPLAINED; options: limit, seed, max_length, split, text,
    pair, label, as `scored_classifier.find` takes them.
    Raises ModelError, DatasetError, UsageError.
    """
    several = (methods,) if isinstance(methods, str) else tuple(methods)
    for name, known, word in (*((m, METHODS, "method") for m in several), (target, EXPLAINED, "target")):  # fmt: skip
        if name not in known:
            raise UsageError(f"The {word} is {name!r}; give one of {', '.join(known)}.")
    if not several:
        raise UsageError(f"No method is given; give one or more of {', '.join(METHODS)}.")
    if not 1 <= steps <= _MOST_STEPS:
        raise UsageError(f"The steps are {steps}; give 1 to {_MOST_STEPS}.")
    subject = scored_classifier.find(model, dataset, labeled=target == GOLD, **options)
    chosen = tuple(method for method in METHODS if method in several)
    return Request(subject, chosen, target, steps, device, _output_names(subject))


def _output_names(subject: Subject) -> tuple[str, ...]:
    """Name the head's outputs: as the head does, else as the dataset names its classes."""
    outputs = checkpoints.output_names(subject.checkpoint) or []
    if len(outputs) == 1:
        return ("score",)
    classes = gold_labels.class_names(subject.dataset) or ()
    if label_names.has_names(outputs) or len(classes) != len(outputs):
        return tuple(outputs)
    return tuple(classes)
