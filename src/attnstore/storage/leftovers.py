"""Delete fragments that an earlier run left under a name, after a stopped drop or copy.

    leftovers.discard(backend, "minilm/rte", run_key)      # before another run takes that name

A run's rows carry its key. Rows of another key belong to a run that is gone; they must not count as
parts of the run that has the name now.
"""

from __future__ import annotations

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
    fragments.discard(backend, *stale)
    if stale and len(stale) == len(present):
        arrays.remove(backend, run)
    return len(stale)


def discard_but(backend: Backend, run: str, kept: Collection[str]) -> None:
    """Delete the fragments under the name of a run that has no record, except those at `kept` paths."""
    for table in OF_RUNS:
        listed = fragments.listing(backend, table, run)
        fragments.discard(backend, *(f for f in listed if f.path not in kept))


def _key(backend: Backend, fragment: Fragment) -> int | None:
    """Return the run_key of a fragment's rows; None where it is damaged and counts for nothing.

    A whole one that no Parquet reader takes belongs to no run: -1.
    """
    if not fragments.whole(backend, fragment):
        return None
    try:
        rows = pl.read_parquet(fragments.source(backend, fragment), n_rows=1, glob=False)
    except pl.exceptions.PolarsError:
        return -1
    return int(rows["run_key"][0]) if len(rows) and "run_key" in rows.columns else None
