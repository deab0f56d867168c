"""The commands of declared state: `init`, `plan` and `refresh`; what should be stands in a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import polars as pl
from rich.console import Console

from attnstore import resources
from attnstore.cli.options import format_option
from attnstore.display import row_formats
from attnstore.errors import UsageError
from attnstore.formatting import duration, size

if TYPE_CHECKING:
    from attnstore.declared.outcome import Outcome

DECLARED = "attnstore.toml"

file_argument = click.argument("file", default=DECLARED, metavar="[FILE]")


@click.command()
@file_argument
def init(file: str) -> None:
    """Write a commented attnstore.toml to begin with.

    \b
    Example: attnstore init
    """
    path = Path(file).expanduser()
    try:
        with path.open("x", encoding="utf-8") as written:
            written.write(resources.starting_file().read_text("utf-8"))
    except FileExistsError as error:
        raise UsageError(f"{path} exists; edit it, or name another file.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}).") from error
    click.echo(f"{path}: edit it, then `attnstore plan` tells what is missing.")


@click.command()
@file_argument
@format_option
def plan(file: str, form: str | None) -> None:
    """Show what is missing, stale or no longer declared, with what it will cost.

    The store is the file's, whatever --store says.

    \b
    Example: attnstore plan
    """
    from attnstore.declared import config, planning  # the write side

    with Console(stderr=True).status("looking at models and datasets"):
        found = planning.plan(config.read(file))
    table = found.table()
    if form not in (None, "table"):
        row_formats.emit(table, form, None)
        return
    held = sum(pair.state == "held" for pair in found.pairs)
    if len(table):
        row_formats.emit(
            table.with_columns(
                pl.col("seconds").map_elements(duration, pl.String),
                pl.col("bytes").map_elements(size, pl.String),
            ).rename({"seconds": "about", "bytes": "on disk"}),
            form,
            None,
        )
        click.echo("")
    click.echo(f"{held} of {len(found.pairs)} declared runs are stored whole{_cost(table)}.")


def _cost(table: pl.DataFrame) -> str:
    """What all that is missing takes, as far as it can be told."""
    rest = table.filter(pl.col("examples").is_not_null())
    if not len(rest):
        return ""
    if rest["seconds"].null_count() or rest["bytes"].null_count():
        return "; what the rest will cost is told once something like it was done"
    seconds, n_bytes = float(rest["seconds"].sum()), float(rest["bytes"].sum())
    return f"; the rest takes about {duration(seconds)} and {size(n_bytes)}"


@click.command()
@file_argument
@click.option("--wait", is_flag=True,
              help="Wait for another refresh of the store, and for checkpoints to settle.")  # fmt: skip
@click.option("--retry", is_flag=True,
              help="Try again what was refused before, though its files are the same.")  # fmt: skip
def refresh(file: str, wait: bool, retry: bool) -> None:
    """Make the store what the file says, nothing twice; also python -m flows.refresh.

    \b
    Example: attnstore refresh
    """
    from attnstore.declared import refresh as making  # the write side
    from attnstore.display.progress import Progress

    with Progress() as progress:
        outcome = making.refresh(file, wait=wait, retry=retry, progress=progress, say=click.echo)
    sys.exit(tell(outcome))


def tell(outcome: Outcome) -> int:
    """Say how a refresh ended; returns the exit code: 1 where something could not be made."""
    if len(outcome.most):
        click.echo("\nThe heads that moved most:")
        shown = ["run", "against", "layer", "head", "cosine", "low", "high", "js"]
        row_formats.emit(outcome.most.select(shown), None, None)
    for sentence in outcome.waiting:
        click.echo(f"attnstore: waiting for {sentence}", err=True)
    for sentence in outcome.refused:
        click.echo(
            f"attnstore: refused before, not tried again (--retry does): {sentence}", err=True
        )
    for sentence in outcome.problems:
        click.echo(f"attnstore: {sentence}", err=True)
    if not (outcome.changed or outcome.problems):
        click.echo("Nothing was missing.")
    return 1 if outcome.problems else 0
