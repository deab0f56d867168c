"""Small tasks and quick trainings for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers import sentences, write_rows

import attnstore
from attnstore.experiments.finetuning.finetuning import Summary

FAST = {"batch_size": 8, "learning_rate": 1e-3, "max_length": 64, "device": "cpu"}


def write_task(folder: Path, n: int = 44, labels: tuple[Any, ...] = (0, 1), **names: str) -> Path:
    """A folder with train (n rows) and validation (n / 2) of pairs, labelled in turn."""
    folder.mkdir(parents=True)
    for seed, (split, rows) in enumerate((("train", n), ("validation", n // 2))):
        first, second = (sentences(rows, seed=seed + k) for k in (0, 50))
        name = names.get(split, split)
        write_rows(
            folder / f"{name}.jsonl",
            [
                {"sentence1": a, "sentence2": b, "label": labels[i % len(labels)]}
                for i, (a, b) in enumerate(zip(first, second, strict=True))
            ],
        )
    return folder


def train(place: Path, model: Path, task: Path | str, **options: Any) -> list[Summary]:
    """Fine-tune below `place`."""
    chosen = {**FAST, **options}
    return attnstore.finetune(place / "store", str(model), str(task), place / "out", **chosen)
