"""The DuckDB index: every fragment's rows in one file, a cache that can be rebuilt at any time.

It catches up by loading the fragments that it has not seen, in one transaction. Nobody keeps it
open: readers attach it for the length of a query under a shared lock, catching up takes the lock
alone for a moment. `index.crc32c` seals the file's content, so that `verify` sees a flipped byte;
`seals` tells how.
"""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from attnstore import resources
from attnstore.disk import files, fragments, locks, seals
from attnstore.disk.fragments import Fragment
from attnstore.errors import BusyError, DamageError, StoreError

FILE = "index.duckdb"
SEAL = "index.crc32c"
LOCK = "index.lock"
TABLES = (
    "models", "datasets", "examples", "runs", "inputs", "blocks", "map_stats", "ingests",
    "spans", "links", "labels", "patterns", "classifications", "evaluations", "ablations", "head_importance", "prunings",
)  # fmt: skip
"""Tables of schema `core` that fragments fill."""
OF_RUNS = ("inputs", "blocks", "map_stats", "ingests", "patterns", "classifications")
"""Of these, the tables whose rows count only with their run's record."""
_ORDER = {"map_stats": " ORDER BY run_key, example // 131072, layer, head, example"}
"""How rows that are loaded together lie in the index: those of one head side by side, within a range
of examples; so DuckDB skips most of them when asked about a head, and nearly all for one input."""
_AT_ONCE = 256
"""Fragments that are loaded, and sorted, together."""
_MEMORY = "2GB"
"""What DuckDB may use to write the index."""


@dataclass(frozen=True)
class Change:
    """What catching up did: fragments loaded, and fragments whose rows were dropped.

    damaged: paths of fragments that were left out, because they do not match their checksum.
    """

    loaded: int
    dropped: int
    damaged: list[str]


@contextlib.contextmanager
def reading(root: Path, wait: float = 10.0) -> Iterator[None]:
    """Hold the index against being written while it is attached."""
    with locks.hold(root / LOCK, shared=True, wait=wait, what=f"The index of {root}"):
        yield


def catch_up(root: Path, wait: float = 5.0) -> Change:
    """Bring the index of a store up to date.

    It is made anew if it is missing, of another schema, or not sealed (its writing was cut short),
    and before anything is added, if another program has changed it.
    wait: seconds to wait for readers of the index to end (then BusyError).
    """
    with reading(root):
        usable = (root / FILE).exists() and seal_of(root) is not None
        pending = _pending(root) if usable else None
    if pending is not None and not (pending.new or pending.gone):
        return Change(0, 0, pending.damaged)
    if pending is not None:
        with _writing(root, wait):
            # Looked at again: another process may have caught up meanwhile.
            before = seals.read(root / SEAL)
            if before and unchanged(root) and (pending := _pending(root)) is not None:
                with _opened(root, read_only=False) as con:
                    (root / SEAL).unlink()
                    _apply(con, root, pending.new, pending.gone)
                seals.write(root / SEAL, root / FILE, before)
                return Change(len(pending.new), len(pending.gone), pending.damaged)
    return rebuild(root, wait)


@dataclass(frozen=True)
class _Pending:
    """What the index lacks, the paths of what it holds in vain, and of what is damaged."""

    new: list[Fragment]
    gone: list[str]
    damaged: list[str]


def _pending(root: Path) -> _Pending | None:
    """How the index differs from the fragments on disk; None if it has another schema."""
    with _opened(root, read_only=True) as con:
        tables = con.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        made_by = con.execute("FROM core.made_by").fetchall() if ("made_by",) in tables else []
        if made_by != [(_version(),)]:
            return None
        known = {path for (path,) in con.execute("SELECT path FROM core.fragments").fetchall()}
    found, damaged = committed(root, known)
    new = [f for f in found if f.path not in known]
    return _Pending(new, sorted(known - {f.path for f in found}), damaged)


def _schema() -> str:
    return "\n".join(
        path.read_text("utf-8") for path in resources.sql_files("schema/index").values()
    )


def _version() -> str:
    return f"{files.crc32c(_schema().encode()):08x}"


def rebuild(root: Path, wait: float = 5.0) -> Change:
    """Make the index anew from the fragments and put it in the old one's place.

    Readers that have the old file open keep it.
    """
    found, damaged = committed(root)
    temporary = root / f"{FILE}.new"
    with _writing(root, wait):
        for leaving in (temporary, Path(f"{temporary}.wal")):
            leaving.unlink(missing_ok=True)
        for spilled in (temporary, root / FILE):  # by a writer that was killed
            shutil.rmtree(f"{spilled}.tmp", ignore_errors=True)
        with contextlib.closing(duckdb.connect(str(temporary))) as con:
            con.execute(f"BEGIN;\n{_schema()}\nCOMMIT")  # at once: one sync, not one a comment
            con.execute("CREATE TABLE core.made_by AS SELECT $sum AS schema", {"sum": _version()})
            _apply(con, root, found, [])
        for old in (root / SEAL, Path(f"{root / FILE}.wal")):
            old.unlink(missing_ok=True)
        temporary.rename(root / FILE)
        seals.write(root / SEAL, root / FILE)
    return Change(len(found), 0, damaged)


@contextlib.contextmanager
def _writing(root: Path, wait: float) -> Iterator[None]:
    """Hold the index alone; what keeps it from being written becomes one sentence."""
    try:
        with locks.hold(root / LOCK, wait=wait, what=f"The index of {root}"):
            yield
    except StoreError:
        raise
    except (OSError, duckdb.Error) as error:
        system = refused(error)
        raise StoreError(
            f"The index of {root} cannot be written: {str(error).splitlines()[0]}; "
            f"{files.remedy(system) if system else 'run the same command again'}."
        ) from error


def committed(root: Path, known: Collection[str] = ()) -> tuple[list[Fragment], list[str]]:
    """The fragments that count, and the paths of damaged ones, which do not.

    Of one part the newest counts; `map_stats` of a block only once the block is committed; what
    belongs to a run only with the run's record. known: paths whose rows the index holds already;
    the name carries the checksum, so what was loaded under it is what was committed.
    """
    by_age = sorted(fragments.listing(root), key=lambda f: f.modified)
    newest = {(f.table, f.owner, f.part): f for f in by_age if f.table in TABLES}
    fragments.fetch(root, (f for f in newest.values() if f.path not in known))
    damaged = {
        f.path for f in newest.values() if f.path not in known and not fragments.whole(root, f)
    }
    found = [f for f in newest.values() if f.path not in damaged]
    blocks = {(f.owner, f.part) for f in found if f.table == "blocks"}
    runs = {f.owner for f in found if f.table == "runs"}
    count = [
        f
        for f in found
        if (f.table != "map_stats" or (f.owner, f.part) in blocks)
        and (f.table not in OF_RUNS or f.owner in runs)
    ]
    return sorted(count, key=lambda f: f.path), sorted(damaged)


def sealed(root: Path) -> bool | None:
    """Whether every byte is what the last catching-up left; None when it was cut short.

    Reads the whole file.
    """
    seal = seals.read(root / SEAL)
    return None if seal is None else seal.fits(root / FILE)


def unchanged(root: Path) -> bool | None:
    """Like `sealed`, but a file that no program has written since is taken at its word."""
    seal = seals.read(root / SEAL)
    return None if seal is None else seal.untouched(root / FILE) or seal.fits(root / FILE)


def seal_of(root: Path) -> int | None:
    """A number that stands for the index's content; None while it is being written."""
    return seals.value(root / SEAL)


@contextlib.contextmanager
def _opened(root: Path, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    with opening(root):
        con = duckdb.connect(str(root / FILE), read_only=read_only)
    with contextlib.closing(con), opening(root):
        yield con


@contextlib.contextmanager
def opening(root: Path) -> Iterator[None]:
    """Turn DuckDB's errors about the index file into one sentence."""
    try:
        yield
    except duckdb.Error as error:
        raise explained(root, error) from error


_SYSTEM = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
    "Too many open files in system": errno.ENFILE,
    "Too many open files": errno.EMFILE,
    "Permission denied": errno.EACCES,
    "Read-only file system": errno.EROFS,
    "Input/output error": errno.EIO,
}
"""What DuckDB quotes of the system, with the error's number."""
CORRUPT = "Corrupt database file"
"""What DuckDB says where a block of the index does not match its checksum, in whatever class of error."""
_ELSEWHERE = re.compile(
    "Could not set lock on file|same database file with a different configuration"
    "|Unique file handle conflict"
)


def refused(error: Exception) -> OSError | None:
    """Find the refusal of the system behind an error of DuckDB's; None where there is none."""
    if isinstance(error, OSError):
        return error
    known = (OSError(number, text) for text, number in _SYSTEM.items() if text in str(error))
    return next(known, None)


def explained(root: Path, error: duckdb.Error) -> StoreError:
    """Make one sentence of an error of DuckDB's about the index file.

    BusyError where another program has it, StoreError where the system refuses, else DamageError.
    """
    text = str(error).splitlines()[0]
    if _ELSEWHERE.search(text):
        pid = re.search(r"PID (\d+)", text)
        holder = f"process {pid[1]}" if pid else "another program"
        return BusyError(
            f"The index {root / FILE} is open in {holder}; close it there, and run the same "
            "command again."
        )
    if system := refused(error):
        return StoreError(
            f"The index {root / FILE} cannot be used: {system.strerror}; {files.remedy(system)}, "
            "then run the same command again."
        )
    return DamageError(
        f"The index {root / FILE} cannot be read ({text[:200]}); no data is lost: "
        f"`attnstore --store {root} reindex` makes it anew."
    )


def _apply(
    con: duckdb.DuckDBPyConnection, root: Path, new: list[Fragment], gone: list[str]
) -> None:
    """Load and drop fragments in one transaction, then write it out so that no WAL stays."""
    con.execute(f"SET memory_limit = '{_MEMORY}'")
    con.execute("BEGIN")
    for table in TABLES if gone else ():
        con.execute(
            f"DELETE FROM core.{table} WHERE fragment IN "
            "(SELECT fragment FROM core.fragments WHERE list_contains($gone, path))",
            {"gone": gone},
        )
    con.execute("DELETE FROM core.fragments WHERE list_contains($gone, path)", {"gone": gone})
    highest = con.execute("SELECT coalesce(max(fragment), -1) FROM core.fragments").fetchall()
    number = int(highest[0][0]) + 1
    for table in TABLES:
        _load(con, root, table, [f for f in new if f.table == table], number)
        number += sum(f.table == table for f in new)
    if gone or any(f.table in ("runs", "inputs", "spans") for f in new):
        align(con)
    con.execute("COMMIT")
    con.execute("CHECKPOINT")


def align(con: duckdb.DuckDBPyConnection) -> None:
    """Find the tokens of each span, for runs and annotations that are new; forget those gone."""
    for table in ("span_tokens", "aligned"):
        con.execute(
            f"DELETE FROM core.{table} WHERE inputs_fragment NOT IN (SELECT fragment FROM core.fragments) "
            "OR spans_fragment NOT IN (SELECT fragment FROM core.fragments)"
        )
    con.execute("INSERT INTO core.span_tokens BY NAME FROM core.missing_span_tokens")
    con.execute("INSERT INTO core.aligned FROM core.unaligned")


def _load(
    con: duckdb.DuckDBPyConnection, root: Path, table: str, new: list[Fragment], first: int
) -> None:
    """Insert the rows of one table's new fragments, numbered from `first`."""
    if not new:
        return
    rows = [(first + i, f.path, f.table) for i, f in enumerate(new)]
    con.executemany("INSERT INTO core.fragments VALUES (?, ?, ?)", rows)
    prefix = f"{root}/"
    for at in range(0, len(new), _AT_ONCE):
        con.execute(
            f"INSERT INTO core.{table} BY NAME "
            "SELECT f.fragment, p.* EXCLUDE (filename) "
            "FROM read_parquet($paths, filename = true, union_by_name = true) p "
            f"JOIN core.fragments f ON f.path = substr(p.filename, $skip){_ORDER.get(table, '')}",
            {"paths": [prefix + f.path for f in new[at : at + _AT_ONCE]], "skip": len(prefix) + 1},
        )
