"""The seal of the index: a checksum of every block of the file, kept beside it.

The first line holds the seal's value, the file's size and its time of change; after it come, block
by block, how the block begins and its CRC-32C. DuckDB begins each block with its own checksum of it,
so a block that begins as before has not been written since: sealing again after a small change reads
little of a large file. A byte that changes in another way leaves the beginning as it was, and shows.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from attnstore.disk import files

HEAD, BLOCK = 3 * 4096, 1 << 18
"""Bytes of a DuckDB file before its first block (its three headers), and of a block."""
_BEGIN, _ENTRY = 8, 12


@dataclass(frozen=True)
class Seal:
    """What a file was when it was sealed.

    value: stands for the whole content; size in bytes, modified in nanoseconds; blocks: an entry of
    12 bytes for the head and for each block.
    """

    value: int
    size: int
    modified: int
    blocks: bytes

    def untouched(self, file: Path) -> bool:
        """Whether no program has written the file since, as far as the system tells."""
        stat = file.stat()
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.modified)

    def fits(self, file: Path) -> bool:
        """Whether every byte of the file is what it was; reads all of it."""
        return file.stat().st_size == self.size and _blocks(file, b"") == self.blocks


def read(path: Path) -> Seal | None:
    """The seal in a file; None if it is missing or is none."""
    try:
        line, _, blocks = path.read_bytes().partition(b"\n")
        value, size, modified = line.split()
        seal = Seal(int(value, 16), int(size), int(modified), blocks)
    except (OSError, ValueError):
        return None
    return seal if files.crc32c(blocks) == seal.value else None


def value(path: Path) -> int | None:
    """The value of the seal in a file, from its first line alone; None as in `read`."""
    try:
        with path.open("rb") as file:
            first, _size, _modified = file.readline().split()
        return int(first, 16)
    except (OSError, ValueError):
        return None


def write(path: Path, file: Path, before: Seal | None = None) -> None:
    """Seal a file. before: its seal before DuckDB wrote it, if that still fitted."""
    blocks, stat = _blocks(file, before.blocks if before else b""), file.stat()
    line = f"{files.crc32c(blocks):08x} {stat.st_size} {stat.st_mtime_ns}\n"
    files.write_file(path, line.encode() + blocks)


def _blocks(file: Path, known: bytes) -> bytes:
    """The entries of a file; of a block that begins as in `known`, the entry is taken from there."""
    entries: list[bytes] = []
    at, length = 0, HEAD
    with file.open("rb", buffering=0) as handle:
        while begin := os.pread(handle.fileno(), _BEGIN, at):
            entry = known[len(entries) * _ENTRY : (len(entries) + 1) * _ENTRY]
            if not at or entry[:_BEGIN] != begin:
                data = os.pread(handle.fileno(), length, at)
                entry = begin.ljust(_BEGIN, b"\0") + files.crc32c(data).to_bytes(4, "little")
            entries.append(entry)
            at, length = at + length, BLOCK
    return b"".join(entries)
