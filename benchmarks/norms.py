"""What value norms and mixing ratios add to the processor time of an ingestion."""

from __future__ import annotations

import shutil
import statistics
import time
from dataclasses import replace
from unittest.mock import patch

from attnstore.capture.ingestion import planned
from attnstore.capture.runs import Settings
from attnstore.datasets import corpora
from attnstore.models import checkpoints, output_projection
from attnstore.models.moved import Projections
from attnstore.storage import location
from benchmarks.common import MODEL, Group, Place, Row, fresh, ratio, source
from benchmarks.ingest_speed import everything

TARGET = 1.03
MODES = ("neither", "norms", "both")


def measure(place: Place) -> Group:
    """Take turns in one fresh process: without norms, with them, with mixing ratios too."""
    found = fresh("norms:race", str(place.folder), place.inputs, place.repeats(4)).result
    rows = [
        Row(
            f"processor time of an ingestion with {what} / without, {place.inputs} RTE inputs",
            f"≤ {TARGET:.2f}×" if mode == "norms" else "", f"{value:.3f}×",
            value <= TARGET if mode == "norms" else None,
        )
        for mode, what in (("norms", "value norms"), ("both", "value norms and mixing ratios"))
        for value in (ratio(found, mode, "neither"),)
    ]  # fmt: skip
    plain = statistics.median(found["neither"])
    return Group(rows, (
        f"Processor time of all threads from the first block to the committed run, {plain:.1f} s without "
        "either; every forward pass ends at its last map. Median of the ratios of neighbors."
    ))  # fmt: skip


def race(folder: str, inputs: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of processor time of ingestions of each mode, in turn; a small one warms up."""
    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
    ingest(f"{folder}/warm", "both", min(inputs, 60))
    for number in range(repeats):
        for mode in MODES:
            seconds[mode].append(ingest(f"{folder}/{mode}-{number}", mode, inputs))
    return seconds


def ingest(store: str, mode: str, inputs: int) -> float:
    """Seconds of processor time that ingesting takes once the model is loaded."""
    checkpoint, dataset = checkpoints.resolve(MODEL), corpora.load(source("rte"))
    find = output_projection.find

    def restricted(*arguments: object) -> Projections:
        whole = find(*arguments)
        changes = {"norms": {"without_mixing": "left out"}, "both": {}}
        return Projections() if mode == "neither" else replace(whole, **changes[mode])

    backend = location.create(store)
    with (
        patch.object(output_projection, "find", restricted),
        planned(backend, checkpoint, dataset, Settings(limit=inputs), "cpu") as ingestion,
    ):
        ingestion.worker  # noqa: B018 - loads the model
        began = time.process_time()
        everything(ingestion)
        seconds = time.process_time() - began
    shutil.rmtree(backend.root)
    return seconds
