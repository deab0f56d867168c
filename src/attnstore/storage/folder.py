"""A store in a folder of this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from attnstore.errors import StoreError
from attnstore.storage.backend import File
from attnstore.storage.files import (
    file_crc32c,
    remedy,
    sync_folder,
    temporary_of,
    write_file,
)


@dataclass(frozen=True)
class Folder:
    """A store in a folder of this machine."""

    root: Path
    is_local: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Return its path."""
        return str(self.root)

    def entries(self) -> list[str]:
        """List all but hidden files and a README."""
        if not self.root.is_dir():
            return []
        return [p.name for p in self.root.iterdir() if not p.name.startswith((".", "README"))]

    def require_hold(self) -> None:
        """Do nothing: flock is never lost."""

    def files(self, folder: str) -> list[File]:
        """List every file below a folder but hidden ones, which are being written; follow links.

        Folders whose names begin with `~` come last, as in a bucket.
        """
        while (files := self._files(folder)) is None:
            continue
        return files

    def _files(self, folder: str) -> list[File] | None:
        """List them; None if a file in a folder `~…` was replaced by one that may not have been seen."""
        skip = len(str(self.root)) + 1
        files = []
        for entry in _walk(self.root / folder):
            try:
                stat = entry.stat()
            except FileNotFoundError:  # replaced since it was listed
                if Path(entry.path).parent.name.startswith("~"):
                    return None
                continue
            files.append(File(entry.path[skip:], stat.st_size, stat.st_mtime_ns))
        return files

    def starting(self, start: str) -> list[str]:
        """List the names in one folder, without opening any file."""
        folder, _, name = start.rpartition("/")
        try:
            names = os.listdir(self.root / folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [f"{folder}/{x}" for x in names if x.startswith(name)]

    def read(self, path: str) -> bytes:
        """Read a whole file. Raises FileNotFoundError, StoreError."""
        try:
            return (self.root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(f"{path} is not in {self.root}") from error
        except OSError as error:
            raise StoreError(
                f"{path} of {self.root} cannot be read: {error.strerror}; make it readable, and run "
                "the same command again."
            ) from error

    def write(self, path: str, data: bytes) -> None:
        """Write, fsync and rename into place; below a folder only while the store exists."""
        if "/" in path and not self.root.is_dir():
            raise StoreError(
                f"The store {self.root} is gone: it was moved or deleted; open it where it lies now."
            )
        write_file(self.root / path, data)

    def commit(self, path: str, data: bytes) -> None:
        """Write as `write` does: renaming the same content over it changes nothing."""
        self.write(path, data)

    def temporary(self, path: str) -> Path:
        """Name a hidden file beside the path, so that a rename suffices."""
        file = temporary_of(self.root / path)
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def adopt(self, file: Path, path: str) -> None:
        """Rename; `settled` syncs the folder."""
        file.rename(self.root / path)

    def crc32c(self, path: str) -> int | None:
        """Compute it from the file as read back."""
        try:
            return file_crc32c(self.root / path)
        except OSError:
            return None

    def settled(self, paths: list[str]) -> tuple[list[int], int]:
        """Sync the folder, then read each file back."""
        files = [self.root / path for path in paths]
        sync_folder(files[0].parent)
        return [file_crc32c(file) for file in files], sum(file.stat().st_size for file in files)

    def move(self, path: str, to: str) -> None:
        """Rename; delete folders that are empty afterwards."""
        source, target = self.root / path, self.root / to
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
        except FileNotFoundError:  # its writer has just replaced it
            return
        except OSError as error:
            raise StoreError(
                f"{path} could not be moved to {target} ({error.strerror}); nothing is lost: "
                f"{remedy(error)}, then run the same command again."
            ) from error
        self._prune(source.parent)

    def remove(self, path: str) -> None:
        """Unlink the file, and delete folders that are empty afterwards."""
        with self._deleting(path):
            (self.root / path).unlink(missing_ok=True)
        self._prune((self.root / path).parent)

    def remove_below(self, folder: str) -> None:
        """Delete the whole tree, and parents that are empty afterwards."""
        with self._deleting(folder):
            shutil.rmtree(self.root / folder, onerror=_unless_gone)
        self._prune((self.root / folder).parent)

    @contextlib.contextmanager
    def _deleting(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self.root / path} cannot be deleted: {error.strerror or error}; {remedy(error)}, "
                "then run the same command again."
            ) from error

    def _prune(self, folder: Path) -> None:
        with contextlib.suppress(OSError):  # up to the folder that holds more
            while folder != self.root:
                folder.rmdir()
                folder = folder.parent

    def local(self, path: str) -> Path:
        """Return the file itself."""
        return self.root / path

    def arrays(self, folder: str) -> dict[str, Any]:
        """Return tensorstore's driver for files, which fsyncs and renames."""
        return {"driver": "file", "path": f"{(self.root / folder).resolve()}/"}

    def leased(self, path: str, wait: float, what: str) -> contextlib.nullcontext[None]:
        """Do nothing: flock on the lock's file suffices on one machine."""
        return contextlib.nullcontext()

    def leased_elsewhere(self, path: str) -> bool:
        """Return False: no other machine holds it."""
        return False


def _unless_gone(_call: object, _path: str, failure: Any) -> None:
    """Ignore a missing file while a folder is deleted; raise any other error."""
    if not isinstance(failure[1], FileNotFoundError):
        raise failure[1]


def _walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield every file below a folder but hidden ones. Links to folders are followed, as a run may lie on
    another disk, but not to a folder around them. What is moved into a folder `~…` while the others are
    listed is seen in one place at least, since such folders come last."""
    folders: list[tuple[str, tuple[str, ...]]] = [(str(folder), ())]
    last: list[tuple[str, tuple[str, ...]]] = []
    while folders or last:
        at, above = (folders or last).pop()
        try:
            with os.scandir(at) as listed:
                entries = list(listed)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise StoreError(
                f"{at} cannot be listed: {error.strerror or error}; make it readable, and run the "
                "same command again."
            ) from error
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                (last if entry.name.startswith("~") else folders).append((entry.path, above))
            elif entry.is_dir():
                real, around = os.path.realpath(entry.path), (*above, os.path.realpath(at))
                if not any(a == real or a.startswith(f"{real}{os.sep}") for a in around):
                    folders.append((entry.path, around))
            elif not entry.name.startswith(".") and entry.is_file():
                yield entry
