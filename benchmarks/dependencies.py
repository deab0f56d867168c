"""Dependencies of a whole treebank through every head, at the level of words."""

from __future__ import annotations

import statistics
from pathlib import Path

import attnstore
from benchmarks import ingesting
from benchmarks.common import Group, Place, Row, fresh, timed

TREEBANK = Path(__file__).resolve().parents[2] / "shared/data/ud/en_ewt-ud-dev.conllu"
"""English EWT, the development set."""
RUN = "minilm/ewt"
SECONDS = {"dependency_heads": 10.0, "relations": 15.0, "head_ensembles": 30.0, "trees": 60.0}
"""Targets, by analysis."""


def measure(place: Place) -> Group:
    """Each analysis of the sentences of the treebank, in a warm session."""
    if not TREEBANK.exists():
        return Group([], "*Dependencies* need the treebank English EWT beside the project.")
    store = str(place.folder / "treebank")
    fresh("dependencies:ingest", store, 200 if place.quick else 2001)
    rows = []
    for name, target in SECONDS.items():
        found = fresh("dependencies:ask", store, name, place.repeats(3))
        seconds = statistics.median(found.result["seconds"])
        rows.append(
            Row(
                f"`{name}` over the {found.result['inputs']} sentences of a treebank, all relations, all heads",
                f"≤ {target:.0f} s", f"{seconds:.1f} s, {found.peak / (1 << 20):.0f} MiB", seconds <= target,
            )
        )  # fmt: skip
    return Group(rows)


def ingest(store: str, inputs: int) -> None:
    """Ingest and annotate sentences of the treebank."""
    ingesting.ingest(store, f"{TREEBANK}=ewt", inputs)
    attnstore.annotate(store, "ewt", "conllu")


def ask(store: str, name: str, repeats: int) -> dict[str, object]:
    """Seconds of an analysis, computed anew every time."""
    with attnstore.open(store) as opened:
        inputs = opened.sql("SELECT stored FROM runs").item()

        def once() -> None:
            opened.answers.forget()
            opened.query(name, run=RUN)

        once()
        return {"seconds": [timed(once) for _ in range(repeats)], "inputs": inputs}
