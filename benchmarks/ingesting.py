"""One ingestion in this process, for the groups that need a store or measure how one is made."""

from __future__ import annotations

from typing import Any

import attnstore
from benchmarks.common import MODEL


def ingest(store: str, dataset: str, limit: int, precision: str = "float16") -> dict[str, Any]:
    """Ingest a random sample with MiniLM on the CPU; the run's Summary as a dictionary."""
    (summary,) = attnstore.ingest(
        store,
        MODEL,
        dataset,
        limit=limit,
        seed=0,
        max_length=128,
        precision=precision,
        device="cpu",
    )
    return dict(vars(summary))
