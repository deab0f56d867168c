"""Compute and commit one block of a run.

A block is the unit of work, retry and commit. Computing fills one buffer per block in storage
precision (never all layers in float32 at once); committing writes the shards, then `array_blocks`,
`offsets`, `map_stats` and the fragment of `blocks`, whose existence is the commit. The forward passes of one block and
the next run side by side in `pass_threads`; committing is one at a time, and overlaps with them.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch

from attnstore import offsets
from attnstore.capture import examination, passes
from attnstore.capture.finished_chunks import FinishedChunks
from attnstore.capture.moved_arrays import MovedSink
from attnstore.capture.offsets import Profile
from attnstore.capture.pass_threads import PassThreads
from attnstore.capture.passes import OnBatch
from attnstore.capture.runs import Run
from attnstore.capture.sink import BatchSink, Buffer, LongSink, Sink, distance
from attnstore.errors import CaptureError
from attnstore.job import Report, Unit
from attnstore.models import loading
from attnstore.models.attention_hook import Capturer
from attnstore.models.checkpoints import Checkpoint
from attnstore.models.moved import Listener
from attnstore.naming import ROW_OFF
from attnstore.statistics import NAMES
from attnstore.storage import array_blocks, array_kinds, arrays, fragments, layout
from attnstore.storage.arrays import Further, Written
from attnstore.storage.precision import PRECISIONS
from attnstore.storage.shard_writer import ShardWriter

_BUFFER_BYTES = 4 << 30
"""Memory for blocks in work, their buffers and what is encoded of them; two there are whatever their size."""


@dataclass(frozen=True)
class Stored(Report):
    """Cost of storing a block: seconds of wall time, of them in forward passes, and their device.

    The unit's items are examples, its size is cells per head.
    """

    seconds: float
    forward_seconds: float
    device: str


Statistics = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class _Computed:
    """A block whose maps are in its buffer. statistics: (inputs, layers, heads, len(NAMES));
    seconds: in forward passes, of all threads over their number; further: value_norm and mixing."""

    statistics: Statistics
    profile: Profile
    seconds: float
    further: Further


def _give_back() -> None:
    """Return freed memory to the system: glibc retains memory freed by each writing thread."""
    with contextlib.suppress(OSError, AttributeError):  # another libc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class BlockWorker:
    """Computes and commits blocks of one run; `store` may be called from any number of threads.

    at_once: how many blocks are in work then; further calls wait. Each has one buffer, a shard of all
    layers and heads in storage precision, while it is computed, and what is encoded of it until it is committed.
    """

    def __init__(
        self,
        run: Run,
        checkpoint: Checkpoint,
        device: str = "auto",
        capturer: Capturer | None = None,
        on_batch: OnBatch = lambda *_: None,
        require_going: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the arrays of the run, and load the model unless `capturer` has it.

        capturer: the model as loaded and examined while the run was planned; on_batch: called
        after forward passes, from the thread that computes; require_going: called as layers come,
        from there too, to end a block by what it raises.
        """
        self.run, self._on_batch, self._require_going = run, on_batch, require_going
        self.device = loading.pick_device(device)
        loaded = capturer or examination.recall(run.record, run.plan, checkpoint, self.device)
        self.capturer = loaded.until(run.record.layers)
        self._layers = {layer: i for i, layer in enumerate(run.record.layers)}
        self._heads = torch.tensor(run.record.heads, device=self.device)
        self._all_heads = len(run.record.heads) == self.capturer.n_heads
        self._arrays = arrays.open_run(run.backend, run.run, run.shape)
        self._compared = False
        self._threads = PassThreads(self.capturer, self.device)
        shape = (len(self._layers), len(self._heads), layout.SHARD_CELLS)
        self._buffer_shape, precision = shape, PRECISIONS[run.record.precision]
        fitting = _BUFFER_BYTES // (2 * math.prod(shape) * precision.dtype.itemsize)
        # One for each thread of forward passes, and one that is written: this bounds the memory.
        self.at_once = max(min(self._threads.count + 1, fitting), 2)
        self._in_work = threading.Semaphore(self.at_once)
        self._free: queue.LifoQueue[Buffer | None] = queue.LifoQueue()
        for _ in range(self.at_once):
            self._free.put(None)  # made when first needed
        self._committing = threading.Lock()

    def close(self) -> None:
        """End the threads of forward passes, and let the buffers go; another block makes them again."""
        self._threads.close()
        n_free = self._free.qsize()
        for _ in range(n_free):
            self._free.get()
        for _ in range(n_free):
            self._free.put(None)

    def store(self, unit: Unit) -> Stored:
        """Compute and commit one block; callable from any number of threads at once.

        The worker alone decides how many blocks are in work (`at_once`): a call beyond them waits, and an
        error in one call leaves the others alone. Raises CaptureError (maps that must not be stored),
        StoreError (they cannot be written).
        """
        began, number = time.perf_counter(), unit.number
        rows = self.run.plan[self.run.blocks[number]]
        store = self._store_long if passes.is_long(rows) else self._store_at_once
        n_bytes, forward = store(number, rows)
        _give_back()
        seconds = time.perf_counter() - began
        return Stored(unit, n_bytes, seconds, forward, str(self.device))

    def _store_at_once(self, number: int, rows: pl.DataFrame) -> tuple[int, float]:
        """Store a block of one shard through a buffer; returns its bytes, and the seconds of forward passes."""
        first = int(rows["cell"][0]) // layout.SHARD_CELLS
        with (
            self._in_work,
            self._arrays.writer("maps", first, 1) as writer,
            contextlib.ExitStack() as held,
        ):
            with self._threads.computing():
                buffer = held.enter_context(self._buffer())
                computed = self._compute(rows, buffer, writer)
            received = buffer.host_received.numpy().copy()
            if buffer.is_host:
                held.close()  # the maps are encoded
            with self._committing:
                if not buffer.is_host:
                    writer.add_all(buffer.host_maps.numpy())
                    held.close()
                array_blocks.describe(self._arrays, computed.further)
                written = {"maps": writer.finish()}
                written |= self._arrays.write_block(first, None, received, computed.further)
                n_bytes = self._commit(number, rows, computed.statistics, computed.profile, written)
                return n_bytes, computed.seconds

    def _store_long(self, number: int, rows: pl.DataFrame) -> tuple[int, float]:
        """Store a block of several shards, which holds one input: its maps go to disk head by head."""
        record, first = self.run.record, int(rows["cell"][0]) // layout.SHARD_CELLS
        length = int(rows["length"][0])
        count = -(-(length**2) // layout.SHARD_CELLS)
        heads = {head: index for index, head in enumerate(record.heads)}
        with (
            self._threads.computing_alone(),
            self._arrays.writer("maps", first, count) as writer,
        ):
            began = time.perf_counter()
            way = self.capturer.way
            sink = LongSink(
                rows, self._layers, heads, record.precision, self.device, writer.add, way.sinks
            )
            share = length**2 / (len(way.layers) * way.n_heads)

            def take(layer: int, head: int, weights: torch.Tensor) -> None:
                self._require_going()
                sink.take(layer, head, weights)
                self._on_batch(0, share * weights.shape[1])

            moved = MovedSink(rows, self._layers, self._heads, self.capturer)
            moved.begin(slice(0, 1))
            passes.run_long(self.capturer, rows, take, moved.listener)
            self._on_batch(1, 0.0)
            forward = time.perf_counter() - began - sink.seconds
            self._refuse_unsound(rows, sink.off.numpy())
            with self._committing:
                further = moved.arrays()
                array_blocks.describe(self._arrays, further)
                written = {"maps": writer.finish()}
                written |= self._arrays.write_block(first, None, sink.received.numpy(), further)
                n_bytes = self._commit(
                    number, rows, sink.statistics.numpy(), sink.profile(), written
                )
                return n_bytes, forward

    @contextlib.contextmanager
    def _buffer(self) -> Iterator[Buffer]:
        """Hold a buffer for one shard."""
        buffer = self._take()
        try:
            yield buffer
        finally:
            self._free.put(buffer)

    def _take(self) -> Buffer:
        """Return a buffer for one shard, used again and again; made where all made ones are in use."""
        buffer = self._free.get()
        return buffer or Buffer.make(self._buffer_shape, self.run.record.precision, self.device)

    def _compute(self, rows: pl.DataFrame, buffer: Buffer, writer: ShardWriter) -> _Computed:
        """Run the passes of a block side by side with those of others.

        Maps that are on the host as they are computed are encoded at once, and appended to `writer`.
        """
        heads, way = None if self._all_heads else self._heads, self.capturer.way
        sink = Sink(rows, buffer, self._layers, heads, way.sinks)
        moved = MovedSink(rows, self._layers, self._heads, self.capturer)
        cut = passes.batches(self.capturer, rows, self.device)
        compared = None if self._compared else passes.fullest(cut)
        chunks = FinishedChunks(writer, buffer.host_maps.numpy(), *passes.cells(rows, cut))

        def work(number: int, batch: slice, capturer: Capturer) -> float:
            over = sink.over(batch), moved.over(batch).listener
            seconds = self._pass(capturer, rows[batch], *over)
            if batch == compared:
                self._refuse_unsound(rows, sink.off.cpu().numpy())
                self._compare_one(capturer, rows, batch, buffer, moved)
            if buffer.is_host:
                chunks.finish(number)
            return seconds

        seconds = self._threads.run([partial(work, *numbered) for numbered in enumerate(cut)])
        buffer.to_host()
        self._refuse_unsound(rows, sink.off.cpu().numpy())
        self._compared = True
        forward = sum(seconds) / self._threads.count
        return _Computed(sink.statistics.cpu().numpy(), sink.profile(), forward, moved.arrays())

    def _pass(
        self, capturer: Capturer, rows: pl.DataFrame, sink: BatchSink, listener: Listener
    ) -> float:
        """Run one pass of a block, rows of the plan; returns its seconds beside those of the sink."""

        def take(layer: int, weights: torch.Tensor) -> None:
            self._require_going()
            sink.take(layer, weights)

        self._require_going()
        began = time.perf_counter()
        passes.run_one(capturer, rows, take, listener)
        self._on_batch(*passes.extent(rows))
        return time.perf_counter() - began - sink.seconds

    def _compare_one(
        self,
        capturer: Capturer,
        rows: pl.DataFrame,
        batch: slice,
        buffer: Buffer,
        moved: MovedSink,
    ) -> None:
        """Raise CaptureError unless an input of a full batch has the maps that it has when run alone.

        rows: of the block; batch: of them those of the pass, which has ended. The model was examined with a
        few inputs; errors of larger batches show only here.
        """
        at, n_inputs = (batch.start + batch.stop) // 2, batch.stop - batch.start
        n, start = int(rows["length"][at]), int(rows["cell"][at]) - int(rows["cell"][0])
        token = int(rows["length"][:at].sum())
        off, comparison = 0.0, moved.comparison(at)

        def compare(layer: int, weights: torch.Tensor) -> None:
            nonlocal off
            if (axis := self._layers.get(layer)) is not None:
                stored = buffer.maps[axis, :, start : start + n * n].view(-1, n, n)
                alone = weights[0].index_select(0, self._heads)
                off = max(off, distance(stored, alone, buffer.precision))
                # Means of columns are not rounded, so they show what a coarse precision hides.
                received = buffer.received[axis, :, token : token + n]
                off = max(off, float((received - alone.mean(1)).abs().max()))

        if n_inputs > 1:
            passes.run_alone(capturer, rows, at, compare, comparison.listener)
        if not off <= ROW_OFF:  # NaN is wrong too
            raise CaptureError(
                f"The maps of example {rows['example'][at]} in a batch of {n_inputs} inputs differ by up "
                f"to {off:.3g} from those of that input alone: what the model computes of an input "
                "depends on the others in its batch, so nothing is stored; use another model."
            )
        comparison.require(f"example {rows['example'][at]} in a batch of {n_inputs} inputs")

    def _refuse_unsound(self, rows: pl.DataFrame, off: np.ndarray[Any, Any]) -> None:
        wrong = np.argwhere(~(off <= ROW_OFF))  # NaN is wrong too
        if len(wrong):
            i, layer, head = wrong[0]
            raise CaptureError(
                f"The map of example {rows['example'][int(i)]}, layer {list(self._layers)[layer]}, "
                f"head {self.run.record.heads[head]} has rows that do not sum to 1 (off by "
                f"{off[i, layer, head]:.3g}): nothing of this block is stored; "
                "`attnstore doctor MODEL` shows what is wrong with the model."
            )

    def _commit(
        self,
        number: int,
        rows: pl.DataFrame,
        statistics: Statistics,
        profile: Profile,
        written: Written,
    ) -> int:
        """Commit further arrays, then profile and statistics, then the block, once the shards are written.

        statistics: (inputs, layers, heads, len(NAMES)); written: result of `write_block`. Returns the
        shards' bytes.
        """
        run, first = self.run, int(rows["cell"][0]) // layout.SHARD_CELLS
        names = [kind.name for kind in array_kinds.CAPTURED]
        n_further = array_blocks.commit(self._arrays, run.key, number, first, names, written)
        of_heads = profile.rows(run.key, number, run.record.layers, run.record.heads)
        fragments.write(run.backend, offsets.TABLE, run.run, f"{number:06d}", of_heads)
        frame = self._map_stats(number, statistics, rows)
        fragments.write(run.backend, "map_stats", run.run, f"{number:06d}", frame)
        row = {
            "run_key": run.key, "block": number, "first_shard": first,
            "n_shards": len(written["maps"][0]), "examples": len(rows),
            "n_tokens": int(rows["length"].sum()),
            "n_cells": int((rows["length"].cast(pl.Int64) ** 2).sum()),
            "maps_crc32c": written["maps"][0], "received_crc32c": written["received"][0],
            "maps_bytes": written["maps"][1], "received_bytes": written["received"][1],
        }  # fmt: skip
        mark = pl.DataFrame([row], schema_overrides={"run_key": pl.UInt64})
        fragments.write(run.backend, "blocks", run.run, f"{number:06d}", mark)
        return written["maps"][1] + written["received"][1] + n_further

    def _map_stats(self, number: int, statistics: Statistics, rows: pl.DataFrame) -> pl.DataFrame:
        """Return one row per map, ordered as the maps are stored: layer, head, input."""
        layers, heads = self.run.record.layers, self.run.record.heads
        n = len(rows)
        flat = statistics.transpose(1, 2, 0, 3).reshape(-1, len(NAMES))
        keys = {
            "run_key": pl.repeat(self.run.key, len(flat), dtype=pl.UInt64, eager=True),
            "block": pl.repeat(number, len(flat), dtype=pl.Int32, eager=True),
            "layer": np.repeat(np.array(layers, np.int16), len(heads) * n),
            "head": np.tile(np.repeat(np.array(heads, np.int16), n), len(layers)),
            "example": np.tile(rows["example"].to_numpy(), len(layers) * len(heads)),
        }
        measures = {name: flat[:, i] for i, name in enumerate(NAMES)}
        return pl.DataFrame({**keys, **measures}).with_columns(pl.col(NAMES).fill_nan(None))
