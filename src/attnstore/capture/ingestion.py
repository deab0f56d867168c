"""Run BERT once: the plan of an ingestion, its blocks, its end.

    with ingestion.planned(backend, checkpoint, dataset, settings) as work:
        summary = work.complete(runner, progress)

A block of inputs is the unit. `ingest()` runs every model over every dataset.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from attnstore.capture import (
    additions,
    catalog,
    forecast,
    further_maps,
    registration,
    requests,
    stored_blocks,
)
from attnstore.capture.forecast import Forecast
from attnstore.capture.further_maps import MapsForecast
from attnstore.capture.requests import Request
from attnstore.capture.runs import Run, Settings
from attnstore.datasets.corpora import Dataset
from attnstore.errors import (
    AttnstoreError,
    BusyError,
    CaptureError,
    DatasetError,
    ModelError,
    UsageError,
)
from attnstore.formatting import many, size
from attnstore.job import Job, Progress, Runner, Share, Unit, in_process, silent
from attnstore.job import run as complete
from attnstore.models.checkpoints import Checkpoint
from attnstore.storage import fragments, location
from attnstore.storage.backend import Backend
from attnstore.storage.location import Location
from attnstore.storage.run_record import RunRecord
from attnstore.storage.snapshot import Snapshot, fresh

if TYPE_CHECKING:
    from attnstore.capture.blocks import BlockWorker, Stored
    from attnstore.models.attention_hook import Capturer


@dataclass(frozen=True)
class Summary:
    """The outcome of an ingestion.

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

    def lines(self) -> list[str]:
        """Return the run's name and a line for each number."""
        elsewhere = max(self.seconds - self.forward_seconds, 0.0)
        stored = f", of them {self.stored:,} stored now" if self.stored else ", all stored before"
        rows = {
            "examples": f"{self.examples:,}{stored}",
            "excluded": f"{self.n_empty:,} with an empty text",
            "truncated": f"{self.n_truncated:,} longer than the max-length",
            "maps": f"{self.maps:,}",
            "weights": many(self.weights),
            "on disk": f"{size(self.bytes)}, {self.bits_per_weight:.2f} bits per weight",
            "seconds": f"{self.forward_seconds:.1f} in forward passes, {elsewhere:.1f} elsewhere",
        }
        return [self.run, *(f"  {name:<9}  {value}" for name, value in rows.items())]


class Ingestion(Job["Stored", Summary]):
    """One run being ingested; made by `planned`. Its units are blocks.

    loaded: called when this process has loaded the model and before it stores anything; what it
    raises ends the ingestion.
    """

    kind, noun, history = "ingest", "examples", "ingests"

    def __init__(
        self, run: Run, checkpoint: Checkpoint, device: str, capturer: Capturer | None = None
    ) -> None:
        """Make it of a registered run; capturer: the model, where planning has loaded it."""
        super().__init__(run.backend, run.run, lock=run.run, subject=f"Run {run.run}")
        self.run, self._capturer = run, capturer
        self._checkpoint, self._device = checkpoint, device
        self._making = threading.Lock()
        self.loaded: Callable[[], object] = lambda: None

    def look(self) -> None:
        """See which blocks are missing. Raises BusyError where the run has just been dropped."""
        if self.backend.is_local and self._seems_finished():
            # Listed before the lock was taken, which is enough if nothing is missing: every fragment
            # is read now, and its name carries its checksum.
            super().look()
            if not self.missing():
                return
        # In a bucket, a copy on this machine would hide that a fragment is gone.
        source = fresh(self.backend)
        self.backend = source if source.is_local else Snapshot(source)
        self.run = replace(self.run, backend=self.backend)
        if not self._registered():
            raise BusyError(f"Run {self.title} has just been dropped; run the same command again.")
        super().look()

    def _registered(self) -> bool:
        return catalog.find(self.backend, self.run.record.identity) is not None

    def _seems_finished(self) -> bool:
        blocks = fragments.listing(self.backend, "blocks", self.title)
        return len(blocks) >= self.run.record.n_blocks and self._registered()

    def lacking(self) -> list[Unit]:
        """Return the blocks that are not committed, or damaged."""
        done, blocks = stored_blocks.stored_blocks(self.run), range(self.run.record.n_blocks)
        if not (missing := [block for block in blocks if block not in done]):
            return []
        squares = pl.col("length").cast(pl.Int64) ** 2
        plan = self.run.plan.group_by("block").agg(pl.len(), squares.sum())
        sizes = {block: (n, cells) for block, n, cells in plan.iter_rows()}
        return [Unit(f"block {block}", block, *sizes[block]) for block in missing]

    @cached_property
    def left(self) -> Forecast:
        """Forecast of the blocks that were missing at first."""
        missing = pl.col("block").is_in([unit.number for unit in self.missing()])
        length = self.run.plan.filter(missing)["length"].to_numpy()
        return forecast.of(self.run.backend, self.run.run, length, self.run.record)

    def outlook(self) -> str:
        """Describe what the missing blocks will take."""
        return self.left.sentence

    @cached_property
    def worker(self) -> BlockWorker:
        """The worker that computes its blocks; the model is loaded when it is first asked for."""
        # A finished run needs no torch, whose import takes longer than everything else then.
        from attnstore.capture.blocks import BlockWorker

        worker = BlockWorker(
            self.run, self._checkpoint, self._device, self._capturer, self.move, self.require_going
        )
        self.loaded()
        model, module = self.run.record.model, worker.capturer.model
        catalog.keep_layer_norms(self.backend, model, self._checkpoint, module)
        return worker

    @property
    def at_once(self) -> int:
        """Blocks in work at the same time; the model is loaded for it."""
        with self._making:
            return self.worker.at_once

    def store(self, unit: Unit) -> Stored:
        """Compute and commit one block; may be called from several threads."""
        with self._making:
            worker = self.worker
        return worker.store(unit)

    def __exit__(self, *error: object) -> None:
        """End the threads of its forward passes, and release it."""
        if "worker" in self.__dict__:
            self.worker.close()
        super().__exit__(*error)

    def stored(self, unit: Unit) -> Stored | None:
        """Return the report of a block whose every byte is whole."""
        if (row := stored_blocks.whole_block(self.run, unit.number)) is None:
            return None
        from attnstore.capture.blocks import Stored  # imports torch

        return Stored(unit, row["maps_bytes"] + row["received_bytes"], 0.0, 0.0, self._device)

    def share(self) -> Share:
        """Return what another process needs to store blocks of it; the plan is read there."""
        run, place = self.run, self.run.backend.name
        arguments = (place, run.run, run.record, self._checkpoint, self._device)
        return Share(run.record.identity, elsewhere, arguments)

    def row(self) -> dict[str, Any]:
        """Return what `ingests` keeps."""
        device = next((r.device for r in self.reports if r.seconds), self._device)
        return {
            "run_key": self.run.key, "device": device,
            "examples": self.n_stored,
            "n_cells": int(sum(r.unit.size for r in self.reports)),
            "bytes": sum(r.bytes for r in self.reports),
            "forward_seconds": sum(r.forward_seconds for r in self.reports),
        }  # fmt: skip

    def summary(self, seconds: float) -> Summary:
        """Count what the run holds."""
        record = self.run.record
        maps_bytes, all_bytes = stored_blocks.n_bytes(self.run)
        n_maps = record.n_maps
        weights = record.n_cells * n_maps
        return Summary(
            self.title, record.planned, self.n_stored,
            record.planned * n_maps, weights, all_bytes, 8 * maps_bytes / weights,
            record.n_empty, record.n_truncated, seconds,
            sum(r.forward_seconds for r in self.reports),
        )  # fmt: skip


def elsewhere(
    place: str, run: str, record: RunRecord, checkpoint: Checkpoint, device: str
) -> Ingestion:
    """Make an ingestion in another process, of a run whose lock is held."""
    return Ingestion(Run(location.locate(place), run, record), checkpoint, device)


def planned(
    backend: Backend,
    checkpoint: Checkpoint,
    dataset: Dataset,
    settings: Settings,
    device: str = "auto",
) -> Ingestion:
    """Plan a run and register it, or find it. Raises ModelError for a model that cannot be captured;
    then nothing is registered."""
    backend = Snapshot(backend)
    draft = registration.draft(backend, checkpoint, dataset, settings, device)
    run = registration.register(backend, dataset, draft)
    return Ingestion(run, checkpoint, device, draft.capturer)


def ingest(
    path: Location,
    models: Sequence[str] | str,
    datasets: Sequence[str] | str,
    *,
    runner: Runner = in_process,
    progress: Progress = silent,
    finished: Callable[[Any], None] = lambda _: None,
    **options: Any,
) -> list[Summary]:
    """Run models over datasets into a store; what it holds is not computed again.

    Where a model cannot be captured the others are run all the same, and the refusals are raised at
    the end.

    Args:
        path: The store; made if it is not there.
        models: One or several, as on the command line (`PATH`, `PATH=name`).
        datasets: One or several, likewise.
        runner: Where blocks are stored.
        progress: Called as blocks go.
        finished: Called with the summary of each run as it ends, and of what was added to it.
        options: split, text, pair, label (columns), language (ISO 639 code), device, base (name of the model that these were
            trained from), random_weights (True: instead of the models their random-weights twins,
            one per number in seeds), update (True: bring runs of an earlier capture up to date), maps
            (kinds of maps to store beside the weights, as value_zeroing), and the fields of
            `runs.Settings`: max_length, precision, limit, seed (of the sample), layers, heads, disable,
            disable_value.

    Returns:
        One Summary per run.
    """
    request = requests.find(models, datasets, **options)
    backend = location.create(path)

    def run(checkpoint: Checkpoint, dataset: Dataset) -> Summary:
        further = further_maps.of_run(request.maps, checkpoint, dataset, request.settings)
        with planned(backend, checkpoint, dataset, request.settings, request.device) as work:
            if request.base is not None and checkpoint.base == request.base:
                catalog.record_base(backend, work.run.record.model, request.base)
            if dataset.language is not None:
                catalog.record_language(backend, work.run.record.dataset, dataset.language)
            summary = work.complete(runner, progress)
        finished(summary)
        if request.update:
            catalog.record_label_names(backend, work.run.record.dataset, dataset)
            addition = additions.captured(work.run, checkpoint, request.device)
            finished(complete(addition, runner, progress))
        for maps in further:
            finished(
                complete(maps.addition(work.run, checkpoint, request.device), runner, progress)
            )
        return summary

    return _each(request, run, "stored")


def foresee(
    path: Location, models: Sequence[str] | str, datasets: Sequence[str] | str, **options: Any
) -> list[Forecast | MapsForecast]:
    """Forecast what `ingest` would do, for the same arguments, and write nothing.

    Texts are tokenized and new models are examined, so that whatever an ingestion refuses at its
    beginning is refused. Returns one Forecast per run and one for each kind of maps beside its weights;
    of what the store has already, of the rest.
    """
    request = requests.find(models, datasets, **options)
    backend = location.locate(path)

    def look(checkpoint: Checkpoint, dataset: Dataset) -> list[Forecast | MapsForecast]:
        further = further_maps.of_run(request.maps, checkpoint, dataset, request.settings)
        draft = registration.draft(backend, checkpoint, dataset, request.settings, request.device)
        if draft.run is not None:
            work = Ingestion(draft.run, checkpoint, request.device)
            work.look()
            blocks = [unit.number for unit in work.missing()]
            rest = [m.foresee_rest(draft.run, checkpoint, request.device, blocks) for m in further]
            return [work.left, *rest]
        assert draft.inputs is not None  # of a new run
        lengths, name = draft.inputs["length"].to_numpy(), f"{checkpoint.name}/{dataset.name}"
        run, record = catalog.owner(backend, "runs", name, draft.identity), draft.record
        first = forecast.of(backend, run, lengths, record)
        return [first, *(maps.foresee(run, lengths, record) for maps in further)]

    return list(chain.from_iterable(_each(request, look, "fine")))


_T = TypeVar("_T")


def _each(request: Request, work: Callable[[Checkpoint, Dataset], _T], fate: str) -> list[_T]:
    """Do something for each run, continue after a refusal, raise the refusals at the end.

    fate: what became of the runs that were not refused, for the sentence.
    """
    results: list[_T] = []
    refused: list[tuple[str, AttnstoreError]] = []
    for checkpoint, dataset in request.pairs:
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
