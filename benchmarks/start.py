"""How long it takes to begin: a command, a question, the maps of one input, each in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from statistics import median
from typing import Any

from benchmarks.common import RUN, Group, Place, Row, fresh, source, timed

HELP, QUESTION, MAPS, AGAIN = 0.2, 0.45, 0.04, 2.0
"""Targets in seconds."""
ASKED = (
    f"SELECT layer, head, avg(entropy) AS entropy FROM map_stats WHERE run = '{RUN}' GROUP BY ALL"
)


def measure(place: Place) -> Group:
    """Each several times after a first that writes what a later process finds."""
    environment = {
        "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(place.folder / "bytecode"),
    }  # fmt: skip
    store, repeats = place.store, place.repeats(9)
    _, *of_help = commands(["--help"], environment, repeats)
    _, *asking = commands(["--store", store, "sql", ASKED], environment, repeats)
    number = fresh("start:example", store).result
    first, *maps = (
        fresh("start:maps", store, number, environment=environment).result
        for _ in range(repeats + 1)
    )
    again = [
        fresh("ingesting:ingest", store, source("rte"), place.inputs, environment=environment)
        for _ in maps[:5]
    ]
    if any(one.result["stored"] for one in again):
        raise RuntimeError("a finished ingestion stored something again")
    rerun = median(one.seconds for one in again)
    return Group([
        Row("`attnstore --help`, the whole process", f"≤ {HELP:.2f} s", f"{median(of_help):.2f} s", median(of_help) <= HELP),
        Row("a question to `map_stats` by `attnstore sql`, the whole process", f"≤ {QUESTION:.2f} s",
            f"{median(asking):.2f} s", median(asking) <= QUESTION),
        Row("all maps of one input by `store.maps`, fresh process, imports aside: opening and reading", f"≤ {1e3 * MAPS:.0f} ms",
            f"{1e3 * median(maps):.0f} ms; the first process after an ingestion {1e3 * first:.0f} ms", median(maps) <= MAPS),
        Row(f"re-running a finished ingest, {place.inputs} inputs, the whole process", f"≤ {AGAIN:.0f} s", f"{rerun:.2f} s", rerun <= AGAIN),
    ], (
        "Modules are compiled before, as pip does it when it installs. The first process that asks for maps of a run "
        "keeps the places of its inputs beside the index; those after it open no database. "
        "*Re-running* hashes the model's and the dataset's files and compares the checksums of every shard."
    ))  # fmt: skip


def commands(arguments: list[str], environment: dict[str, str], repeats: int) -> list[float]:
    """Seconds of whole processes of a command, the first of which compiles modules."""
    run = partial(
        subprocess.run, [sys.executable, "-m", "attnstore", *arguments],
        env=os.environ | environment, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    return [timed(run) for _ in range(repeats + 1)]


def example(store: str) -> int:
    """Return the number of an input; what a process keeps beside the index is forgotten."""
    import attnstore

    with attnstore.open(store) as opened:
        opened.answers.forget()
        return int(opened.sql("SELECT max(example) FROM inputs WHERE run = $run", run=RUN).item())


def maps(store: str, number: int) -> float:
    """Seconds to open a store and read every map of one input."""
    import tensorstore  # noqa: F401 - reading maps imports it

    import attnstore

    attnstore.open  # noqa: B018 - imports it
    found: list[Any] = []

    def read() -> None:
        found.append(attnstore.open(store).maps(RUN, number))

    return timed(read)
