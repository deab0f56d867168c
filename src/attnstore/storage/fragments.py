"""Parquet fragments: append-only rows, the truth behind every table of the index.

`fragments/<table>/<owner>/<part>.<crc32c>.parquet`; the owner is a run, a model or a dataset.
The name carries the checksum of the content, so one flipped byte anywhere is detected. A fragment is
written under a temporary name, fsynced and renamed: it exists or it does not. A new fragment of
the same part replaces the older one.

Small fragments may lie together in bundles (`bundles`). Each is listed under the path that it had
alone, and read the same way; one that lies alone hides a bundled one of the same part.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import polars as pl

from attnstore.errors import DamageError, StoreError
from attnstore.storage import bundles
from attnstore.storage.backend import Backend, File
from attnstore.storage.bundles import Member
from attnstore.storage.files import crc32c, file_crc32c
from attnstore.storage.snapshot import fresh
from attnstore.storage.tables import tables

FOLDER = "fragments"
_FETCHED_AT_ONCE = 16
_CRC = re.compile("[0-9a-f]{8}")
_COUNTED_AT_ONCE = 1024
_FILE = "the file of a row"
_LISTED_AGAIN = 5
"""Listings to try while bundles are replaced."""


@dataclass(frozen=True)
class Fragment:
    """One fragment. path is relative to the store; modified in nanoseconds.

    bundle: path of the bundle that holds it, empty for one that lies alone; at: where it begins there.
    """

    path: str
    table: str
    owner: str
    part: str
    crc32c: int
    bytes: int
    modified: int
    bundle: str = ""
    at: int = 0


def whole(backend: Backend, fragment: Fragment) -> bool:
    """Return True if a fragment's content matches its checksum; False if the file is gone."""
    try:
        if not fragment.bundle:
            with contextlib.suppress(FileNotFoundError):  # merged or deleted since it was listed
                return file_crc32c(_local(backend, fragment)) == fragment.crc32c
        return crc32c(data(backend, fragment)) == fragment.crc32c
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
    """List the fragments of a store by path; of one table, and of one owner, if named.

    A bundle that is damaged is listed itself, as a fragment of the table `bundles.FOLDER`, unless one
    owner's are listed.
    """
    for _ in range(_LISTED_AGAIN):
        try:
            return _listing(backend, table, owner)
        except FileNotFoundError:  # a bundle was replaced since it was listed
            backend = fresh(backend)
    raise StoreError(
        f"The fragments of {backend.name} are being merged again and again; run the same command "
        "when that has ended."
    )


def _listing(backend: Backend, table: str | None, owner: str | None) -> list[Fragment]:
    files = backend.files("/".join((FOLDER, *(part for part in (table, owner) if part))))
    if table and owner:
        files = [*files, *backend.files(bundles.folder(table))]
    described = [_describe(file) for file in files if file.path.endswith(".parquet")]
    alone = [f for f in described if owner in (None, f.owner) and f.owner != bundles.FOLDER]
    if len(described) > len(alone):
        parts = {(f.table, f.owner, f.part) for f in alone}
        for fragment in _bundled(
            backend, [f for f in described if f.owner == bundles.FOLDER], owner
        ):
            if (part := (fragment.table, fragment.owner, fragment.part)) not in parts:
                parts.add(part)
                alone.append(fragment)
    return sorted(alone, key=lambda f: f.path)


def _bundled(backend: Backend, listed: list[Fragment], owner: str | None) -> list[Fragment]:
    """List the fragments in bundles, the newest first."""
    found = []
    for bundle in listed:
        file = File(bundle.path, bundle.bytes, bundle.modified)
        try:
            present = bundles.members(backend, file)
        except DamageError:
            if owner is None:
                found.append(replace(bundle, table=bundles.FOLDER, owner="", crc32c=-1))
            continue
        found += [
            Fragment(
                f"{FOLDER}/{bundle.table}/{m.name}", bundle.table, m.owner, m.part, m.crc32c,
                m.bytes, m.modified, bundle.path, m.at,
            )
            for m in present
            if owner in (None, m.owner)
        ]  # fmt: skip
    return sorted(found, key=lambda f: -f.modified)


def _describe(file: File) -> Fragment:
    _, table, *owner = file.path.split("/")
    name = owner.pop() if owner else table
    part, crc, _ = [*name.rsplit(".", 2), "", ""][:3]
    inside = bool(owner) and not {"", ".", ".."} & {*owner, part}
    # A foreign file, which `verify` names; in a bucket even its path may be anything.
    value = int(crc, 16) if inside and _CRC.fullmatch(crc) else -1
    return Fragment(file.path, table, "/".join(owner), part, value, file.bytes, file.modified)


def _local(backend: Backend, fragment: Fragment) -> Path:
    """Return the file of a fragment on this machine; of one in a bucket a copy, fetched again if damaged."""
    file = backend.local(fragment.path)
    if not backend.is_local and file_crc32c(file) != fragment.crc32c:
        file.unlink(missing_ok=True)
        file = backend.local(fragment.path)
    return file


def data(backend: Backend, fragment: Fragment) -> bytes:
    """Read the bytes of a fragment, wherever it lies now. Raises FileNotFoundError if it is gone."""
    for _ in range(_LISTED_AGAIN):
        try:
            return _stored(backend, fragment)
        except FileNotFoundError:  # merged since it was listed, or taken along into another bundle
            listed = listing(fresh(backend), fragment.table, fragment.owner)
            again = [f for f in listed if f.path == fragment.path and f != fragment]
            if not again:
                raise
            fragment = again[0]
    return _stored(backend, fragment)


def _stored(backend: Backend, fragment: Fragment) -> bytes:
    if fragment.bundle:
        return bundles.read(backend, fragment.bundle, _member(fragment))
    return _local(backend, fragment).read_bytes()


def _member(fragment: Fragment) -> Member:
    return Member(
        fragment.owner,
        fragment.part,
        fragment.crc32c,
        fragment.bytes,
        fragment.modified,
        fragment.at,
    )


def stored_crc32c(backend: Backend, fragment: Fragment) -> int | None:
    """Compute the CRC-32C of a fragment as it is stored; None where there is none.

    One that lies alone in a bucket is read there, not from the copy of this machine.
    """
    if not fragment.bundle and (value := backend.crc32c(fragment.path)) is not None:
        return value
    try:
        return crc32c(data(backend, fragment))
    except FileNotFoundError:
        return None


def source(backend: Backend, fragment: Fragment) -> Path | io.BytesIO:
    """Return what Polars can read the columns of a fragment from."""
    if not fragment.bundle:
        with contextlib.suppress(FileNotFoundError):
            if (file := _local(backend, fragment)).exists():
                return file
    return io.BytesIO(data(backend, fragment))


def fetch(backend: Backend, wanted: Iterable[Fragment]) -> None:
    """Fetch fragments of a bucket to this machine in parallel; skip those that are gone."""
    if backend.is_local:
        return

    def one(path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            backend.local(path)

    with ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
        for _ in pool.map(one, {f.bundle or f.path for f in wanted}):
            pass


def read(backend: Backend, fragment: Fragment) -> pl.DataFrame:
    """Read the rows of a fragment. Raises DamageError (its checksum differs, or no reader takes it)."""
    try:
        content = data(backend, fragment)
    except FileNotFoundError as error:
        raise DamageError(
            f"{fragment.path} is gone from {backend.name}; it was just listed."
        ) from error
    if crc32c(content) != fragment.crc32c:
        raise DamageError(
            f"{fragment.path} does not match its checksum: damaged {fragment.table} of "
            f"{fragment.owner}, part {fragment.part}; ingest it again."
        )
    try:
        rows = pl.read_parquet(io.BytesIO(content))
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
    together = [f for f in wanted if not f.bundle]
    rows_of = {f.path: pl.read_parquet(io.BytesIO(data(backend, f))) for f in wanted if f.bundle}
    if not together:
        return rows_of
    local = {str(backend.local(f.path)): f.path for f in together}
    read = pl.read_parquet(
        list(local), glob=False, hive_partitioning=False, include_file_paths=_FILE
    )
    parts = read.partition_by(_FILE, as_dict=True, include_key=False)
    return rows_of | {local[str(file)]: rows for (file,), rows in parts.items()}


def counts(backend: Backend, wanted: Sequence[Fragment]) -> dict[str, int]:
    """Count the rows of fragments, by path; of those that lie alone only the ends are read."""
    rows_of = {
        f.path: pl.scan_parquet(io.BytesIO(data(backend, f))).select(pl.len()).collect().item()
        if f.bundle
        else 0
        for f in wanted
    }
    alone = sorted(f.path for f in wanted if not f.bundle)
    for _, group in itertools.groupby(alone, key=lambda path: path.split("/")[1]):
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


def discard(backend: Backend, *gone: Fragment) -> None:
    """Delete fragments, and what bundles hold of their parts."""
    for fragment in gone:
        backend.remove(fragment.path)
    by_table: dict[str, set[tuple[str, str]]] = {}
    for fragment in gone:
        by_table.setdefault(fragment.table, set()).add((fragment.owner, fragment.part))
    for table, parts in by_table.items():
        bundles.take_out(backend, table, partial(_is_of, parts))


def _is_of(parts: set[tuple[str, str]], member: Member) -> bool:
    return (member.owner, member.part) in parts


def remove(backend: Backend, table: str, owner: str) -> None:
    """Delete an owner's fragments of one table (not those of owners below it)."""
    alone = [f for f in listing(backend, table, owner) if not f.bundle]
    if len(alone) == len(backend.files(f"{FOLDER}/{table}/{owner}")):
        backend.remove_below(f"{FOLDER}/{table}/{owner}")  # including files of a killed writer
    else:
        for fragment in alone:
            backend.remove(fragment.path)
    bundles.take_out(backend, table, lambda member: member.owner == owner)


def remove_damaged(backend: Backend, table: str, owner: str) -> None:
    """Delete an owner's fragments of one table that do not match their checksum.

    Use it for records that cannot be recomputed and that nothing else needs.
    """
    discard(backend, *(f for f in listing(backend, table, owner) if not whole(backend, f)))


def set_aside(backend: Backend, fragment: Fragment, to: str) -> None:
    """Move a fragment to a path of the store that is no fragment's. Raises StoreError."""
    if fragment.bundle:
        backend.write(to, data(backend, fragment))
        discard(backend, fragment)
    else:
        backend.move(fragment.path, to)
