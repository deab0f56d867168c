"""Parquet fragments: append-only rows, the truth behind every table of the index.

`fragments/<table>/<owner>/<part>.<crc32c>.parquet`; the owner is a run, a model or a dataset.
The name carries the checksum of the content, so one flipped byte anywhere is detected. A fragment is
written under a temporary name, fsynced and renamed: it exists or it does not. A new fragment of
the same part replaces the older one.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from attnstore.errors import DamageError
from attnstore.storage.backend import Backend, File
from attnstore.storage.files import crc32c, file_crc32c
from attnstore.storage.tables import tables

FOLDER = "fragments"
_FETCHED_AT_ONCE = 16
_CRC = re.compile("[0-9a-f]{8}")
_COUNTED_AT_ONCE = 1024
_FILE = "the file of a row"


@dataclass(frozen=True)
class Fragment:
    """One fragment. path is relative to the store; modified in nanoseconds."""

    path: str
    table: str
    owner: str
    part: str
    crc32c: int
    bytes: int
    modified: int


def whole(backend: Backend, fragment: Fragment) -> bool:
    """Return True if a fragment's content matches its checksum; False if the file is gone."""
    try:
        return file_crc32c(local(backend, fragment)) == fragment.crc32c
    except OSError:
        return False


def write(backend: Backend, table: str, owner: str, part: str, rows: pl.DataFrame) -> str:
    """Commit rows as the fragment (table, owner, part); returns its path in the store."""
    buffer = io.BytesIO()
    rows.write_parquet(buffer, compression="zstd", statistics=False)
    data = buffer.getvalue()
    folder = f"{FOLDER}/{table}/{owner}"
    path = f"{folder}/{part}.{crc32c(data):08x}.parquet"
    earlier = backend.starting(
        f"{folder}/{part}."
    )  # before: of two writers at once, both must not go
    backend.commit(path, data)
    for older in earlier:
        if (
            older.endswith(".parquet")
            and older.rsplit(".", 2)[0] == f"{folder}/{part}"
            and older != path
        ):
            backend.remove(older)
    return path


def listing(backend: Backend, table: str | None = None, owner: str | None = None) -> list[Fragment]:
    """List the fragments of a store by path; of one table, and of one owner, if named."""
    folder = "/".join((FOLDER, *(part for part in (table, owner) if part)))
    files = backend.files(folder)
    fragments = [_describe(file) for file in files if file.path.endswith(".parquet")]
    return sorted((f for f in fragments if owner is None or f.owner == owner), key=lambda f: f.path)


def _describe(file: File) -> Fragment:
    _, table, *owner = file.path.split("/")
    name = owner.pop() if owner else table
    part, crc, _ = [*name.rsplit(".", 2), "", ""][:3]
    inside = bool(owner) and not {"", ".", ".."} & {*owner, part}
    # A foreign file, which `verify` names; in a bucket even its path may be anything.
    value = int(crc, 16) if inside and _CRC.fullmatch(crc) else -1
    return Fragment(file.path, table, "/".join(owner), part, value, file.bytes, file.modified)


def local(backend: Backend, fragment: Fragment) -> Path:
    """Return the file of a fragment on this machine; of one in a bucket a copy, fetched again if damaged."""
    file = backend.local(fragment.path)
    if not backend.is_local and file_crc32c(file) != fragment.crc32c:
        file.unlink(missing_ok=True)
        file = backend.local(fragment.path)
    return file


def fetch(backend: Backend, wanted: Iterable[Fragment]) -> None:
    """Fetch fragments of a bucket to this machine in parallel; skip those that are gone."""
    if backend.is_local:
        return

    def one(fragment: Fragment) -> None:
        with contextlib.suppress(FileNotFoundError):
            backend.local(fragment.path)

    with ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
        for _ in pool.map(one, wanted):
            pass


def read(backend: Backend, fragment: Fragment) -> pl.DataFrame:
    """Read the rows of a fragment. Raises DamageError (its checksum differs, or no reader takes it)."""
    try:
        data = local(backend, fragment).read_bytes()
    except FileNotFoundError as error:
        raise DamageError(
            f"{fragment.path} is gone from {backend.name}; it was just listed."
        ) from error
    if crc32c(data) != fragment.crc32c:
        raise DamageError(
            f"{fragment.path} does not match its checksum: damaged {fragment.table} of "
            f"{fragment.owner}, part {fragment.part}; ingest it again."
        )
    try:
        rows = pl.read_parquet(io.BytesIO(data))
    except pl.exceptions.PolarsError as error:
        raise DamageError(
            f"{fragment.path} is whole and no Parquet file that can be read "
            f"({str(error).splitlines()[0][:160]}): another program wrote it; move it away and make "
            "it again (`attnstore verify` says how)."
        ) from error
    table = tables().get(fragment.table)
    for column in table.needed if table else ():
        if column not in rows.columns or rows[column].null_count():
            raise DamageError(
                f"{fragment.path} lacks {column} in some of its rows; a later version or another "
                "program wrote it: upgrade attnstore, or move it away and make it again (`attnstore "
                "verify` says how)."
            )
    return rows


def sound(backend: Backend, fragment: Fragment) -> bool:
    """Return True if a fragment can be read and has the columns that its table needs."""
    try:
        read(backend, fragment)
    except DamageError:
        return False
    return True


def read_together(backend: Backend, wanted: Sequence[Fragment]) -> dict[str, pl.DataFrame]:
    """Read the rows of fragments of one table in one pass, by path.

    Only files with rows are in the result; the caller checks checksums. Raises PolarsError if
    their columns differ.
    """
    if not wanted:
        return {}
    local = {str(backend.local(f.path)): f.path for f in wanted}
    read = pl.read_parquet(
        list(local), glob=False, hive_partitioning=False, include_file_paths=_FILE
    )
    parts = read.partition_by(_FILE, as_dict=True, include_key=False)
    return {local[str(file)]: rows for (file,), rows in parts.items()}


def counts(backend: Backend, paths: Sequence[str]) -> dict[str, int]:
    """Count the rows of fragments, by path; only the ends of the files are read."""
    rows_of = dict.fromkeys(paths, 0)
    for _, group in itertools.groupby(sorted(paths), key=lambda path: path.split("/")[1]):
        of_table = list(group)
        for at in range(0, len(of_table), _COUNTED_AT_ONCE):
            batch = of_table[at : at + _COUNTED_AT_ONCE]
            local = {str(backend.local(path)): path for path in batch}
            scan = pl.scan_parquet(
                list(local), glob=False, hive_partitioning=False, include_file_paths=_FILE,
                missing_columns="insert", extra_columns="ignore",
            )  # fmt: skip
            rows = scan.select(_FILE).group_by(_FILE).len().collect()
            rows_of |= {local[file]: n for file, n in rows.iter_rows()}
    return rows_of


def read_one(backend: Backend, table: str, owner: str) -> pl.DataFrame | None:
    """Read all rows that an owner has in a table; None if it has no fragment there."""
    frames = [read(backend, fragment) for fragment in listing(backend, table, owner)]
    return pl.concat(frames, how="diagonal_relaxed") if frames else None


def discard(backend: Backend, fragment: Fragment) -> None:
    """Delete one fragment."""
    backend.remove(fragment.path)


def remove(backend: Backend, table: str, owner: str) -> None:
    """Delete an owner's fragments of one table (not those of owners below it)."""
    owned = listing(backend, table, owner)
    if len(owned) == len(backend.files(f"{FOLDER}/{table}/{owner}")):
        backend.remove_below(f"{FOLDER}/{table}/{owner}")  # including files of a killed writer
        return
    for fragment in owned:
        backend.remove(fragment.path)


def remove_damaged(backend: Backend, table: str, owner: str) -> None:
    """Delete an owner's fragments of one table that do not match their checksum.

    Use it for records that cannot be recomputed and that nothing else needs.
    """
    for fragment in listing(backend, table, owner):
        if not whole(backend, fragment):
            discard(backend, fragment)
