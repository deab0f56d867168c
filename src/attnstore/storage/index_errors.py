"""DuckDB's errors about the index file, each as one sentence with the next step."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator

import duckdb

from attnstore.errors import BusyError, DamageError, StoreError
from attnstore.storage import files
from attnstore.storage.backend import Backend

FILE = "index.duckdb"


@contextlib.contextmanager
def opening(backend: Backend) -> Iterator[None]:
    """Turn DuckDB's errors about the index file into one sentence."""
    try:
        yield
    except duckdb.Error as error:
        raise explained(backend, error) from error


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
"""Texts of the system that DuckDB quotes, with their error numbers."""
CORRUPT = "Corrupt database file"
"""Text of DuckDB's error, of any class, about a block that does not match its checksum."""
_ELSEWHERE = re.compile(
    "Could not set lock on file|same database file with a different configuration"
    "|Unique file handle conflict"
)


def refused(error: Exception) -> OSError | None:
    """Find the system error behind an error of DuckDB; None where there is none."""
    if isinstance(error, OSError):
        return error
    causes = (OSError(number, text) for text, number in _SYSTEM.items() if text in str(error))
    return next(causes, None)


def explained(backend: Backend, error: duckdb.Error) -> StoreError:
    """Make one sentence of an error of DuckDB's about the index file.

    BusyError where another program has it, StoreError where the system refuses, else DamageError.
    """
    text = str(error).splitlines()[0]
    if _ELSEWHERE.search(text):
        pid = re.search(r"PID (\d+)", text)
        holder = f"process {pid[1]}" if pid else "another program"
        return BusyError(
            f"The index {backend.root / FILE} is open in {holder}; close it there, and run the same "
            "command again."
        )
    if system := refused(error):
        return StoreError(
            f"The index {backend.root / FILE} cannot be used: {system.strerror}; {files.remedy(system)}, "
            "then run the same command again."
        )
    return DamageError(
        f"The index {backend.root / FILE} cannot be read ({text[:200]}); no data is lost: "
        f"`attnstore --store {backend.root} reindex` rebuilds it."
    )
