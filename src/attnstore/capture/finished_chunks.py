"""Encode the maps of a block while its forward passes run, each chunk once all of its cells are there.

The thread of the pass that completes a chunk encodes it: no further thread competes for the cores, and
little is left to do when the last pass of an ingestion ends.
"""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from attnstore.storage.shard_writer import ShardWriter


class FinishedChunks:
    """The chunks of one shard of maps that passes still have to fill.

    writer: of the shard; maps: (layers, heads, cells of the shard) as stored, which passes fill; first,
    stop: (passes,) the cells of each pass of the block, in order. What lies behind the last one is zero.
    """

    def __init__(
        self,
        writer: ShardWriter,
        maps: npt.NDArray[np.generic],
        first: npt.NDArray[np.int64],
        stop: npt.NDArray[np.int64],
    ) -> None:
        self._writer, self._maps = writer, maps
        n_chunks = maps.shape[2] // writer.chunk
        ends = -(-stop // writer.chunk)
        ends[-1] = n_chunks
        self._chunks = [range(a, b) for a, b in zip(first // writer.chunk, ends, strict=True)]
        self._passes = np.zeros(n_chunks, np.int64)  # that still have to fill the chunk
        for chunks in self._chunks:
            self._passes[chunks] += 1
        self._counting = threading.Lock()

    def finish(self, number: int) -> None:
        """Encode the chunks that a pass was the last to fill. number: of the pass."""
        chunks = self._chunks[number]
        with self._counting:
            self._passes[chunks] -= 1
            complete = [chunk for chunk in chunks if not self._passes[chunk]]
        self._writer.add_chunks(self._maps, complete)
