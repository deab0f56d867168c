"""Bits on disk per stored weight, and the least that any code for single weights could do."""

from __future__ import annotations

import numpy as np

from benchmarks import raw
from benchmarks.common import Group, Place, Row, fresh, source

TARGETS = {"float16": 14.2, "compact": 5.8}


def measure(place: Place) -> Group:
    """Ingest the same inputs in both precisions."""
    rows = []
    for precision, target in TARGETS.items():
        store = str(place.folder / precision)
        summary = fresh("ingesting:ingest", store, source("rte"), place.inputs, precision).result
        bits = summary["bits_per_weight"]
        folder = str(place.folder / f"raw-{precision}")
        fresh("raw:write", store, folder)
        least = fresh("size:entropy", folder).result
        rows.append(
            Row(
                f"bits per stored weight, {precision}, {place.inputs} RTE inputs",
                f"≤ {target}",
                f"{bits:.2f} (entropy {least:.2f})",
                bits <= target,
            )
        )
    return Group(rows, (
        "*Entropy* is that of the stored values taken one by one: what no code without a model of "
        "their neighbours can go below on average."
    ))  # fmt: skip


def entropy(folder: str) -> float:
    """Bits per weight of the distribution of values in a raw file of float16."""
    counts = np.zeros(1 << 16, np.int64)
    for row in raw.rows(folder):
        counts += np.bincount(row.view(np.uint16), minlength=1 << 16)
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())
