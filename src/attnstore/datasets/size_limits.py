"""Limits on text in memory: what is larger is refused before it is read.

A source that is too large ends in one sentence, not in a process that the system kills.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import polars as pl

from attnstore.errors import DatasetError
from attnstore.formatting import size

SHARE = 4
"""Texts may take a quarter of the memory: they are copied while they become a table."""
ROW_BYTES = 256
"""Bytes of a row beside its texts: its places in every column, its number, its plan."""
CHARACTERS = 1_000_000
"""The longest text. A model reads at most 32,768 tokens of it, and a tokenizer needs about a
kilobyte for each character of the whole; spaCy has the same limit."""
_UNKNOWN = 8 << 30
"""Memory of a machine that does not say how much it has, in bytes."""
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@cache
def memory() -> int:
    """Return bytes of memory that this process may use: the machine's, or its container's if less."""
    try:
        n_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on every system
        n_bytes = _UNKNOWN
    for file in _CGROUPS:
        try:
            n_bytes = min(n_bytes, int(Path(file).read_text("ascii")))
        except (OSError, ValueError):  # none, or "max"
            continue
    return n_bytes


def refuse(source: str, n_bytes: int, what: str = "its texts take") -> None:
    """Raise DatasetError where `n_bytes` of text are more than fit."""
    most = memory() // SHARE
    if n_bytes > most:
        raise DatasetError(
            f"{source} is too large for this machine: {what} {size(n_bytes)} in memory, and at most "
            f"{size(most)} are read (a quarter of the memory); write a part of its rows to another "
            "file, or use a machine with more memory"
        )


def refuse_long(source: str, column: str | None, texts: pl.Series) -> None:
    """Raise DatasetError, with the row, for a text that no tokenizer should be given."""
    row = texts.str.len_chars().fill_null(0).arg_max()
    if row is not None and (characters := len(texts[row] or "")) > CHARACTERS:
        raise DatasetError(
            f"row {row} of {source} holds a text of {characters:,} characters in column {column!r}, "
            f"and one may have {CHARACTERS:,}; if line ends are missing put them back, else split it "
            "into passages"
        )
