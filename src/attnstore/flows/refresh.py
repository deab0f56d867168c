"""Make a store what attnstore.toml says: a Prefect flow with one task per block and per step.

    python -m flows.refresh [--file attnstore.toml]
    python -m flows.refresh --every 5m          # serves it on a schedule
    python -m flows.refresh --runner dask       # spreads the blocks of ingestions over workers

Nothing is done twice, and one refresh runs at a time per store. `prefect.yaml` deploys the same to
a work pool. The same runs without Prefect as `attnstore refresh`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import click
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from attnstore.capture.ingestion import Ingestion
from attnstore.cli.command import Command
from attnstore.cli.declare import DECLARED, tell
from attnstore.declared import config
from attnstore.declared import refresh as making
from attnstore.declared.outcome import Outcome
from attnstore.display.progress import Progress
from attnstore.errors import BusyError, UsageError
from attnstore.flows import only_sentences, require_server, runners, tasks

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class NotEverything(Exception):
    """Something that the file asks for could not be made; the rest was."""


@task(name="step", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def run_step(name: str, work: Callable[[], object]) -> object:
    """One step that is no block: an annotation, an analysis, the report."""
    return work()


def _as_task(name: str, work: Callable[[], object]) -> object:
    return run_step(name, quote(work))


@flow(
    name="refresh", persist_result=False,
    task_runner=ThreadPoolTaskRunner(max_workers=Ingestion.at_once),  # type: ignore[arg-type]
)  # fmt: skip
def refresh(file: str = DECLARED, shared: bool = False, retry: bool = False) -> Outcome:
    """Make a store what a file says; the drift of heads becomes an artifact and lines of the log.

    Where another refresh has the store, this one leaves it the work. shared: the task runner has
    processes of its own; retry: also what was refused before.
    """
    logger = get_run_logger()
    with Progress() as progress:
        try:
            outcome = making.refresh(
                file, retry=retry, runner=tasks.on_workers if shared else tasks.here,
                progress=progress, step=_as_task,
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
def scheduled(file: str = DECLARED, runner: str | None = None) -> None:
    """A refresh whose run is marked as failed where something could not be made."""
    logging.getLogger("prefect.flow_runs").setLevel(logging.INFO)  # what was made, drift, alerts
    problems = _over(runner)(file).problems
    if problems:
        raise NotEverything("; ".join(problems))


def _over(runner: str | None) -> Callable[..., Outcome]:
    """A refresh whose ingestions go over the workers of a runner, if one is named. UsageError."""
    if runner is None:
        return refresh
    return partial(refresh.with_options(task_runner=runners.find(runner)), shared=True)


def _seconds(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if not found or not int(found[1]):
        raise click.BadParameter(f"{text!r} is no time; write 30s, 5m, 2h or 1d")
    return float(int(found[1]) * _UNITS[found[2]])


@click.command(cls=Command)
@click.option("--file", default=DECLARED, show_default=True, metavar="FILE", help="What should be.")
@click.option("--every", callback=_seconds, metavar="5m",
              help="Serve it on a schedule (30s, 5m, 2h, 1d); needs a Prefect server.")  # fmt: skip
@click.option("--retry", is_flag=True,
              help="Try again what was refused before, though its files are the same.")  # fmt: skip
@runners.option
def main(file: str, every: float | None, retry: bool, runner: str | None) -> None:
    """Make the store what attnstore.toml says, as a Prefect flow; with --every, again and again.

    \b
    Example: python -m flows.refresh --file attnstore.toml --every 5m
    """
    config.read(file)  # a mistake in the file, or in the runner, need not wait for Prefect
    run = _over(runner)
    if every is not None and retry:
        raise UsageError("--retry is for one refresh; leave it out with --every.")
    if every is not None:
        _serve(str(Path(file).absolute()), runner, every)
        return
    with only_sentences():
        outcome = run(file, retry=retry)
    for line in outcome.said:
        click.echo(line)
    sys.exit(tell(outcome))


def _serve(file: str, runner: str | None, every: float) -> None:
    """Until it is stopped. A run that is due while one is running waits for it to end."""
    if not os.environ.get("PREFECT_API_URL"):
        raise UsageError(
            "A schedule needs a Prefect server: run `prefect server start`, and set PREFECT_API_URL "
            "to its address, as in PREFECT_API_URL=http://127.0.0.1:4200/api."
        )
    require_server()
    scheduled.serve(
        name="attnstore", parameters={"file": file, "runner": runner},
        interval=timedelta(seconds=every), limit=1,
    )  # fmt: skip


if __name__ == "__main__":
    main()
