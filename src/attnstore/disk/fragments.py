"""Parquet fragments: append-only rows, the truth behind every table of the index.

`fragments/<table>/<owner>/<part>.<crc32c>.parquet`; the owner is a run, a model or a dataset.
The name carries the checksum of the content, so one flipped byte anywhere is seen. A fragment is
written under a temporary name, fsynced and renamed: it exists or it does not. A new fragment of
the same part replaces the older one.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import polars as pl

from attnstore.errors import DamageError, StoreError

FOLDER = "fragments"


@dataclass(frozen=True)
class Fragment:
    """One fragment on disk. path is relative to the store; modified in nanoseconds."""

    path: str
    table: str
    owner: str
    part: str
    crc32c: int
    bytes: int
    modified: int


def crc32c(data: bytes | memoryview) -> int:
    """The CRC-32C of some bytes."""
    return int(google_crc32c.value(bytes(data) if isinstance(data, memoryview) else data))


def file_crc32c(path: Path) -> int:
    """The CRC-32C of a whole file, read in pieces of 1 MiB."""
    value = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            value = google_crc32c.extend(value, piece)
    return int(value)


def whole(root: Path, fragment: Fragment) -> bool:
    """Whether a fragment's content is what its name says; a file that is gone is not."""
    try:
        return file_crc32c(root / fragment.path) == fragment.crc32c
    except OSError:
        return False


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, data: bytes) -> None:
    """Write a file so that it exists whole or not at all, and survives a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(
            f"Cannot write {path}: {error.strerror or error}; make room or choose a folder "
            "that can be written, then run the same command again."
        ) from error


def write(root: Path, table: str, owner: str, part: str, rows: pl.DataFrame) -> Path:
    """Commit rows as the fragment (table, owner, part); returns its path."""
    buffer = io.BytesIO()
    rows.write_parquet(buffer, compression="zstd", statistics=False)
    data = buffer.getvalue()
    folder = root / FOLDER / table / owner
    path = folder / f"{part}.{crc32c(data):08x}.parquet"
    write_file(path, data)
    for older in folder.glob(f"{part}.*.parquet"):
        if older != path:
            older.unlink(missing_ok=True)
    return path


def listing(root: Path, table: str | None = None, owner: str | None = None) -> list[Fragment]:
    """The fragments on disk, ordered by path; of one table, and of one owner, if named."""
    start = root / FOLDER / (table or "") / (owner or "")
    skip = len(str(root / FOLDER)) - len(FOLDER)
    found = [_describe(entry, skip) for entry in _walk(start) if entry.name.endswith(".parquet")]
    return sorted((f for f in found if owner is None or f.owner == owner), key=lambda f: f.path)


def _walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        elif not entry.name.startswith("."):
            yield entry


def _describe(entry: os.DirEntry[str], skip: int) -> Fragment:
    """The fragment of a file. skip: characters of its path before the part inside the store."""
    path, stat = entry.path[skip:], entry.stat()
    part, crc, _ = [*entry.name.rsplit(".", 2), "", ""][:3]
    try:
        value = int(crc, 16)
    except ValueError:
        value = -1  # a foreign file: `verify` names it
    folders = path.split("/")
    table, owner = folders[1], "/".join(folders[2:-1])
    return Fragment(path, table, owner, part, value, stat.st_size, stat.st_mtime_ns)


def read(root: Path, fragment: Fragment) -> pl.DataFrame:
    """The rows of a fragment, its checksum compared first (DamageError)."""
    try:
        data = (root / fragment.path).read_bytes()
    except FileNotFoundError as error:
        raise DamageError(f"{fragment.path} is gone from {root}; it was just listed.") from error
    if crc32c(data) != fragment.crc32c:
        raise DamageError(
            f"{fragment.path} does not match its checksum: damaged {fragment.table} of "
            f"{fragment.owner}, part {fragment.part}; ingest it again."
        )
    return pl.read_parquet(io.BytesIO(data))


def read_one(root: Path, table: str, owner: str) -> pl.DataFrame | None:
    """All rows that an owner has in a table, or None if it has no fragment there."""
    frames = [read(root, fragment) for fragment in listing(root, table, owner)]
    return pl.concat(frames) if frames else None


def remove(root: Path, table: str, owner: str) -> None:
    """Delete an owner's fragments of one table (not those of owners below it)."""
    for fragment in listing(root, table, owner):
        (root / fragment.path).unlink(missing_ok=True)
    prune(root / FOLDER / table / owner)


def prune(folder: Path) -> None:
    """Remove a folder and its parents as far as they are empty of everything but leavings."""
    for leaving in folder.glob(".*.tmp"):
        leaving.unlink(missing_ok=True)
    while folder.is_dir() and not any(folder.iterdir()):
        shutil.rmtree(folder)
        folder = folder.parent
