"""What refreshes remember in a store: checkpoints that were read, and runs that were refused.

`seen.json` is a cache. It carries the checksum of its content; one that does not match, or that
another version wrote, is as good as none: checkpoints are read again, refusals tried once more.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from attnstore.errors import ModelError, StoreError
from attnstore.models import checkpoints
from attnstore.models.checkpoints import Checkpoint
from attnstore.naming import CAPTURE_VERSION, slug
from attnstore.storage import location
from attnstore.storage.backend import Backend
from attnstore.storage.files import write_file

FILE = "seen.json"
"""In the store's folder; it can be deleted."""
MOST = 1000
"""Refusals that are remembered, the latest."""

Signature = list[list[Any]]
"""Name, bytes, inode and time of change (ns) of each file of a folder."""


def signature(folder: Path) -> Signature:
    """What changes whenever a file of a folder or of its model does; ModelError where it is gone."""
    try:
        found = [(entry.name, entry.stat()) for entry in os.scandir(folder) if entry.is_file()]
        found += [(str(path), path.stat()) for path in checkpoints.files_elsewhere(folder)]
    except OSError as error:  # deleted while it is looked at
        raise ModelError(f"{folder} cannot be read: {error.strerror}") from error
    return sorted([name, s.st_size, s.st_ino, s.st_ctime_ns] for name, s in found)


class Seen:
    """The checkpoints that were read before, by folder, and what was refused, by identity."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self._file = backend, backend.root / FILE
        self._checkpoints, self._refused = _read(self._file)
        self._kept = self._content()

    def resolve(self, folder: Path, now: Signature, stepped: bool = False) -> Checkpoint:
        """The checkpoint in a folder; its weights are read only if something has changed.

        stepped: as `checkpoints.resolve` takes it.
        """
        kept = self._checkpoints.get(str(folder))
        if kept is None or kept["signature"] != now:
            found = checkpoints.resolve(str(folder), slug(folder.name), stepped=stepped)
            if signature(folder) != now:
                raise ModelError(f"{folder} has changed while it was read; it is read again later")
            kept = {"signature": now, "checkpoint": asdict(found) | {"folder": str(folder)}}
            self._checkpoints[str(folder)] = kept
        return Checkpoint(**kept["checkpoint"] | {"folder": folder})

    def refusal(self, identity: str) -> str | None:
        """Why a run with that identity was refused, if it was."""
        return self._refused.get(identity)

    def refuse(self, identity: str, why: str) -> None:
        """Remember that a run was refused, so that the same bytes are not tried again and again."""
        self._refused = dict([*self._refused.items(), (identity, why)][-MOST:])

    def forget(self, identity: str) -> None:
        """Take a refusal back: the run was stored after all."""
        self._refused.pop(identity, None)

    def save(self) -> None:
        """Write what is new, as far as the store can be written; folders that are gone are forgotten."""
        self._checkpoints = {k: v for k, v in self._checkpoints.items() if os.path.isdir(k)}
        content = self._content()
        with contextlib.suppress(StoreError):
            if content != self._kept and location.exists(self._backend):
                digest = hashlib.sha256(content.encode()).hexdigest()
                write_file(self._file, f"{digest}\n{content}\n".encode())
                self._kept = content

    def _content(self) -> str:
        kept = {"made_by": _maker(), "checkpoints": self._checkpoints, "refused": self._refused}
        return json.dumps(kept)


def _maker() -> list[Any]:
    """What must be the same for an entry to mean the same."""
    return [version("attnstore"), CAPTURE_VERSION, [f.name for f in fields(Checkpoint)]]


def _read(file: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Checkpoints and refusals; none where the file is missing, damaged or another version's."""
    try:
        digest, _, content = file.read_bytes().partition(b"\n")
        content = content.removesuffix(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != digest:
            return {}, {}
        kept = json.loads(content)
    except (OSError, ValueError, RecursionError):
        return {}, {}
    if not isinstance(kept, dict) or kept.get("made_by") != _maker():
        return {}, {}
    return kept["checkpoints"], kept["refused"]
