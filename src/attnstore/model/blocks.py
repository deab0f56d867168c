"""One block of a run: its forward passes, and its commit.

A block is the unit of work, retry and commit. Computing fills one buffer per block in storage
precision (never all layers in float32 at once); committing writes the shards, then `map_stats`,
then the fragment of `blocks`, whose existence is the commit. Computing is one at a time in a
process, committing overlaps with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import queue
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch

from attnstore.disk import arrays, fragments, layout
from attnstore.errors import CaptureError
from attnstore.model import examining, models
from attnstore.model.capture import Capturer
from attnstore.model.checkpoints import Checkpoint
from attnstore.model.runs import Run
from attnstore.model.sink import Buffer, Sink
from attnstore.names import ROW_OFF, STATISTICS

_BUFFERS = 2  # one being filled, one being written


@dataclass(frozen=True)
class Stored:
    """What storing a block took. bytes on disk; seconds of wall time, of them in forward passes;
    device of these."""

    block: int
    examples: int
    n_cells: int
    bytes: int
    seconds: float
    forward_seconds: float
    device: str


@dataclass(frozen=True)
class _Computed:
    """A block in memory. statistics, off: (inputs, layers, heads, …) on the host."""

    number: int
    buffer: Buffer
    statistics: np.ndarray[Any, np.dtype[np.float32]]
    seconds: float
    forward_seconds: float


def _give_back() -> None:
    """Return freed memory to the system: glibc keeps what each writing thread has freed."""
    with contextlib.suppress(OSError, AttributeError):  # another libc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class BlockWorker:
    """Computes and commits blocks of one run; its methods may be called from two threads."""

    def __init__(
        self,
        run: Run,
        checkpoint: Checkpoint,
        device: str = "auto",
        capturer: Capturer | None = None,
    ) -> None:
        """capturer: the model as the run's planning has loaded and examined it; else it is loaded."""
        self.run = run
        self.device = models.pick_device(device)
        self.capturer = capturer or examining.recall(run.record, run.plan, checkpoint, self.device)
        self._layers = {layer: i for i, layer in enumerate(run.record["layers"])}
        self._heads = torch.tensor(run.record["heads"], device=self.device)
        self._all_heads = len(run.record["heads"]) == self.capturer.n_heads
        self._arrays = arrays.open_run(run.root, run.run, write=True)
        self._free: queue.Queue[Buffer | None] = queue.Queue()
        for _ in range(_BUFFERS):
            self._free.put(None)  # made when first needed
        # One block in its forward passes, one being written: what bounds the memory.
        self._computing, self._committing = threading.Lock(), threading.Lock()

    def store(self, number: int) -> Stored:
        """Compute and commit one block.

        Raises CaptureError (maps that must not be stored), StoreError (they cannot be written).
        """
        began = time.perf_counter()
        rows = self.run.plan[self.run.blocks[number]]
        buffer = self._take(rows)
        try:
            with self._computing:
                computed = self._compute(number, rows, buffer)
            with self._committing:
                n_bytes = self._commit(computed, rows)
                _give_back()
        finally:
            self._free.put(buffer)
        cells = int((rows["length"].cast(pl.Int64) ** 2).sum())
        seconds = time.perf_counter() - began
        forward = computed.forward_seconds
        return Stored(number, len(rows), cells, n_bytes, seconds, forward, str(self.device))

    def _take(self, rows: pl.DataFrame) -> Buffer:
        """A buffer of the block's size; one that fits is used again."""
        cells = int(rows["cell"][-1]) + int(rows["length"][-1]) ** 2 - int(rows["cell"][0])
        size = -(-cells // layout.SHARD_CELLS) * layout.SHARD_CELLS
        buffer = self._free.get()
        if buffer is not None and buffer.maps.shape[2] == size:
            return buffer
        shape = (len(self._layers), len(self._heads), size)
        return Buffer.make(shape, self.run.record["precision"], self.device)

    def _compute(self, number: int, rows: pl.DataFrame, buffer: Buffer) -> _Computed:
        began = time.perf_counter()
        length = rows["length"].cast(pl.Int64).to_numpy()
        heads, way = None if self._all_heads else self._heads, self.capturer.way
        sink = Sink(rows, buffer, self._layers, heads, way.sinks)
        tokens = examining.batch_tokens(self.device)
        real = (length - rows["kinds"].list.count_matches("pad").to_numpy()).tolist()
        for batch in layout.batches(length, tokens, way.batching):
            sink.begin(batch)
            ids = rows["token_ids"][batch].to_list()
            types = rows["type_ids"][batch].to_list()
            self.capturer.forward(ids, None if types[0] is None else types, sink.take, real[batch])
        sink.finish()
        self._refuse_unsound(rows, sink.off.cpu().numpy())
        seconds = time.perf_counter() - began
        statistics = sink.statistics.cpu().numpy()
        return _Computed(number, buffer, statistics, seconds, seconds - sink.seconds)

    def _refuse_unsound(self, rows: pl.DataFrame, off: np.ndarray[Any, Any]) -> None:
        wrong = np.argwhere(~(off <= ROW_OFF))  # NaN is wrong too
        if len(wrong):
            i, layer, head = wrong[0]
            raise CaptureError(
                f"The map of example {rows['example'][int(i)]}, layer {list(self._layers)[layer]}, "
                f"head {self.run.record['heads'][head]} has rows that do not sum to 1 (off by "
                f"{off[i, layer, head]:.3g}): nothing of this block is stored; "
                "`attnstore doctor MODEL` tells what is wrong with the model."
            )

    def _commit(self, computed: _Computed, rows: pl.DataFrame) -> int:
        """Shards, statistics, then the mark; returns the bytes of the shards."""
        run, number = self.run, computed.number
        first = int(rows["cell"][0]) // layout.SHARD_CELLS
        written = self._arrays.write_block(
            first, computed.buffer.host_maps.numpy(), computed.buffer.host_received.numpy()
        )
        fragments.write(
            run.root, "map_stats", run.run, f"{number:06d}", self._map_stats(computed, rows)
        )
        row = {
            "run_key": run.key, "block": number, "first_shard": first,
            "n_shards": len(written["maps"][0]), "examples": len(rows),
            "n_tokens": int(rows["length"].sum()),
            "n_cells": int((rows["length"].cast(pl.Int64) ** 2).sum()),
            "maps_crc32c": written["maps"][0], "received_crc32c": written["received"][0],
            "maps_bytes": written["maps"][1], "received_bytes": written["received"][1],
        }  # fmt: skip
        fragments.write(run.root, "blocks", run.run, f"{number:06d}", pl.DataFrame([row]))
        return written["maps"][1] + written["received"][1]

    def _map_stats(self, computed: _Computed, rows: pl.DataFrame) -> pl.DataFrame:
        """One row per map, ordered as the maps lie: layer, head, input."""
        layers, heads = self.run.record["layers"], self.run.record["heads"]
        n = len(rows)
        flat = computed.statistics.transpose(1, 2, 0, 3).reshape(-1, len(STATISTICS))
        keys = {
            "run_key": pl.repeat(self.run.key, len(flat), dtype=pl.UInt32, eager=True),
            "block": pl.repeat(computed.number, len(flat), dtype=pl.Int32, eager=True),
            "layer": np.repeat(np.array(layers, np.int16), len(heads) * n),
            "head": np.tile(np.repeat(np.array(heads, np.int16), n), len(layers)),
            "example": np.tile(rows["example"].to_numpy(), len(layers) * len(heads)),
        }
        measures = {name: flat[:, i] for i, name in enumerate(STATISTICS)}
        return pl.DataFrame({**keys, **measures}).with_columns(pl.col(STATISTICS).fill_nan(None))
