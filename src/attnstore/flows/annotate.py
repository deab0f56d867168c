"""Annotate datasets of a store: a Prefect flow with one task per dataset and annotator.

    python -m flows.annotate --store DIR --dataset NAME --with spacy:MODEL --with negation …

NAME is what the store calls the dataset (`SELECT dataset FROM datasets`). An annotation that the
store has is not made again.
"""

from __future__ import annotations

from itertools import product

import click
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from attnstore.annotation import annotate as annotation
from attnstore.annotation import registry
from attnstore.annotation.annotate import Summary
from attnstore.cli.command import Command
from attnstore.cli.options import store_option
from attnstore.display.progress import bar
from attnstore.flows import only_sentences


@task(
    name="annotation", task_run_name="{dataset} by {with_}", cache_policy=NO_CACHE,
    persist_result=False,
)  # fmt: skip
def store_annotation(store: str, dataset: str, with_: str, as_published: bool) -> Summary:
    """Annotate one dataset with one annotator."""
    with bar(f"{dataset} by {with_}") as progress:
        return annotation.annotate(store, dataset, with_, as_published, progress)


@flow(name="annotate", persist_result=False)
def annotate(
    store: str, datasets: list[str], annotators: list[str], as_published: bool = False
) -> list[Summary]:
    """Annotate every dataset with every annotator, one after the other."""
    pairs = product(datasets, annotators)
    return [store_annotation(store, dataset, with_, as_published) for dataset, with_ in pairs]


@click.command(cls=Command)
@store_option
@click.option("--dataset", "datasets", multiple=True, required=True, metavar="NAME",
              help="A dataset of the store; may be repeated.")  # fmt: skip
@click.option("--with", "annotators", multiple=True, required=True, metavar="ANNOTATOR",
              help=f"One of {registry.forms()}, or an annotator of an installed package; may be "
              "repeated.")  # fmt: skip
@click.option("--as-published", is_flag=True,
              help="FrameNet's links by the rule of the authors' notebook.")  # fmt: skip
def main(
    store: str, datasets: tuple[str, ...], annotators: tuple[str, ...], as_published: bool
) -> None:
    """Annotate datasets: parts of speech, dependencies, frames, negation, as a Prefect flow.

    \b
    Example: python -m flows.annotate --dataset sample --with spacy:en_core_web_sm --with negation
    """
    for dataset, with_ in product(datasets, annotators):
        annotation.request(
            store, dataset, with_, as_published
        )  # mistakes need not wait for Prefect
    with only_sentences():
        summaries = annotate(store, list(datasets), list(annotators), as_published)
    for found in summaries:
        held = "stored" if found.stored else "found"
        click.echo(
            f"{found.dataset} by {found.source}: {found.examples:,} examples, {found.spans:,} labels "
            f"of spans, {found.links:,} links, {held} in {found.seconds:.1f} s"
        )


if __name__ == "__main__":
    main()
