"""The protocol of a store's files: the operations that a folder or an object store offers.

Nothing in a store is changed in place: a file is written whole or not at all, read whole, and
identified by its checksum. `folder` and `s3` implement the protocol; `location` makes one from a
path or an address, and passes it to everything above.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True)
class File:
    """A file of a store. path: relative to the store; modified: in nanoseconds."""

    path: str
    bytes: int
    modified: int


@runtime_checkable
class Backend(Protocol):
    """The files of a store; paths are relative to it, with slashes."""

    @property
    def name(self) -> str:
        """The path or the address of the store, for messages."""

    @property
    def root(self) -> Path:
        """The folder of this machine with the index, the locks and local files of the store."""

    @property
    def is_local(self) -> bool:
        """True if the files lie in `root`, so that reading every byte takes seconds."""

    def entries(self) -> list[str]:
        """List the entries that prevent this location from becoming a new store."""

    def files(self, folder: str) -> list[File]:
        """List every file below a folder, in any order; none where there is no such folder."""

    def starting(self, start: str) -> list[str]:
        """List the paths that begin with `start`, a folder and a part of a name."""

    def read(self, path: str) -> bytes:
        """Read a whole file. Raises FileNotFoundError, StoreError."""

    def write(self, path: str, data: bytes) -> None:
        """Write a whole file, replacing an existing one. Raises StoreError."""

    def commit(self, path: str, data: bytes) -> None:
        """Write a file whose path names its content; a second writer changes nothing."""

    def temporary(self, path: str) -> Path:
        """Name a hidden file of this machine to write in pieces, for `adopt`."""

    def adopt(self, file: Path, path: str) -> None:
        """Put a `temporary` file, written and fsynced, at `path`."""

    def crc32c(self, path: str) -> int | None:
        """Compute the CRC-32C of a file as stored; None where there is none."""

    def settled(self, paths: list[str]) -> tuple[list[int], int]:
        """Read back files just written to one folder: their CRC-32C, and their total bytes."""

    def move(self, path: str, to: str) -> None:
        """Give a file another path; does nothing if it is gone. Raises StoreError."""

    def remove(self, path: str) -> None:
        """Delete a file; does nothing if it is gone. Raises StoreError."""

    def remove_below(self, folder: str) -> None:
        """Delete every file below a folder. Raises StoreError."""

    def local(self, path: str) -> Path:
        """Return a file of this machine with the content of a file that is written once."""

    def arrays(self, folder: str) -> dict[str, Any]:
        """Return tensorstore's `kvstore` of a folder."""

    def leased(self, path: str, wait: float, what: str) -> AbstractContextManager[None]:
        """Hold a lock of the store against other machines for the length of a block.

        Args:
            path: of the lock, in the store.
            wait: seconds to try.
            what: name of the locked thing, for the error.

        Raises:
            BusyError: another machine holds it.
        """

    def leased_elsewhere(self, path: str) -> bool:
        """Return True if another machine seems to hold a lock of the store."""

    def require_hold(self) -> None:
        """Refuse to write if this process has lost one of its locks. Raises BusyError."""
