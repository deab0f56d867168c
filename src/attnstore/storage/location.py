"""Where a store is: its folder or the local side of its bucket, and whether one is there.

root = location.create("storage")       # makes it a store
root = location.find("storage")         # one that is there
"""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

from attnstore.errors import DamageError, StoreError, UsageError
from attnstore.storage import locks, s3
from attnstore.storage.files import remedy

MARK = "attnstore.json"
VERSION = 1
"""Version of the layout on disk."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def run_lock(root: Path, run: str) -> Path:
    """The lock file that whoever ingests or drops a run holds."""
    return locks.path_of(root, run)


def copy_lock(root: Path) -> Path:
    """The lock file of whoever copies into a store, or moves files in it aside."""
    return root / locks.FOLDER / "copy.lock"


def locate(path: str | Path) -> Path:
    """The absolute path of a store that may not be there yet; of a bucket, its local side.

    Raises UsageError for a path that DuckDB or tensorstore would take for another.
    """
    if isinstance(path, str) and _ADDRESS.match(path):
        return _usable(s3.side(path))
    try:
        folder = Path(path).expanduser().resolve()
    except (RuntimeError, ValueError, OSError) as error:  # ~nobody, a NUL, a loop of links
        raise UsageError(
            f"{str(path)!r} is no path of a store ({error}); give a folder."
        ) from error
    return _usable(folder)


def _usable(folder: Path) -> Path:
    """The folder itself. Raises UsageError where its path holds what cannot be handed on."""
    text = str(folder)
    foreign = any("\ud800" <= c <= "\udfff" for c in text)
    wrong = "bytes that are not UTF-8" if foreign else next((c for c in "?\\" if c in text), None)
    if wrong is None:
        return folder
    raise UsageError(
        f"The path {text!r} holds {wrong}, which DuckDB does not take in a path; rename that folder "
        "or choose another."
    )


def create(path: str | Path) -> Path:
    """Make a folder or a bucket's path a store, if it is not one yet; returns where `locate` puts it.

    Raises StoreError where it holds something else or cannot be written.
    """
    root = locate(path)
    place = s3.of(root)
    if exists(root):
        return root
    try:
        others = place.others()
    except OSError as error:
        raise StoreError(
            f"{place.name} cannot be looked into: {error.strerror or error}; {remedy(error)}, then run "
            "the same command again."
        ) from error
    if others:
        raise StoreError(
            f"{place.name} holds other files ({', '.join(sorted(others)[:3])}) and is no attention "
            "store; give an empty or a new folder."
        )
    place.write(MARK, json.dumps({"attnstore": VERSION}).encode() + b"\n")
    with contextlib.suppress(OSError):  # else whoever takes a lock makes it, or says why not
        (root / locks.FOLDER).mkdir(exist_ok=True)
    return root


def find(path: str | Path) -> Path:
    """The absolute path of a store, its index left alone. Raises StoreError where there is none."""
    root = locate(path)
    if not exists(root):
        raise StoreError(
            f"There is no attention store at {s3.of(root).name}; make one with "
            "`attnstore --store DIR ingest --model … --dataset …`."
        )
    return root


def exists(root: Path) -> bool:
    """Whether a store is there; StoreError where its mark is damaged or of a later version."""
    place = s3.of(root)
    try:
        version = json.loads(place.read(MARK))["attnstore"]
        if type(version) is not int or version < 1:
            raise ValueError
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamageError(
            f'{place.name}/{MARK} is damaged; write {{"attnstore": {VERSION}}} into it.'
        ) from error
    if version > VERSION:
        raise StoreError(
            f"The store {place.name} has layout {version}, and this attnstore knows up to {VERSION}; "
            "upgrade it."
        )
    return True
