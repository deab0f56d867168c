"""Bits on disk per stored weight, and the least that any code for single numbers could do."""

from __future__ import annotations

import numpy as np

import attnstore
from attnstore.storage import arrays, location, zarr_metadata
from benchmarks.common import RUN, Group, Place, Row, fresh, source

TARGETS = {"float16": 12.75, "compact": 5.8, "tiny": 3.6}


def measure(place: Place) -> Group:
    """Ingest the same inputs in every precision."""
    rows = []
    for precision, target in TARGETS.items():
        store = str(place.folder / precision)
        summary = fresh("ingesting:ingest", store, source("rte"), place.inputs, precision).result
        bits = summary["bits_per_weight"]
        least = fresh("size:entropy", store).result
        rows.append(
            Row(
                f"bits per stored weight, {precision}, {place.inputs} RTE inputs",
                f"≤ {target}",
                f"{bits:.3f} (entropy {least:.2f})",
                bits <= target,
            )
        )
    return Group(rows, (
        "*Entropy* is that of the stored numbers taken one by one: what no code without a model of "
        "their neighbours can go below on average."
    ))  # fmt: skip


def entropy(store: str) -> float:
    """Bits per number of the distribution of what a run stores."""
    backend = location.locate(store)
    run = arrays.open_run(backend, RUN, zarr_metadata.recorded(backend, RUN))
    kind = run.precision.dtype
    counts = np.zeros(1 << 8 * kind.itemsize, np.int64)
    with attnstore.open(store) as opened:
        inputs = opened.sql(
            "SELECT DISTINCT cell, length FROM map_places WHERE run = $run", run=RUN
        )
    for cell, length in inputs.iter_rows():
        stored = run.maps[:, :, cell : cell + length**2].read().result()
        counts += np.bincount(
            np.asarray(stored).astype(kind).view(f"u{kind.itemsize}").ravel(), minlength=len(counts)
        )
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())
