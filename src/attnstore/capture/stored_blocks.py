"""The blocks of a run that are committed and whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attnstore.capture.runs import Run
from attnstore.storage import array_blocks, array_kinds, arrays, fragments
from attnstore.storage.array_blocks import Committed
from attnstore.storage.backend import File

CHECK_BYTES = 4 << 30
"""A run up to this size has its checksums compared when it is asked for again (about a second); of
a larger one, and in a bucket, only what has changed since: `attnstore verify` compares the rest."""


def stored_blocks(run: Run) -> set[int]:
    """Return the committed blocks of a run whose files are whole, checked as CHECK_BYTES says."""
    blocks = list(_committed(run))
    further = array_blocks.committed(run.backend, run.run, run.key, _CAPTURED)
    total = sum(row["maps_bytes"] + row["received_bytes"] for _, row in blocks)
    every = total <= CHECK_BYTES and run.backend.is_local
    shards = None if every else arrays.shards(run.backend, run.run)
    return {
        row["block"]
        for committed, row in blocks
        if (
            (shards is not None and not arrays.changed(run.run, row, shards, committed))
            or not arrays.damage(run.backend, run.run, row)
        )
        and all(
            whole_array(run, further[at], shards)
            for name in _CAPTURED
            if (at := (name, f"{row['block']:06d}")) in further
        )
    }


_CAPTURED = tuple(kind.name for kind in array_kinds.CAPTURED)


def whole_array(
    run: Run, committed: Committed | None, shards: dict[str, File] | None = None
) -> bool:
    """Return True if a block of a further array is whole, its bytes or, with `shards`, what shows.

    committed: None where its fragment is damaged; shards: `arrays.shards` of the run.
    """
    if committed is None:
        return False
    when, n_bytes = committed.fragment.modified, committed.row["bytes"]
    if shards is not None and not arrays.moved(committed.sealed, n_bytes, shards, when):
        return True
    return not arrays.unlike(run.backend, committed.sealed)


def whole_block(run: Run, block: int) -> dict[str, Any] | None:
    """Return the row of a block, if it is committed and every byte of it is whole."""
    part = f"{block:06d}"
    further = array_blocks.committed(run.backend, run.run, run.key, _CAPTURED, part)
    if not all(whole_array(run, committed) for committed in further.values()):
        return None
    rows = (row for _, row in _committed(run, part))
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
    """Sum the bytes of the committed shards: of `maps`, and of all arrays."""
    rows = fragments.read_one(run.backend, "blocks", run.run)
    if rows is None:
        return 0, 0
    maps = int(rows["maps_bytes"].sum())
    further = array_blocks.committed(run.backend, run.run, run.key).values()
    n_further = sum(found.row["bytes"] for found in further if found is not None)
    return maps, maps + int(rows["received_bytes"].sum()) + n_further
