"""Make a store what a declaration says, nothing twice.

    outcome = refresh("attnstore.toml")

One refresh at a time per store. What fails is told at the end, and the rest is done all the same.
`flows.refresh` does this with Prefect, a task per block and per step.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl

from attnstore import store as stores
from attnstore.annotation import annotate
from attnstore.capture import base_models, ingestion
from attnstore.capture.runs import Run
from attnstore.declared import drift as movement
from attnstore.declared import planning, staleness
from attnstore.declared.config import Declaration, read
from attnstore.declared.outcome import Outcome
from attnstore.declared.plan_parts import Pair, Plan
from attnstore.declared.seen import Seen, signature
from attnstore.errors import AttnstoreError, BusyError, CaptureError, ModelError
from attnstore.job import Progress, Runner, in_process, silent
from attnstore.paper import report
from attnstore.paper.report import Step
from attnstore.storage import fragments, location, locks
from attnstore.storage.backend import Backend
from attnstore.store import Store

_log = logging.getLogger(__name__)


def refresh(
    path: str | Path,
    *,
    wait: bool = False,
    retry: bool = False,
    runner: Runner = in_process,
    progress: Progress = silent,
    step: Step = lambda _name, work: work(),
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Ingest, annotate, classify and analyse what is missing or stale, tell the drift, rebuild the
    report.

    wait: for another refresh of the store to end, and for checkpoints to settle; without it the
    one raises BusyError and the others are left for the next time. retry: also what was refused
    before, which is otherwise left until its bytes change. runner: where the units of its jobs are
    stored. say: called with a line about each thing that was made. Raises UsageError, DatasetError (the file asks for what cannot be).
    """
    declared = read(path)
    backend = location.create(declared.backend)
    with _alone(backend, wait) as mine:
        if not mine:  # another process waits for its turn, and will see what this one would
            return Outcome()
        work = _Refresh(declared, backend, runner, progress, step, say)
        plan = planning.plan(declared, retry)
        while wait and plan.settling:
            time.sleep(max(declared.settle / 4, 0.05))
            plan = planning.plan(declared, retry)
        return work.make(plan)


@contextlib.contextmanager
def _alone(backend: Backend, wait: bool) -> Iterator[bool]:
    """Hold the store against a second refresh; False where another one waits for it already."""
    lock, turn = (locks.path_of(backend, name) for name in ("refresh", "refresh.next"))
    what = f"The refresh of {backend.name}"
    with contextlib.ExitStack() as held:
        if wait:
            with contextlib.ExitStack() as waiting:
                try:
                    waiting.enter_context(locks.hold(turn))
                except BusyError:
                    yield False
                    return
                held.enter_context(locks.hold(lock, wait=float("inf"), what=what))
        else:
            held.enter_context(locks.hold(lock, what=what))
        yield True


class _Refresh:
    """One refresh of a store; its methods are its steps, in order."""

    def __init__(
        self, declared: Declaration, backend: Backend, runner: Runner, progress: Progress, step: Step,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.declared, self.backend = declared, backend
        self._runner, self._progress, self._step, self._hears = runner, progress, step, say
        self.outcome = Outcome()

    def _say(self, line: str) -> None:
        self.outcome.said.append(line)
        self._hears(line)

    def make(self, plan: Plan) -> Outcome:
        """Every step."""
        told = self.outcome
        for row in plan.rows:
            if row.state in ("waiting", "unreadable"):
                where = told.waiting if row.state == "waiting" else told.problems
                where.append(f"{row.name}: {row.why}")
        told.refused = [f"{p.name}: {p.refused}" for p in plan.refused]
        held = [p for p in plan.pairs if p.state == "held"]
        for pair in plan.to_ingest:
            with self._told(pair.name):
                held.append(self._ingest(pair))
        self._record_bases(held)
        self._annotate(plan)
        self._classify(held)
        with stores.open(self.backend) as store:
            self._move(store, held)
            self._analyse(store, held)
            with self._told("The report"):
                self._report(store)
        return told

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """A mistake becomes a sentence of the outcome; the rest is done all the same."""
        try:
            yield
        except AttnstoreError as error:
            self.outcome.problems.append(f"{what}: {error}")
        except Exception as error:
            _log.exception("%s failed", what)
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self.outcome.problems.append(f"{what}: it failed unexpectedly ({reason})")

    def _ingest(self, pair: Pair) -> Pair:
        """Run a model over a dataset; returns the pair with its run."""
        checkpoint = pair.candidate.checkpoint
        assert checkpoint is not None
        run = None
        models = {f.path for f in fragments.listing(self.backend, "models")}
        try:
            with ingestion.planned(
                self.backend, checkpoint, pair.dataset, pair.settings, self.declared.device
            ) as work:
                run = work.run
                work.loaded = lambda: _refuse_changed(pair)
                summary = work.complete(self._runner, self._progress)
        except (ModelError, CaptureError) as error:
            if run is not None and not fragments.listing(self.backend, "blocks", run.run):
                _forget(self.backend, run, models)
            if _lasting(pair, error):
                why = str(error)
                self._remember(lambda seen: seen.refuse(pair.identity, why))
            raise
        self._remember(lambda seen: seen.forget(pair.identity))
        self.outcome.ingested.append(summary)
        self._say(f"{summary.run}: {summary.stored:,} of {summary.examples:,} examples stored")
        return replace(pair, run=run, left=0)

    def _remember(self, change: Callable[[Seen], None]) -> None:
        """Change what later refreshes know."""
        seen = Seen(self.backend)
        change(seen)
        seen.save()

    def _record_bases(self, held: list[Pair]) -> None:
        """Record the base models that the file names, also of models that were stored before."""
        for pair in held:
            base = pair.candidate.entry.base
            if base is not None and pair.run is not None:
                with self._told(pair.name):
                    base_models.record(self.backend, pair.run.record.model, base)

    def _annotate(self, plan: Plan) -> None:
        datasets = plan.datasets
        for item in staleness.annotating(self.backend, self.declared, datasets):
            if item.state == "held":
                continue
            with self._told(item.name):
                annotate.annotate(
                    self.backend, item.dataset, item.with_, item.as_published,
                    runner=self._runner, progress=self._progress,
                )  # fmt: skip
                self.outcome.annotated.append(item.name)
                self._say(f"{item.name}: annotated")

    def _classify(self, held: list[Pair]) -> None:
        for run in [p.run for p in held if p.run is not None]:
            if not staleness.to_classify(self.declared, run.run):
                continue
            item = staleness.classifying(self.declared, run)
            if item.state == "held":
                continue
            with self._told(item.name):
                # A refresh that finds nothing to do needs no torch, which takes seconds to import.
                from attnstore.experiments.patterns import classification

                summary = classification.classify(
                    self.backend, run.run, network=self.declared.network,
                    runner=self._runner, progress=self._progress,
                )  # fmt: skip
                self.outcome.classified.append(item.name)
                self._say(f"{item.name}: {summary.stored:,} of {summary.maps:,} maps classified")

    def _move(self, store: Store, held: list[Pair]) -> None:
        drift = self.declared.drift
        frames = []
        for item in movement.planned(store, self.declared, held):
            if item.result.state == "held":
                continue
            with self._told(item.result.name):
                frame = self._step(
                    item.result.name,
                    lambda item=item: item.result.make(lambda: movement.moved(store, item)),  # type: ignore[misc]
                )
                assert isinstance(frame, pl.DataFrame)
                frames.append(frame)
                for line in movement.sentences(frame, drift):
                    self._say(line)
        if frames:
            self.outcome.moved = pl.concat(frames)
            self.outcome.most = movement.most(self.outcome.moved, drift.most)
            self.outcome.alerts = movement.alerts(self.outcome.moved, drift)

    def _analyse(self, store: Store, held: list[Pair]) -> None:
        complete = [p.run.run for p in held if p.run is not None]
        for item in staleness.results(store, self.declared, complete):
            if item.state == "held":
                continue
            with self._told(item.name):
                self._step(
                    item.name,
                    lambda item=item: item.make(  # type: ignore[misc]
                        lambda: store.query(item.kind, **item.params)
                    ),
                )
                self.outcome.analysed.append(item.name)
                self._say(f"{item.name}: {item.path}")

    def _report(self, store: Store) -> None:
        if self.declared.report is None:
            return
        folder = self.declared.path(self.declared.report)
        page = folder / report.PAGE
        newest = max((f.modified for f in fragments.listing(self.backend)), default=0)
        if not page.exists() or page.stat().st_mtime_ns < newest:
            self._step("report", lambda: report.write(store, folder))
            self._say(f"The report: {page}")
        self.outcome.page = page


def _lasting(pair: Pair, error: Exception) -> bool:
    """Whether the same bytes will be refused again: not where memory ran out or they have changed."""
    cause = error.__cause__
    if isinstance(cause, (MemoryError, OSError)) or "OutOfMemory" in type(cause).__name__:
        return False
    found = pair.candidate
    try:
        return found.files is None or signature(Path(found.source)) == found.files
    except ModelError:  # it is gone
        return False


def _refuse_changed(pair: Pair) -> None:
    """ModelError where the folder is no longer what the run was planned for."""
    found = pair.candidate
    if found.files is not None and signature(Path(found.source)) != found.files:
        raise ModelError(
            f"{found.source} has changed while it was read; nothing of it was stored, and the next "
            "refresh takes it as it is then"
        )


def _forget(backend: Backend, run: Run, models: set[str]) -> None:
    """Drop a run that was planned for weights that nobody will see again, and their record, unless
    it is one of the `models` that were there before."""
    Store(backend).drop(run.run)
    with locks.registry(backend):
        for fragment in fragments.listing(backend, "models", run.record.model):
            if fragment.path not in models:
                fragments.discard(backend, fragment)
