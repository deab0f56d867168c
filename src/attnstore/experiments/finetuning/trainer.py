"""One training with transformers' Trainer: checkpoints, batch order, resuming.

An interrupted training continues from its last complete checkpoint and ends with the same weights:
the batch order is a function of seed and epoch, and a checkpoint holds the state of the optimizer
and of the random number generators until a later one is complete.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import (
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from attnstore.experiments.finetuning.classifiers import Inputs
from attnstore.models import pretrained
from attnstore.models.checkpoints import readiness

_MEGABATCH = 20
"""Batches per stretch of inputs that is sorted by length."""
_FOR_RESUMING = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


def train(
    model: Any,
    rows: Inputs,
    tokenizer: Any,
    folder: Path,
    *,
    save_at: Collection[int],
    keep: Collection[int],
    seed: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    bf16: bool,
    device: torch.device,
    progress: Callable[[int, int], None],
) -> int:
    """Train, or continue from the last complete checkpoint below `folder`.

    save_at: steps after which a checkpoint is written; keep: the steps whose checkpoint is kept.
    The optimizer is AdamW with linear decay of the learning rate to 0. progress: steps done, total
    steps. Returns the number of steps run by this call.
    """
    arguments = TrainingArguments(
        output_dir=str(folder), seed=seed, num_train_epochs=epochs, learning_rate=learning_rate,
        per_device_train_batch_size=batch_size, use_cpu=device.type == "cpu", bf16=bf16,
        save_strategy="no", eval_strategy="no", logging_strategy="no", report_to="none",
        disable_tqdm=True, remove_unused_columns=False, dataloader_pin_memory=device.type != "cpu",
    )  # fmt: skip
    with pretrained.quiet():
        trainer = _Trainer(
            model=model, args=arguments, train_dataset=rows, processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[_Checkpoints(folder, save_at, keep, progress)],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        last = _last(folder, keep)
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    for step in keep:
        strip(folder / f"checkpoint-{step}")
    return int(trainer.state.global_step) - int(
        last.name.removeprefix("checkpoint-") if last else 0
    )


class _Trainer(Trainer):  # type: ignore[misc]
    """Trainer with batches grouped by length, in an order that resuming reproduces."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return ByLength(
            [len(row["input_ids"]) for row in self.train_dataset],
            self.args.per_device_train_batch_size,
            self.args.seed,
        )


class ByLength(torch.utils.data.Sampler[int]):
    """Sample every row once per epoch, in random batches of rows of similar length.

    The rows are shuffled, sorted by length within stretches of 20 batches, and the batches
    shuffled; a partial batch comes last. The order is a function of seed and epoch.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int) -> None:
        self._lengths, self._size, self._seed = torch.tensor(lengths), batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; the Trainer calls this before each one."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        draw = torch.Generator().manual_seed((self._seed << 20) + self._epoch)
        rows = torch.randperm(len(self), generator=draw)
        full = len(rows) // self._size * self._size
        for at in range(0, full, self._size * _MEGABATCH):
            part = rows[at : min(full, at + self._size * _MEGABATCH)]
            rows[at : at + len(part)] = part[self._lengths[part].argsort(stable=True)]
        batches = rows[:full].reshape(-1, self._size)
        yield from batches[torch.randperm(len(batches), generator=draw)].flatten().tolist()
        yield from rows[full:].tolist()


class _Checkpoints(TrainerCallback):  # type: ignore[misc]
    """Save at the requested steps, then remove superseded checkpoints."""

    def __init__(
        self,
        folder: Path,
        save_at: Collection[int],
        keep: Collection[int],
        progress: Callable[[int, int], None],
    ) -> None:
        self._folder, self._save_at, self._keep = folder, set(save_at), set(keep)
        self._progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Request a checkpoint if one is due."""
        control.should_save = state.global_step in self._save_at
        self._progress(state.global_step, state.max_steps)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Remove the resume state of older checkpoints; the new one is complete."""
        for step, older in saved(self._folder):
            if step < state.global_step:
                strip(older) if step in self._keep else shutil.rmtree(older)


def saved(folder: Path) -> list[tuple[int, Path]]:
    """Return the checkpoint folders of a training by step, complete or not."""
    return sorted((int(p.name.removeprefix("checkpoint-")), p) for p in folder.glob("checkpoint-*"))


def strip(checkpoint: Path) -> None:
    """Remove the files needed only for resuming; they are twice as large as the model."""
    for name in _FOR_RESUMING:
        (checkpoint / name).unlink(missing_ok=True)


def _last(folder: Path, keep: Collection[int]) -> Path | None:
    """Return the last complete checkpoint to resume from; remove unfinished ones.

    A checkpoint is unusable if an earlier one that should be kept is missing.
    """
    last = None
    for step, path in saved(folder):
        resumable = all((path / name).exists() for name in _FOR_RESUMING)
        if readiness(path) is not None or (step not in keep and not resumable):
            shutil.rmtree(path)
        elif resumable:
            last = step, path
    complete = {step for step, _ in saved(folder)}
    if last is None or not {step for step in keep if step <= last[0]} <= complete:
        for _, path in saved(folder):
            shutil.rmtree(path)
        return None
    for step, path in saved(folder):  # later than the one to resume from
        if step > last[0]:
            shutil.rmtree(path)
    return last[1]
