"""Run BERT once: the plan of an ingestion, its blocks, its end.

    with ingest.planned(root, model, dataset, settings) as ingestion:
        for block in ingestion.missing:
            ingestion.store(block)          # in any order, from two threads
        summary = ingestion.finish()

`ingest()` does that in this process; `flows.ingest` does it with one Prefect task per block.
"""

from __future__ import annotations

import contextlib
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from attnstore import store
from attnstore.disk import arrays, buckets, fragments, index, locks
from attnstore.errors import (
    AttnstoreError,
    BusyError,
    CaptureError,
    DatasetError,
    ModelError,
    UsageError,
)
from attnstore.model import bases, checkpoints, forecast, runs
from attnstore.model.checkpoints import Checkpoint
from attnstore.model.forecast import Forecast
from attnstore.model.runs import Run, Settings
from attnstore.text import corpora
from attnstore.text.corpora import Dataset

if TYPE_CHECKING:
    from attnstore.model.blocks import BlockWorker, OnBatch, Stored
    from attnstore.model.capture import Capturer

AT_ONCE = 2
"""Blocks in work at the same time: one in its forward passes, one being written."""
CHECK_BYTES = 4 << 30
"""A run up to this size has its checksums compared when it is asked for again (about a second); of
a larger one, and in a bucket, only what has changed since: `attnstore verify` compares the rest."""


@dataclass(frozen=True)
class Summary:
    """What an ingestion did and what the run holds now.

    examples, stored: planned for the run, and stored by this ingestion; weights and bytes are the
    run's; bits_per_weight: of `maps` on disk; seconds: wall time of this ingestion after
    planning, of them forward_seconds in forward passes.
    """

    run: str
    examples: int
    stored: int
    maps: int
    weights: int
    bytes: int
    bits_per_weight: float
    n_empty: int
    n_truncated: int
    seconds: float
    forward_seconds: float


@dataclass(frozen=True)
class Share:
    """A run for another process, which sees the same store and the same model's folder.

    place: the store, as a path or an address; run, record: of the run.
    It goes through a pipe in a few hundred bytes: the plan is read from the store there. Whoever
    hands it out holds the run's lock until every block has come back.
    """

    place: str
    run: str
    record: dict[str, Any]
    checkpoint: Checkpoint
    device: str

    def store(self, block: int) -> Stored:
        """Compute and commit one block; a process loads the model once for a run.

        A block that is committed and whole is not computed again: a cluster asks anew for what a
        worker had done when it was lost. Raises ModelError where the model's folder holds other
        weights by then.
        """
        from attnstore.model.blocks import Stored  # imports torch

        run = Run(store.locate(self.place), self.run, self.record)
        if (row := _whole_block(run, block)) is not None:
            n_bytes = row["maps_bytes"] + row["received_bytes"]
            return Stored(block, row["examples"], row["n_cells"], n_bytes, 0.0, 0.0, self.device)
        return self._worker(run).store(block)

    def _worker(self, run: Run) -> BlockWorker:
        identity = run.record["identity"]
        with _sharing:
            if identity not in _shared:
                from attnstore.model.blocks import BlockWorker

                _shared.clear()
                _shared[identity] = BlockWorker(run, self.checkpoint, self.device)
            return _shared[identity]


_shared: dict[str, BlockWorker] = {}
"""By identity, the run that this process stores shares of."""
_sharing = threading.Lock()


class Ingestion:
    """One run being ingested; made by `planned`, which holds the run's lock.

    on_batch: called as forward passes go in this process; see `blocks.OnBatch`.
    """

    def __init__(
        self, run: Run, checkpoint: Checkpoint, device: str, capturer: Capturer | None = None
    ) -> None:
        """capturer: the model, where planning the run has loaded it."""
        self.run, self._capturer = run, capturer
        self._checkpoint, self._device = checkpoint, device
        self._done = stored_blocks(run)
        self._reports: list[Stored] = []
        self._making = threading.Lock()
        self.on_batch: OnBatch = lambda *_: None
        self._started = datetime.now(UTC).replace(tzinfo=None)
        self._began = time.perf_counter()

    @cached_property
    def missing(self) -> list[int]:
        """Blocks that are not committed, or damaged."""
        return [b for b in range(self.run.record["n_blocks"]) if b not in self._done]

    @cached_property
    def left(self) -> Forecast:
        """What the missing blocks will take."""
        missing = pl.col("block").is_in(self.missing)
        length = self.run.plan.filter(missing)["length"].to_numpy()
        record = self.run.record
        n_maps = len(record["layers"]) * len(record["heads"])
        return forecast.of(self.run.root, self.run.run, length, n_maps, record["precision"])

    @cached_property
    def worker(self) -> BlockWorker:
        """What computes its blocks; the model is loaded when it is first asked for."""
        # A finished run needs no torch, whose import takes longer than everything else then.
        from attnstore.model.blocks import BlockWorker

        return BlockWorker(
            self.run, self._checkpoint, self._device, self._capturer,
            lambda *done: self.on_batch(*done),
        )  # fmt: skip

    def store(self, block: int) -> Stored:
        """Compute and commit one block."""
        with self._making:
            worker = self.worker
        return self.take(worker.store(block))

    def take(self, report: Stored) -> Stored:
        """Count a block that was stored, here or by a `Share` of this ingestion."""
        self._reports.append(report)
        return report

    @property
    def share(self) -> Share:
        """What another process needs to store blocks of it."""
        run, place = self.run, buckets.of(self.run.root).name
        return Share(place, run.run, run.record, self._checkpoint, self._device)

    def finish(self) -> Summary:
        """Record how it went; the index catches up unless a reader holds it."""
        record, seconds = self.run.record, time.perf_counter() - self._began
        forward = sum(r.forward_seconds for r in self._reports)
        if self._reports:
            fragments.write(
                self.run.root, "ingests", self.run.run, f"{self._started:%Y%m%dT%H%M%S%f}",
                self._row(seconds, forward),
            )  # fmt: skip
        with contextlib.suppress(BusyError):  # it catches up when a store is next opened
            index.catch_up(self.run.root)
        maps_bytes, all_bytes = _bytes(self.run)
        n_heads = len(record["layers"]) * len(record["heads"])
        weights = record["n_cells"] * n_heads
        return Summary(
            self.run.run, record["planned"], sum(r.examples for r in self._reports),
            record["planned"] * n_heads, weights, all_bytes, 8 * maps_bytes / weights,
            record["n_empty"], record["n_truncated"], seconds, forward,
        )  # fmt: skip

    def _row(self, seconds: float, forward: float) -> pl.DataFrame:
        row = {
            "run_key": self.run.key, "started": self._started, "host": platform.node(),
            "device": next((r.device for r in self._reports if r.seconds), self._device),
            "examples": sum(r.examples for r in self._reports),
            "n_cells": sum(r.n_cells for r in self._reports),
            "bytes": sum(r.bytes for r in self._reports),
            "seconds": seconds, "forward_seconds": forward,
        }  # fmt: skip
        return pl.DataFrame([row], schema_overrides={"run_key": pl.UInt64})


def stored_blocks(run: Run) -> set[int]:
    """The committed blocks of a run whose files are whole; see CHECK_BYTES for how far that goes."""
    found = list(_committed(run))
    total = sum(row["maps_bytes"] + row["received_bytes"] for _, row in found)
    every = total <= CHECK_BYTES and buckets.of(run.root).near
    lying = arrays.shards(run.root, run.run)
    return {
        row["block"]
        for at, row in found
        if not (every or arrays.changed(run.run, row, lying, at))
        or not arrays.damage(run.root, run.run, row)
    }


def _whole_block(run: Run, block: int) -> dict[str, Any] | None:
    """The row of one block, if it is committed and every byte of it is whole."""
    rows = (row for _, row in _committed(run, f"{block:06d}"))
    return next((row for row in rows if not arrays.damage(run.root, run.run, row)), None)


def _committed(run: Run, only: str | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """When blocks (of the part `only`) were committed, and their rows; their fragments are whole."""
    found, stats = (
        {f.part: f for f in fragments.listing(run.root, table, run.run) if only in (None, f.part)}
        for table in ("blocks", "map_stats")
    )
    fragments.fetch(run.root, (*found.values(), *stats.values()))
    for part, f in found.items():
        if part in stats and all(fragments.whole(run.root, x) for x in (f, stats[part])):
            row = fragments.read(run.root, f).row(0, named=True)
            if row["run_key"] == run.key:  # a run that had the name before may have left it
                yield f.modified, row


def _bytes(run: Run) -> tuple[int, int]:
    """Bytes of the committed shards: of `maps`, and of both arrays."""
    rows = fragments.read_one(run.root, "blocks", run.run)
    if rows is None:
        return 0, 0
    maps = int(rows["maps_bytes"].sum())
    return maps, maps + int(rows["received_bytes"].sum())


@contextlib.contextmanager
def planned(
    root: Path, checkpoint: Checkpoint, dataset: Dataset, settings: Settings, device: str = "auto"
) -> Iterator[Ingestion]:
    """Plan (or find) a run and hold it against a second ingestion of the same.

    A damaged record of an earlier ingestion is deleted. Raises BusyError where another process is
    ingesting it, ModelError for a model that cannot be captured: then nothing is registered.
    """
    run, capturer = runs.prepare(root, checkpoint, dataset, settings, device)
    with locks.hold(store.run_lock(root, run.run), what=f"Run {run.run}"):
        if runs.find(root, run.record["identity"]) is None:
            raise BusyError(f"Run {run.run} has just been dropped; run the same command again.")
        fragments.remove_damaged(root, "ingests", run.run)
        yield Ingestion(run, checkpoint, device, capturer)


@dataclass(frozen=True)
class Request:
    """What is asked for: every model with every dataset, all found and read."""

    pairs: list[tuple[Checkpoint, Dataset]]
    settings: Settings
    device: str
    base: str | None = None


def request(
    models: Sequence[str] | str,
    datasets: Sequence[str] | str,
    *,
    split: str | None = None,
    text: str | None = None,
    pair: str | None = None,
    label: str | None = None,
    device: str = "auto",
    base: str | None = None,
    **settings: Any,
) -> Request:
    """Find every model and read every dataset; nothing is written.

    base: name or source of the model that these were trained from; None: what their folders say.

    Raises ModelError, DatasetError; UsageError for a setting, or for one name given to two
    different contents.
    """
    chosen = Settings(**settings)
    models = [models] if isinstance(models, str) else models
    datasets = [datasets] if isinstance(datasets, str) else datasets
    found = [checkpoints.resolve(m) for m in models]
    if base is not None:
        found = [c if base in (c.name, c.source) else replace(c, base=base) for c in found]
    loaded = [corpora.load(d, split=split, text=text, pair=pair, label=label) for d in datasets]
    if not found or not loaded:
        raise UsageError("Give at least one model (--model) and one dataset (--dataset).")
    for checkpoint in found:
        runs.disabled(checkpoint, chosen)
    _refuse_same_name("model", [(c.name, c.identity, c.source) for c in found])
    _refuse_same_name("dataset", [(d.name, d.fingerprint, d.source) for d in loaded])
    return Request([(c, d) for c in found for d in loaded], chosen, device, base)


def _refuse_same_name(what: str, named: list[tuple[str, str, str]]) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for name, fingerprint, source in named:
        held, first = seen.setdefault(name, (fingerprint, source))
        if held != fingerprint:
            raise UsageError(
                f"Two {what}s with different content would both be called {name!r}: {first} and "
                f"{source}; name them apart, as in --{what} {source}={name}-2."
            )


Progress = Callable[[Ingestion, "Stored | None"], None]
"""Called with None when the blocks of an ingestion begin, then after each block."""
RunBlocks = Callable[[Ingestion, Progress], None]
"""Stores the missing blocks of an ingestion, telling progress after each."""


def store_blocks(ingestion: Ingestion, progress: Progress) -> None:
    """In this process: the next block's forward passes over the last one's writing."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        pending = [pool.submit(ingestion.store, block) for block in ingestion.missing]
        try:
            for future in pending:
                progress(ingestion, future.result())
        except BaseException:
            for future in pending:
                future.cancel()
            raise


def ingest(
    path: str | Path,
    models: Sequence[str] | str,
    datasets: Sequence[str] | str,
    *,
    progress: Progress = lambda *_: None,
    run_blocks: RunBlocks = store_blocks,
    **options: Any,
) -> list[Summary]:
    """Run models over datasets into a store; by default in this process, without Prefect.

    models, datasets: one or several, as on the command line (`PATH`, `PATH=name`); options: split,
    text, pair, label (columns), device, base (name of the model that these were trained from), and the fields of `runs.Settings`: max_length, precision,
    limit, seed, layers, heads, disable, disable_value. What the store holds is not computed again. One Summary per run.
    Where a model cannot be captured the others are run all the same, and the refusals are raised at
    the end.
    """
    asked = request(models, datasets, **options)
    root = store.create(path)
    summaries: list[Summary] = []
    refused: list[tuple[str, AttnstoreError]] = []
    for checkpoint, dataset in asked.pairs:
        try:
            with planned(root, checkpoint, dataset, asked.settings, asked.device) as ingestion:
                progress(ingestion, None)
                run_blocks(ingestion, progress)
                if asked.base is not None and checkpoint.base == asked.base:
                    bases.record(root, ingestion.run.record["model"], asked.base)
                summaries.append(ingestion.finish())
        except REFUSALS as error:
            refused.append((f"{checkpoint.name}/{dataset.name}", error))
    _raise(refused, len(summaries))
    return summaries


REFUSALS = (ModelError, CaptureError, DatasetError, UsageError)
"""What is wrong with one model or dataset, and not with another."""


def _raise(refused: list[tuple[str, AttnstoreError]], n_done: int) -> None:
    """Raise what refused a run: the error itself where there is one, else one that lists them all."""
    if not refused:
        return
    if len(refused) == 1 and not n_done:
        raise refused[0][1]
    listed = "\n".join(f"  {run}: {error}" for run, error in refused)
    raise ModelError(
        f"{len(refused)} of {len(refused) + n_done} runs were refused, the others are stored:\n{listed}"
        if n_done
        else f"All {len(refused)} runs were refused:\n{listed}"
    ) from refused[0][1]
