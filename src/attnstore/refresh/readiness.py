"""Which models a declaration means, and which of them are ready to be read.

A checkpoint is ready when its files are complete (`checkpoints.readiness`) and none of them has
changed for a while: a slow copy, or one that fills a file of the final size, is waited for. What
was read once is remembered by its files' inodes, sizes and times of change, so that looking again
every few minutes costs no reading; a folder that was replaced in place is read anew.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from attnstore import store as stores
from attnstore.disk.files import write_file
from attnstore.errors import ModelError, StoreError
from attnstore.model import checkpoints
from attnstore.model.checkpoints import Checkpoint
from attnstore.names import slug
from attnstore.refresh.declaration import Declaration, Models

SEEN = "seen.json"
"""File of a store that remembers checkpoints: a cache, which can be deleted."""


Signature = list[list[Any]]
"""Name, bytes, inode and time of change (ns) of each file of a folder."""


@dataclass(frozen=True)
class Candidate:
    """A model that is declared. name: as it will be called; checkpoint: None where it cannot be
    read, and why; settling: whether waiting is all that it takes; files: what its folder was when
    the checkpoint was read, None for a model of the Hub or a package."""

    entry: Models
    name: str
    source: str
    checkpoint: Checkpoint | None
    why: str | None = None
    settling: bool = False
    files: Signature | None = None


def signature(folder: Path) -> Signature:
    """What changes whenever a file of a folder or of its model does; ModelError where it is gone."""
    try:
        found = [(entry.name, entry.stat()) for entry in os.scandir(folder) if entry.is_file()]
        found += [(str(path), path.stat()) for path in checkpoints.files_elsewhere(folder)]
    except OSError as error:  # deleted while it is looked at
        raise ModelError(f"{folder} cannot be read: {error.strerror}") from error
    return sorted([name, s.st_size, s.st_ino, s.st_ctime_ns] for name, s in found)


class Seen:
    """The checkpoints that were read before, by folder; kept in the store."""

    def __init__(self, root: Path) -> None:
        self._file = root / SEEN
        self._kept: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            self._kept = json.loads(self._file.read_text())

    def resolve(self, folder: Path, now: Signature) -> Checkpoint:
        """The checkpoint in a folder; its weights are read only if something has changed."""
        kept = self._kept.get(str(folder))
        if kept is None or kept["signature"] != now:
            found = checkpoints.resolve(str(folder), slug(folder.name))
            if signature(folder) != now:
                raise ModelError(f"{folder} has changed while it was read; it is read again later")
            kept = {"signature": now, "checkpoint": asdict(found) | {"folder": str(folder)}}
            self._kept[str(folder)] = kept
        about = {f.name: kept["checkpoint"][f.name] for f in fields(Checkpoint)}
        return Checkpoint(**about | {"folder": folder})

    def save(self) -> None:
        """Write it, as far as the store can be written; folders that are gone are forgotten."""
        kept = {k: v for k, v in self._kept.items() if os.path.isdir(k)}
        with contextlib.suppress(StoreError):
            if stores.exists(self._file.parent):
                write_file(self._file, json.dumps(kept).encode())


def candidates(declared: Declaration) -> list[Candidate]:
    """Every declared model in the order of the file, the checkpoints of a glob by step.

    A model on the Hub that is not in the cache is downloaded to be looked at.
    """
    seen = Seen(declared.root)
    found = [c for entry in declared.models for c in _of_entry(declared, entry, seen)]
    seen.save()
    return found


def _of_entry(declared: Declaration, entry: Models, seen: Seen) -> Iterator[Candidate]:
    if entry.glob is not None:
        pattern = str(declared.path(entry.glob))
        folders = [Path(p) for p in glob.glob(pattern) if os.path.isdir(p)]
        for step, folder in sorted((_step(entry, f), f) for f in folders):
            name = f"{entry.name}-{step}" if step >= 0 else f"{entry.name}-{slug(folder.name)}"
            yield _in_folder(declared, entry, folder, name, seen)
    elif entry.folder is not None:
        yield _in_folder(declared, entry, declared.path(entry.folder), entry.name, seen)
    else:
        try:
            found = checkpoints.resolve(entry.spec, entry.name)
            yield Candidate(entry, entry.name, entry.spec, _with_base(entry, found))
        except ModelError as error:
            yield Candidate(entry, entry.name, entry.spec, None, str(error))


def _step(entry: Models, folder: Path) -> int:
    """The step of a checkpoint: by the pattern of its entry, its Trainer, its name; else -1."""
    if entry.step is not None:
        match = re.search(entry.step, folder.name)
        return int(match[1]) if match and match[1].isdecimal() else -1
    try:
        step = json.loads((folder / "trainer_state.json").read_text())["global_step"]
        return int(step)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        match = re.search(r"(\d+)$", folder.name)
        return int(match[1]) if match else -1


def _in_folder(
    declared: Declaration, entry: Models, folder: Path, name: str, seen: Seen
) -> Candidate:
    def waiting(why: str, settling: bool = False) -> Candidate:
        return Candidate(entry, name, str(folder), None, why, settling)

    try:
        now = signature(folder)
        if (why := checkpoints.readiness(folder)) is not None:
            return waiting(why)
        age = time.time() - max(changed for *_, changed in now) / 1e9
        if age < declared.settle:
            return waiting(f"{folder} changed {max(age, 0):.0f} s ago; it may not be whole", True)
        found = replace(seen.resolve(folder, now), name=name)
    except ModelError as error:
        return waiting(str(error))
    step = _step(entry, folder)
    if entry.glob is not None and step >= 0:
        found = replace(found, step=step)
    return Candidate(entry, name, str(folder), _with_base(entry, found), files=now)


def _with_base(entry: Models, found: Checkpoint) -> Checkpoint:
    """The checkpoint with the base model that the file names, if it names one."""
    return found if entry.base is None else replace(found, base=entry.base)
