"""Score a classifier with heads and layers disabled: a Prefect flow with one task per layer.

    python -m flows.ablate --store DIR --model CHECKPOINT --dataset DATASET [--what heads] …

Results are stored as `ablations`, the gradient score of every head as `head_importance`; what is
stored is not computed again. The same runs without Prefect as
`attnstore.experiments.ablation.ablations.ablate`.
"""

from __future__ import annotations

from typing import Any

import click
import polars as pl
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.utilities.annotations import quote

from attnstore.cli.command import Command
from attnstore.cli.options import scored_options, store_option
from attnstore.display.progress import bar
from attnstore.experiments.ablation import ablations
from attnstore.experiments.ablation.ablations import Ablation, Summary
from attnstore.flows import only_sentences


@task(name="layer", task_run_name="layer {layer}", cache_policy=NO_CACHE, persist_result=False)
def store_layer(ablation: Ablation, layer: int) -> int:
    """Run and commit the settings that begin in one layer."""
    return ablation.store(layer)


@task(name="importance", cache_policy=NO_CACHE, persist_result=False)
def store_importance(ablation: Ablation) -> None:
    """Compute and commit the gradient score of every head."""
    ablation.store_importance()


def _as_tasks(ablation: Ablation) -> None:
    if ablation.wants_importance:
        store_importance(quote(ablation))
    for layer in ablation.missing:
        store_layer(quote(ablation), layer)


@flow(name="ablate", persist_result=False)
def ablate(store: str, model: str, dataset: str, options: dict[str, Any] | None = None) -> Summary:
    """Disable heads of one model over one dataset; options are those of `ablations.request`."""
    with bar(f"{model} over {dataset}") as progress:
        return ablations.ablate(store, model, dataset, progress, run=_as_tasks, **(options or {}))


@click.command(cls=Command)
@store_option
@scored_options
@click.option("--what", multiple=True, default=(ablations.HEADS, ablations.LAYERS),
              show_default=True, metavar="WHAT",
              help="heads (each one), layers (each one), or a set of heads as 0.3,2.11 (LAYER.HEAD "
              "from 0; 2.0-3 and 4.* too); may be repeated.")  # fmt: skip
@click.option("--importance/--no-importance", default=True, show_default=True,
              help="The gradient score of every head too.")  # fmt: skip
def main(store: str, model: str, dataset: str, **options: Any) -> None:
    """Score a classifier with heads and layers disabled, as a Prefect flow.

    \b
    Example: python -m flows.ablate --model out/rte/checkpoint-234 --dataset glue/rte
    """
    ablations.request(model, dataset, **options)  # mistakes need not wait for Prefect
    with only_sentences():
        found = ablate(store, model, dataset, options)
    for line in told(found):
        click.echo(line)


def told(found: Summary) -> list[str]:
    """What an ablation found, in a few lines: the baseline and the largest changes of each metric."""
    how = {None: "all stored before", True: "", False: ", one full pass each"}[found.in_pieces]
    now = f"{found.stored:,} of them run now in {found.seconds:.1f} s{how}"
    settings = found.results["setting"].n_unique()
    lines = [
        f"{found.model} over {found.dataset}: {settings:,} settings ({found.value}) over "
        f"{found.n:,} inputs, {now if found.stored else how}"
    ]
    for (metric,), rows in found.results.group_by("metric", maintain_order=True):
        ordered = rows.sort("difference", descending=True, nulls_last=True)
        surely = rows.filter(pl.col("low") > 0), rows.filter(pl.col("high") < 0)
        best, worst = ordered.row(0, named=True), ordered.row(-1, named=True)
        lines.append(
            f"  {metric}: baseline {_shown(best['baseline'])}; best without {_change(best)}, worst "
            f"without {_change(worst)}; {len(surely[0])} better and {len(surely[1])} worse beyond "
            "their interval"
        )
    return lines


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _change(row: dict[str, Any]) -> str:
    if row["difference"] is None or row["low"] is None:
        return f"{row['setting']} (undefined)"
    ends = f"{row['low']:+.4f} to {row['high']:+.4f}"
    return f"{row['setting']} ({row['difference']:+.4f}, 95 % {ends})"


if __name__ == "__main__":
    main()
