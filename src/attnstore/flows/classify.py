"""Classify the maps of runs into the five patterns: a Prefect flow with one task per block.

    python -m flows.classify --store DIR --run RUN [--network FILE]

Classes and probabilities are stored as `patterns`; blocks that are classified are not classified
again. The same runs without Prefect as `attnstore.experiments.patterns.classification.classify`.
"""

from __future__ import annotations

import click
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.utilities.annotations import quote

from attnstore.cli.command import Command
from attnstore.cli.options import store_option
from attnstore.cli.progress import bar
from attnstore.experiments.patterns import classification
from attnstore.experiments.patterns.classification import Classification, Progress, Summary
from attnstore.flows import only_sentences


@task(
    name="block", task_run_name="{run} block {block}", cache_policy=NO_CACHE, persist_result=False
)
def store_block(classification: Classification, run: str, block: int) -> int:
    """Classify and commit one block of a run."""
    return classification.store(block)


def as_tasks(classification: Classification, progress: Progress) -> None:
    """The missing blocks of a classification, each as a task."""
    done, total = 0, classification.maps_left
    for block in classification.missing:
        done += store_block(quote(classification), classification.run.run, block)
        progress(done, total)


@flow(name="classify", persist_result=False)
def classify(store: str, runs: list[str], network: str | None = None) -> list[Summary]:
    """Classify every map of every run, one run after the other."""
    summaries = []
    for run in runs:
        with bar(run) as progress:
            summaries.append(
                classification.classify(store, run, progress, network=network, run_blocks=as_tasks)
            )
    return summaries


@click.command(cls=Command)
@store_option
@click.option("--run", "runs", multiple=True, required=True, metavar="RUN",
              help="A run of the store; may be repeated.")  # fmt: skip
@click.option("--network", metavar="FILE",
              help="A network of `python -m attnstore.apps.pattern_training.training`.  [default: the package's]")  # fmt: skip
def main(store: str, runs: tuple[str, ...], network: str | None) -> None:
    """Store the pattern class of every map of runs, as a Prefect flow.

    \b
    Example: python -m flows.classify --run minilm/sample
    """
    for run in runs:
        with classification.planned(store, run, network):
            pass  # mistakes need not wait for Prefect
    with only_sentences():
        summaries = classify(store, list(runs), network)
    for found in summaries:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in found.shares.items())
        click.echo(
            f"{found.run}: {found.maps:,} maps ({shares}), {found.stored:,} of them classified now "
            f"in {found.seconds:.1f} s by network {found.network}"
        )


if __name__ == "__main__":
    main()
