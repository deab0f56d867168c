"""The flow `refresh` makes a store what attnstore.toml says; `scheduled` does so again and again.

Nothing is done twice, and one refresh runs at a time per store. `prefect.yaml` deploys `scheduled` to
a work pool.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.task_runners import ThreadPoolTaskRunner

from attnstore.declared import refresh as refreshing
from attnstore.declared.config import FILE
from attnstore.declared.outcome import Outcome
from attnstore.display.progress import Progress
from attnstore.errors import AttnstoreError, BusyError
from attnstore.flows import overdue, runners, sentences, server, tasks
from attnstore.flows.jobs import AT_ONCE


class NotEverything(AttnstoreError):
    """Something that the file asks for could not be made; the rest was."""


@flow(
    name="refresh", persist_result=False,
    task_runner=ThreadPoolTaskRunner(max_workers=AT_ONCE),  # type: ignore[arg-type]
)  # fmt: skip
def refresh(
    file: str = FILE, shared: bool = False, retry: bool = False, update: bool = False
) -> Outcome:
    """Make a store what a file says; the drift of heads becomes an artifact and lines of the log.

    Where another refresh has the store, this one leaves it the work.

    Args:
        file: The declaration.
        shared: The task runner has processes of its own.
        retry: Try again what was refused before.
        update: Bring runs of an earlier capture up to date.
    """
    logger = get_run_logger()
    with Progress() as progress:
        try:
            outcome = refreshing.refresh(
                file, retry=retry, update=update, runner=tasks.on_workers if shared else tasks.here,
                progress=progress, step=tasks.step,
                say=lambda line: (logger.warning if "ALERT" in line else logger.info)(line),
            )  # fmt: skip
        except BusyError as error:
            logger.info(str(error))
            return Outcome(waiting=[str(error)])
    for sentence in outcome.waiting:
        logger.info(f"waiting for {sentence}")
    for sentence in outcome.refused:
        logger.warning(f"refused before, not tried again: {sentence}")
    if len(outcome.most):
        about = "Heads that moved most, by mean cosine of their maps; layers and heads from 0."
        create_table_artifact(outcome.most.to_dicts(), key="drift", description=about)
        if len(outcome.alerts):
            about = "Heads whose mean cosine fell below the threshold of attnstore.toml."
            create_table_artifact(outcome.alerts.to_dicts(), key="drift-alerts", description=about)
    for sentence in outcome.problems:
        logger.error(sentence)
    return outcome


@flow(name="scheduled-refresh", persist_result=False)
def scheduled(file: str = FILE, runner: str | None = None) -> None:
    """Refresh; the run is marked as failed if something could not be made.

    Runs of the schedule that are overdue are skipped: this one makes what they would have made.
    """
    logging.getLogger("prefect.flow_runs").setLevel(logging.INFO)  # what was made, drift, alerts
    overdue.skip()
    problems = _on(runner)(file).problems
    if problems:
        raise sentences.logged(NotEverything("; ".join(problems)))


def _on(runner: str | None) -> Callable[..., Outcome]:
    """Return the flow `refresh` on the workers of a runner, if one is named."""
    if runner is None:
        return refresh
    return partial(refresh.with_options(task_runner=runners.find(runner)), shared=True)


def start(file: str, retry: bool, update: bool, runner: str | None) -> Outcome:
    """Run one refresh as a flow. Raises UsageError for a mistake in the runner."""
    job = _on(runner)
    with server.only_sentences():
        return job(file, retry=retry, update=update)


def serve(file: str, runner: str | None, every: float) -> None:
    """Refresh every so many seconds until stopped; a run that is due waits for the one before.

    Of the runs that came due while one went on, or while this machine slept, one is made.

    Raises:
        UsageError: No Prefect server is named, or nobody answers there.
    """
    if runner is not None:
        runners.find(runner)
    server.require_named("A schedule needs")
    server.require()
    scheduled.serve(
        name="attnstore", parameters={"file": str(Path(file).absolute()), "runner": runner},
        interval=timedelta(seconds=every), limit=1,
    )  # fmt: skip
