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
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from attnstore.capture import (
    base_models,
    catalog,
    forecast,
    registration,
    requests,
    stored_blocks,
)
from attnstore.capture.forecast import Forecast
from attnstore.capture.requests import Request
from attnstore.capture.runs import Run, Settings
from attnstore.capture.sharing import Share
from attnstore.datasets.corpora import Dataset
from attnstore.errors import (
    AttnstoreError,
    BusyError,
    CaptureError,
    DatasetError,
    ModelError,
    UsageError,
)
from attnstore.models.checkpoints import Checkpoint
from attnstore.storage import fragments, index, location, locks, s3

if TYPE_CHECKING:
    from attnstore.capture.blocks import BlockWorker, OnBatch, Stored
    from attnstore.models.attention_hook import Capturer

AT_ONCE = 2
"""Blocks in work at the same time: one in its forward passes, one being written."""


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
        self._done = stored_blocks.stored_blocks(run)
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
        from attnstore.capture.blocks import BlockWorker

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
        run, place = self.run, s3.of(self.run.root).name
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
        maps_bytes, all_bytes = stored_blocks.n_bytes(self.run)
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


@contextlib.contextmanager
def planned(
    root: Path, checkpoint: Checkpoint, dataset: Dataset, settings: Settings, device: str = "auto"
) -> Iterator[Ingestion]:
    """Plan (or find) a run and hold it against a second ingestion of the same.

    A damaged record of an earlier ingestion is deleted. Raises BusyError where another process is
    ingesting it, ModelError for a model that cannot be captured: then nothing is registered.
    """
    draft = registration.draft(root, checkpoint, dataset, settings, device)
    run = registration.register(root, dataset, draft)
    with locks.hold(location.run_lock(root, run.run), what=f"Run {run.run}"):
        if catalog.find(root, run.record["identity"]) is None:
            raise BusyError(f"Run {run.run} has just been dropped; run the same command again.")
        fragments.remove_damaged(root, "ingests", run.run)
        yield Ingestion(run, checkpoint, device, draft.capturer)


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
    finished: Callable[[Summary], None] = lambda _: None,
    **options: Any,
) -> list[Summary]:
    """Run models over datasets into a store; by default in this process, without Prefect.

    models, datasets: one or several, as on the command line (`PATH`, `PATH=name`); options: split,
    text, pair, label (columns), device, base (name of the model that these were trained from), and the fields of `runs.Settings`: max_length, precision,
    limit, seed, layers, heads, disable, disable_value. What the store holds is not computed again. One Summary per run.
    Where a model cannot be captured the others are run all the same, and the refusals are raised at
    the end; finished: called with the summary of each run as it ends.
    """
    asked = requests.find(models, datasets, **options)
    root = location.create(path)

    def run(checkpoint: Checkpoint, dataset: Dataset) -> Summary:
        with planned(root, checkpoint, dataset, asked.settings, asked.device) as ingestion:
            progress(ingestion, None)
            run_blocks(ingestion, progress)
            if asked.base is not None and checkpoint.base == asked.base:
                base_models.record(root, ingestion.run.record["model"], asked.base)
            summary = ingestion.finish()
        finished(summary)
        return summary

    return _each(asked, run, "stored")


def foresee(
    path: str | Path, models: Sequence[str] | str, datasets: Sequence[str] | str, **options: Any
) -> list[Forecast]:
    """Tell what `ingest` would do, for the same arguments, and write nothing.

    Texts are tokenized and new models are examined, so what an ingestion would refuse at its
    beginning is refused. Returns one Forecast per run: of one that the store has, what is left.
    """
    asked = requests.find(models, datasets, **options)
    root = location.locate(path)

    def look(checkpoint: Checkpoint, dataset: Dataset) -> Forecast:
        draft = registration.draft(root, checkpoint, dataset, asked.settings, asked.device)
        if draft.run is not None:
            return Ingestion(draft.run, checkpoint, asked.device).left
        assert draft.inputs is not None  # of a new run
        n_maps = len(draft.record["layers"]) * len(draft.record["heads"])
        lengths, name = draft.inputs["length"].to_numpy(), f"{checkpoint.name}/{dataset.name}"
        run = catalog.owner(root, "runs", name, draft.identity)
        return forecast.of(root, run, lengths, n_maps, asked.settings.precision)

    return _each(asked, look, "fine")


_T = TypeVar("_T")


def _each(asked: Request, work: Callable[[Checkpoint, Dataset], _T], fate: str) -> list[_T]:
    """Do something for each run, go on after a refusal, raise the refusals at the end.

    fate: what became of the runs that were not refused, for the sentence.
    """
    results: list[_T] = []
    refused: list[tuple[str, AttnstoreError]] = []
    for checkpoint, dataset in asked.pairs:
        try:
            results.append(work(checkpoint, dataset))
        except REFUSALS as error:
            refused.append((f"{checkpoint.name}/{dataset.name}", error))
    _raise(refused, len(results), fate)
    return results


REFUSALS = (ModelError, CaptureError, DatasetError, UsageError)
"""What is wrong with one model or dataset, and not with another."""


def _raise(refused: list[tuple[str, AttnstoreError]], n_done: int, fate: str) -> None:
    """Raise what refused a run: the error itself where there is one, else one that lists them all."""
    if not refused:
        return
    if len(refused) == 1 and not n_done:
        raise refused[0][1]
    listed = "\n".join(f"  {run}: {error}" for run, error in refused)
    raise ModelError(
        f"{len(refused)} of {len(refused) + n_done} runs were refused, the others are {fate}:\n{listed}"
        if n_done
        else f"All {len(refused)} runs were refused:\n{listed}"
    ) from refused[0][1]
