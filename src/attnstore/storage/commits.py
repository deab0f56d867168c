"""Select committed fragments: whole, newest of their part, with everything they depend on."""

from __future__ import annotations

from collections.abc import Collection

import duckdb

from attnstore.storage import array_kinds, bundles, fragments
from attnstore.storage.backend import Backend
from attnstore.storage.fragments import Fragment
from attnstore.storage.snapshot import fresh
from attnstore.storage.tables import NEEDS, OF_RUNS, TABLES


def committed(backend: Backend, known: Collection[str] = ()) -> tuple[list[Fragment], list[str]]:
    """List the committed fragments, and the paths of damaged ones.

    Of one part the newest counts; what belongs to a block only once the block is committed; a run's
    fragments only with the run's record. known: paths already checked; the name carries the
    checksum, so a fragment loaded under it is the one committed.
    """
    by_age = sorted(fragments.listing(backend), key=lambda f: f.modified)
    newest = {(f.table, f.owner, f.part): f for f in by_age if f.table in TABLES}
    new = [f for f in newest.values() if f.path not in known]
    fragments.fetch(backend, (f for f in new if f.crc32c >= 0))
    damaged = {f.path for f in new if f.crc32c < 0 or not fragments.whole(backend, f)}
    damaged |= {f.path for f in by_age if f.table == bundles.FOLDER}
    whole = [f for f in newest.values() if f.path not in damaged]
    blocks = {(f.owner, f.part) for f in whole if f.table == "blocks"}
    runs = {f.owner for f in whole if f.table == "runs"}
    count = [
        f
        for f in whole
        if ((block := of_block(f)) is None or (f.owner, block) in blocks)
        and (f.table not in OF_RUNS or f.owner in runs)
    ]
    return sorted(count, key=lambda f: f.path), sorted(damaged)


def of_block(fragment: Fragment) -> str | None:
    """Return the part of the block that a fragment belongs to; None where it belongs to none."""
    if fragment.table == "array_blocks":
        return array_kinds.split(fragment.part)[1]
    return fragment.part if fragment.table in ("blocks", "map_stats", "offsets") else None


def counting(committed: list[Fragment], unreadable: Collection[str] = ()) -> list[Fragment]:
    """Select the committed fragments to load: a block only with its statistics and inputs.

    So a run is complete only if every row is there. unreadable: paths that failed to load; they
    are in the result, fragments that need them are not.
    """
    there = {(f.table, f.owner, f.part) for f in committed if f.path not in unreadable}
    runs = {owner for table, owner, _ in there if table == "runs"}
    planned = {owner for table, owner, _ in there if table == "inputs"} & runs

    def counts(f: Fragment) -> bool:
        if (block := of_block(f)) is None:
            return f.table not in OF_RUNS or f.owner in runs
        both = all((table, f.owner, block) in there for table in ("blocks", "map_stats"))
        return both and f.owner in planned

    return [f for f in committed if f.path in unreadable or counts(f)]


def missing(con: duckdb.DuckDBPyConnection, backend: Backend, found: list[Fragment]) -> list[str]:
    """List fragments that committed ones require and that are missing, as `table/owner/part`."""
    present = {(f.table, f.owner) for f in found}
    parts = {(f.table, f.owner, f.part) for f in found}
    runs = con.execute("SELECT DISTINCT model, dataset FROM core.runs").fetchall()
    required = {("models", model) for model, _ in runs}
    required |= {(table, dataset) for _, dataset in runs for table in ("datasets", "examples")}
    required |= {("inputs", f.owner) for f in found if f.table == "runs"}
    lacking: list[tuple[str, ...]] = [*sorted(required - present)]
    lacking += [
        (NEEDS[f.table], f.owner, f.part) for f in found
        if f.table in NEEDS and (NEEDS[f.table], f.owner, f.part) not in parts
    ]  # fmt: skip
    # Looked for once more: it may be damaged, or have been written while the fragments were listed.
    return ["/".join(path) for path in lacking if not _listed(fresh(backend), *path)]


def _listed(backend: Backend, table: str, owner: str, part: str | None = None) -> bool:
    """Return True if a fragment is there, be it damaged."""
    return any(part in (None, f.part) for f in fragments.listing(backend, table, owner))
