"""Forward passes in several threads: the same bytes, no more cores than allowed, a clean end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from helpers import contents, shrink, write_texts

import attnstore
from attnstore.capture import ingestion, passes
from attnstore.capture.blocks import BlockWorker
from attnstore.capture.pass_threads import PassThreads
from attnstore.capture.runs import Settings
from attnstore.capture.sink import Buffer
from attnstore.datasets import corpora
from attnstore.job import Job
from attnstore.models import checkpoints
from attnstore.naming import EAGER, INTERFACE
from attnstore.storage import fragments, location

TABLES = (
    "inputs",
    "blocks",
    "map_stats",
    "offsets",
    "array_blocks",
    "examples",
    "bert",
)  # all but times


@pytest.fixture(autouse=True)
def three_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks of a few inputs, passes of one or two, and three threads for torch."""
    shrink(monkeypatch)
    monkeypatch.setattr("attnstore.storage.layout.BATCH_TOKENS", 64)
    before, others = torch.get_num_threads(), {*threading.enumerate()}
    torch.set_num_threads(3)
    yield
    left = torch.get_num_threads()
    torch.set_num_threads(before)
    assert left == 3
    assert not [t for t in threading.enumerate() if t.name.startswith("pass") and t not in others]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("work")
    texts = write_texts(folder / "t.jsonl", 120, longest=30)
    return str(tiny.make(folder / "bert", "bert")), str(texts)


def planned(work: tuple[str, str], root: Path) -> ingestion.Ingestion:
    model, texts = checkpoints.resolve(work[0]), corpora.load(work[1])
    return ingestion.planned(location.create(root), model, texts, Settings(max_length=64), "cpu")


def test_the_number_of_threads_changes_no_byte(work: tuple[str, str], tmp_path: Path) -> None:
    """Of maps, statistics and what the heads move; with one thread, passes follow one another."""
    attnstore.ingest(tmp_path / "three", *work, max_length=64)
    torch.set_num_threads(1)
    attnstore.ingest(tmp_path / "one", *work, max_length=64)
    torch.set_num_threads(3)
    one, three = (contents(tmp_path / name, tables=TABLES) for name in ("one", "three"))
    assert len(fragments.listing(location.locate(tmp_path / "one"), "blocks")) > 5
    assert one == three


def test_maps_of_another_device_are_stored_as_those_of_the_processor(
    work: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a GPU: a block is computed in a memory of its own, waited for, copied whole, and encoded then."""
    attnstore.ingest(tmp_path / "here", *work, max_length=64)
    make, waited = Buffer.make, []

    def apart(*arguments: Any) -> Buffer:
        made = make(*arguments)
        other = [torch.full_like(x, 7) for x in (made.maps, made.received)]
        return replace(made, host_maps=other[0], host_received=other[1])

    class Stream:
        def synchronize(self) -> None:
            waited.append(threading.get_ident())

    monkeypatch.setattr(Buffer, "make", staticmethod(apart))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: Stream())
    attnstore.ingest(tmp_path / "there", *work, max_length=64)
    here, there = (contents(tmp_path / name, tables=TABLES) for name in ("here", "there"))
    assert len(waited) == len(fragments.listing(location.locate(tmp_path / "there"), "blocks")) > 5
    assert here == there


def test_no_more_threads_compute_than_torch_may_use(
    work: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with one thread of torch, on a copy of the model of its own."""
    seen: set[tuple[int, int, int]] = set()
    run_one = passes.run_one

    def watched(capturer: Any, *arguments: Any) -> None:
        seen.add((threading.get_ident(), id(capturer.model), torch.get_num_threads()))
        run_one(capturer, *arguments)

    monkeypatch.setattr(passes, "run_one", watched)
    attnstore.ingest(tmp_path / "store", *work, max_length=64)
    assert 1 < len(seen) <= 3
    assert len({thread for thread, _, _ in seen}) == len({model for _, model, _ in seen})
    assert {n for _, _, n in seen} == {1}


@pytest.mark.parametrize(("captured", "count"), [(INTERFACE, 3), (EAGER, 1)])
def test_a_model_outside_the_interface_has_one_thread(
    captured: str, count: int, work: tuple[str, str], tmp_path: Path
) -> None:
    """Its code may keep a state that threads would share."""
    with planned(work, tmp_path / "store") as job:
        capturer = job.worker.capturer
        capturer.way = replace(capturer.way, captured=captured)
        assert PassThreads(capturer, torch.device("cpu")).count == count


def test_blocks_that_end_in_any_order_leave_torch_its_threads(
    work: tuple[str, str], tmp_path: Path
) -> None:
    """To threads that begin later, and to jobs planned in a thread whose block ended before another one."""
    with planned(work, tmp_path / "store") as job:
        capturer, cpu = job.worker.capturer, torch.device("cpu")
        threads = PassThreads(capturer, cpu)
        with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
            blocks = threads.computing(), threads.computing()
            for thread, block in zip((first, second), blocks, strict=True):
                thread.submit(block.__enter__).result()
            for thread, block in zip((first, second), blocks, strict=True):
                thread.submit(block.__exit__, None, None, None).result()
            assert first.submit(lambda: PassThreads(capturer, cpu).count).result() == 3
            again = threads.computing()
            first.submit(again.__enter__).result()
            first.submit(again.__exit__, None, None, None).result()
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 3


def test_a_worker_may_be_asked_from_any_number_of_threads(
    work: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More blocks than its buffers wait; what it stores is the same."""
    attnstore.ingest(tmp_path / "alone", *work, max_length=64)
    inside, most, counting = 0, 0, threading.Lock()
    take, commit = BlockWorker._take, BlockWorker._commit

    def taking(self: BlockWorker) -> Any:
        nonlocal inside, most
        buffer = take(self)
        with counting:
            inside += 1
            most = max(most, inside)
        return buffer

    def committing(self: BlockWorker, *arguments: Any) -> int:
        nonlocal inside
        with counting:
            inside -= 1
        return commit(self, *arguments)

    monkeypatch.setattr(BlockWorker, "_take", taking)
    monkeypatch.setattr(BlockWorker, "_commit", committing)

    def eight_threads(job: Job[Any, Any]) -> None:
        with ThreadPoolExecutor(8) as pool:
            for report in pool.map(job.store, job.missing()):
                job.take(report)

    attnstore.ingest(tmp_path / "many", *work, max_length=64, runner=eight_threads)
    alone, many = (contents(tmp_path / name, tables=TABLES) for name in ("alone", "many"))
    assert alone == many
    assert 1 <= most <= 4


def test_the_first_error_ends_the_other_threads(
    work: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is raised once; blocks in work are not committed; the same call goes on from there."""
    attnstore.ingest(tmp_path / "whole", *work, max_length=64)
    run_one, calls = passes.run_one, iter(range(10**6))
    with pytest.MonkeyPatch.context() as patch, planned(work, tmp_path / "store") as job:

        def failing(capturer: Any, rows: Any, on_layer: Any, listener: Any) -> None:
            if next(calls) < 12:
                run_one(capturer, rows, on_layer, listener)
                return
            if not job._stopping.is_set():
                raise OSError("a late pass")
            run_one(capturer, rows, on_layer, listener)

        patch.setattr(passes, "run_one", failing)
        with pytest.raises(OSError, match="a late pass"):
            job.complete(ingestion.in_process, lambda _: None)
        units = len(job.missing())
        assert not job.worker.capturer.model._forward_hooks
        assert 0 < len(fragments.listing(job.backend, "blocks")) < units + len(job.reports)
    attnstore.ingest(tmp_path / "store", *work, max_length=64)
    whole, again = (contents(tmp_path / name, tables=TABLES) for name in ("whole", "store"))
    assert whole == again


def test_an_interrupt_ends_all_threads(
    work: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C during passes: no block in work is committed, and the same call goes on from there."""
    run_one, interrupted = passes.run_one, threading.Event()
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    with pytest.MonkeyPatch.context() as patch, planned(work, tmp_path / "store") as job:

        def interrupting(capturer: Any, rows: Any, on_layer: Any, listener: Any) -> None:
            if not interrupted.is_set():
                interrupted.set()
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            assert job._stopping.wait(60)  # no pass begins before the interrupt was heard
            run_one(capturer, rows, on_layer, listener)

        patch.setattr(passes, "run_one", interrupting)
        with pytest.raises(KeyboardInterrupt):
            job.complete(ingestion.in_process, lambda _: None)
        signal.signal(signal.SIGINT, heard)
        assert job.reports == []
        assert not fragments.listing(job.backend, "blocks")
    attnstore.ingest(tmp_path / "whole", *work, max_length=64)
    attnstore.ingest(tmp_path / "store", *work, max_length=64)
    whole, again = (contents(tmp_path / name, tables=TABLES) for name in ("whole", "store"))
    assert whole == again


def test_progress_counts_every_pass_of_every_thread(work: tuple[str, str], tmp_path: Path) -> None:
    """Told one call at a time; what is computed never falls, and ends with the whole run."""
    told: list[tuple[int, float]] = []
    telling = threading.Lock()

    def progress(job: Job[Any, Any]) -> None:
        assert telling.acquire(blocking=False)
        told.append(job.advance.computed)
        telling.release()

    attnstore.ingest(tmp_path / "store", *work, max_length=64, progress=progress)
    assert told == sorted(told)
    assert told[-1][0] == 120
