"""Where files of a store can be copied from and to, by their path in the store.

A `Place` reads and writes whole files and tells the checksum of one; a folder is one. Another kind
of storage needs these three methods and nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from attnstore import store as stores
from attnstore.disk import fragments, index, locks
from attnstore.errors import BusyError, StoreError


class Place(Protocol):
    """Somewhere that holds the files of a store. name: as people write it."""

    @property
    def name(self) -> str:
        """What to call it in a sentence."""

    def paths(self) -> list[str]:
        """Every file of `fragments`, relative to the store."""

    def read(self, path: str) -> bytes:
        """A whole file. Raises StoreError."""

    def write(self, path: str, data: bytes) -> None:
        """Write a file whole or not at all. Raises StoreError."""

    def crc32c(self, path: str) -> int | None:
        """The CRC-32C of a file as it lies there; None where there is none."""

    def receiving(self, runs: list[str]) -> contextlib.AbstractContextManager[None]:
        """Hold it for the length of a copy of these runs; what it is to receive is then readable."""


class Folder:
    """A store in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.root)

    def paths(self) -> list[str]:
        """Every fragment."""
        return [f.path for f in fragments.listing(self.root)]

    def read(self, path: str) -> bytes:
        """A whole file."""
        try:
            return (self.root / path).read_bytes()
        except OSError as error:
            raise StoreError(
                f"{path} of {self.root} cannot be read ({error.strerror}); it may have been "
                "dropped meanwhile: run the same command again."
            ) from error

    def write(self, path: str, data: bytes) -> None:
        """fsynced, then renamed into place."""
        fragments.write_file(self.root / path, data)

    def crc32c(self, path: str) -> int | None:
        """Read back from the file system."""
        try:
            return fragments.file_crc32c(self.root / path)
        except OSError:
            return None

    @contextlib.contextmanager
    def receiving(self, runs: list[str]) -> Iterator[None]:
        """Make it a store, hold it against a second copy and the runs against ingestion."""
        stores.create(self.root)
        with contextlib.ExitStack() as held:
            held.enter_context(
                locks.hold(self.root / "locks" / "copy.lock", what=f"The store {self.root}")
            )
            for run in runs:
                held.enter_context(locks.hold(stores.run_lock(self.root, run), what=f"Run {run}"))
            yield
            with contextlib.suppress(BusyError):  # it catches up when it is next opened
                index.catch_up(self.root)
