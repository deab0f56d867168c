"""Match folders with a glob of attnstore.toml; a name that exists as written is that folder.

`run[12]` is the folder of that name if it exists, else run1 and run2.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Sequence
from pathlib import Path


def folders(base: Path, pattern: str) -> list[Path]:
    """List the folders that a pattern matches, sorted; a relative one begins at `base`."""
    start, parts = _parts(base, pattern)
    paths = [start]
    for part in parts:
        paths = [below for path in paths for below in _below(path, part)]
    return sorted(path for path in paths if path.is_dir())


def _below(folder: Path, part: str) -> list[Path]:
    if part == ".." or os.path.lexists(folder / part):
        return [folder / part]
    return [folder / name for name in glob.glob(part, root_dir=folder)]


def matches(base: Path, pattern: str, folder: str) -> bool:
    """Return True if a pattern matches a folder, which may be gone."""
    start, parts = _parts(base, pattern)
    names = Path(folder).parts
    if names[: len(start.parts)] != start.parts or len(names) != len(start.parts) + len(parts):
        return False
    return _fits(names[len(start.parts) :], parts)


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    return all(n == p or fnmatch.fnmatchcase(n, p) for n, p in zip(names, parts, strict=True))


def _parts(base: Path, pattern: str) -> tuple[Path, tuple[str, ...]]:
    """Split a pattern into the folder where it begins and its parts below that."""
    path = Path(os.path.expanduser(pattern))
    if path.is_absolute():
        return Path(path.anchor), path.parts[1:]
    return base, path.parts
