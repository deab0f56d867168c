"""In a fresh process: one question of one format. Imports nothing that the format does not need."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import peak, timed

LAYER, HEADS = 3, (7, 0, 4, 9, 2)
"""The first head is the one whose answer counts; the others are asked of the warm session."""


def ask(name: str, path: str, question: str, example: int) -> dict[str, Any]:
    """Open and ask, then ask again. Returns seconds (first, warm), peak bytes and the answer."""
    storage = importlib.import_module(f"benchmarks.storages.{name}")
    answers: list[Any] = []
    opened: list[Any] = []

    def begin() -> None:
        opened.append(storage.open(Path(path)))
        once(HEADS[0])

    def once(head: int) -> None:
        arguments = {
            "one_head": (LAYER, head), "one_map": (example, LAYER, head), "per_head": (),
        }[question]  # fmt: skip
        answers.append(getattr(storage, question)(opened[0], *arguments))

    before = peak()
    first = timed(begin)
    largest = peak()
    heads = HEADS[1:2] if question == "per_head" else HEADS[1:]
    warm = median(timed(partial(once, head)) for head in heads)
    answer = answers[0] if isinstance(answers[0], list) else [answers[0]]
    return {
        "first": first,
        "warm": warm,
        "peak": largest,
        "added": largest - before,
        "answer": answer,
    }
