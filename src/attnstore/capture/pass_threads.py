"""The threads that run forward passes: one thread of torch each, with a copy of the model each.

On a processor several small passes at once, each on one core, take less time than one after another on all
cores, above all where other programs run, too: no core waits for another one inside a layer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

from attnstore.models.attention_hook import Capturer

T = TypeVar("T")


class PassThreads:
    """Threads that run forward passes of one model; they start with the first pass.

    count: how many: on a CPU as many as torch may use threads (`OMP_NUM_THREADS`,
    `torch.set_num_threads`), so that no more cores are used. One on a GPU, and for a model that does not
    go through transformers' AttentionInterface, whose code may keep a state that threads would share.
    """

    def __init__(self, capturer: Capturer, device: torch.device) -> None:
        self._capturer, self._all = capturer, _allowed()
        several = device.type == "cpu" and capturer.through_interface
        self.count = self._all if several else 1
        self._own = threading.local()
        self._pool: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()
        self._free = threading.Semaphore(self.count)
        self._alone = threading.Lock()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute a block, as one of at most `count`."""
        with self._free, _one_each(self._all) if self.count > 1 else _as_it_is():
            yield

    @contextmanager
    def computing_alone(self) -> Iterator[None]:
        """Compute a block in the calling thread while no other one is computed, on all cores."""
        with self._alone:
            for _ in range(self.count):
                self._free.acquire()
        try:
            if self.count > 1:  # an earlier block has left this thread with one
                torch.set_num_threads(self._all)
            yield
        finally:
            self._free.release(self.count)

    def run(self, passes: list[Callable[[Capturer], T]]) -> list[T]:
        """Run passes, each with the capturer of its thread; return their results in order.

        Where one raises, those that have not begun are left out, and the error is raised once the others
        have ended: then nothing writes to their buffers any more.
        """
        with self._starting:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.count, "pass", self._begin)
            futures = [self._pool.submit(self._call, work) for work in passes]
        try:
            return _results(futures)
        finally:
            for future in futures:
                future.cancel()
            wait(futures)

    def close(self) -> None:
        """End the threads; another pass starts them again."""
        with self._starting:
            if self._pool is not None:
                self._pool.shutdown()
            self._pool = None

    def _begin(self) -> None:
        """Make a thread ready: one core and a copy of the model, where there are other threads."""
        if self.count > 1:
            torch.set_num_threads(1)
        self._own.capturer = self._capturer.beside() if self.count > 1 else self._capturer

    def _call(self, work: Callable[[Capturer], T]) -> T:
        return work(self._own.capturer)


def _results(futures: list[Future[T]]) -> list[T]:
    """Wait for all, or for the first error in time."""
    wait(futures, return_when="FIRST_EXCEPTION")
    for future in futures:
        if future.done() and (error := future.exception()) is not None:
            raise error
    return [future.result() for future in futures]


_counting = threading.Lock()
_inside = 0  # blocks that are computed with one thread of torch in each thread
_before = 1  # threads of torch before the first of them
_left = threading.local()  # in a thread whose last block ended before others: threads it had before


def _allowed() -> int:
    """Count the threads that torch may use."""
    with _counting:
        return _before if _inside else getattr(_left, "threads", None) or torch.get_num_threads()


@contextmanager
def _one_each(allowed: int) -> Iterator[None]:
    """Let torch use one thread in each thread, and as many as are allowed once the last block has ended.

    torch keeps the number per thread, but its matrix library one for all of them: a thread whose block
    ends before others is left with one, so what it has says nothing of what is allowed.
    """
    global _inside, _before
    with _counting:
        if not _inside:
            _before = allowed
        _inside += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _counting:
            _inside -= 1
            _left.threads = _before if _inside else None
            if not _inside:
                torch.set_num_threads(_before)


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield
