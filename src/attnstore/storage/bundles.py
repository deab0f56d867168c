"""Bundles: many small fragments of one table in one file, each with the bytes and the name it had alone.

    fragments/<table>/~bundles/<bytes>.<crc32c>.parquet

A store that grows by many ingestions has many small files, and each costs time to list, to open and,
in a bucket, to fetch. `attnstore compact` puts them into bundles. A bundle begins with its directory
(owner, part, checksum, bytes and time of each member), after which lie the members as they were. So
a member is the same fragment in a bundle as alone: `fragments` lists it under the same path, and one
that lies in two places for a moment counts once. A bundle ends with a Parquet footer over the rows of
all (`parquet_footer`), so other programs read it as one file.

A bundle is never changed. To take a member out, the others are written as a new bundle, then the old
one is deleted, under a lock that every change of bundles holds.
"""

from __future__ import annotations

import contextlib
import json
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from attnstore.errors import DamageError, StoreError
from attnstore.storage import location, locks, parquet_footer
from attnstore.storage.backend import Backend, File
from attnstore.storage.files import crc32c

FOLDER = "~bundles"
"""Beside the owners of a table; no owner's name begins with `~`. It is listed after them."""
FULL = 32 << 20
"""Bytes of a bundle at most."""
_HEAD = struct.Struct("<4sII")
"""The magic of Parquet, then the bytes of the directory and their CRC-32C."""
_COPIED = 60_000_000_000
"""Nanoseconds between the making of a bundle and its file's time that show a copy without times."""


@dataclass(frozen=True)
class Member:
    """A fragment in a bundle. at: where its bytes begin; modified: when it was written, in nanoseconds."""

    owner: str
    part: str
    crc32c: int
    bytes: int
    modified: int
    at: int = 0

    @property
    def name(self) -> str:
        """Return its path below the folder of its table."""
        return f"{self.owner}/{self.part}.{self.crc32c:08x}.parquet"


Gone = Callable[[Member], bool]


def folder(table: str) -> str:
    """Return the folder of a table's bundles, relative to the store."""
    return f"fragments/{table}/{FOLDER}"


@contextlib.contextmanager
def lock(backend: Backend) -> Iterator[None]:
    """Hold the lock of everything that changes bundles."""
    label = f"What merges fragments in {backend.name}"
    with locks.hold(locks.path_of(backend, "bundles"), wait=60.0, what=label):
        yield


def listing(backend: Backend, table: str) -> list[File]:
    """List the bundles of a table by path."""
    files = backend.files(folder(table))
    return sorted((f for f in files if f.path.endswith(".parquet")), key=lambda f: f.path)


def sum_of(bundle: File) -> int:
    """Return the CRC-32C in the name of a bundle; -1 where it has none."""
    try:
        return int(bundle.path.rsplit(".", 2)[1], 16)
    except (IndexError, ValueError):
        return -1


def write(backend: Backend, table: str, members: Sequence[tuple[Member, bytes]]) -> str:
    """Write members of one Parquet schema as a bundle and read it back; returns its path.

    Raises StoreError if it cannot be written, or reads back differently.
    """
    data = _bundle(members)
    value = crc32c(data)
    path = f"{folder(table)}/{len(data)}.{value:08x}.parquet"
    backend.commit(path, data)
    if backend.crc32c(path) != value:
        raise StoreError(
            f"{path} reads back differently from {backend.name} than it was written; nothing was "
            "deleted: check that storage, and run the same command again."
        )
    return path


def _bundle(members: Sequence[tuple[Member, bytes]]) -> bytes:
    rows = [[m.owner, m.part, m.crc32c, m.bytes, m.modified] for m, _ in members]
    directory = json.dumps({"made": time.time_ns(), "members": rows}).encode()
    out = bytearray(_HEAD.pack(parquet_footer.MAGIC, len(directory), crc32c(directory)) + directory)
    whole = []
    for member, data in members:
        if crc32c(data) == member.crc32c:  # else its bytes stay, and the footer leaves them out
            whole.append((len(out), data))
        out += data
    out += parquet_footer.joined(whole) if whole else b""
    return bytes(out)


def members(backend: Backend, bundle: File) -> list[Member]:
    """Read the directory of a bundle.

    Raises FileNotFoundError (it was replaced meanwhile), DamageError.
    """
    made, found = _directory(_local(backend, bundle.path), bundle.bytes, bundle.modified)
    if abs(bundle.modified - made) < _COPIED:
        return found
    # Copied without its times: a member then counts as written when it was copied, as a file would.
    return [Member(m.owner, m.part, m.crc32c, m.bytes, bundle.modified, m.at) for m in found]


def _local(backend: Backend, path: str) -> Path:
    """Return the file of a bundle on this machine; a copy that does not begin with its directory is fetched again."""
    file = backend.local(path)
    if not backend.is_local and not _begins(file):
        file.unlink(missing_ok=True)
        file = backend.local(path)
    return file


@lru_cache(maxsize=1024)
def _directory(file: Path, size: int, modified: int) -> tuple[int, list[Member]]:
    """Read when a bundle was made, and its members; the file is the one of this size and time."""
    data = _begins(file)
    if data is None:
        raise DamageError(
            f"{file} is damaged: a bundle of fragments whose directory does not match its checksum; "
            "bring it back from a copy, or move it away and make again what it held."
        )
    document = json.loads(data)
    found, at = [], _HEAD.size + len(data)
    for owner, part, value, n_bytes, written in document["members"]:
        found.append(Member(owner, part, value, n_bytes, written, at))
        at += n_bytes
    return document["made"], found


def _begins(file: Path) -> bytes | None:
    """Read the directory of a bundle; None where it does not match its checksum."""
    with file.open("rb") as opened:
        head = opened.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        magic, size, value = _HEAD.unpack(head)
        data = opened.read(size) if magic == parquet_footer.MAGIC and size < FULL else b""
    return data if data and crc32c(data) == value else None


def read(backend: Backend, path: str, member: Member) -> bytes:
    """Read the bytes of a member as they are stored. Raises FileNotFoundError."""
    data = _piece(backend, path, member)
    if not backend.is_local and crc32c(data) != member.crc32c:  # the copy here may be damaged
        backend.local(path).unlink(missing_ok=True)
        data = _piece(backend, path, member)
    return data


def _piece(backend: Backend, path: str, member: Member) -> bytes:
    with backend.local(path).open("rb") as file:
        file.seek(member.at)
        return file.read(member.bytes)


def any_made(backend: Backend) -> bool:
    """Return True if the store may hold bundles; one whose mark is damaged or missing may."""
    try:
        return location.version(backend) >= location.WITH_BUNDLES
    except (FileNotFoundError, DamageError):
        return True


def take_out(backend: Backend, table: str, gone: Gone) -> None:
    """Delete members of a table's bundles, under the lock. Raises StoreError."""
    if any_made(backend):
        with lock(backend):
            take_out_locked(backend, table, gone)


def take_out_locked(backend: Backend, table: str, gone: Gone, besides: Sequence[str] = ()) -> None:
    """Do the same where the caller holds the lock; `besides` are paths of bundles that stay."""
    for bundle in listing(backend, table):
        with contextlib.suppress(DamageError):  # `verify` names it; it is not listed
            present = members(backend, bundle)
            kept = [m for m in present if not gone(m)]
            if bundle.path in besides or len(kept) == len(present):
                continue
            if kept:
                write(backend, table, [(m, read(backend, bundle.path, m)) for m in kept])
            backend.remove(bundle.path)
