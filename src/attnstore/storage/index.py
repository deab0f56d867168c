"""The DuckDB index: the rows of every fragment in one file, a cache that can be rebuilt at any time.

It catches up by loading new fragments in one transaction. Nobody keeps it
open: readers attach it for the length of a query under a shared lock, catching up takes the lock
alone for a moment. `index.crc32c` seals the file, so that `verify` sees a flipped byte.

An index is used only as this machine left it (`seals`): one that another program has changed, or that
came with a copy of the store, is rebuilt from the fragments before anything is read from it. Where it
cannot be rebuilt (a folder that cannot be written), it is used if it holds this version's tables and
views and nothing else; see `accept`.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from attnstore.errors import DamageError, StoreError
from attnstore.storage import files, index_listing, index_rows, index_schema, index_seal, locks
from attnstore.storage.backend import Backend
from attnstore.storage.commits import committed, counting, missing
from attnstore.storage.fragments import Fragment
from attnstore.storage.index_errors import FILE, opening, refused
from attnstore.storage.index_schema import CONFINED
from attnstore.storage.locks import Lock
from attnstore.storage.snapshot import Snapshot, fresh
from attnstore.storage.tables import TABLES

__all__ = ["FILE", "committed", "counting"]  # in addition to the names defined here

SEAL = "index.crc32c"
LOCK = "index.lock"
_MEMORY = "2GB"
"""Memory limit of DuckDB while it writes the index."""


@dataclass(frozen=True)
class Change:
    """Result of catching up: fragments loaded, and fragments whose rows were dropped.

    damaged: paths of fragments that were left out, because they do not match their checksum or
    cannot be loaded; missing: parts that the others call for and that are not there.
    """

    loaded: int
    dropped: int
    damaged: list[str]
    missing: list[str] = field(default_factory=list)


@contextlib.contextmanager
def reading(backend: Backend, wait: float = 10.0) -> Iterator[None]:
    """Hold the index against being written while it is attached."""
    with locks.hold(
        Lock(backend, LOCK), shared=True, wait=wait, what=f"The index of {backend.root}"
    ):
        yield


@contextlib.contextmanager
def current(backend: Backend) -> Iterator[None]:
    """Hold the index as `reading` does; rebuild it first unless it is usable.

    Raises DamageError if it is still not usable.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(reading(backend))
        if not usable(backend):
            stack.close()
            catch_up(backend)
            stack.enter_context(reading(backend))
            if not usable(backend):
                raise DamageError(
                    f"The index {backend.root / FILE} was changed by another program while it was read; "
                    "close it there, and run the same command again."
                )
        yield


def usable(backend: Backend) -> bool:
    """Return True if the index is as attnstore on this machine left or accepted it."""
    return seal_of(backend) is not None or _state(backend) in _accepted


_accepted: set[tuple[Path, int, int, int]] = set()
"""Files that came from elsewhere, cannot be rebuilt where they lie, and were looked at."""


def _state(backend: Backend) -> tuple[Path, int, int, int] | None:
    try:
        stat = (backend.root / FILE).stat()
    except OSError:
        return None
    return backend.root, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def catch_up(backend: Backend, wait: float = 5.0) -> Change:
    """Bring the index of a store up to date.

    It is rebuilt if it is missing, of another schema, not sealed (its writing was cut short), or not
    the file that this machine sealed. wait: seconds to wait for readers of the index to end (then
    BusyError).
    """
    with reading(backend):
        stamp, listed = seal_of(backend), _listed_once(backend)
        if stamp is not None and index_listing.is_kept(
            backend, index_listing.fingerprint(listed, stamp)
        ):
            return Change(0, 0, [])
        pending = _pending(listed) if stamp is not None else None
        if pending is not None and not (pending.new or pending.gone):
            change = Change(0, 0, pending.damaged, pending.missing)
            _keep_listing(backend, listed, change)
            return change
    backend = fresh(backend)
    if pending is not None:
        checked = {f.path for f in pending.new}
        with _writing(backend, wait):
            # Check again: another process may have caught up meanwhile.
            before = index_seal.read(backend.root / SEAL)
            if (
                before
                and seal_of(backend) is not None
                and (pending := _pending(listed := Snapshot(backend), checked)) is not None
            ):
                try:
                    with _opened(backend, read_only=False) as con:
                        change = _apply(con, backend, pending)
                except duckdb.Error:  # such as a full disk
                    if before.untouched(backend.root / FILE):  # unchanged but for this log
                        _wal(backend).unlink(missing_ok=True)
                    raise
                index_seal.write(backend.root / SEAL, backend.root / FILE, before)
                _keep_listing(backend, listed, change)
                return change
    return rebuild(backend, wait, only_if_needed=True)


def _listed_once(backend: Backend) -> Backend:
    """Return a backend that lists the fragments once."""
    return backend if isinstance(backend, Snapshot) else Snapshot(backend)


def _keep_listing(backend: Backend, listed: Backend, change: Change) -> None:
    """Keep the listing that the index is current with, if nothing is damaged or missing.

    listed: a snapshot of the fragments that the index was compared with.
    """
    if not (change.damaged or change.missing) and (stamp := seal_of(backend)) is not None:
        index_listing.keep(backend, index_listing.fingerprint(listed, stamp))


def accept(backend: Backend) -> bool:
    """Accept an index that cannot be rebuilt where it lies; return True if it is usable.

    It must match its seal, and hold this version's tables and views and nothing else.
    """
    with reading(backend):
        seal, state = index_seal.read(backend.root / SEAL), _state(backend)
        if usable(backend):
            return True
        if (
            state is None
            or seal is None
            or _wal(backend).exists()
            or not seal.fits(backend.root / FILE)
        ):
            return False
        with _opened(backend, read_only=True) as con:
            if index_schema.nothing_else(con) and index_schema.made_by_this_version(con):
                _accepted.add(state)
    return usable(backend)


def _wal(backend: Backend) -> Path:
    return Path(f"{backend.root / FILE}.wal")


@dataclass(frozen=True)
class _Pending:
    """Fragments to load, paths to drop, damaged paths, and missing parts.

    committed: the committed fragments.
    """

    new: list[Fragment]
    gone: list[str]
    damaged: list[str]
    missing: list[str]
    committed: list[Fragment]


def _pending(backend: Backend, checked: Collection[str] = ()) -> _Pending | None:
    """Compare the index with the fragments on disk; None if it has another schema.

    checked: paths whose checksums were just compared.
    """
    with _opened(backend, read_only=True) as con:
        if not index_schema.made_by_this_version(con):
            return None
        loaded = {path for (path,) in con.execute("SELECT path FROM core.fragments").fetchall()}
        unreadable = dict(con.execute("FROM core.unreadable").fetchall())
        fragments, damaged = committed(backend, {*loaded, *unreadable, *checked})
        count = counting(fragments, unreadable)
        new = [f for f in count if f.path not in loaded and f.path not in unreadable]
        gone = sorted((loaded | unreadable.keys()) - {f.path for f in count})
        listed = {f.path for f in fragments}
        damaged = sorted({*damaged, *(path for path in unreadable if path in listed)})
        return _Pending(new, gone, damaged, missing(con, backend, fragments), fragments)


def n_loaded(backend: Backend) -> int:
    """Count the fragments that the index has rows of, also those that are gone; 0 without an index."""
    if not (backend.root / FILE).exists():
        return 0
    with reading(backend), _opened(backend, read_only=True) as con:
        if not index_schema.made_by_this_version(con):
            return 0
        return int(con.execute("SELECT count(*) FROM core.fragments").fetchall()[0][0])


def rebuild(backend: Backend, wait: float = 5.0, only_if_needed: bool = False) -> Change:
    """Rebuild the index from the fragments and replace the old one.

    Readers that have the old file open keep it. only_if_needed: leave one that another process has
    rebuilt while this one waited.
    """
    listed = Snapshot(backend)
    fragments, damaged = committed(listed)
    pending = _Pending(counting(fragments), [], damaged, [], fragments)
    temporary = backend.root / f"{FILE}.new"
    with _writing(backend, wait):
        if only_if_needed and seal_of(backend) is not None:
            found = _pending(backend)
            if found is not None and not (found.new or found.gone):
                return Change(0, 0, found.damaged, found.missing)
        for leaving in (temporary, Path(f"{temporary}.wal")):
            leaving.unlink(missing_ok=True)
        for spilled in (temporary, backend.root / FILE):  # by a writer that was killed
            shutil.rmtree(f"{spilled}.tmp", ignore_errors=True)
        with contextlib.closing(duckdb.connect(str(temporary), config=CONFINED)) as con:
            index_schema.create(con)
            change = _apply(con, backend, pending)
        for old in (backend.root / SEAL, _wal(backend)):
            old.unlink(missing_ok=True)
        temporary.rename(backend.root / FILE)
        index_seal.write(backend.root / SEAL, backend.root / FILE)
        _keep_listing(backend, listed, change)
    return change


@contextlib.contextmanager
def _writing(backend: Backend, wait: float) -> Iterator[None]:
    """Hold the index exclusively; turn errors of writing it into one sentence."""
    try:
        with locks.hold(Lock(backend, LOCK), wait=wait, what=f"The index of {backend.root}"):
            yield
    except StoreError:
        raise
    except (OSError, duckdb.Error) as error:
        system = refused(error)
        raise StoreError(
            f"The index of {backend.root} cannot be written: {str(error).splitlines()[0]}; "
            f"{files.remedy(system) if system else 'run the same command again'}."
        ) from error


def sealed(backend: Backend) -> bool | None:
    """Return True if the index matches its seal byte by byte; None where there is no seal.

    A damaged seal gives False. Reads the whole file.
    """
    seal = index_seal.read(backend.root / SEAL)
    if seal is None:
        return False if (backend.root / SEAL).exists() else None
    return seal.fits(backend.root / FILE)


def seal_of(backend: Backend) -> str | None:
    """Return a text that identifies the index's content; None if it changed since its seal.

    Compares the file's size and times with the seal; reads no byte of the index.
    """
    seal = index_seal.first_line(backend.root / SEAL)
    whole = seal is not None and seal.untouched(backend.root / FILE) and not _wal(backend).exists()
    return seal.stamp if seal and whole else None


@contextlib.contextmanager
def _opened(backend: Backend, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    with opening(backend):
        con = duckdb.connect(str(backend.root / FILE), read_only=read_only, config=CONFINED)
    explained = opening(backend) if read_only else contextlib.nullcontext()  # `_writing` does it
    with contextlib.closing(con), explained:
        yield con


def _apply(con: duckdb.DuckDBPyConnection, backend: Backend, pending: _Pending) -> Change:
    """Load and drop fragments in one transaction, then write it out so that no WAL stays."""
    new = pending.new
    con.execute(f"SET memory_limit = '{_MEMORY}'")
    con.execute("BEGIN")
    highest = con.execute("SELECT coalesce(max(fragment), -1) FROM core.fragments").fetchall()
    index_rows.drop(con, pending.gone)  # after: `align` would take a number used again for aligned
    number = int(highest[0][0]) + 1
    by_table = {table: [f for f in new if f.table == table] for table in TABLES}
    wanted = itertools.chain.from_iterable(by_table.values())
    with contextlib.closing(index_rows.read_ahead(backend, wanted)) as contents:
        for table, of_table in by_table.items():
            index_rows.load(con, backend, table, of_table, contents, number)
            number += len(of_table)
    unreadable = {path for (path,) in con.execute("SELECT path FROM core.unreadable").fetchall()}
    count = {f.path for f in counting(pending.committed, unreadable)}
    useless = [f.path for f in new if f.path not in count]  # they need unreadable fragments
    index_rows.drop(con, useless)
    if any(f.table in ("runs", "inputs") for f in new):
        index_rows.complete(con)
    if pending.gone or any(f.table == "inputs" for f in new):
        index_rows.sum_inputs(con)
    if pending.gone or any(f.table in ("runs", "inputs", "spans") for f in new):
        index_rows.align(con)
    lacking = missing(con, backend, pending.committed)
    con.execute("COMMIT")
    con.execute("CHECKPOINT")
    loaded = sum(f.path in count - unreadable for f in new)
    return Change(loaded, len(pending.gone), sorted({*pending.damaged, *unreadable}), lacking)
