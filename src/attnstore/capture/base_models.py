"""Which model another was trained from: a record of the store, no part of what identifies a run.

So it can be given later, or given again: the record is replaced, and no weight is computed anew.
"""

from __future__ import annotations

import polars as pl

from attnstore.storage import fragments, locks
from attnstore.storage.backend import Backend


def record(backend: Backend, model: str, base: str) -> None:
    """Record the base of a model that the store holds; nothing where it is the recorded one."""
    if _recorded(backend, model) == [base]:
        return
    with locks.registry(backend):
        found = fragments.listing(backend, "models", model)
        if not found:  # dropped meanwhile
            return
        newest = max(found, key=lambda f: f.modified)
        rows = fragments.read(backend, newest).with_columns(pl.lit(base, pl.String).alias("base"))
        # A new fragment of the same part takes the older one's place.
        fragments.write(backend, "models", model, newest.part, rows)


def _recorded(backend: Backend, model: str) -> list[str | None]:
    rows = fragments.read_one(backend, "models", model)
    return [] if rows is None else rows["base"].to_list()
