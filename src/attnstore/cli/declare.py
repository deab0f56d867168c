"""The commands of a declared store: `init`, `plan` and `refresh`, over an attnstore.toml."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import polars as pl
from rich.console import Console

from attnstore import resources
from attnstore.cli.options import flow_options
from attnstore.cli.rows import Rows, rows_options
from attnstore.errors import UsageError
from attnstore.formatting import duration, size

if TYPE_CHECKING:
    from attnstore.declared.outcome import Outcome

DECLARED = "attnstore.toml"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

file_argument = click.argument("file", default=DECLARED, metavar="[FILE]")


def _seconds(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    """Read a time such as 5m."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if not match or not int(match[1]):
        raise click.BadParameter(f"{text!r} is no time; write 30s, 5m, 2h or 1d")
    return float(int(match[1]) * _UNITS[match[2]])


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
    click.echo(f"{path}: edit it, then `attnstore plan` shows what is missing.")


@click.command()
@file_argument
@click.option("--exit-code", is_flag=True,
              help="End with exit code 1 if a refresh has something to make or to wait for.")  # fmt: skip
@rows_options
def plan(file: str, exit_code: bool, rows: Rows) -> None:
    """Show what is missing, stale, of an older capture or undeclared, and about what it will cost.

    The store is the file's, whatever --store says.

    \b
    Example: attnstore plan
    """
    from attnstore.declared import config, planning  # the write side

    rows.require()
    with Console(stderr=True).status("looking at models and datasets"):
        compared = planning.plan(config.read(file))
    table = compared.table()
    complete = sum(pair.state == "current" for pair in compared.pairs)
    if len(table) or not rows.is_table:
        rows.emit(table, {"seconds": ("about", duration), "bytes": ("on disk", size)})
    if rows.is_table:
        if len(table):
            click.echo("")
        click.echo(
            f"{complete} of {len(compared.pairs)} declared runs are stored whole{_cost(table)}."
        )
    sys.exit(1 if exit_code and compared.is_pending else 0)


def _cost(table: pl.DataFrame) -> str:
    """Describe what all that is missing takes, as far as it is known."""
    rest = table.filter(pl.col("examples").is_not_null())
    if not len(rest):
        return ""
    if rest["seconds"].null_count() or rest["bytes"].null_count():
        return "; what the rest will cost is known once something like it was done"
    seconds, n_bytes = float(rest["seconds"].sum()), float(rest["bytes"].sum())
    return f"; the rest takes about {duration(seconds)} and {size(n_bytes)}"


@click.command()
@file_argument
@click.option("--wait", is_flag=True,
              help="Wait for another refresh of the store, and for checkpoints to settle.")  # fmt: skip
@click.option("--retry", is_flag=True,
              help="Try again what was refused before, though its files are the same.")  # fmt: skip
@click.option("--update", is_flag=True,
              help="Bring runs of an earlier capture up to date; their maps stay as they are.")  # fmt: skip
@click.option("--file", "named", metavar="FILE", help="The same as FILE.", hidden=True)
@click.option("--every", callback=_seconds, metavar="5m",
              help="Serve it as a flow on a schedule (30s, 5m, 2h, 1d); needs a Prefect server.")  # fmt: skip
@flow_options
def refresh(
    file: str, wait: bool, retry: bool, update: bool, named: str | None, every: float | None,
    prefect: bool, runner: str | None,
) -> None:  # fmt: skip
    """Make the store what the file says, nothing twice; with --every, again and again.

    \b
    Example: attnstore refresh --prefect
    """
    file = named or file
    if every is not None and retry:
        raise UsageError("--retry is for one refresh; leave it out with --every.")
    if every is not None and update:
        raise UsageError(
            "--update is for one refresh; with --every, write `[refresh] update = true` into the file."
        )
    if prefect or runner is not None or every is not None:
        if wait:
            raise UsageError("--wait is for a refresh without Prefect; leave it out.")
        sys.exit(_refresh_as_flow(file, retry, update, every, runner))
    from attnstore.declared import refresh as refreshing  # the write side
    from attnstore.display.progress import Progress

    with Progress() as progress:
        outcome = refreshing.refresh(
            file, wait=wait, retry=retry, update=update, progress=progress, say=click.echo
        )
    sys.exit(show_outcome(outcome))


def _refresh_as_flow(
    file: str, retry: bool, update: bool, every: float | None, runner: str | None
) -> int:
    from attnstore.declared import config
    from attnstore.flows import declared as flows  # Prefect takes seconds to import

    config.read(file)  # a mistake in the file need not wait for Prefect
    if every is not None:
        flows.serve(file, runner, every)
        return 0
    outcome = flows.start(file, retry, update, runner)
    for line in outcome.lines:
        click.echo(line)
    return show_outcome(outcome)


def show_outcome(outcome: Outcome) -> int:
    """Print how a refresh ended; return the exit code, 1 if something could not be made."""
    if len(outcome.most):
        click.echo("\nThe heads that moved most:")
        shown = ["run", "against", "layer", "head", "cosine", "low", "high", "js"]
        Rows().emit(outcome.most.select(shown))
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
