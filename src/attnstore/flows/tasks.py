"""Runners of the flows: the units of a job as Prefect tasks, here or on workers; steps of a report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed
from prefect.utilities.annotations import quote

from attnstore.errors import AttnstoreError
from attnstore.job import Job, Report, Share, Unit


def _by_chance(_task: Any, _run: Any, state: Any) -> bool:
    """Return True for a failure that may pass; a user's mistake would only be repeated."""
    return not isinstance(state.result(raise_on_failure=False), AttnstoreError)


@task(
    name="unit", task_run_name="{title}, {name}", cache_policy=NO_CACHE, persist_result=False,
    retries=2, retry_delay_seconds=2, retry_condition_fn=_by_chance,
)  # fmt: skip
def store_unit(storing: Job[Any] | Share, title: str, name: str, unit: Unit) -> Report:
    """Compute and commit one unit of a job, in the process that this task runs in."""
    return storing.store(unit)


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
        for future in as_completed(futures):
            job.take(future.result())


def on_workers(job: Job[Any]) -> None:
    """Store what is missing of a job as tasks of any process, or here where it cannot be shared."""
    if (share := job.share()) is None:
        here(job)
        return
    while units := job.missing():
        futures = [store_unit.submit(share, job.title, unit.name, unit) for unit in units]
        for future in futures:
            job.take(future.result())
