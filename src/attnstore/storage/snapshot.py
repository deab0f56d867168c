"""A backend that lists fragments once for a whole operation.

    backend = Snapshot(backend)      # pass it on; the first listing of fragments serves all that follow

It shows the fragments of one moment until this process writes something, then those of now.
"""

from __future__ import annotations

from pathlib import Path

from attnstore.storage.backend import Backend, File

_FOLDER = "fragments"


class Snapshot:
    """A backend that lists fragments once and passes everything else to `source`."""

    def __init__(self, backend: Backend) -> None:
        """Take a snapshot, of a snapshot's source too; fragments are listed when first needed."""
        self.source = source = fresh(backend)
        self.name, self.root, self.is_local = source.name, source.root, source.is_local
        self.read, self.local, self.crc32c = source.read, source.local, source.crc32c
        self.temporary, self.settled = source.temporary, source.settled
        self.entries, self.starting, self.arrays = source.entries, source.starting, source.arrays
        self.leased, self.leased_elsewhere = source.leased, source.leased_elsewhere
        self.require_hold = source.require_hold
        self._written = False
        self._listed: list[File] | None = None

    def files(self, folder: str) -> list[File]:
        """List every file below a folder, fragments as they were when first listed."""
        if self._written or folder.partition("/")[0] != _FOLDER:
            return self.source.files(folder)
        if self._listed is None:
            self._listed = self.source.files(_FOLDER)
        return [file for file in self._listed if file.path.startswith(f"{folder}/")]

    def relist(self) -> None:
        """Discard the listing: the next one shows the present."""
        self._listed = None

    def _changed(self) -> Backend:
        """Discard the listing, and return the backend to write to."""
        self._written, self._listed = True, None
        return self.source

    def write(self, path: str, data: bytes) -> None:
        """Write a whole file."""
        self._changed().write(path, data)

    def commit(self, path: str, data: bytes) -> None:
        """Write a file whose path names its content."""
        self._changed().commit(path, data)

    def adopt(self, file: Path, path: str) -> None:
        """Put a `temporary` file at `path`."""
        self._changed().adopt(file, path)

    def move(self, path: str, to: str) -> None:
        """Give a file another path."""
        self._changed().move(path, to)

    def remove(self, path: str) -> None:
        """Delete a file."""
        self._changed().remove(path)

    def remove_below(self, folder: str) -> None:
        """Delete every file below a folder."""
        self._changed().remove_below(folder)


def fresh(backend: Backend) -> Backend:
    """Return a backend that lists the current fragments."""
    return backend.source if isinstance(backend, Snapshot) else backend
