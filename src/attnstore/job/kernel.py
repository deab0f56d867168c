"""Jobs, the runner of this process, and the share of a job that another process is given."""

from __future__ import annotations

import contextlib
import platform
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import polars as pl

from attnstore.errors import BusyError
from attnstore.job.units import Advance, Report, Unit
from attnstore.storage import fragments, index, locks
from attnstore.storage.backend import Backend


class Summary(Protocol):
    """The outcome of a job, and the state of the store after it."""

    def lines(self) -> list[str]:
        """Describe it to people; of several lines the first is a title."""


class Stopped(BaseException):
    """Raised inside a unit in work when its job has been stopped; nothing of the unit is committed."""


R = TypeVar("R", bound=Report)
S = TypeVar("S", bound=Summary)


class Job(ABC, Generic[R, S]):
    """One resumable piece of work over a store, locked against a second process while it is entered.

    A subclass lists the missing units, stores one of them, and summarizes the end.
    """

    kind: ClassVar[str]
    """The verb: ingest, annotate, classify, …"""
    noun: ClassVar[str]
    """Plural name of its items: examples, maps, …"""
    in_turn: ClassVar[bool] = False
    """True if the next units are known only once the last ones are stored."""
    history: ClassVar[str | None] = None
    """The table that keeps a row about each time that it stored something, owned by its title."""

    def __init__(self, backend: Backend, title: str, lock: str, subject: str) -> None:
        """Name a job; nothing is looked at yet.

        Args:
            backend: Its store.
            title: What people call it, as `minilm/sample`.
            lock: Name of its lock.
            subject: Beginning of the sentence that refuses a second process, as `Run minilm/sample`.
        """
        self.backend, self.title = backend, title
        self._lock, self._subject = lock, subject
        self._entered = contextlib.ExitStack()
        self._started, self._began = datetime.now(UTC).replace(tzinfo=None), time.perf_counter()
        self._missing: dict[str, Unit] = {}
        self.reports: list[R] = []
        self._progress: Progress = silent
        self.advance = Advance(0, 0.0, time.monotonic())
        self._advancing, self._stopping = threading.RLock(), threading.Event()

    # What a subclass says

    @abstractmethod
    def lacking(self) -> Sequence[Unit]:
        """Return the units that the store lacks now, or holds damaged; of a job in turn, the next."""

    @abstractmethod
    def store(self, unit: Unit) -> R:
        """Compute and commit one unit in this process, the commit mark last."""

    @abstractmethod
    def summary(self, seconds: float) -> S:
        """Describe how it went, `seconds` after planning, and what the store holds now."""

    @property
    def at_once(self) -> int:
        """Units in work at the same time in one process; asked for when one is missing."""
        return 1

    def share(self) -> Share | None:
        """Return what another process needs to store units, or None if only this one can."""
        return None

    def stored(self, unit: Unit) -> R | None:
        """Return the report of a unit that is committed and whole, None for any other."""
        return None

    def row(self) -> dict[str, Any]:
        """Return what `history` keeps about this time, beside its beginning, host and seconds."""
        raise NotImplementedError

    def outlook(self) -> str | None:
        """Describe what is left to do, None where the progress says enough."""
        return None

    # What the kernel does

    def hold(self, entered: contextlib.ExitStack) -> None:
        """Take the lock, then look what the store lacks. Raises BusyError."""
        lock = locks.path_of(self.backend, self._lock)
        entered.enter_context(locks.hold(lock, what=self._subject))
        if self.history is not None:
            fragments.remove_damaged(self.backend, self.history, self.title)
        self.look()

    def __enter__(self) -> Self:
        """Hold it against a second process. Raises BusyError."""
        self._started, self._began = datetime.now(UTC).replace(tzinfo=None), time.perf_counter()
        with contextlib.ExitStack() as entered:
            self.hold(entered)
            self._entered = entered.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Release it."""
        self._entered.close()

    def look(self) -> None:
        """See what the store lacks."""
        taken = {report.unit.name for report in self.reports}
        units = [unit for unit in self.lacking() if unit.name not in taken]
        self._missing = {unit.name: unit for unit in units}
        self.advance.total = self.advance.items + sum(unit.items for unit in units)
        self.advance.size = self.advance.done + sum(unit.size for unit in units)

    @property
    def n_stored(self) -> int:
        """Items that were stored now."""
        return sum(report.unit.items for report in self.reports)

    def missing(self) -> list[Unit]:
        """Return the units left to store, in any order; of a job in turn, ask again after them."""
        return list(self._missing.values())

    def take(self, report: R) -> None:
        """Count a unit that was stored, here or by a `Share`."""
        with self._advancing:
            self._missing.pop(report.unit.name, None)
            self.reports.append(report)
            self.advance.add(report, time.monotonic())
            if self.in_turn and not self._missing:
                self.look()
            self._progress(self)

    def move(self, items: int, size: float) -> None:
        """Report that so many more items, of such a size, are computed; from any thread."""
        with self._advancing:
            self.advance.move(items, size, time.monotonic())
            self._progress(self)

    def stop(self) -> None:
        """Have the units in work in other threads end where they are, uncommitted."""
        self._stopping.set()

    def require_going(self) -> None:
        """Raise Stopped once the job is stopped; units call it now and then."""
        if self._stopping.is_set():
            raise Stopped

    def reach(self, unit: Unit, part: float) -> None:
        """Report that a part of a unit, 0 to 1, is computed; for units in work one at a time."""
        items, size = self.advance.ahead
        self.move(int(unit.items * part) - items, unit.size * part - size)

    def complete(self, runner: Runner, progress: Progress) -> S:
        """Store what is missing of an entered job, and finish it."""
        self._progress = progress
        self._stopping.clear()
        self.advance.began = time.monotonic()
        progress(self)
        runner(self)
        return self.finish()

    def finish(self) -> S:
        """Record how it went; the index catches up unless a reader holds it."""
        seconds = time.perf_counter() - self._began
        if self.history is not None and self.reports:
            row = {
                **self.row(), "started": self._started, "host": platform.node(), "seconds": seconds
            }  # fmt: skip
            frame = pl.DataFrame([row], schema_overrides={"run_key": pl.UInt64})
            part = f"{self._started:%Y%m%dT%H%M%S%f}"
            fragments.write(self.backend, self.history, self.title, part, frame)
        with contextlib.suppress(BusyError):  # it catches up when the store is next opened
            index.catch_up(self.backend)
        return self.summary(seconds)


Progress = Callable[[Job[Any, Any]], None]
"""Called when a job begins, as a unit goes and after each unit; `job.advance` says how far it is."""
Runner = Callable[[Job[Any, Any]], None]
"""Stores what is missing of a job: `take` after each `store`, until nothing is missing."""


def silent(_job: Job[Any, Any]) -> None:
    """Show no progress."""


def in_process(job: Job[Any, Any]) -> None:
    """Store what is missing here, `job.at_once` units at a time."""
    while units := job.missing():
        if job.at_once == 1:
            for unit in units:
                job.take(job.store(unit))
        else:
            _side_by_side(job, units)


def _side_by_side(job: Job[Any, Any], units: Sequence[Unit]) -> None:
    """Store units in threads. The first error ends the others where they are, as Ctrl-C does."""
    with ThreadPoolExecutor(job.at_once) as pool:
        pending = [pool.submit(job.store, unit) for unit in units]
        try:
            for future in as_completed(pending):
                job.take(future.result())
        except BaseException:
            job.stop()
            for future in pending:
                future.cancel()
            raise


def run(job: Job[Any, S], runner: Runner = in_process, progress: Progress = silent) -> S:
    """Hold a job, store what the store lacks of it, and finish it. Raises BusyError."""
    with job:
        return job.complete(runner, progress)


@dataclass(frozen=True)
class Share:
    """The units of a job for another process, which sees the same store and files.

    identity: of everything that decides its units; make, arguments: make the job there, and go
    through a pipe. Whoever hands it out holds the job until every unit has come back.
    """

    identity: str
    make: Callable[..., Job[Any, Any]]
    arguments: tuple[Any, ...]

    def store(self, unit: Unit, begun: Callable[[], None] = lambda: None) -> Report:
        """Compute and commit one unit; a process makes the job once for all its units.

        A unit that is committed and whole is not computed again: a cluster asks anew for what a
        worker had done when it was lost.

        Args:
            unit: The unit.
            begun: Called once it is begun, if the job takes several units at once; then another one may
                be asked for in this process, which begins when its turn comes.
        """
        with _sharing:
            if self.identity not in _shared:
                _shared.clear()
                _shared[self.identity] = _Shared(self.make(*self.arguments))
            shared = _shared[self.identity]
        with shared.turn(begun):
            report: Report = shared.job.stored(unit) or shared.job.store(unit)
            return report


class _Shared:
    """A job whose units this process stores for another one, and the turns of its units."""

    def __init__(self, job: Job[Any, Any]) -> None:
        self.job, at_once = job, job.at_once
        self._turns = threading.Semaphore(at_once) if at_once > 1 else None

    @contextlib.contextmanager
    def turn(self, begun: Callable[[], None]) -> Iterator[None]:
        """Wait for a turn, and keep it for the length of a block."""
        if self._turns is None:
            yield
            return
        with self._turns:
            begun()
            yield


_shared: dict[str, _Shared] = {}
"""By identity, the job whose units this process stores."""
_sharing = threading.Lock()
