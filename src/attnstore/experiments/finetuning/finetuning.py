"""Fine-tune a model for a task with several seeds, and keep what each checkpoint scores.

    summaries = finetune(backend, "bert-base-uncased", "rte", out, seeds=(0, 1, 2))

A training is a folder of ordinary Trainer checkpoints, `OUT/<model>-<task>-<init>-<seed>`. What is
there is not computed again; what was interrupted goes on from its last whole checkpoint.
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

from attnstore import job
from attnstore.errors import ModelError, StoreError, UsageError
from attnstore.experiments import metrics
from attnstore.experiments.finetuning import evaluations, recipes
from attnstore.experiments.finetuning.recipes import Request, request
from attnstore.experiments.finetuning.tasks import Examples
from attnstore.job import Job, Progress, Report, Runner, Unit, in_process, silent
from attnstore.models import checkpoints
from attnstore.models.checkpoints import Checkpoint
from attnstore.storage import files, location
from attnstore.storage.backend import Backend
from attnstore.storage.folder import Folder
from attnstore.storage.location import Location

_RECORD = "training.json"
_VERSION = 1
"""Raised when the same training would end with other weights or scores."""


_WRITER = "inline_container"
"""What torch names, and nothing of the cause, where the disk takes no more of a file."""


def _reason(error: Exception) -> str:
    """What the system said."""
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


@dataclass(frozen=True)
class Summary:
    """The outcome of a training. scores: (dataset, metric, value) of its last step.

    steps: trained by this call; evaluated: (model, dataset) pairs scored by it; seconds: wall time.
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
    """A training that was done. steps: those done now."""

    steps: int


class Training(Job[Report, Summary]):
    """One seed of a request. Its units are the training, which continues from its last whole
    checkpoint, and then the evaluation of each checkpoint on each dataset."""

    kind, noun, in_turn = "finetune", "steps", True

    def __init__(self, backend: Backend, asked: Request, seed: int, out: Path) -> None:
        name = f"{asked.checkpoint.name}-{asked.task.name}-{asked.init}-{seed}"
        super().__init__(backend, name, lock=f"training-{name}", subject=f"Training {name}")
        self.asked, self.seed = asked, seed
        self.folder = out.expanduser().resolve() / name
        self._evaluations: dict[str, tuple[int, Examples]] = {}

    @property
    def trains(self) -> bool:
        """True if there is anything to train; an untrained head is only evaluated."""
        return self.asked.init != "none"

    @property
    def steps(self) -> int:
        """Steps of the whole training, one per batch."""
        return self._per_epoch * self.asked.settings.epochs if self.trains else 0

    @property
    def _per_epoch(self) -> int:
        return math.ceil(len(self.asked.task.train.chosen) / self.asked.settings.batch_size)

    @property
    def keep(self) -> list[int]:
        """Steps whose checkpoint stays: evenly spaced in each epoch, the last one always."""
        often = self.asked.settings.checkpoints_per_epoch
        if not self.trains or often is None:
            return [self.steps]
        ends = range(0, self.steps, self._per_epoch)
        inside = [math.ceil(self._per_epoch * k / often) for k in range(1, often + 1)]
        return sorted({end + step for end in ends for step in inside})

    @property
    def _save_at(self) -> set[int]:
        """Steps after which a checkpoint is written: those that stay, and each epoch's end."""
        return {*self.keep, *range(self._per_epoch, self.steps + 1, self._per_epoch)}

    @cached_property
    def record(self) -> dict[str, Any]:
        """Everything that decides the weights and scores, without names."""
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
        what = [self.record, step, examples.dataset.fingerprint, self.asked.task.metrics]
        chosen = _digest(examples.chosen.tobytes())
        return _digest(json.dumps([what, chosen], sort_keys=True).encode())[:16]

    @property
    def trained(self) -> bool:
        """True if every checkpoint that should stay is there and whole."""
        if not self.trains:
            return True
        return all(
            checkpoints.readiness(self.folder / f"checkpoint-{s}") is None for s in self.keep
        )

    def lacking(self) -> list[Unit]:
        """Return the training, or once it is done the evaluations that the store lacks."""
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
        there = [p.name for p in self.folder.glob("*") if not p.name.startswith(".")]
        if not self.trains or not there:
            return
        try:
            held = dict(json.loads((self.folder / _RECORD).read_text("utf-8")))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise UsageError(
                f"{self.folder} is not empty and holds no training of attnstore; give another --out."
            ) from error
        wanted = json.loads(json.dumps(self.record))
        if other := sorted(key for key in wanted if held.get(key) != wanted[key]):
            what = "set of examples" if other[0] == "train" else other[0].replace("_", "-")
            raise UsageError(
                f"{self.folder} holds a training with another {what}; give another --out or "
                "another name (MODEL=name), or delete the folder."
            )
        for folder in sorted(self.folder.glob("checkpoint-*")):
            if checkpoints.readiness(folder) is None:
                _refuse_other_architecture(folder, self.asked.checkpoint)

    def hold(self, entered: contextlib.ExitStack) -> None:
        """Take the lock, look, and refuse a folder that holds something else."""
        super().hold(entered)
        self.check()

    def store(self, unit: Unit) -> Report:
        """Train, or evaluate one checkpoint. Raises StoreError, ModelError."""
        if unit.name == "training":
            return Trained(unit, 0, self._train(unit))
        self._evaluate(*self._evaluations[unit.name])
        return Report(unit, 0)

    def _train(self, unit: Unit) -> int:
        """Train; returns the steps that were done now."""
        # What is trained already needs no torch, whose import takes longer than everything else.
        from attnstore.experiments.finetuning import classifiers, trainer
        from attnstore.models import loading

        asked, settings = self.asked, self.asked.settings
        device = loading.pick_device(asked.device)
        tokenizer = loading.load_tokenizer(asked.checkpoint)
        rows = classifiers.inputs(asked.task.train, tokenizer, settings.max_length)
        model = classifiers.make(asked.checkpoint, asked.task, asked.init, self.seed)
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
        """Score one checkpoint on one dataset, and keep the scores."""
        from attnstore.experiments.finetuning import classifiers
        from attnstore.models import loading

        asked, settings = self.asked, self.asked.settings
        if self.trains:
            folder = self.folder / f"checkpoint-{step}"
            evaluated = checkpoints.resolve(str(folder))
            model = loading.load_classifier(evaluated)
        else:
            evaluated = asked.checkpoint
            model = classifiers.make(evaluated, asked.task, asked.init, self.seed)
        tokenizer = loading.load_tokenizer(asked.checkpoint)
        rows = classifiers.inputs(examples, tokenizer, settings.max_length)
        found = classifiers.logits(model.to(loading.pick_device(asked.device)), rows, tokenizer)
        if not np.isfinite(found).all():
            raise ModelError(
                f"{evaluated.name} gives NaN on {examples.dataset.name}: its training diverged; give "
                "a lower --learning-rate and another --out."
            )
        evaluations.store(
            self.backend, self._part(step, examples), evaluated, asked.checkpoint, examples.dataset,
            metrics.scores(asked.task.metrics, found, examples.targets),
            split=examples.split, task=asked.task.name, init=asked.init, seed=self.seed, step=step,
            n=len(rows), training=self.title, max_length=settings.max_length,
            n_train=len(asked.task.train.chosen) if self.trains else 0,
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
    """The trainings of a request, one per seed. Makes the store; raises what `check` raises."""
    check(asked, out)
    backend = location.create(path)
    return [Training(backend, asked, seed, Path(out)) for seed in asked.seeds]


def check(asked: Request, out: str | Path) -> None:
    """Refuse folders that cannot be trained in, before anything is written: see `Training.check`."""
    for seed in asked.seeds:
        Training(Folder(Path()), asked, seed, Path(out)).check()


def finetune(
    path: str | Path,
    model: str,
    task: str,
    out: str | Path,
    *,
    runner: Runner = in_process,
    progress: Progress = silent,
    **options: Any,
) -> list[Summary]:
    """Fine-tune a model for a task, one training per seed.

    options: those of `recipes.request`. What the store and `out` hold is not computed again.
    """
    asked = request(model, task, **options)
    return [job.run(training, runner, progress) for training in trainings(path, asked, out)]


def _refuse_other_architecture(folder: Path, base: Checkpoint) -> None:
    for size, found in checkpoints.shape(folder).items():
        if found != getattr(base, size):
            raise ModelError(
                f"{folder} has {size} {found} and its base {base.name} has {getattr(base, size)}: it "
                "was not trained from it; give another --out, or delete it."
            )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
