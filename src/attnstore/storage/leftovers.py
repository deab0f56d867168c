"""Delete fragments that an earlier run left under a name, after a stopped drop or copy.

    leftovers.discard(backend, "minilm/rte", run_key)      # before another run takes that name

A run's rows carry its key. Rows of another key belong to a run that is gone; they must not count as
parts of the run that has the name now.
"""

from __future__ import annotations

import io
from collections.abc import Collection

import polars as pl

from attnstore.storage import arrays, fragments
from attnstore.storage.backend import Backend
from attnstore.storage.fragments import Fragment
from attnstore.storage.tables import OF_RUNS


def discard(backend: Backend, run: str, key: int) -> int:
    """Delete the fragments under a run's name whose rows are of another run; returns how many.

    key: run_key of the run that takes the name. Shards go too where nothing of that run is left.
    The caller holds the run's lock. Raises StoreError where something cannot be deleted.
    """
    present = [f for table in OF_RUNS for f in fragments.listing(backend, table, run)]
    stale = [f for f in present if _key(backend, f) not in (key, None)]
    for fragment in stale:
        fragments.discard(backend, fragment)
    if stale and len(stale) == len(present):
        arrays.remove(backend, run)
    return len(stale)


def discard_but(backend: Backend, run: str, kept: Collection[str]) -> None:
    """Delete the fragments under the name of a run that has no record, except those at `kept` paths."""
    for table in OF_RUNS:
        for fragment in fragments.listing(backend, table, run):
            if fragment.path not in kept:
                fragments.discard(backend, fragment)


def _key(backend: Backend, fragment: Fragment) -> int | None:
    """Return the run_key of a fragment's rows; None where it is damaged and counts for nothing.

    A whole one that no Parquet reader takes belongs to no run: -1.
    """
    if not fragments.whole(backend, fragment):
        return None
    data = io.BytesIO(backend.local(fragment.path).read_bytes())
    try:
        rows = pl.read_parquet(data, n_rows=1)
    except pl.exceptions.PolarsError:
        return -1
    return int(rows["run_key"][0]) if len(rows) and "run_key" in rows.columns else None
