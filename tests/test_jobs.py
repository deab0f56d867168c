"""Rules that every job keeps, whatever it computes: killed, asked twice, in use, on workers, retried."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import contents, forkserver, shrink
from job_cases import CASES, asking, killed, lasting, recording, results, set_up, write_material
from older import make_older

from attnstore import job
from attnstore.errors import UsageError
from attnstore.job import Job, Report, Unit
from attnstore.storage import location


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Blocks of a few inputs, and one thread, as in workers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def material(small: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module")
def undisturbed(material: Path) -> dict[str, tuple[Path, list[Unit], Any]]:
    """Of each kind, a store where it ran through, its units in order, and its summary."""
    found: dict[str, tuple[Path, list[Unit], Any]] = {}
    for kind, case in CASES.items():
        root, units = beginning(kind, material, material / f"{kind}-whole"), []
        found[kind] = root, units, job.run(case.make(material, root), recording(units))
    return found


def beginning(kind: str, material: Path, root: Path) -> Path:
    """A store in which a job may begin: without a run, where it makes one."""
    if kind != "ingest":
        shutil.copytree(material / "store", root)
    if kind == "add":
        make_older(root)
    return root


every = pytest.mark.parametrize("kind", list(CASES))


@every
def test_a_killed_job_continues_with_what_is_missing(
    kind: str, material: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Killed in the middle of a unit: units before it are not computed again, and the results are
    those of a job that ran through."""
    whole, units, summary = undisturbed[kind]
    root = beginning(kind, material, tmp_path / "store")
    child = forkserver().Process(target=killed, args=(kind, material, root))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    rest: list[Unit] = []
    again = job.run(CASES[kind].make(material, root), recording(rest))
    names = [unit.name for unit in units]
    assert [unit.name for unit in rest] == names[len(names) - len(rest) :]
    assert 0 < len(rest) < len(units) or len(units) == 1
    assert results(kind, root) == results(kind, whole)
    assert _without_folder(lasting(again)) == _without_folder(lasting(summary))


def _without_folder(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "folder"}


@every
def test_a_job_asked_for_twice_computes_nothing(
    kind: str, material: Path, undisturbed: dict[str, Any]
) -> None:
    """No unit is missing, no fragment or array is written, and the summary is the same."""
    root, units, summary = undisturbed[kind]
    before = contents(root)
    assert len(units) >= 1
    again = job.run(CASES[kind].make(material, root), lambda work: _nothing(work.missing()))
    assert contents(root) == before
    assert lasting(again) == lasting(summary)
    assert again.lines()


def _nothing(units: list[Unit]) -> None:
    assert units == []


@every
def test_a_job_in_use_is_refused_by_name(kind: str, material: Path, tmp_path: Path) -> None:
    """A second process gets one sentence with the job's name."""
    root = beginning(kind, material, tmp_path / "store")
    ours, theirs = forkserver().Pipe()
    with CASES[kind].make(material, root) as work:
        assert work.missing()
        child = forkserver().Process(target=asking, args=(theirs, kind, material, root))
        child.start()
        assert ours.poll(120)
        name, sentence = ours.recv()
        child.join(60)
    assert name == "BusyError"
    assert sentence.startswith(f"{CASES[kind].subject} is in use by process ")


@every
def test_workers_store_the_same_units(
    kind: str, material: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Processes of their own that are given a share; a job of one unit, or of units that follow one
    another, has no share."""
    case, (whole, units, summary) = CASES[kind], undisturbed[kind]
    root = beginning(kind, material, tmp_path / "store")

    def on_workers(work: Job[Any, Any]) -> None:
        share = work.share()
        assert share is not None
        with ProcessPoolExecutor(2, forkserver(), set_up) as pool:
            for report in pool.map(share.store, work.missing()):
                work.take(report)

    with case.make(material, root) as work:
        assert (work.share() is not None) == case.shares
        if not case.shares:
            assert len(units) == 1 or work.in_turn
            return
        found = work.complete(on_workers, job.silent)
    assert results(kind, root) == results(kind, whole)
    assert lasting(found) == lasting(summary)
    assert len(work.reports) == len(units) > 1


@every
def test_a_share_does_not_compute_what_is_committed(
    kind: str, undisturbed: dict[str, Any], material: Path
) -> None:
    """A cluster asks anew for a unit whose worker was lost after the commit."""
    root, units, _ = undisturbed[kind]
    before = contents(root)
    share = CASES[kind].make(material, root).share()
    for unit in units if share else ():
        assert share.store(unit).unit == unit  # type: ignore[union-attr]
    assert contents(root) == before


# Runners


class Failing(Job[Report, Any]):
    """A job of three units, the second of which fails as often as it is told to."""

    kind, noun = "fail", "tries"

    def __init__(self, root: Path, *errors: Exception) -> None:
        super().__init__(location.locate(root), "failing", lock="failing", subject="It")
        self.errors, self.tries = list(errors), []

    def lacking(self) -> list[Unit]:
        return [Unit(f"unit {n}", n, 1, 1.0) for n in range(3)]

    def store(self, unit: Unit) -> Report:
        self.tries.append(unit.number)
        if unit.number == 1 and self.errors:
            raise self.errors.pop()
        return Report(unit, 10)

    def summary(self, seconds: float) -> Any:
        return [report.unit.number for report in self.reports]


def test_progress_tells_the_beginning_each_part_and_each_unit(material: Path) -> None:
    """Items and size add up to those of all units."""
    told = []

    def progress(work: Job[Any, Any]) -> None:
        told.append((work.advance.computed, work.advance.bytes))

    def runner(work: Job[Any, Any]) -> None:
        work.reach(work.missing()[0], 0.5)
        job.in_process(work)

    job.run(Failing(material / "store"), runner, progress)
    assert told == [
        ((0, 0.0), 0), ((0, 0.5), 0), ((1, 1.0), 10), ((2, 2.0), 20), ((3, 3.0), 30),
    ]  # fmt: skip


def test_a_unit_that_fails_leaves_the_lock_free(material: Path) -> None:
    """The error is the unit's own; the same job again begins where it stopped."""
    failing = Failing(material / "store", OSError("full"))
    with pytest.raises(OSError, match="full"):
        job.run(failing)
    assert job.run(failing) == [0, 1, 2]
    assert failing.tries == [0, 1, 1, 2]


class Slow(Failing):
    """A job of eight units, two at a time; the first one fails while another is stored."""

    at_once = 2

    def __init__(self, root: Path, *errors: Exception) -> None:
        super().__init__(root, *errors)
        self.open = 0

    def lacking(self) -> list[Unit]:
        return [Unit(f"unit {n}", n, 1, 1.0) for n in range(8)]

    def store(self, unit: Unit) -> Report:
        self.tries.append(unit.number)
        self.open += 1
        try:
            time.sleep(0.2)
            if unit.number == 0:
                raise self.errors[0]
            time.sleep(0.6)
            self.require_going()
        finally:
            self.open -= 1
        return Report(unit, 10)


@pytest.mark.slow
def test_no_unit_goes_on_once_a_failed_job_has_ended(material: Path) -> None:
    """With Prefect as in threads: those that wait are left out, those in work end before the lock is free."""
    pytest.importorskip("prefect", reason="prefect is not installed")
    from prefect import flow

    from attnstore.flows import tasks

    @flow(persist_result=False)
    def run() -> None:
        with pytest.raises(UsageError, match="a mistake"):
            job.run(made[0], tasks.here)
        assert made[0].open == 0, "a unit is in work, and nothing holds the job"
        begun.append(len(made[0].tries))

    made, begun = [Slow(material / "store", UsageError("a mistake"))], list[int]()
    run()
    time.sleep(1)
    assert begun == [len(made[0].tries)], "a unit has begun after the job ended"


@pytest.mark.slow
def test_prefect_retries_what_failed_by_chance_and_no_mistake(
    material: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit that fails once is stored; an error of attnstore is raised at once."""
    pytest.importorskip("prefect", reason="prefect is not installed")
    from prefect import flow

    from attnstore.flows import tasks

    monkeypatch.setattr(tasks.store_unit, "retry_delay_seconds", 0)

    @flow(persist_result=False)
    def run(errors: list[Exception]) -> None:
        made.append(Failing(material / "store", *errors))
        job.run(made[-1], tasks.here)

    made: list[Failing] = []
    run([OSError("by chance")])
    assert made[0].tries == [0, 1, 1, 2]
    with pytest.raises(UsageError, match="a mistake"):
        run([UsageError("a mistake")])
    assert made[1].tries == [0, 1]
