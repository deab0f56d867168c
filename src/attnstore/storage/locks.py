"""Advisory file locks (flock): between threads, processes, and freed by the system on a kill.

For a store in a bucket, a lock in the folder `locks` also holds between machines.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attnstore.errors import BusyError, StoreError
from attnstore.storage.backend import Backend
from attnstore.storage.files import remedy
from attnstore.storage.snapshot import Snapshot

FOLDER = "locks"
"""Folder of a store with the locks of its writers; in a bucket they hold between machines too."""


_LONGEST = 200
"""Characters of a lock's name; a file's has at most 255 bytes."""


@dataclass(frozen=True)
class Lock:
    """A lock of a store. path: of its file in the store, and of its object in a bucket."""

    backend: Backend
    path: str

    @property
    def file(self) -> Path:
        """Return the lock's file on this machine."""
        return self.backend.root / self.path

    @property
    def shared_between_machines(self) -> bool:
        """Return True if it also holds between machines, through the bucket."""
        return self.path.startswith(f"{FOLDER}/")


def path_of(backend: Backend, name: str) -> Lock:
    """Return the lock of a name in a store; a long name is cut, with a checksum of the whole."""
    clean = name.replace("/", "--")
    if len(clean) > _LONGEST:
        clean = f"{clean[:_LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return Lock(backend, f"{FOLDER}/{clean}.lock")


@contextlib.contextmanager
def hold(lock: Lock, shared: bool = False, wait: float = 0.0, what: str = "") -> Iterator[None]:
    """Hold a lock for the length of a block.

    shared: readers hold it together; wait: seconds to try before BusyError, which names `what`
    and the process that holds the lock. If the file cannot be made (a read-only folder), nobody can
    write either, and a shared lock is granted without it.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    path = lock.file
    try:
        if lock.shared_between_machines:
            path.parent.mkdir(exist_ok=True)  # missing if `create` was killed
        handle = _locked(path, kind, wait, what)
    except BusyError:
        raise
    except FileNotFoundError as error:
        raise StoreError(
            f"The store {lock.backend.root} is gone: it was moved or deleted; open it where it lies now."
        ) from error
    except OSError as error:
        if shared:
            yield
            return
        raise StoreError(
            f"Cannot write {path}: {error.strerror}; {remedy(error)} or give a copy of the store, "
            "then run the same command again."
        ) from error
    try:
        with contextlib.ExitStack() as stack:
            if lock.shared_between_machines:
                stack.enter_context(lock.backend.leased(lock.path, wait, what))
            yield
    finally:
        os.close(handle)


def _locked(path: Path, kind: int, wait: float, label: str) -> int:
    """Open and lock the file at `path`; retry if its last holder deleted it meanwhile."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _acquire(handle, kind, path, wait, label)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _acquire(handle: int, kind: int, path: Path, wait: float, label: str) -> None:
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return
        except OSError:
            if time.monotonic() >= deadline:
                raise BusyError(
                    f"{label or path} is in use by {_holders(handle)}; wait until it ends, "
                    "or stop it, and run the same command again."
                ) from None
            time.sleep(0.02)


@contextlib.contextmanager
def registry(backend: Backend) -> Iterator[None]:
    """Hold the lock under which models, datasets and runs get their names."""
    label = f"The registry of {backend.name}"
    with hold(path_of(backend, "registry"), wait=60.0, what=label):
        if isinstance(backend, Snapshot):  # since its listing another process may have given a name
            backend.relist()
        yield


def held(lock: Lock) -> bool:
    """Return True if somebody seems to hold a lock alone; takes no lock itself."""
    with contextlib.suppress(OSError):
        if any(f[3] == "WRITE" for f in _locks(lock.file.stat().st_ino)):
            return True
    return lock.shared_between_machines and lock.backend.leased_elsewhere(lock.path)


def _locks(inode: int) -> list[list[str]]:
    """Read the lines of /proc/locks about one file (Linux), in fields."""
    lines = Path("/proc/locks").read_text("utf-8").splitlines()
    fields = [line.split() for line in lines if "FLOCK" in line and "->" not in line]
    return [f for f in fields if f[5].rsplit(":", 1)[-1] == str(inode)]


def _holders(handle: int) -> str:
    """Name the processes that hold a locked file, as far as the system shows them."""
    try:
        fields = _locks(os.fstat(handle).st_ino)
    except OSError:
        return "another process"
    pids = sorted({int(f[4]) for f in fields})
    names = ["this process" if pid == os.getpid() else f"process {pid}" for pid in pids]
    return " and ".join(names) or "another process"
