"""In fresh processes: building, opening, asking and catching up a synthetic store's index."""

from __future__ import annotations

import os
import random
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import attnstore
from attnstore.maintenance import compaction
from attnstore.storage import fragments, index, location
from benchmarks import synthetic_store
from benchmarks.common import timed

RUN = f"random/{synthetic_store.DATASET}"
_HEAD = "m.run = $run AND m.layer = $layer AND m.head = $head"
_HOLDING = "(SELECT run, example FROM inputs WHERE run = $run AND list_contains(tokens, $token))"
QUESTIONS = {
    "map": f"SELECT m.* FROM map_stats m WHERE {_HEAD} AND m.example = $example",
    "maps": "FROM map_stats WHERE run = $run AND example = $example",
    "input": "FROM inputs WHERE run = $run AND example = $example",
    "head": f"SELECT avg(entropy), avg(previous), avg(cls) FROM map_stats m WHERE {_HEAD}",
    "join": f"SELECT avg(m.previous), count(*) FROM map_stats m SEMI JOIN {_HOLDING} USING (run, example) WHERE {_HEAD}",
    "group": "SELECT layer, head, avg(entropy), avg(cls) FROM map_stats WHERE run = $run GROUP BY ALL",
}
"""What is asked: the statistics of one map, of all maps of an input; an input with its tokens; one
head over all inputs; one head over the inputs that hold a word; every head over all inputs."""
_OFTEN, _SELDOM = 40, 5
_RANK = 300
"""The word that `join` looks for, by its place in the vocabulary."""


def build(path: str) -> dict[str, float]:
    """Make the index anew; seconds, and bytes of its file."""
    backend = location.locate(path)
    seconds = timed(partial(index.rebuild, backend, 60.0))
    return {"seconds": seconds, "bytes": (backend.root / index.FILE).stat().st_size}


def first(path: str, cold: bool) -> dict[str, float]:
    """Open a store whose index is current, then ask for an input's record: seconds of each.

    cold: none of the index in the system's page cache.
    """
    if cold:
        with (Path(path) / index.FILE).open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    opened: list[attnstore.Store] = []
    seconds = timed(lambda: opened.append(attnstore.open(path)))
    arguments = {"run": RUN, "example": 1}
    return {"open": seconds, "ask": timed(partial(opened[0].sql, QUESTIONS["input"], **arguments))}


def ask(path: str, examples: int) -> dict[str, list[float]]:
    """Seconds of each question, about another map each time, in one warm session."""
    draw, store = random.Random(0), attnstore.open(path)
    store.runs()
    seconds: dict[str, list[float]] = {
        "open": [timed(partial(attnstore.open, path)) for _ in range(_SELDOM)]
    }
    word = synthetic_store.vocabulary()[_RANK]
    for name, text in QUESTIONS.items():
        seconds[name] = []
        for _ in range(_OFTEN if "$example" in text else _SELDOM):
            arguments: dict[str, Any] = {"run": RUN, "token": word, "example": draw.randrange(examples),
                                         "layer": draw.randrange(12), "head": draw.randrange(12)}  # fmt: skip
            used = {name: value for name, value in arguments.items() if f"${name}" in text}
            seconds[name].append(timed(partial(store.sql, text, **used)))
    return seconds


def compact(path: str) -> dict[str, float]:
    """Merge small fragments; seconds to open the store, whose index is current, before and after."""
    backend = location.locate(path)
    index.catch_up(backend)
    alone = median(timed(partial(index.catch_up, backend)) for _ in range(_SELDOM))
    n = len(fragments.listing(backend))
    compaction.compact(backend)
    index.catch_up(backend)
    bundled = median(timed(partial(index.catch_up, backend)) for _ in range(_SELDOM))
    files = len(backend.files(fragments.FOLDER))
    return {"fragments": n, "alone": alone, "bundled": bundled, "files": files}


def catch_up(path: str) -> dict[str, float]:
    """Seconds to load what is new, the fragments loaded, and seconds to load a single label."""
    backend, changes = location.locate(path), []
    seconds = timed(lambda: changes.append(index.catch_up(backend)))
    synthetic_store.add_label(path)
    alone = timed(lambda: changes.append(index.catch_up(backend)))
    return {"seconds": seconds, "fragments": changes[0].loaded, "alone": alone}
