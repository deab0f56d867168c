"""Atomic writes and checksums of local files, and the next step when they fail."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from attnstore.errors import StoreError


def crc32c(data: bytes | memoryview) -> int:
    """Compute the CRC-32C of some bytes."""
    return int(google_crc32c.value(bytes(data) if isinstance(data, memoryview) else data))


def file_crc32c(path: Path) -> int:
    """Compute the CRC-32C of a whole file, read in pieces of 1 MiB."""
    value = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            value = google_crc32c.extend(value, piece)
    return int(value)


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def temporary_of(path: Path) -> Path:
    """Return a unique hidden name beside `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def write_file(path: Path, data: bytes) -> None:
    """Write a file so that it exists whole or not at all, and survives a power cut."""
    temporary = temporary_of(path)
    try:
        with _opened(temporary) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StoreError(
            f"Cannot write {path}: {error.strerror or error}; {remedy(error)}, then run the same "
            "command again."
        ) from error


def _opened(path: Path) -> BinaryIO:
    """Make a file and its folder, which another process may delete while it is empty."""
    for _ in range(_TRIES):
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return path.open("wb")
    return path.open("wb")


_TRIES = 10
_REMEDIES = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room within the quota of that disk",
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`)",
    errno.EMFILE: "close some files or raise the limit on open files (`ulimit -n`)",
    errno.ENFILE: "close some programs: the system has too many files open",
    errno.ENAMETOOLONG: "choose a shorter name or folder",
    errno.EEXIST: "choose another folder: a file stands in its way",
    errno.ENOTDIR: "choose another folder: a file stands in its way",
    errno.EIO: "check that disk, which reports an error",
    errno.ENOMEM: "free some memory",
}
"""The next step for an operation that the system refused, by its error number."""


def remedy(error: OSError) -> str:
    """Name the next step that fits the cause of an error, as the end of a sentence."""
    fallback = "make that folder writable or choose another one"
    return _REMEDIES.get(error.errno or 0, fallback)
