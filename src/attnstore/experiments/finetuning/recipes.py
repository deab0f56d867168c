"""A fine-tuning request: model, task, initial weights and settings. Nothing is written.

resolved = request("bert-base-uncased", "rte", init="pretrained", seeds=(0, 1, 2))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attnstore.datasets import label_names
from attnstore.errors import ModelError, UsageError
from attnstore.experiments.finetuning import tasks
from attnstore.experiments.finetuning.tasks import Task
from attnstore.models import checkpoints
from attnstore.models.checkpoints import Checkpoint
from attnstore.naming import INITS


@dataclass(frozen=True)
class Settings:
    """Settings of a training besides its model, task and seed.

    checkpoints_per_epoch: checkpoints to keep (None: the last one only); limit, sample_seed: size
    and seed of a random sample of the training examples (None: all). bf16: multiply matrices in
    bfloat16, as the Trainer's option of that name; weights stay float32.
    """

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 2e-5
    max_length: int = 128
    checkpoints_per_epoch: int | None = None
    limit: int | None = None
    sample_seed: int = 0
    bf16: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "checkpoints_per_epoch"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"The {name.replace('_', '-')} is {value}; give a number above 0.")
        if self.max_length < 3:
            raise UsageError(f"The max-length is {self.max_length}; give 3 tokens or more.")


@dataclass(frozen=True)
class Request:
    """A resolved model, a loaded task, and the settings of the training."""

    checkpoint: Checkpoint
    task: Task
    init: str
    seeds: tuple[int, ...]
    settings: Settings
    device: str


def request(
    model: str,
    task: str,
    *,
    init: str = "pretrained",
    seeds: Sequence[int] = (0,),
    data: str | None = None,
    text: str | None = None,
    pair: str | None = None,
    label: str | None = None,
    device: str = "auto",
    **settings: Any,
) -> Request:
    """Find the model and read the task; nothing is written.

    Raises ModelError (also if the model's head has another number of labels), DatasetError,
    UsageError.
    """
    chosen = Settings(**settings)
    if init not in INITS:
        raise UsageError(f"The init is {init!r}; give one of {', '.join(INITS)}.")
    if not seeds or min(seeds) < 0:
        raise UsageError("Give at least one seed (--seeds 0,1,2), each 0 or more.")
    if device != "auto":
        from attnstore.models.loading import pick_device  # torch takes seconds to import

        pick_device(device)
    checkpoint = checkpoints.resolve(model)
    longest = checkpoint.max_positions
    if longest is not None and chosen.max_length > longest:
        raise UsageError(
            f"The max-length is {chosen.max_length} and {checkpoint.name} takes at most {longest} "
            f"tokens; give --max-length {longest}."
        )
    loaded = tasks.load(
        task, data, limit=chosen.limit, sample_seed=chosen.sample_seed,
        text=text, pair=pair, label=label,
    )  # fmt: skip
    if init == "pretrained":
        _refuse_other_head(checkpoint, loaded)
    return Request(checkpoint, loaded, init, tuple(dict.fromkeys(seeds)), chosen, device)


def _refuse_other_head(checkpoint: Checkpoint, task: Task) -> None:
    """Raise ModelError if the pretrained head has other labels than the task."""
    outputs, n_outputs = checkpoints.output_names(checkpoint), len(task.labels) or 1
    if outputs is None:
        return
    remedy = "give the model it was trained from, or --init none or normal."
    if len(outputs) != n_outputs:
        raise ModelError(
            f"The head of {checkpoint.name} has {len(outputs)} outputs and task {task.name} needs "
            f"{n_outputs}; {remedy}"
        )
    named = task.labels and label_names.has_names(outputs)
    if named and label_names.order(task.labels, outputs) is None:
        raise ModelError(
            f"The head of {checkpoint.name} calls its outputs {', '.join(outputs)}, and the labels "
            f"of task {task.name} are {', '.join(task.labels)}: their names do not match; {remedy}"
        )


def other_order(checkpoint: Checkpoint, task: Task) -> tuple[int, ...] | None:
    """Return the head output for each label of a task, or None if the order is the same."""
    outputs = checkpoints.output_names(checkpoint)
    if not outputs or not task.labels or not label_names.has_names(outputs):
        return None
    order = label_names.order(outputs, task.labels)
    return None if order == tuple(range(len(task.labels))) else order
