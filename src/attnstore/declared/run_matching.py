"""Which folders a glob of attnstore.toml means: what exists under a name as written is that folder.

`run[12]` is a folder called so where there is one, else run1 and run2.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Sequence
from pathlib import Path


def folders(base: Path, pattern: str) -> list[Path]:
    """The folders that a pattern means, sorted; one that is relative begins at `base`."""
    start, parts = _parts(base, pattern)
    found = [start]
    for part in parts:
        found = [below for folder in found for below in _below(folder, part)]
    return sorted(folder for folder in found if folder.is_dir())


def _below(folder: Path, part: str) -> list[Path]:
    if part == ".." or os.path.lexists(folder / part):
        return [folder / part]
    return [folder / name for name in glob.glob(part, root_dir=folder)]


def means(base: Path, pattern: str, folder: str) -> bool:
    """Whether a pattern means a folder, which may be gone."""
    start, parts = _parts(base, pattern)
    names = Path(folder).parts
    if names[: len(start.parts)] != start.parts or len(names) != len(start.parts) + len(parts):
        return False
    return _fits(names[len(start.parts) :], parts)


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    return all(n == p or fnmatch.fnmatchcase(n, p) for n, p in zip(names, parts, strict=True))


def _parts(base: Path, pattern: str) -> tuple[Path, tuple[str, ...]]:
    """Where a pattern begins, which is a folder as written, and its parts below that."""
    path = Path(os.path.expanduser(pattern))
    if path.is_absolute():
        return Path(path.anchor), path.parts[1:]
    return base, path.parts
