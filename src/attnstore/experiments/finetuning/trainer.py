"""One training by transformers' Trainer: its checkpoints, the order of its batches, its resuming.

A training that was killed goes on from its last whole checkpoint and ends with the same weights:
the order of the batches is a function of seed and epoch, and a checkpoint holds the state of the
optimizer and of the random numbers until a later one is whole.
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
"""Batches among whose inputs those of like length come together."""
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
    """Train, or go on from the last whole checkpoint below `folder`.

    save_at: steps after which a checkpoint is written; keep: those of them that stay. AdamW, the
    learning rate falling linearly to 0. progress: steps done, steps in all. Returns the steps
    done now.
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
    """The Trainer with batches of like lengths in an order that resuming can repeat."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return ByLength(
            [len(row["input_ids"]) for row in self.train_dataset],
            self.args.per_device_train_batch_size,
            self.args.seed,
        )


class ByLength(torch.utils.data.Sampler[int]):
    """Every row once per epoch; batches hold rows of like lengths and come in random order.

    The rows are shuffled, sorted by length within stretches of 20 batches, and the batches
    shuffled; the one that is not full comes last. The order is a function of seed and epoch.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int) -> None:
        self._lengths, self._size, self._seed = torch.tensor(lengths), batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
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
    """Saves at the steps that are asked for, and then removes what the new one supersedes."""

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
        """Ask for a checkpoint where one is due."""
        control.should_save = state.global_step in self._save_at
        self._progress(state.global_step, state.max_steps)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The new checkpoint is whole: older ones need not be resumed from."""
        for step, older in saved(self._folder):
            if step < state.global_step:
                strip(older) if step in self._keep else shutil.rmtree(older)


def saved(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoint folders of a training, by step, whole or not."""
    return sorted((int(p.name.removeprefix("checkpoint-")), p) for p in folder.glob("checkpoint-*"))


def strip(checkpoint: Path) -> None:
    """Remove what only resuming needs; it is twice as large as the model."""
    for name in _FOR_RESUMING:
        (checkpoint / name).unlink(missing_ok=True)


def _last(folder: Path, keep: Collection[int]) -> Path | None:
    """The last whole checkpoint to go on from; what was not finished is removed.

    One before which a checkpoint is missing that should stay is none to go on from.
    """
    last = None
    for step, path in saved(folder):
        resumable = all((path / name).exists() for name in _FOR_RESUMING)
        if readiness(path) is not None or (step not in keep and not resumable):
            shutil.rmtree(path)
        elif resumable:
            last = step, path
    whole = {step for step, _ in saved(folder)}
    if last is None or not {step for step in keep if step <= last[0]} <= whole:
        for _, path in saved(folder):
            shutil.rmtree(path)
        return None
    for step, path in saved(folder):  # after the one to go on from
        if step > last[0]:
            shutil.rmtree(path)
    return last[1]
