"""Classify the maps of runs into the five patterns: a Prefect flow with one task per block.

    python -m flows.classify --store DIR --run RUN [--network FILE]

Classes and probabilities are stored as `patterns`; blocks that are classified are not classified
again. The same runs without Prefect as `attnstore.experiments.patterns.classification.classify`.
"""

from __future__ import annotations

import click
from prefect import flow

from attnstore.cli.command import Command
from attnstore.cli.options import store_option
from attnstore.display.progress import Progress, show
from attnstore.experiments.patterns import classification
from attnstore.experiments.patterns.classification import Summary
from attnstore.flows import only_sentences, tasks


@flow(name="classify", persist_result=False)
def classify(store: str, runs: list[str], network: str | None = None) -> list[Summary]:
    """Classify every map of every run, one run after the other."""
    with Progress() as progress:
        return [
            classification.classify(
                store, run, network=network, runner=tasks.here, progress=progress
            )
            for run in runs
        ]


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
        classification.planned(store, run, network)  # mistakes need not wait for Prefect
    with only_sentences():
        summaries = classify(store, list(runs), network)
    for summary in summaries:
        show(summary)


if __name__ == "__main__":
    main()
