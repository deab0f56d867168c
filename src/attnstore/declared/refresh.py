"""Make a store what a declaration says, nothing twice.

    outcome = refresh("attnstore.toml")

One refresh runs at a time per store. A step that fails becomes a sentence of the outcome, and the other
steps are done all the same.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl

from attnstore import job
from attnstore import store as stores
from attnstore.annotation import annotate
from attnstore.capture import additions, catalog, ingestion
from attnstore.capture.runs import Run
from attnstore.declared import drift as movement
from attnstore.declared import notification, planning, staleness
from attnstore.declared.config import Declaration, read
from attnstore.declared.outcome import Outcome
from attnstore.declared.plan_parts import Pair, Plan
from attnstore.declared.seen import Seen, signature
from attnstore.errors import AttnstoreError, BusyError, CaptureError, ModelError
from attnstore.job import Progress, Runner, in_process, silent
from attnstore.paper import report
from attnstore.paper.report import Step
from attnstore.storage import fragments, index, index_listing, location, locks
from attnstore.storage.backend import Backend
from attnstore.store import Store

_log = logging.getLogger(__name__)
_PATIENCE = 120.0
"""Seconds to wait for questions that hold the index, before what is asked of it is left to the next refresh."""


def refresh(
    path: str | Path,
    *,
    wait: bool = False,
    retry: bool = False,
    update: bool = False,
    runner: Runner = in_process,
    progress: Progress = silent,
    step: Step = lambda _name, work: work(),
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Ingest, annotate, classify and analyze what is missing or stale, and rebuild the report.

    Args:
        path: The declaration, an attnstore.toml.
        wait: Wait for another refresh of the store to end, and for checkpoints to settle. Otherwise
            the former raises BusyError and the latter are left for the next refresh.
        retry: Try again what was refused before; otherwise it is left until its bytes change.
        update: Bring runs of an earlier capture up to date, as with `[refresh] update = true`.
        runner: Stores the units of the jobs.
        progress: Called as they go.
        step: Runs work that is no job: an analysis, the report.
        say: Called with a line about each thing that was made.

    Raises:
        UsageError, DatasetError: The file has a mistake or names a dataset that cannot be read.
        BusyError: Another refresh of the store runs.
    """
    declared = read(path)
    backend = location.create(declared.backend)
    with _alone(backend, wait) as is_alone:
        if not is_alone:  # another process waits for its turn, and will see what this one would
            return Outcome()
        work = _Refresh(declared, backend, runner, progress, step, say)
        work.update = update or declared.refresh.update
        plan = planning.plan(declared, retry)
        while wait and plan.settling:
            time.sleep(max(declared.settle / 4, 0.05))
            plan = planning.plan(declared, retry)
        outcome = work.make(plan)
        notification.notify(declared, backend, outcome)
        return outcome


@contextlib.contextmanager
def _alone(backend: Backend, wait: bool) -> Iterator[bool]:
    """Hold the store against a second refresh; yield False if another one waits for it already."""
    lock, turn = (locks.path_of(backend, name) for name in ("refresh", "refresh.next"))
    subject = f"The refresh of {backend.name}"
    with contextlib.ExitStack() as entered:
        if wait:
            with contextlib.ExitStack() as waiting:
                try:
                    waiting.enter_context(locks.hold(turn))
                except BusyError:
                    yield False
                    return
                entered.enter_context(locks.hold(lock, wait=float("inf"), what=subject))
        else:
            entered.enter_context(locks.hold(lock, what=subject))
        yield True


class _Refresh:
    """One refresh of a store; its methods are its steps, in order."""

    def __init__(
        self, declared: Declaration, backend: Backend, runner: Runner, progress: Progress, step: Step,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.declared, self.backend = declared, backend
        self._runner, self._progress, self._step, self._say = runner, progress, step, say
        self.outcome = Outcome()
        self.update = False

    def _report_line(self, line: str) -> None:
        """Keep a line about what was made, and pass it on."""
        self.outcome.lines.append(line)
        self._say(line)

    def make(self, plan: Plan) -> Outcome:
        """Do every step."""
        outcome = self.outcome
        for row in plan.rows:
            if row.state in ("waiting", "unreadable"):
                sentences = outcome.waiting if row.state == "waiting" else outcome.problems
                sentences.append(f"{row.name}: {row.why}")
        outcome.refused = [f"{p.name}: {p.refused}" for p in plan.refused]
        complete = [p for p in plan.pairs if p.state == "current"]
        for pair in plan.to_ingest:
            with self._catching(pair.name):
                complete.append(self._ingest(pair))
        self._record_bases(complete)
        self._record_languages(complete)
        if self.update:
            with self._catching("Bringing runs up to date"):
                self._update(complete)
        with self._catching("Adding kinds of maps"):
            self._add_maps(complete)
        with self._catching("Annotating"):
            self._annotate(plan)
        with self._catching("Classifying"):
            self._classify(complete)
        with self._catching("Drift, analyses and report, left to the next refresh"):
            # What they say of an older index would count as current for good.
            index.catch_up(self.backend, wait=_PATIENCE)
            with stores.open(self.backend) as store:
                self._ask(store, complete)
        return outcome

    def _ask(self, store: Store, complete: list[Pair]) -> None:
        """Do the steps that ask the store."""
        frames: list[pl.DataFrame] = []
        with self._catching("Drift"):
            self._compare(store, complete, frames)
        if frames:
            with self._catching("Drift"):
                self._look(pl.concat(frames))
        with self._catching("Analyses"):
            self._analyze(store, complete)
        with self._catching("The report"):
            self._report(store)

    @contextlib.contextmanager
    def _catching(self, what: str) -> Iterator[None]:
        """Turn an error into a sentence of the outcome, so that the rest is done all the same."""
        try:
            yield
        except AttnstoreError as error:
            self.outcome.problems.append(f"{what}: {error}")
        except Exception as error:
            _log.exception("%s failed", what)
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self.outcome.problems.append(f"{what}: it failed unexpectedly ({reason})")

    def _ingest(self, pair: Pair) -> Pair:
        """Run a model over a dataset; return the pair with its run."""
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
        self._report_line(
            f"{summary.run}: {summary.stored:,} of {summary.examples:,} examples stored"
        )
        return replace(pair, run=run, left=0)

    def _remember(self, change: Callable[[Seen], None]) -> None:
        """Change what later refreshes remember."""
        seen = Seen(self.backend)
        change(seen)
        seen.save()

    def _record_bases(self, complete: list[Pair]) -> None:
        """Record the base models that the file names, also of models that were stored before."""
        for pair in complete:
            base = pair.candidate.entry.base
            if base is not None and pair.run is not None:
                with self._catching(pair.name):
                    catalog.record_base(self.backend, pair.run.record.model, base)

    def _record_languages(self, complete: list[Pair]) -> None:
        """Record the languages that the file names, also of datasets that were stored before."""
        for pair in complete:
            language = pair.dataset.language
            if language is not None and pair.run is not None:
                with self._catching(pair.name):
                    catalog.record_language(self.backend, pair.run.record.dataset, language)

    def _update(self, complete: list[Pair]) -> None:
        """Add to runs of an earlier capture what they lack; their maps stay as they are."""
        for pair in complete:
            run, checkpoint = pair.run, pair.candidate.checkpoint
            if run is not None:
                with self._catching(pair.name):
                    catalog.record_label_names(self.backend, run.record.dataset, pair.dataset)
            if run is None or checkpoint is None or not additions.n_older(self.backend, run.run):
                continue
            with self._catching(pair.name):
                addition = additions.captured(run, checkpoint, self.declared.device)
                summary = job.run(addition, self._runner, self._progress)
                self.outcome.updated.append(summary.run)
                self._report_line(summary.lines()[0])

    def _add_maps(self, complete: list[Pair]) -> None:
        """Add the declared kinds of maps that runs lack; their weights stay as they are."""
        for pair in complete:
            run, checkpoint = pair.run, pair.candidate.checkpoint
            for maps in pair.maps:
                if run is None or checkpoint is None or not maps.n_lacking(run):
                    continue
                with self._catching(f"{pair.name}, {maps.kind.name}"):
                    addition = maps.addition(run, checkpoint, self.declared.device)
                    summary = job.run(addition, self._runner, self._progress)
                    self.outcome.updated.append(summary.run)
                    self._report_line(summary.lines()[0])

    def _annotate(self, plan: Plan) -> None:
        datasets = plan.datasets
        for item in staleness.annotating(self.backend, self.declared, datasets):
            if item.state == "current":
                continue
            with self._catching(item.name):
                annotate.annotate(
                    self.backend, item.dataset, item.with_, item.as_published,
                    runner=self._runner, progress=self._progress,
                )  # fmt: skip
                self.outcome.annotated.append(item.name)
                self._report_line(f"{item.name}: annotated")

    def _classify(self, complete: list[Pair]) -> None:
        for run in [p.run for p in complete if p.run is not None]:
            if not staleness.to_classify(self.declared, run.run):
                continue
            item = staleness.classifying(self.declared, run)
            if item.state == "current":
                continue
            with self._catching(item.name):
                # A refresh that finds nothing to do needs no torch, which takes seconds to import.
                from attnstore.experiments.patterns import classification

                summary = classification.classify(
                    self.backend, run.run, network=self.declared.network,
                    runner=self._runner, progress=self._progress,
                )  # fmt: skip
                self.outcome.classified.append(item.name)
                self._report_line(
                    f"{item.name}: {summary.stored:,} of {summary.maps:,} maps classified"
                )

    def _compare(self, store: Store, complete: list[Pair], frames: list[pl.DataFrame]) -> None:
        """Compare each trained model with its base and with the checkpoint before; add what is found to `frames`."""
        drift = self.declared.drift
        for item in movement.planned(store, self.declared, complete):
            if item.result.state == "current":
                continue
            with self._catching(item.result.name):
                frame = self._step(
                    item.result.name,
                    lambda item=item: item.result.make(lambda: movement.moved(store, item)),  # type: ignore[misc]
                )
                assert isinstance(frame, pl.DataFrame)
                frames.append(frame)
                for line in [*movement.sentences(frame, drift), *movement.notes(store, item)]:
                    self._report_line(line)

    def _look(self, moved: pl.DataFrame) -> None:
        """Find the heads that moved most, and those below the thresholds."""
        self.outcome.moved = moved
        self.outcome.most = movement.most(moved, self.declared.drift.most)
        self.outcome.alerts = movement.alerts(moved, self.declared.drift)

    def _analyze(self, store: Store, complete: list[Pair]) -> None:
        runs = [p.run.run for p in complete if p.run is not None]
        for item in staleness.results(store, self.declared, runs):
            if item.state == "current":
                continue
            with self._catching(item.name):
                self._step(
                    item.name,
                    lambda item=item: item.make(  # type: ignore[misc]
                        lambda: store.query(item.kind, **item.params)
                    ),
                )
                self.outcome.analysed.append(item.name)
                self._report_line(f"{item.name}: {item.path}")

    def _report(self, store: Store) -> None:
        if self.declared.report is None:
            return
        folder = self.declared.path(self.declared.report)
        page = folder / report.PAGE
        # Before: what is committed meanwhile is not on the page.
        listed = index_listing.fingerprint(self.backend, "")
        if not page.exists() or Seen(self.backend).reported.get(str(page)) != listed:
            self._step("report", lambda: report.write(store, folder))
            self._remember(lambda seen: seen.reported.update({str(page): listed}))
            self._report_line(f"The report: {page}")
        self.outcome.page = page


def _lasting(pair: Pair, error: Exception) -> bool:
    """Return True if the same bytes will be refused again: memory sufficed and they are the same."""
    cause = error.__cause__
    if isinstance(cause, (MemoryError, OSError)) or "OutOfMemory" in type(cause).__name__:
        return False
    candidate = pair.candidate
    try:
        return candidate.files is None or signature(Path(candidate.source)) == candidate.files
    except ModelError:  # it is gone
        return False


def _refuse_changed(pair: Pair) -> None:
    """Raise ModelError if the folder is no longer what the run was planned for."""
    candidate = pair.candidate
    if candidate.files is not None and signature(Path(candidate.source)) != candidate.files:
        raise ModelError(
            f"{candidate.source} has changed while it was read; nothing of it was stored, and the next "
            "refresh takes it as it is then"
        )


def _forget(backend: Backend, run: Run, models: set[str]) -> None:
    """Drop a run that was planned for weights that are gone, and the record of its model.

    Args:
        backend: The files of the store.
        run: The run.
        models: Paths of records that existed before; they stay.
    """
    Store(backend).drop(run.run)
    with locks.registry(backend):
        for fragment in fragments.listing(backend, "models", run.record.model):
            if fragment.path not in models:
                fragments.discard(backend, fragment)
