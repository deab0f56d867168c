"""Whole files of a store by their path in it, in a folder or elsewhere: what a `Place` can do.

Nothing in a store is changed in place: a file is written whole or not at all, read whole, and
known by its checksum. `Folder` is a folder of this machine; `buckets` has the other kind of place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import google_crc32c

from attnstore.errors import StoreError


@dataclass(frozen=True)
class File:
    """A file of a store. path: relative to the store; modified: in nanoseconds."""

    path: str
    bytes: int
    modified: int


class Place(Protocol):
    """Somewhere that holds the files of a store; paths are relative to it, with slashes."""

    @property
    def name(self) -> str:
        """What people call it: a path, or an address."""

    @property
    def near(self) -> bool:
        """Whether reading every byte is a matter of seconds, not of a download."""

    def others(self) -> list[str]:
        """Names of what lies there, as far as it can keep a place from becoming a store."""

    def require_hold(self) -> None:
        """Refuse to write where the locks of this process have been lost. Raises BusyError."""

    def files(self, folder: str) -> list[File]:
        """Every file below a folder, in any order; none where there is no such folder."""

    def starting(self, start: str) -> list[str]:
        """The paths that begin with `start`, a folder and a part of a name, and go on."""

    def read(self, path: str) -> bytes:
        """A whole file. Raises FileNotFoundError, StoreError."""

    def write(self, path: str, data: bytes) -> None:
        """Put a file in the place of what is there. Raises StoreError."""

    def commit(self, path: str, data: bytes) -> None:
        """Write a file whose path names its content: who comes second finds it there."""

    def temporary(self, path: str) -> Path:
        """A file of this machine to write in pieces, for `adopt`; hidden, and not there yet."""

    def adopt(self, file: Path, path: str) -> None:
        """Put a `temporary` file, written and fsynced, in the place of what is at `path`."""

    def crc32c(self, path: str) -> int | None:
        """The CRC-32C of a file as it lies there; None where there is none."""

    def settled(self, paths: list[str]) -> tuple[list[int], int]:
        """The CRC-32C of files just written to one folder, read back, and their bytes in all."""

    def move(self, path: str, to: str) -> None:
        """Give a file another path; nothing where it is gone. Raises StoreError."""

    def remove(self, path: str) -> None:
        """Delete a file; nothing where it is gone. Raises StoreError."""

    def remove_below(self, folder: str) -> None:
        """Delete every file below a folder. Raises StoreError."""

    def local(self, path: str) -> Path:
        """Where a file that is never written twice can be read on this machine."""

    def arrays(self, folder: str) -> dict[str, Any]:
        """How tensorstore gets at a folder: its `kvstore`."""


class Folder:
    """A store in a folder of this machine."""

    near = True

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.root)

    def others(self) -> list[str]:
        """All but hidden files and a README."""
        if not self.root.is_dir():
            return []
        return [p.name for p in self.root.iterdir() if not p.name.startswith((".", "README"))]

    def require_hold(self) -> None:
        """flock is never lost."""

    def files(self, folder: str) -> list[File]:
        """Every file below a folder but hidden ones, which are being written; links are followed."""
        skip = len(str(self.root)) + 1
        found = []
        for entry in _walk(self.root / folder):
            with contextlib.suppress(FileNotFoundError):  # replaced since it was listed
                stat = entry.stat()
                found.append(File(entry.path[skip:], stat.st_size, stat.st_mtime_ns))
        return found

    def starting(self, start: str) -> list[str]:
        """Those of one folder, without a look at any file."""
        folder, _, name = start.rpartition("/")
        try:
            names = os.listdir(self.root / folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [f"{folder}/{x}" for x in names if x.startswith(name)]

    def read(self, path: str) -> bytes:
        """A whole file. Raises FileNotFoundError, StoreError."""
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
        """fsynced, then renamed into place; below a folder only while the store itself is there."""
        if "/" in path and not self.root.is_dir():
            raise StoreError(
                f"The store {self.root} is gone: it was moved or deleted; open it where it lies now."
            )
        write_file(self.root / path, data)

    def commit(self, path: str, data: bytes) -> None:
        """As `write`: renaming the same content over it changes nothing."""
        self.write(path, data)

    def temporary(self, path: str) -> Path:
        """Beside the path, so that renaming is all it takes."""
        file = _temporary(self.root / path)
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def adopt(self, file: Path, path: str) -> None:
        """Renamed; `settled` syncs the folder."""
        file.rename(self.root / path)

    def crc32c(self, path: str) -> int | None:
        """Read back from the file system."""
        try:
            return file_crc32c(self.root / path)
        except OSError:
            return None

    def settled(self, paths: list[str]) -> tuple[list[int], int]:
        """The folder synced, then each file read back."""
        files = [self.root / path for path in paths]
        sync_folder(files[0].parent)
        return [file_crc32c(file) for file in files], sum(file.stat().st_size for file in files)

    def move(self, path: str, to: str) -> None:
        """Renamed; folders that it leaves empty go."""
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
        """Unlinked."""
        with self._deleting(path):
            (self.root / path).unlink(missing_ok=True)

    def remove_below(self, folder: str) -> None:
        """The whole tree, and the folders that are empty without it."""
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
        """The file itself."""
        return self.root / path

    def arrays(self, folder: str) -> dict[str, Any]:
        """tensorstore's driver for files, which fsyncs and renames."""
        return {"driver": "file", "path": f"{(self.root / folder).resolve()}/"}


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


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _temporary(path: Path) -> Path:
    """A hidden name beside `path` that nobody else takes."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def write_file(path: Path, data: bytes) -> None:
    """Write a file so that it exists whole or not at all, and survives a power cut."""
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
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


def remedy_of(text: str) -> str:
    """The same for a library's own error, which quotes what the system said."""
    known = (step for number, step in _REMEDIES.items() if os.strerror(number) in text)
    return next(known, "make room or mend the rights to write there")


def _unless_gone(_call: object, _path: str, failure: Any) -> None:
    """Let a file that is gone already pass while a folder is deleted; raise any other error."""
    if not isinstance(failure[1], FileNotFoundError):
        raise failure[1]


def _walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Every file below a folder but hidden ones. Links to folders are followed, as a run may lie on
    another disk, but not to a folder around them."""
    folders: list[tuple[str, tuple[str, ...]]] = [(str(folder), ())]
    while folders:
        at, above = folders.pop()
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
                folders.append((entry.path, above))
            elif entry.is_dir():
                real, around = os.path.realpath(entry.path), (*above, os.path.realpath(at))
                if not any(a == real or a.startswith(f"{real}{os.sep}") for a in around):
                    folders.append((entry.path, around))
            elif not entry.name.startswith(".") and entry.is_file():
                yield entry
