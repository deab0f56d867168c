"""The blocks of a run that are committed and whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attnstore.capture.runs import Run
from attnstore.storage import arrays, fragments

CHECK_BYTES = 4 << 30
"""A run up to this size has its checksums compared when it is asked for again (about a second); of
a larger one, and in a bucket, only what has changed since: `attnstore verify` compares the rest."""


def stored_blocks(run: Run) -> set[int]:
    """Return the committed blocks of a run whose files are whole, checked as CHECK_BYTES says."""
    blocks = list(_committed(run))
    total = sum(row["maps_bytes"] + row["received_bytes"] for _, row in blocks)
    every = total <= CHECK_BYTES and run.backend.is_local
    shards = {} if every else arrays.shards(run.backend, run.run)
    return {
        row["block"]
        for committed, row in blocks
        if not (every or arrays.changed(run.run, row, shards, committed))
        or not arrays.damage(run.backend, run.run, row)
    }


def whole_block(run: Run, block: int) -> dict[str, Any] | None:
    """Return the row of a block, if it is committed and every byte of it is whole."""
    rows = (row for _, row in _committed(run, f"{block:06d}"))
    return next((row for row in rows if not arrays.damage(run.backend, run.run, row)), None)


def _committed(run: Run, only: str | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the time of commit and the row of blocks (of the part `only`) whose fragments are whole."""
    blocks, stats = (
        {
            f.part: f
            for f in fragments.listing(run.backend, table, run.run)
            if only in (None, f.part)
        }
        for table in ("blocks", "map_stats")
    )
    fragments.fetch(run.backend, (*blocks.values(), *stats.values()))
    for part, f in blocks.items():
        if part in stats and all(fragments.whole(run.backend, x) for x in (f, stats[part])):
            row = fragments.read(run.backend, f).row(0, named=True)
            if row["run_key"] == run.key:  # a run that had the name before may have left it
                yield f.modified, row


def n_bytes(run: Run) -> tuple[int, int]:
    """Sum the bytes of the committed shards: of `maps`, and of both arrays."""
    rows = fragments.read_one(run.backend, "blocks", run.run)
    if rows is None:
        return 0, 0
    maps = int(rows["maps_bytes"].sum())
    return maps, maps + int(rows["received_bytes"].sum())
