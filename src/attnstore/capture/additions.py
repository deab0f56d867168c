"""Add arrays to the committed blocks of a run, with its model; the maps stay as they are.

    job.run(additions.captured(run, checkpoint, "auto"))     # value_norm and mixing, for an older run

What computes an array gives it for the inputs of one block. A block of an array is committed by its
fragment of `array_blocks`, so a kill costs one block, and asking again computes only what is missing or
damaged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import polars as pl

from attnstore.capture import catalog, stored_blocks
from attnstore.capture.runs import Run
from attnstore.errors import BusyError
from attnstore.formatting import size
from attnstore.job import Job, Report, Share, Unit
from attnstore.models.checkpoints import Checkpoint
from attnstore.storage import array_blocks, array_kinds, arrays, fragments, location
from attnstore.storage.array_blocks import Committed
from attnstore.storage.arrays import Further
from attnstore.storage.backend import Backend, File
from attnstore.storage.run_record import RunRecord
from attnstore.storage.snapshot import fresh

OnBatch = Callable[[int, float], None]


class Computer(Protocol):
    """Computes arrays of a run, a block at a time; made with the model loaded."""

    def compute(self, rows: pl.DataFrame) -> Further:
        """Compute the arrays of one block.

        rows: the block's rows of the plan. Returns by name (layers of the run, heads or components,
        cells or tokens of the block's shards) float32, zeros beyond the block's inputs; None for an
        array that cannot be had of the model.
        """


@dataclass(frozen=True)
class Source:
    """What makes a computer, here or in another process.

    make: called with the run, the arguments (both go through a pipe) and what hears of each batch.
    """

    make: Callable[..., Computer]
    arguments: tuple[Any, ...]

    def computer(self, run: Run, on_batch: OnBatch) -> Computer:
        """Load the model. on_batch: called with the inputs of a batch and their cells per head."""
        return self.make(run, *self.arguments, on_batch)


@dataclass(frozen=True)
class Summary:
    """Arrays added to a run. examples: that it holds; stored: of them computed now; bytes: of the arrays;
    without: arrays that cannot be had of the model."""

    run: str
    arrays: tuple[str, ...]
    examples: int
    stored: int
    bytes: int
    without: tuple[str, ...]
    seconds: float

    def lines(self) -> list[str]:
        """Return one line."""
        names = " and ".join(self.arrays)
        computed = (
            f"{self.stored:,} of them computed now in {self.seconds:.1f} s"
            if self.stored
            else "all stored before"
        )
        lacking = (
            f"; {' and '.join(self.without)} cannot be had of this model" if self.without else ""
        )
        return [
            f"{self.run}: {names} of {self.examples:,} examples, {computed}, {size(self.bytes)}{lacking}"
        ]


class Addition(Job[Report, Summary]):
    """Arrays of one run; its units are committed blocks that lack one of them, or hold it damaged."""

    kind, noun = "add", "examples"

    def __init__(self, run: Run, names: Sequence[str], source: Source) -> None:
        """Name it; nothing is looked at yet. names: the arrays, all given by `source`."""
        super().__init__(run.backend, run.run, lock=run.run, subject=f"Run {run.run}")
        self.run, self.names, self._source = run, tuple(names), source
        for name in names:
            array_kinds.find(name)
        self._making = threading.Lock()

    def look(self) -> None:
        """See which blocks lack them. Raises BusyError where the run has just been dropped."""
        self.backend = fresh(self.backend)
        self.run = replace(self.run, backend=self.backend)
        if catalog.find(self.backend, self.run.record.identity) is None:
            raise BusyError(f"Run {self.title} has just been dropped; run the same command again.")
        super().look()

    def lacking(self) -> list[Unit]:
        """Return the committed blocks that lack an array."""
        held = self._held()
        rows = [found.row for found in held.values() if found is not None]
        every = self.backend.is_local and sum(r["bytes"] for r in rows) <= stored_blocks.CHECK_BYTES
        shards = None if every else arrays.shards(self.backend, self.title)
        return [self._unit(n) for n in self._blocks() if not self._whole(n, held, shards)]

    def _blocks(self) -> list[int]:
        """List the committed blocks of the run."""
        listed = fragments.listing(self.backend, "blocks", self.title)
        return sorted({int(f.part) for f in listed})

    def _held(self, part: str | None = None) -> dict[tuple[str, str], Committed | None]:
        return array_blocks.committed(self.backend, self.title, self.run.key, self.names, part)

    def _whole(
        self,
        block: int,
        held: dict[tuple[str, str], Committed | None],
        shards: dict[str, File] | None = None,
    ) -> bool:
        """Return True if a block holds every array whole."""
        return all(
            stored_blocks.whole_array(self.run, held.get((name, f"{block:06d}")), shards)
            for name in self.names
        )

    def _unit(self, block: int) -> Unit:
        rows = self.run.blocks[block]
        lengths = self.run.plan["length"][rows].cast(pl.Int64)
        return Unit(f"block {block}", block, len(lengths), float((lengths**2).sum()))

    @cached_property
    def _computer(self) -> Computer:
        return self._source.computer(self.run, self.move)

    @cached_property
    def _arrays(self) -> arrays.RunArrays:
        return arrays.open_run(self.backend, self.title, self.run.shape)

    def store(self, unit: Unit) -> Report:
        """Compute one block and commit it. Raises ModelError, CaptureError, StoreError."""
        rows = self.run.plan[self.run.blocks[unit.number]]
        with self._making:
            data = self._computer.compute(rows)
        wanted = {name: data[name] for name in self.names}
        first = int(rows["cell"][0]) // self.run.shape.shard_cells
        array_blocks.describe(self._arrays, wanted)
        written = self._arrays.write(first, wanted)
        n_bytes = array_blocks.commit(
            self._arrays, self.run.key, unit.number, first, self.names, written
        )
        return Report(unit, n_bytes)

    def stored(self, unit: Unit) -> Report | None:
        """Return the report of a block that holds the arrays, whole."""
        held = self._held(f"{unit.number:06d}")
        if not self._whole(unit.number, held):
            return None
        return Report(unit, sum(found.row["bytes"] for found in held.values() if found))

    def share(self) -> Share:
        """Return what another process needs to store blocks of them."""
        identity = f"{self.run.record.identity}.{'+'.join(self.names)}"
        arguments = (self.backend.name, self.title, self.run.record, self.names, self._source)
        return Share(identity, elsewhere, arguments)

    def summary(self, seconds: float) -> Summary:
        """Count the examples of the committed blocks."""
        rows = [found.row for found in self._held().values() if found is not None]
        without = tuple(
            name for name in self.names
            if rows and not any(row["crc32c"] for row in rows if row["array"] == name)
        )  # fmt: skip
        examples = sum(self._unit(block).items for block in self._blocks())
        n_bytes = sum(row["bytes"] for row in rows)
        return Summary(
            self.title, self.names, examples, self.n_stored, n_bytes, without, seconds
        )  # fmt: skip


def elsewhere(
    place: str, run: str, record: RunRecord, names: tuple[str, ...], source: Source
) -> Addition:
    """Make an addition in another process, of a run whose lock is held."""
    return Addition(Run(location.locate(place), run, record), names, source)


def captured(run: Run, checkpoint: Checkpoint, device: str = "auto") -> Addition:
    """Add what capture gives beside the maps: value_norm and mixing, to blocks of an earlier capture.

    checkpoint: the model that the run recorded, as an ingestion finds it.
    """
    names = [kind.name for kind in array_kinds.CAPTURED]
    return Addition(run, names, Source(_moved, (checkpoint, device)))


def _moved(run: Run, checkpoint: Checkpoint, device: str, on_batch: OnBatch) -> Computer:
    # A run that holds them all needs no torch, whose import takes longer than everything else then.
    from attnstore.capture.moved_arrays import MovedArrays

    computer = MovedArrays(run, checkpoint, device, on_batch)
    catalog.keep_layer_norms(run.backend, run.record.model, checkpoint, computer.model)
    return computer


def n_older(backend: Backend, run: str) -> int:
    """Count the committed blocks of a run that lack an array of today's capture; no fragment is read."""
    blocks = {f.part for f in fragments.listing(backend, "blocks", run)}
    held = array_blocks.listed(backend, run)
    return sum(
        any((kind.name, part) not in held for kind in array_kinds.CAPTURED) for part in blocks
    )
