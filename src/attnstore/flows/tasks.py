"""Runners of the flows: the units of a job as Prefect tasks, here or on workers; steps of a report."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import cache
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed
from prefect.states import Cancelled, State
from prefect.utilities.annotations import quote

from attnstore.errors import AttnstoreError
from attnstore.flows import sentences
from attnstore.job import Job, Report, Share, Stopped, Unit

sentences.only()  # here, as workers import this module, too


def _by_chance(_task: Any, _run: Any, state: Any) -> bool:
    """Return True for a failure that may pass; a user's mistake would only be repeated."""
    return not isinstance(state.result(raise_on_failure=False), AttnstoreError)


@task(
    name="unit", task_run_name="{title}, {name}", cache_policy=NO_CACHE, persist_result=False,
    retries=2, retry_delay_seconds=2, retry_condition_fn=_by_chance,
)  # fmt: skip
def store_unit(storing: Job[Any] | Share, title: str, name: str, unit: Unit) -> Report | State:
    """Compute and commit one unit of a job, in the process that this task runs in.

    Of a job that another unit has stopped, it ends as cancelled.
    """
    if isinstance(storing, Share):
        _keep_freed_memory()
        return storing.store(unit, _begin_another)
    try:
        return storing.store(unit)
    except Stopped:
        return Cancelled(message="Another unit has stopped the job.")


@cache
def _keep_freed_memory() -> None:
    """Let a worker of Dask use freed memory again, as glibc does where nobody sets MALLOC_TRIM_THRESHOLD_.

    Dask sets it for its workers; then every tensor above 128 KiB is new memory of the system, and forward
    passes take half as long again. Between two blocks memory is given back all the same.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        with contextlib.suppress(OSError, AttributeError):  # another libc
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
            libc.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt, from malloc.h."""
_LARGE = 32 << 20
"""Bytes up to which glibc by itself comes to keep freed memory: DEFAULT_MMAP_THRESHOLD_MAX."""
_seceded = threading.local()


def _begin_another() -> None:
    """Have a worker of Dask begin another task while this one goes on, so that it computes one block while
    it writes the other, and Prefect's own work for a task is beside both."""
    if "distributed" not in sys.modules or getattr(_seceded, "done", False):  # a second attempt
        return
    import distributed

    with contextlib.suppress(ValueError):  # this process is no worker of Dask
        distributed.secede()
        _seceded.done = True  # its thread ends with the task


@task(name="step", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def _run_step(name: str, work: Callable[[], object]) -> object:
    """Run one step that is no unit of a job: an analysis, a figure."""
    return work()


def step(name: str, work: Callable[[], object]) -> object:
    """Run a named piece of work as a task, and return what it returns."""
    return _run_step(name, quote(work))


def here(job: Job[Any]) -> None:
    """Store what is missing of a job as tasks in this process."""
    while units := job.missing():
        if job.at_once == 1:
            for unit in units:
                job.take(store_unit(quote(job), job.title, unit.name, unit))
            continue
        futures = [store_unit.submit(quote(job), job.title, unit.name, unit) for unit in units]
        _take(job, futures, as_completed(futures))


def _take(
    job: Job[Any],
    futures: Sequence[PrefectFuture[Report]],
    in_turn: Iterable[PrefectFuture[Report]],
) -> None:
    """Take what tasks store. After an error the others end before it is raised: until then the job is held.

    in_turn: the futures in the order in which they are taken.
    """
    try:
        for future in in_turn:
            job.take(future.result())
    except BaseException:
        job.stop()
        for future in futures:
            _cancel(future)
        for future in futures:
            with contextlib.suppress(Exception):  # the first error is raised
                future.wait()
        raise


def _cancel(future: PrefectFuture[Any]) -> None:
    """Leave out a task that has not begun; one that runs is waited for, and Ray's all are."""
    wrapped = getattr(future, "wrapped_future", None)
    # A thread's future that runs goes on when it is cancelled; Dask would only forget it.
    of_thread = isinstance(wrapped, Future)
    if of_thread or (hasattr(wrapped, "cancel") and not future.state.is_running()):
        wrapped.cancel()


def on_workers(job: Job[Any]) -> None:
    """Store what is missing of a job as tasks of any process, or here where it cannot be shared."""
    if (share := job.share()) is None:
        here(job)
        return
    while units := job.missing():
        futures = [store_unit.submit(share, job.title, unit.name, unit) for unit in units]
        _take(job, futures, futures)
