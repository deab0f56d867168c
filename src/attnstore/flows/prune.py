"""Find the smallest set of heads that keeps a classifier's score: a Prefect flow, one task per round.

    python -m flows.prune --store DIR --model CHECKPOINT --dataset DATASET [--loss 0.01]

The result is a set of heads as `flows.ablate --what` and `flows.ingest --disable` take it. The same
runs without Prefect as `attnstore.experiments.ablation.pruning.prune`.
"""

from __future__ import annotations

from typing import Any

import click
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.utilities.annotations import quote

from attnstore.cli.command import Command
from attnstore.cli.options import scored_options, store_option
from attnstore.display.progress import bar
from attnstore.experiments.ablation import pruning
from attnstore.experiments.ablation.ablations import Progress
from attnstore.experiments.ablation.pruning import Pruning, Summary
from attnstore.flows import only_sentences


@task(name="round", cache_policy=NO_CACHE, persist_result=False)
def store_round(search: Pruning, progress: Progress) -> None:
    """Run and commit one round."""
    search.store_round(progress)


@flow(name="prune", persist_result=False)
def prune(store: str, model: str, dataset: str, options: dict[str, Any] | None = None) -> Summary:
    """Search over one model and dataset; options are those of `pruning.request`."""
    asked = pruning.request(model, dataset, **(options or {}))
    with pruning.planned(store, asked) as search, bar(f"{model} over {dataset}") as progress:
        while not search.done:
            store_round(quote(search), quote(progress))
        return search.finish()


@click.command(cls=Command)
@store_option
@scored_options
@click.option("--loss", type=float, default=0.01, show_default=True, metavar="SHARE",
              help="How far the metric may fall below the baseline.")  # fmt: skip
@click.option("--at-once", type=int, default=4, show_default=True, metavar="N",
              help="At most so many heads go in one round; fewer is a finer search, and slower.")  # fmt: skip
def main(store: str, model: str, dataset: str, **options: Any) -> None:
    """Find the smallest set of heads that keeps a classifier's score, as a Prefect flow.

    \b
    Example: python -m flows.prune --model out/rte/checkpoint-234 --dataset glue/rte
    """
    pruning.request(model, dataset, **options)  # mistakes need not wait for Prefect
    with only_sentences():
        found = prune(store, model, dataset, options)
    row = found.row
    kept = found.n_heads - row["n_disabled"]
    click.echo(
        f"{row['model']} over {row['dataset']}: {kept} of {found.n_heads} heads keep {row['metric']} "
        f"within {row['loss']:g} ({row['value']}), {row['score']:.4f} of {row['baseline']:.4f} over "
        f"{row['n']:,} inputs; held out {row['held_score']:.4f} of {row['held_baseline']:.4f} over "
        f"{row['held_n']:,} (difference {row['held_score'] - row['held_baseline']:+.4f}, 95 % "
        f"{row['held_low']:+.4f} to {row['held_high']:+.4f}), {found.rounds} rounds run now in "
        f"{found.seconds:.1f} s"
    )
    click.echo(f"disabled: {row['disabled'] or 'none'}")


if __name__ == "__main__":
    main()
