"""Memory of refreshes: checkpoints that were read, runs that were refused, failures that were told.

`seen.json` is a cache. It carries the checksum of its content; one that does not match, or that
another version wrote, is ignored: checkpoints are read again, refusals tried and failures told once more.
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
"""Number of refusals to remember, the latest."""

Signature = list[list[Any]]
"""Name, bytes, inode and time of change (ns) of each file of a folder."""


def signature(folder: Path) -> Signature:
    """Describe a folder's files so that any change shows. Raises ModelError if the folder is gone."""
    try:
        files = [(entry.name, entry.stat()) for entry in os.scandir(folder) if entry.is_file()]
        files += [(str(path), path.stat()) for path in checkpoints.files_elsewhere(folder)]
    except OSError as error:  # deleted while it is looked at
        raise ModelError(f"{folder} cannot be read: {error.strerror}") from error
    return sorted([name, s.st_size, s.st_ino, s.st_ctime_ns] for name, s in files)


class Seen:
    """The checkpoints that were read before, by folder, and what was refused, by identity.

    told: sentences about the failures of the last refresh, which `[notify]` has told; untold: alerts that it
    could not tell yet; reported: by the path of a report, the state of the store that it shows.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend, self._file = backend, backend.root / FILE
        kept = _read(self._file)
        self._checkpoints: dict[str, Any] = kept.get("checkpoints", {})
        self._refused: dict[str, str] = kept.get("refused", {})
        self.told: list[str] = kept.get("told", [])
        self.untold: list[dict[str, object]] = kept.get("untold", [])
        self.reported: dict[str, str] = kept.get("reported", {})
        self._saved = self._content()

    def resolve(self, folder: Path, now: Signature, stepped: bool = False) -> Checkpoint:
        """Return the checkpoint of a folder; its weights are read only if something has changed.

        Args:
            folder: The folder.
            now: Its signature.
            stepped: As `checkpoints.resolve` takes it.
        """
        entry = self._checkpoints.get(str(folder))
        if entry is None or entry["signature"] != now:
            checkpoint = checkpoints.resolve(str(folder), slug(folder.name), stepped=stepped)
            if signature(folder) != now:
                raise ModelError(f"{folder} has changed while it was read; it is read again later")
            entry = {"signature": now, "checkpoint": asdict(checkpoint) | {"folder": str(folder)}}
            self._checkpoints[str(folder)] = entry
        return Checkpoint(**entry["checkpoint"] | {"folder": folder})

    def refusal(self, identity: str) -> str | None:
        """Return why a run with that identity was refused, if it was."""
        return self._refused.get(identity)

    def refuse(self, identity: str, why: str) -> None:
        """Remember that a run was refused, so that the same bytes are not tried again and again."""
        self._refused = dict([*self._refused.items(), (identity, why)][-MOST:])

    def forget(self, identity: str) -> None:
        """Forget a refusal: the run was stored after all."""
        self._refused.pop(identity, None)

    def save(self) -> None:
        """Write what is new if the store can be written; forget folders that are gone."""
        self._checkpoints = {k: v for k, v in self._checkpoints.items() if os.path.isdir(k)}
        content = self._content()
        with contextlib.suppress(StoreError):
            if content != self._saved and location.exists(self._backend):
                digest = hashlib.sha256(content.encode()).hexdigest()
                write_file(self._file, f"{digest}\n{content}\n".encode())
                self._saved = content

    def _content(self) -> str:
        content = {
            "checkpoints": self._checkpoints, "refused": self._refused, "told": self.told,
            "untold": self.untold, "reported": self.reported,
        }  # fmt: skip
        return json.dumps({"made_by": _maker(), **content})


def _maker() -> list[Any]:
    """Describe the writer; entries of another one may mean something else."""
    return [version("attnstore"), CAPTURE_VERSION, [f.name for f in fields(Checkpoint)], "reported"]


def _read(file: Path) -> dict[str, Any]:
    """Read what is remembered; nothing if the file is missing, damaged or another version's."""
    try:
        digest, _, content = file.read_bytes().partition(b"\n")
        content = content.removesuffix(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != digest:
            return {}
        memory = json.loads(content)
    except (OSError, ValueError, RecursionError):
        return {}
    of_this_version = isinstance(memory, dict) and memory.get("made_by") == _maker()
    return memory if of_this_version else {}
