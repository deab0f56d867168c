"""The shards of an array, written a row of a map at a time.

A shard file is its encoded chunks in any order, then an index of their places and the index's CRC-32C
(https://zarr-specs.readthedocs.io, "Sharding codec"), so chunks are appended as they are encoded,
and the index closes the file. Until then the file is hidden; it appears whole or not at all. Of an
input that is longer than a shard each map is added as it is computed: all at once would be gigabytes.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from attnstore.errors import StoreError
from attnstore.storage import chunks
from attnstore.storage.backend import Backend
from attnstore.storage.files import crc32c, remedy

_AT_ONCE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4
"""Threads that encode; zstd and numpy let go of Python's lock."""
_MISSING = np.iinfo(np.uint64).max


class Piece(NamedTuple):
    """The part of one row of an array that lies in one shard. values: at most a shard's, as stored."""

    shard: int
    layer: int
    row: int
    values: npt.NDArray[Any]


class ShardWriter:
    """Writes some shards of an array that follow each other.

    paths: of the shards; rows: sizes of the first two axes; shard, chunk: sizes along the last one;
    kind: type on disk. Used as a context manager: files not finished by the end of the block are deleted.
    """

    def __init__(
        self,
        backend: Backend,
        paths: Sequence[str],
        rows: tuple[int, int],
        shard: int,
        chunk: int,
        kind: np.dtype[Any],
    ) -> None:
        self._backend, self._paths = backend, list(paths)
        self._shard, self.chunk, self._kind = shard, chunk, kind
        self._index = np.full((len(paths), *rows, shard // chunk, 2), _MISSING, "<u8")
        with self._explained():
            self._files = [self._backend.temporary(path) for path in self._paths]
        self._pool = ThreadPoolExecutor(_AT_ONCE)
        self._held: dict[tuple[int, int, int], bytes] = {}

    def add(self, layer: int, row: int, values: npt.NDArray[Any]) -> None:
        """Append one row, as (L²,) cells of a map as stored.

        layer, row: its index along the first two axes. What the shards hold beyond the values
        becomes zeros. Raises StoreError.
        """
        self._append(self._pieces(layer, row, values))

    def add_all(self, values: npt.NDArray[Any]) -> None:
        """Append every row: (layers, rows, cells or tokens of the shards) as stored. Raises StoreError."""
        self._append(
            piece
            for layer, of_layer in enumerate(values)
            for row, one in enumerate(of_layer)
            for piece in self._pieces(layer, row, one)
        )

    def add_chunks(self, values: npt.NDArray[Any], numbers: Sequence[int]) -> None:
        """Encode some chunks of every row of the only shard; callable from several threads at once.

        values: (layers, rows, cells of the shard) as stored, of which these chunks are complete. They are
        encoded in the calling thread and held until `finish`, so that a file does not depend on the order
        in which its chunks come.
        """
        for layer, rows in enumerate(np.asarray(values, self._kind)):
            for row, one in enumerate(rows):
                for at in numbers:
                    data = chunks.encode(one[at * self.chunk : (at + 1) * self.chunk])
                    self._held[layer, row, at] = data

    def _pieces(self, layer: int, row: int, values: npt.NDArray[Any]) -> Iterator[Piece]:
        for shard in range(len(self._files)):
            at = shard * self._shard
            yield Piece(shard, layer, row, values[at : at + self._shard])

    def _append(self, pieces: Iterable[Piece]) -> None:
        """Encode pieces in threads, and append them to their files in the given order."""
        pending: deque[tuple[Piece, Future[list[bytes]]]] = deque()
        with self._explained():
            for piece in pieces:
                pending.append((piece, self._pool.submit(self._encoded, piece.values)))
                if len(pending) > 2 * _AT_ONCE:
                    self._put(*pending.popleft())
            while pending:
                self._put(*pending.popleft())

    def _put(self, piece: Piece, future: Future[list[bytes]]) -> None:
        """Append the encoded chunks of a piece to its file."""
        encoded = future.result()
        with self._files[piece.shard].open("ab") as file:
            _append(file, encoded, self._index[piece.shard, piece.layer, piece.row])

    def _put_held(self) -> None:
        """Append the chunks of `add_chunks` to the file of the only shard, row by row."""
        _, *shape, _ = self._index.shape
        with self._files[0].open("ab") as file:
            for layer, row in np.ndindex(*shape[:2]):
                encoded = [self._held.pop((layer, row, at)) for at in range(shape[2])]
                _append(file, encoded, self._index[0, layer, row])

    def _encoded(self, values: npt.NDArray[Any]) -> list[bytes]:
        """Encode the chunks of a piece, filled up with zeros."""
        values = np.ascontiguousarray(values, self._kind)
        if len(values) < self._shard:
            values = np.pad(values, (0, self._shard - len(values)))
        return [
            chunks.encode(values[at : at + self.chunk]) for at in range(0, self._shard, self.chunk)
        ]

    def finish(self) -> tuple[list[int], int]:
        """Close every shard and rename it into place; returns their CRC-32C and total bytes.

        Raises StoreError where they cannot be written, ValueError where a row is missing.
        """
        if self._held:
            with self._explained():
                self._put_held()
        if (self._index == _MISSING).any():
            raise ValueError("a map of the input was never added")
        self._backend.require_hold()
        with self._explained():
            for file, path, index in zip(self._files, self._paths, self._index, strict=True):
                data = index.tobytes()
                with file.open("ab") as opened:
                    opened.write(data + crc32c(data).to_bytes(4, "little"))
                    opened.flush()
                    os.fsync(opened.fileno())
                self._backend.adopt(file, path)
            return self._backend.settled(self._paths)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"Cannot write {self._paths[0]} in {self._backend.name}: {error.strerror or error}; "
                f"{remedy(error)}, then run the same command again: finished blocks are kept."
            ) from error

    def __enter__(self) -> ShardWriter:
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Delete the files that were not renamed into place."""
        self._pool.shutdown(cancel_futures=True)
        for file in self._files:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


def _append(file: BinaryIO, encoded: Sequence[bytes], places: npt.NDArray[Any]) -> None:
    """Append the encoded chunks of a row to a file. places: (chunks, 2) takes offset and size of each."""
    sizes = np.array([len(data) for data in encoded], "<u8")
    places[:, 0] = file.tell() + np.cumsum(sizes) - sizes
    places[:, 1] = sizes
    file.writelines(encoded)
