"""Fine-tune a model for a task with several seeds, and store the scores of each checkpoint.

    asked = recipes.request("bert-base-uncased", "rte", seeds=(0, 1, 2))
    summaries = [job.run(training) for training in trainings(backend, asked, out)]

A training is a folder of ordinary Trainer checkpoints, `OUT/<model>-<task>-<init>-<seed>`. A
complete training is not repeated; an interrupted one continues from its last complete checkpoint.
Kovaleva et al. 2019, section 4.3 and Table 1, Dodge et al. 2020 for the seeds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from attnstore.errors import ModelError, StoreError, UsageError
from attnstore.experiments import metrics
from attnstore.experiments.finetuning import evaluations, recipes
from attnstore.experiments.finetuning.recipes import Request
from attnstore.experiments.finetuning.tasks import Examples
from attnstore.job import Job, Report, Unit
from attnstore.models import checkpoints
from attnstore.models.checkpoints import Checkpoint
from attnstore.storage import files, location
from attnstore.storage.backend import Backend
from attnstore.storage.folder import Folder
from attnstore.storage.location import Location

_RECORD = "training.json"
_VERSION = 1
"""Increment when the same training would give different weights or scores."""


_WRITER = "inline_container"
"""Text in torch's error, which omits the cause, when a file cannot be written to its end."""


def _reason(error: Exception) -> str:
    """Return the system's reason for an error."""
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


@dataclass(frozen=True)
class Summary:
    """The outcome of a training. scores: (dataset, metric, value) of its last step.

    steps: run by this call; evaluated: (model, dataset) pairs scored by this call; seconds: wall time.
    """

    training: str
    folder: Path | None
    steps: int
    evaluated: int
    scores: tuple[tuple[str, str, float | None], ...]
    seconds: float

    def lines(self) -> list[str]:
        """Return one line."""
        scores = ", ".join(
            f"{metric} {'undefined' if value is None else f'{value:.3f}'} on {dataset}"
            for dataset, metric, value in self.scores
        )
        where = "" if self.folder is None else f"; {self.folder}"
        return [
            f"{self.training}: {scores} ({self.steps} steps and {self.evaluated} evaluations now, "
            f"{self.seconds:.1f} s){where}"
        ]


@dataclass(frozen=True)
class Trained(Report):
    """A completed training. steps: run by this call."""

    steps: int


class Training(Job[Report, Summary]):
    """One seed of a request.

    Its units are the training, which continues from its last complete checkpoint, and then the
    evaluation of each checkpoint on each dataset.
    """

    kind, noun, in_turn = "finetune", "steps", True

    def __init__(self, backend: Backend, asked: Request, seed: int, out: Path) -> None:
        name = f"{asked.checkpoint.name}-{asked.task.name}-{asked.init}-{seed}"
        super().__init__(backend, name, lock=f"training-{name}", subject=f"Training {name}")
        self.asked, self.seed = asked, seed
        self.folder = out.expanduser().resolve() / name
        self._evaluations: dict[str, tuple[int, Examples]] = {}

    @property
    def trains(self) -> bool:
        """Return True if there is anything to train; an untrained head is only evaluated."""
        return self.asked.init != "none"

    @property
    def steps(self) -> int:
        """Return the number of steps of the whole training, one per batch."""
        return self._per_epoch * self.asked.settings.epochs if self.trains else 0

    @property
    def _per_epoch(self) -> int:
        return math.ceil(len(self.asked.task.train.chosen) / self.asked.settings.batch_size)

    @property
    def keep(self) -> list[int]:
        """Return the steps whose checkpoint is kept: evenly spaced in each epoch, always the last."""
        per_epoch = self.asked.settings.checkpoints_per_epoch
        if not self.trains or per_epoch is None:
            return [self.steps]
        ends = range(0, self.steps, self._per_epoch)
        inside = [math.ceil(self._per_epoch * k / per_epoch) for k in range(1, per_epoch + 1)]
        return sorted({end + step for end in ends for step in inside})

    @property
    def _save_at(self) -> set[int]:
        """Return the steps after which a checkpoint is written: those kept, and each epoch's end."""
        return {*self.keep, *range(self._per_epoch, self.steps + 1, self._per_epoch)}

    @cached_property
    def record(self) -> dict[str, Any]:
        """Return everything that determines the weights and scores, names excluded."""
        task, model, settings = self.asked.task, self.asked.checkpoint, self.asked.settings
        always = {
            "version": _VERSION,
            "model": model.fingerprint,
            "tokenizer": model.tokenizer_fingerprint,
            "init": self.asked.init,
            "seed": self.seed,
            "labels": task.labels,
        }
        if (order := recipes.other_order(model, task)) and self.asked.init == "pretrained":
            always["head"] = order
        if not self.trains:
            return {**always, "max_length": settings.max_length}
        train = [task.train.dataset.fingerprint, _digest(task.train.chosen.tobytes())]
        return {**always, "train": train, **asdict(settings)}

    def _part(self, step: int, examples: Examples) -> str:
        content = [self.record, step, examples.dataset.fingerprint, self.asked.task.metrics]
        chosen = _digest(examples.chosen.tobytes())
        return _digest(json.dumps([content, chosen], sort_keys=True).encode())[:16]

    @property
    def trained(self) -> bool:
        """Return True if every checkpoint to keep is complete."""
        if not self.trains:
            return True
        return all(
            checkpoints.readiness(self.folder / f"checkpoint-{s}") is None for s in self.keep
        )

    def lacking(self) -> list[Unit]:
        """Return the training, or after it the evaluations that the store lacks."""
        if not self.trained:
            return [Unit("training", self.steps, self.steps, self.steps)]
        stored = evaluations.stored(self.backend)
        self._evaluations = {
            f"evaluation of step {step} on {examples.dataset.name}": (step, examples)
            for step in self.keep
            for examples in self.asked.task.validation
            if self._part(step, examples) not in stored
        }
        # A step is a pass forward and a pass backward, which takes twice as long.
        batch = 3 * self.asked.settings.batch_size
        return [
            Unit(name, step, 0, math.ceil(len(examples.chosen) / batch))
            for name, (step, examples) in self._evaluations.items()
        ]

    def check(self) -> None:
        """Refuse a folder that holds another training, or checkpoints of another architecture.

        Raises UsageError or ModelError; writes nothing.
        """
        entries = [p.name for p in self.folder.glob("*") if not p.name.startswith(".")]
        if not self.trains or not entries:
            return
        try:
            stored = dict(json.loads((self.folder / _RECORD).read_text("utf-8")))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise UsageError(
                f"{self.folder} is not empty and holds no training of attnstore; give another --out."
            ) from error
        expected = json.loads(json.dumps(self.record))
        if other := sorted(key for key in expected if stored.get(key) != expected[key]):
            difference = "set of examples" if other[0] == "train" else other[0].replace("_", "-")
            raise UsageError(
                f"{self.folder} holds a training with another {difference}; give another --out or "
                "another name (MODEL=name), or delete the folder."
            )
        for folder in sorted(self.folder.glob("checkpoint-*")):
            if checkpoints.readiness(folder) is None:
                _refuse_other_architecture(folder, self.asked.checkpoint)

    def hold(self, entered: contextlib.ExitStack) -> None:
        """Take the lock, look for missing units, and refuse a folder with other content."""
        super().hold(entered)
        self.check()

    def store(self, unit: Unit) -> Report:
        """Train, or evaluate one checkpoint. Raises StoreError, ModelError."""
        if unit.name == "training":
            return Trained(unit, 0, self._train(unit))
        self._evaluate(*self._evaluations[unit.name])
        return Report(unit, 0)

    def _train(self, unit: Unit) -> int:
        """Train; return the number of steps run by this call."""
        # Imported here: a complete training needs no torch, and its import dominates the run time.
        from attnstore.experiments.finetuning import classifiers, trainer
        from attnstore.models import loading

        resolved, settings = self.asked, self.asked.settings
        device = loading.pick_device(resolved.device)
        tokenizer = loading.load_tokenizer(resolved.checkpoint)
        rows = classifiers.inputs(resolved.task.train, tokenizer, settings.max_length)
        model = classifiers.make(resolved.checkpoint, resolved.task, resolved.init, self.seed)
        files.write_file(self.folder / _RECORD, json.dumps(self.record).encode() + b"\n")
        try:
            return trainer.train(
                model, rows, tokenizer, self.folder,
                save_at=self._save_at, keep=self.keep, seed=self.seed, epochs=settings.epochs,
                batch_size=settings.batch_size, learning_rate=settings.learning_rate,
                bf16=settings.bf16, device=device,
                progress=lambda done, total: self.reach(unit, done / total),
            )  # fmt: skip
        except (OSError, RuntimeError, SafetensorError) as error:
            if isinstance(error, RuntimeError) and _WRITER not in str(error):
                raise
            half = "torch could not write a file to its end"
            reason = half if _WRITER in str(error) else _reason(error)
            raise StoreError(
                f"The checkpoints cannot be written to {self.folder} ({reason}); "
                "make room or give another --out, and run the same command again."
            ) from error

    def _evaluate(self, step: int, examples: Examples) -> None:
        """Score one checkpoint on one dataset, and store the scores."""
        from attnstore.experiments.finetuning import classifiers
        from attnstore.models import loading

        resolved, settings = self.asked, self.asked.settings
        if self.trains:
            folder = self.folder / f"checkpoint-{step}"
            evaluated = checkpoints.resolve(str(folder))
            model = loading.load_classifier(evaluated)
        else:
            evaluated = resolved.checkpoint
            model = classifiers.make(evaluated, resolved.task, resolved.init, self.seed)
        tokenizer = loading.load_tokenizer(resolved.checkpoint)
        rows = classifiers.inputs(examples, tokenizer, settings.max_length)
        logits = classifiers.logits(model.to(loading.pick_device(resolved.device)), rows, tokenizer)
        if not np.isfinite(logits).all():
            raise ModelError(
                f"{evaluated.name} gives NaN on {examples.dataset.name}: its training diverged; give "
                "a lower --learning-rate and another --out."
            )
        evaluations.store(
            self.backend, self._part(step, examples), evaluated, resolved.checkpoint,
            examples.dataset,
            metrics.scores(resolved.task.metrics, logits, examples.targets),
            split=examples.split, task=resolved.task.name, init=resolved.init, seed=self.seed,
            step=step,
            n=len(rows), training=self.title, max_length=settings.max_length,
            n_train=len(resolved.task.train.chosen) if self.trains else 0,
            epochs=settings.epochs if self.trains else 0,
            batch_size=settings.batch_size if self.trains else None,
            learning_rate=settings.learning_rate if self.trains else None,
        )  # fmt: skip

    def summary(self, seconds: float) -> Summary:
        """Read the scores of the last step."""
        parts = [self._part(self.steps, examples) for examples in self.asked.task.validation]
        rows = evaluations.read(self.backend, parts).select("dataset", "metric", "value")
        steps = [report.steps for report in self.reports if isinstance(report, Trained)]
        evaluated = len(self.reports) - len(steps)
        folder = self.folder if self.trains else None
        return Summary(self.title, folder, sum(steps), evaluated, tuple(rows.iter_rows()), seconds)


def trainings(path: Location, asked: Request, out: str | Path) -> list[Training]:
    """Create the trainings of a request, one per seed, and the store. Raises what `check` raises."""
    check(asked, out)
    backend = location.create(path)
    return [Training(backend, asked, seed, Path(out)) for seed in asked.seeds]


def check(asked: Request, out: str | Path) -> None:
    """Refuse unusable folders before anything is written; see `Training.check`."""
    for seed in asked.seeds:
        Training(Folder(Path()), asked, seed, Path(out)).check()


def _refuse_other_architecture(folder: Path, base: Checkpoint) -> None:
    for size, value in checkpoints.shape(folder).items():
        if value != getattr(base, size):
            raise ModelError(
                f"{folder} has {size} {value} and its base {base.name} has {getattr(base, size)}: it "
                "was not trained from it; give another --out, or delete it."
            )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
