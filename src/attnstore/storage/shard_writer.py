"""The shards of one long input, written a map at a time.

A shard holds every layer and head of its cells, and tensorstore writes it in one piece. An input
that is longer than a shard fills several, and all of its maps at once would be gigabytes. A shard
file is its encoded chunks in any order, then an index of their places and the index's CRC-32C
(https://zarr-specs.readthedocs.io, "Sharding codec"), so chunks are appended as maps are computed,
and the index closes the file. Until then the file is hidden; it appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from numcodecs import Blosc

from attnstore.errors import StoreError
from attnstore.storage import arrays, layout
from attnstore.storage.backend import Backend
from attnstore.storage.files import crc32c
from attnstore.storage.precision import PRECISIONS

_AT_ONCE = 2
"""Threads that encode; blosc lets go of Python's lock."""
_MISSING = np.iinfo(np.uint64).max


class ShardWriter:
    """Writes the shards of `maps` that one long input owns.

    first: its first shard; count: how many it owns; shape: layers and heads of the run; precision:
    of the run. Used as a context manager: files not finished by the end of the block are deleted.
    """

    def __init__(
        self,
        backend: Backend,
        run: str,
        first: int,
        count: int,
        shape: tuple[int, int],
        precision: str,
    ) -> None:
        self._backend, self._run = backend, run
        self._dtype = PRECISIONS[precision].dtype
        self._codec = Blosc(**PRECISIONS[precision].numcodecs)
        self._paths = [arrays.shard_path(run, "maps", first + i) for i in range(count)]
        self._files = [self._backend.temporary(path) for path in self._paths]
        self._chunks = layout.SHARD_CELLS // layout.CHUNK_CELLS
        self._index = np.full((count, *shape, self._chunks, 2), _MISSING, "<u8")
        self._pool = ThreadPoolExecutor(_AT_ONCE)

    def add(self, layer: int, head: int, cells: npt.NDArray[Any]) -> None:
        """Append one map.

        layer, head: its index along the first two axes; cells: (L²,) as stored. Cells of the
        shards beyond L² become zeros. Raises StoreError.
        """
        pieces = [
            cells[at : at + layout.SHARD_CELLS]
            for at in range(0, len(self._files) * layout.SHARD_CELLS, layout.SHARD_CELLS)
        ]
        with self._explained():
            tasks = [
                self._pool.submit(self._append, shard, layer, head, piece)
                for shard, piece in enumerate(pieces)
            ]
            for task in tasks:
                task.result()

    def _append(self, shard: int, layer: int, head: int, cells: npt.NDArray[Any]) -> None:
        """Append the chunks of one map that lie in one shard. cells: (at most SHARD_CELLS,)."""
        encoded = []
        with self._files[shard].open("ab") as file:
            offset = file.tell()
            for chunk in range(self._chunks):
                at = chunk * layout.CHUNK_CELLS
                data = self._encode(cells[at : at + layout.CHUNK_CELLS])
                self._index[shard, layer, head, chunk] = offset, len(data)
                offset += len(data)
                encoded.append(data)
            file.writelines(encoded)

    def _encode(self, cells: npt.NDArray[Any]) -> bytes:
        """Encode one chunk of a shard: compressed, then its CRC-32C."""
        if len(cells) < layout.CHUNK_CELLS:
            cells = np.pad(cells, (0, layout.CHUNK_CELLS - len(cells)))
        data = bytes(self._codec.encode(np.ascontiguousarray(cells, self._dtype)))
        return data + crc32c(data).to_bytes(4, "little")

    def finish(self) -> tuple[list[int], int]:
        """Close every shard and rename it into place; returns their CRC-32C and total bytes.

        Raises StoreError where they cannot be written, ValueError where a map is missing.
        """
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
    def _explained(self) -> Any:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"Cannot write {self._paths[0]} of {self._backend.name}: {error.strerror or error}; "
                "free some space or fix the rights to write there, then run the same command "
                "again: finished blocks are kept."
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
