"""The seal of the index: a checksum of every block of the file, kept beside it.

The first line holds the seal's value, the file's size and its times of change; after it come, block
by block, how the block begins and its CRC-32C. DuckDB begins each block with its own checksum of it,
so a block that begins as before has hardly been written since: sealing again after a small change reads
little of a large file. Corruption inside a block leaves its prefix unchanged; the CRC mismatch
reveals it.

DuckDB's checksum is an exclusive or over words, the same in any order, so a block that it rewrote
may begin as the old one did. Entries taken over unread are marked; where the CRC-32C of such a block
differs, DuckDB's own checksum decides, and a byte that rotted never passes that.

The time of change (ctime) is the system's: no program sets it, and a copy has its own. So a file with
the seal's size and times is the very file that this machine sealed, untouched since.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnstore.storage import files

HEAD, BLOCK = 3 * 4096, 1 << 18
"""Bytes of a DuckDB file before its first block (its three headers), and of a block."""
_BEGIN, ENTRY = 8, 13
"""Bytes that are compared, and of an entry: those, the CRC-32C, and whether it was taken over."""
_TAKEN = b"\1"


@dataclass(frozen=True)
class Seal:
    """State of a file when it was sealed.

    value: stands for the whole content; size in bytes; modified, changed: mtime and ctime in
    nanoseconds; blocks: an entry for the head and for each block.
    """

    value: int
    size: int
    modified: int
    changed: int
    blocks: bytes

    def untouched(self, file: Path) -> bool:
        """Return True if this is the sealed file itself, and no program has written it since."""
        try:
            return _times(file.stat()) == (self.size, self.modified, self.changed)
        except FileNotFoundError:
            return False

    def fits(self, file: Path) -> bool:
        """Return True if every byte of the file is unchanged; reads all of it."""
        entries = [self.blocks[i : i + ENTRY] for i in range(0, len(self.blocks), ENTRY)]
        n = 0
        with file.open("rb", buffering=0) as handle:
            for data in _pieces(handle.fileno()):
                if n == len(entries) or not _same(entries[n], data, n == 0):
                    return False
                n += 1
        return n == len(entries)

    @property
    def stamp(self) -> str:
        """Return a text unique to this state of this file, different for any copy of it."""
        return f"{self.value:08x}-{self.changed:x}"


def read(path: Path) -> Seal | None:
    """Read the seal in a file; None if it is missing or invalid."""
    seal = _read(path, whole=True)
    return seal if seal and files.crc32c(seal.blocks) == seal.value else None


def first_line(path: Path) -> Seal | None:
    """Read the seal in a file without its blocks, from the first line alone; None as in `read`."""
    return _read(path, whole=False)


def write(path: Path, file: Path, before: Seal | None = None) -> None:
    """Seal a file. before: its seal before DuckDB wrote it, if that still fitted."""
    blocks = _blocks(file, before.blocks if before else b"")
    size, modified, changed = _times(file.stat())
    line = f"{files.crc32c(blocks):08x} {size} {modified} {changed}\n"
    files.write_file(path, line.encode() + blocks)


def _read(path: Path, whole: bool) -> Seal | None:
    try:
        with path.open("rb") as file:
            value, size, modified, changed = file.readline().split()
            blocks = file.read() if whole else b""
        return Seal(int(value, 16), int(size), int(modified), int(changed), blocks)
    except (OSError, ValueError):
        return None


def _times(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _pieces(handle: int) -> Iterator[bytes]:
    """Yield the head of an open file, then its blocks."""
    at, length = 0, HEAD
    while data := os.pread(handle, length, at):
        yield data
        at, length = at + length, BLOCK


def _entry(data: bytes) -> bytes:
    return data[:_BEGIN].ljust(_BEGIN, b"\0") + files.crc32c(data).to_bytes(4, "little")


def _same(entry: bytes, data: bytes, head: bool) -> bool:
    """Return True if a block matches its entry; the head is always read."""
    if entry[:-1] == _entry(data):
        return True
    taken = not head and entry[-1:] == _TAKEN and entry[:_BEGIN] == data[:_BEGIN]
    return taken and len(data) == BLOCK and _checksum(data[_BEGIN:]) == data[:_BEGIN]


def _checksum(data: bytes) -> bytes:
    """Compute DuckDB's checksum of a block's content (src/common/checksum.cpp), stored before it."""
    words = np.frombuffer(data, "<u8") * np.uint64(0xBF58476D1CE4E5B9)
    return (int(np.bitwise_xor.reduce(words)) ^ 5381).to_bytes(8, "little")


def _blocks(file: Path, old: bytes) -> bytes:
    """Compute the entries of a file; reuse that of a block that begins as in `old`."""
    entries: list[bytes] = []
    at, length = 0, HEAD
    with file.open("rb", buffering=0) as handle:
        while begin := os.pread(handle.fileno(), _BEGIN, at):
            entry = old[len(entries) * ENTRY : (len(entries) + 1) * ENTRY]
            if at and entry[:_BEGIN] == begin:
                entries.append(entry[:-1] + _TAKEN)
            else:
                entries.append(_entry(os.pread(handle.fileno(), length, at)) + b"\0")
            at, length = at + length, BLOCK
    return b"".join(entries)
