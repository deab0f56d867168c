"""Find files that nothing in a store refers to, give the reason, and move them aside.

    orphans = collect(backend)           # as `attnstore gc`; orphans.folder can be deleted later

Nothing is deleted: a file keeps its place below `orphans/<time>/`, so that copying that folder over
the store brings everything back. Files that another process may be writing are left alone: a run in use,
and temporary files of the last hour. Damaged files are `verify`'s.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from attnstore.errors import AttnstoreError, BusyError, StoreError
from attnstore.storage import array_blocks, arrays, bundles, fragments, index, location, locks
from attnstore.storage.backend import Backend
from attnstore.storage.location import Location
from attnstore.storage.tables import TABLES

FOLDER = "orphans"
"""Folder of a store for files that were moved aside."""
REASONS = "why.csv"
"""File beside those that were moved aside, with path, bytes and why of each."""
_FRESH = 3600.0  # seconds in which a temporary file may still be written

Progress = Callable[[int, int], None]
"""Called with the number of files that are moved, and of all."""


@dataclass(frozen=True)
class Orphan:
    """A file that nothing refers to. path: relative to the store; why: one clause."""

    path: str
    bytes: int
    why: str


@dataclass(frozen=True)
class Orphans:
    """Result of `collect`. folder: where the files were moved, None if they were not; notes: files left alone."""

    files: list[Orphan]
    notes: list[str]
    folder: str | None

    def summary(self) -> pl.DataFrame:
        """Summarize by reason: why, files, bytes; the most bytes first."""
        schema = {"path": pl.String, "bytes": pl.Int64, "why": pl.String}
        frame = pl.DataFrame([vars(f) for f in self.files], schema=schema)
        grouped = frame.group_by("why").agg(files=pl.len(), bytes=pl.col("bytes").sum())
        return grouped.sort("bytes", "why", descending=[True, False])


def collect(path: Location, dry: bool = False, progress: Progress = lambda *_: None) -> Orphans:
    """Find files that nothing refers to, and move them aside unless `dry`.

    Raises StoreError (there is no store, it cannot be written, or a part of its fragments cannot be
    seen), BusyError (a run is being planned, or something is copied to the store).
    """
    backend = location.find(path)
    with (
        contextlib.ExitStack() as entered,
        locks.hold(location.copy_lock(backend), what=f"The store {backend.name}"),
        locks.registry(backend),
    ):
        _refuse_unseen(backend)
        orphans, notes = _find(backend, entered)
        folder = _move(backend, orphans, progress) if orphans and not dry else None
        return Orphans(orphans, notes, folder)


def _refuse_unseen(backend: Backend) -> None:
    """Raise StoreError if a folder of fragments cannot be read: its runs are then unknown."""
    listed = (
        {str(Path(f.path).parent) for f in fragments.listing(backend)}
        if backend.is_local
        else set()
    )
    for folder in _unseen(backend.root / fragments.FOLDER) if backend.is_local else ():
        inside = folder.relative_to(backend.root).as_posix()
        if not any(f"{path}/".startswith(f"{inside}/") for path in listed):
            raise StoreError(
                f"{inside} of {backend.name} is a link or a folder that cannot be looked into, and may "
                "hold records of runs; nothing was moved: put the folder itself there, readable, and "
                "run the same command again."
            )


def _unseen(folder: Path) -> Iterator[Path]:
    """Yield links to folders or to nothing, and folders that cannot be listed, at or below a folder."""
    if folder.is_symlink():
        yield folder
        return
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    except OSError:
        yield folder
        return
    for entry in entries:
        if entry.is_symlink() and not entry.is_file():
            yield Path(entry.path)
        elif entry.is_dir(follow_symlinks=False):
            yield from _unseen(Path(entry.path))


def _find(backend: Backend, entered: contextlib.ExitStack) -> tuple[list[Orphan], list[str]]:
    """Find the orphans and note what is left alone; `entered` holds the locks of the runs."""
    all_fragments = fragments.listing(backend)
    notes: list[str] = []
    runs: dict[str, set[str]] = {}
    skipped: set[str] = set()
    for run in sorted({f.owner for f in all_fragments if f.table == "runs"}):
        try:
            entered.enter_context(locks.hold(location.run_lock(backend, run), what=f"Run {run}"))
            runs[run] = _referred(backend, run)
        except BusyError as error:
            notes.append(f"{run} is left alone: {error}")
            skipped.add(run)
        except AttnstoreError as error:
            notes.append(f"{run} is left alone; `attnstore verify` shows what is wrong: {error}")
            skipped.add(run)
    files = [
        *_in_fragments(backend, all_fragments, skipped),
        *_in_arrays(backend, runs, skipped),
        *_temporary(backend),
    ]
    foreign = sum(
        f.table not in (*TABLES, bundles.FOLDER) or (f.crc32c < 0 and f.table in TABLES)
        for f in all_fragments
    )
    if foreign:
        notes.append(f"{foreign} files in {fragments.FOLDER} are not attnstore's, and stay.")
    return sorted(files, key=lambda f: f.path), notes


def _referred(backend: Backend, run: str) -> set[str]:
    """List the shard files of a run's committed blocks, relative to the store. Raises DamageError."""
    blocks, further = (_rows(backend, table, run) for table in ("blocks", array_blocks.TABLE))
    committed = {row["block"] for row in blocks}
    return {
        *(path for row in blocks for path in arrays.sealed(run, row)),
        *(
            path
            for row in further
            if row["block"] in committed
            for path in arrays.sealed_further(run, row)
        ),
    }


def _rows(backend: Backend, table: str, run: str) -> list[dict[str, Any]]:
    rows = fragments.read_one(backend, table, run)
    return [] if rows is None else rows.to_dicts()


def _in_fragments(
    backend: Backend, listed: list[fragments.Fragment], left: set[str]
) -> Iterator[Orphan]:
    """Yield fragments that do not count, except those that another version of attnstore may read."""
    count = {f.path for f in index.committed(backend, {f.path for f in listed})[0]}
    runs = {f.owner for f in listed if f.table == "runs"}
    parts = {(f.table, f.owner, f.part) for f in listed if f.path in count}
    for f in listed:
        recognized = f.table in TABLES and f.crc32c >= 0
        if not recognized or f.path in count or f.owner in left:
            continue
        if (f.table, f.owner, f.part) in parts:
            why = "a newer fragment has taken its place"
        elif f.owner not in runs:
            why = "there is no such run"
        else:
            why = "its block was never committed"
        yield Orphan(f.path, f.bytes, why)


def _in_arrays(backend: Backend, runs: dict[str, set[str]], left: set[str]) -> Iterator[Orphan]:
    """Yield shards of no committed block, and arrays of no run; a run's zarr.json files stay."""
    run_paths = {PurePosixPath(arrays.FOLDER, run) for run in (*runs, *left)}
    groups = {parent / "zarr.json" for run in run_paths for parent in run.parents}
    groups.add(PurePosixPath(arrays.FOLDER, "zarr.json"))
    for file in backend.files(arrays.FOLDER):
        inside = PurePosixPath(file.path)
        if inside in groups:
            continue
        run = next((p for p in inside.parents if p in run_paths), None)
        if run is None:
            yield Orphan(file.path, file.bytes, "there is no such run")
            continue
        name = str(run.relative_to(arrays.FOLDER))
        shard = arrays.is_shard(name, str(inside))
        if name in runs and shard and str(inside) not in runs[name]:
            yield Orphan(file.path, file.bytes, "it belongs to no committed block")


def _temporary(backend: Backend) -> Iterator[Orphan]:
    """Yield files that a killed process was writing in a folder; a bucket has none."""
    if not backend.is_local:
        return
    rebuilt = backend.root.glob(f"{index.FILE}.new*")
    hidden = (
        p
        for name in (fragments.FOLDER, arrays.FOLDER)
        for p in (backend.root / name).rglob(".*.tmp")
    )
    for path in (*backend.root.glob(".*.tmp"), *hidden, *rebuilt):
        stat = path.stat()
        if time.time() - stat.st_mtime > _FRESH:
            inside = path.relative_to(backend.root).as_posix()
            yield Orphan(inside, stat.st_size, "a process was stopped while it wrote it")


def _move(backend: Backend, orphans: list[Orphan], progress: Progress) -> str:
    """Move files below a new folder of the store, the reasons first."""
    folder = f"{FOLDER}/{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    backend.write(
        f"{folder}/{REASONS}", pl.DataFrame([vars(f) for f in orphans]).write_csv().encode()
    )
    bundled = {f.path: f for f in fragments.listing(backend) if f.bundle}
    for done, orphan in enumerate(orphans, 1):
        if orphan.path in bundled:
            fragments.set_aside(backend, bundled[orphan.path], f"{folder}/{orphan.path}")
        else:
            backend.move(orphan.path, f"{folder}/{orphan.path}")
        progress(done, len(orphans))
    return folder
