"""Find or create the backend of a store from a path or an address.

backend = location.create("storage")       # makes it a store
backend = location.find("storage")         # one that is there
"""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

from attnstore import extras
from attnstore.errors import DamageError, StoreError, UsageError
from attnstore.storage import local_side, locks
from attnstore.storage.backend import Backend
from attnstore.storage.files import remedy
from attnstore.storage.folder import Folder
from attnstore.storage.locks import Lock

MARK = "attnstore.json"
VERSION = 2
"""Latest version of the layout on disk that is known: with bundles of fragments (`bundles`)."""
_PLAIN, WITH_BUNDLES = 1, 2
"""Versions of a store as it is created, and once fragments of it were merged."""
Location = str | Path | Backend
"""Of a store: a folder, an address (s3://BUCKET/PATH), or its backend."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def run_lock(backend: Backend, run: str) -> Lock:
    """Return the lock that ingesting or dropping a run holds."""
    return locks.path_of(backend, run)


def copy_lock(backend: Backend) -> Lock:
    """Return the lock that copying into a store, or moving files in it aside, holds."""
    return locks.path_of(backend, "copy")


def locate(path: Location) -> Backend:
    """Return the backend of a store that may not be there yet.

    Args:
        path: the location of the store; a backend is returned as it is, and a folder that is the
            local side of a bucket gives the bucket.

    Raises:
        UsageError: the path is one that DuckDB or tensorstore would take for another.
        DamageError: the folder is marked as the local side of a bucket, and the mark is damaged.
        MissingExtraError: the store is in a bucket, and obstore is not installed.
    """
    if not isinstance(path, str | Path):
        return path
    folder = _folder(path)
    mark = local_side.read(folder)
    return _bucket(folder, mark) if mark else Folder(folder)


def _bucket(folder: Path, mark: local_side.Mark) -> Backend:
    extras.require("obstore")
    from attnstore.storage.s3 import Bucket

    return Bucket(folder, mark)


def _folder(path: str | Path) -> Path:
    if isinstance(path, str) and _ADDRESS.match(path):
        if path.startswith(local_side.SCHEME):
            extras.require("obstore")
        return _usable(local_side.of_address(path))
    try:
        folder = Path(path).expanduser().resolve()
    except (RuntimeError, ValueError, OSError) as error:  # ~nobody, a NUL, a loop of links
        raise UsageError(
            f"{str(path)!r} is no path of a store ({error}); give a folder."
        ) from error
    return _usable(folder)


def _usable(folder: Path) -> Path:
    """Resolve a folder. Raises UsageError if DuckDB or tensorstore would take its path for another."""
    text = str(folder)
    foreign = any("\ud800" <= c <= "\udfff" for c in text)
    wrong = "bytes that are not UTF-8" if foreign else next((c for c in "?\\" if c in text), None)
    if wrong is None:
        return folder
    raise UsageError(
        f"The path {text!r} holds {wrong}, which DuckDB does not take in a path; rename that folder "
        "or choose another."
    )


def create(path: Location) -> Backend:
    """Make a folder or a bucket's path a store, if it is not one yet.

    Raises StoreError where it holds something else or cannot be written.
    """
    backend = locate(path)
    if exists(backend):
        return backend
    try:
        others = backend.entries()
    except OSError as error:
        raise StoreError(
            f"{backend.name} cannot be looked into: {error.strerror or error}; {remedy(error)}, then run "
            "the same command again."
        ) from error
    if others:
        raise StoreError(
            f"{backend.name} holds other files ({', '.join(sorted(others)[:3])}) and is no attention "
            "store; give an empty or a new folder."
        )
    backend.write(MARK, mark(_PLAIN) + b"\n")
    with contextlib.suppress(OSError):  # else whoever takes a lock makes it, or says why not
        (backend.root / locks.FOLDER).mkdir(exist_ok=True)
    return backend


def find(path: Location) -> Backend:
    """Return the backend of a store without opening its index. Raises StoreError where there is none."""
    backend = locate(path)
    if not exists(backend):
        raise StoreError(
            f"There is no attention store at {backend.name}; make one with "
            "`attnstore --store DIR ingest --model … --dataset …`."
        )
    return backend


def exists(backend: Backend) -> bool:
    """Return True if a store is there. Raises StoreError (its mark is damaged or too new)."""
    try:
        version(backend)
    except FileNotFoundError:
        return False
    return True


def version(backend: Backend) -> int:
    """Read the version of a store's layout.

    Raises FileNotFoundError (there is no store), DamageError (its mark is damaged), StoreError (it is
    of a later version).
    """
    try:
        number = json.loads(backend.read(MARK))["attnstore"]
        if type(number) is not int or number < 1:
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamageError(
            f"{backend.name}/{MARK} is damaged; write {mark(VERSION).decode()} into it."
        ) from error
    if number > VERSION:
        raise StoreError(
            f"The store {backend.name} has layout {number}, and this attnstore knows up to {VERSION}; "
            "upgrade it."
        )
    return int(number)


def mark(number: int) -> bytes:
    """Return the content of a store's mark, which names the version of its layout."""
    return json.dumps({"attnstore": number}).encode()


def require_bundles(backend: Backend) -> None:
    """Mark a store as one that may hold bundles, which earlier versions of attnstore refuse to open."""
    if version(backend) < WITH_BUNDLES:
        backend.write(MARK, mark(WITH_BUNDLES) + b"\n")
