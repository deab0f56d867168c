"""Contiguous reads that serve many small requests, so that each chunk is decoded once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Read:
    """One contiguous read: of `row`, from start to stop; parts: (offset in it, size, target)."""

    row: int
    start: int
    stop: int
    parts: list[tuple[int, int, int]]


def reads_of(row: Ints, start: Ints, count: Ints, gap: int) -> list[Read]:
    """Serve requests by few contiguous reads.

    Args:
        row: (n,) of each request.
        start: (n,) first cell.
        count: (n,) number of cells.
        gap: most unread cells between two requests that share a read.
    """
    return _merge(_segments(row, start, count), gap)


def cut(reads: list[Read], cells: int) -> Iterator[Read]:
    """Cut reads at multiples of `cells`, the size of a shard, and leave out what no request asks for."""
    for read in reads:
        if read.start // cells == (read.stop - 1) // cells:
            yield read
        else:
            yield from _cut(read, cells)


def _cut(read: Read, cells: int) -> Iterator[Read]:
    places: dict[int, list[tuple[int, int, int]]] = {}
    for offset, size, target in read.parts:
        start, stop = read.start + offset, read.start + offset + size
        for at in range(start // cells, (stop - 1) // cells + 1):
            begin, end = max(start, at * cells), min(stop, (at + 1) * cells)
            places.setdefault(at, []).append((begin, end, target + begin - start))
    for parts in places.values():
        first, last = min(begin for begin, _, _ in parts), max(end for _, end, _ in parts)
        inside = [(begin - first, end - begin, target) for begin, end, target in parts]
        yield Read(read.row, first, last, inside)


def _segments(row: Ints, start: Ints, count: Ints) -> npt.NDArray[np.int64]:
    """Join requests that continue one another: (4, n) of row, start, count, target, sorted."""
    target = np.cumsum(count) - count
    new = np.empty(len(row), bool)
    new[0] = True
    new[1:] = (row[1:] != row[:-1]) | (start[1:] != start[:-1] + count[:-1])
    at = np.flatnonzero(new)
    segments = np.stack([row[at], start[at], np.add.reduceat(count, at), target[at]])
    return segments[:, np.lexsort((segments[1], segments[0]))]


def _merge(segments: npt.NDArray[np.int64], gap: int) -> list[Read]:
    """Group sorted segments into reads: same row, and no more than `gap` unread cells between."""
    row, start, count, target = segments
    apart = int(start.max() + count.max() + gap + 1)  # lays the rows end to end, never in reach
    reach = np.maximum.accumulate(row * apart + start + count)
    new = np.empty(len(row), bool)
    new[0] = True
    new[1:] = (row[1:] * apart + start[1:] > reach[:-1] + gap) | (row[1:] != row[:-1])
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(row)) - 1
    begin = start[first]
    offset = start - np.repeat(begin, last - first + 1)
    parts = list(zip(offset.tolist(), count.tolist(), target.tolist(), strict=True))
    return [
        Read(r, b, e - r * apart, parts[f : t + 1])
        for r, b, e, f, t in zip(
            row[first].tolist(),
            begin.tolist(),
            reach[last].tolist(),
            first.tolist(),
            last.tolist(),
            strict=True,
        )
    ]
