"""The commands that ask: `sql` and `query`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import polars as pl

from attnstore import resources
from attnstore.cli.named import Named, NamedCommand, of_analysis
from attnstore.cli.options import analyses_option, as_utf8, memory_option, param_option
from attnstore.cli.reading import bounded, reading
from attnstore.cli.rows import Rows, rows_options
from attnstore.errors import StoreError, UnknownNameError, UsageError
from attnstore.query import parameters
from attnstore.query.analyses import Analyses, find, frame
from attnstore.storage import location


@click.command()
@click.argument("text")
@param_option
@rows_options
@memory_option
@analyses_option
@click.pass_obj
def sql(
    store: str, text: str, params: dict[str, str], rows: Rows, memory: int, analyses: str | None
) -> None:
    """Ask a question in SQL. TEXT may be @FILE, or - for stdin.

    \b
    Example: attnstore sql 'FROM map_stats WHERE run = $run LIMIT 5' --param run=minilm/sample
    """
    rows.require()
    question = _text(text)
    values = parameters.from_texts(params, {})
    with reading(store, analyses) as opened:
        rows.emit(bounded(opened, memory, lambda: opened.sql(question, **values)))


def _text(text: str) -> str:
    """Return the question: the text itself, or what is in the file or on stdin, as UTF-8."""
    if text != "-" and not text.startswith("@"):
        return as_utf8(text)
    name = "Standard input" if text == "-" else f"The file {text[1:]}"
    try:
        data = sys.stdin.buffer.read() if text == "-" else Path(text[1:]).expanduser().read_bytes()
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(
            f"{name} cannot be read ({reason}); TEXT is SQL, @FILE, or - for stdin."
        ) from error


class _Query(NamedCommand):
    """`query`, with the parameters of the analysis that it names."""

    def find(self, context: click.Context, name: str, options: dict[str, Any]) -> Named:
        """Describe an analysis of attnstore, of --analyses or of the store."""
        folder, store = options.get("analyses"), options.get("store") or context.obj
        if name in resources.sql_files("analysis"):
            return of_analysis(find(name))
        try:
            return of_analysis(Analyses(folder=folder).find(name))
        except UnknownNameError:
            return of_analysis(Analyses(location.find(store)).find(name))


@click.command(cls=_Query)
@click.argument("name", required=False)
@param_option
@rows_options
@memory_option
@analyses_option
@click.pass_obj
def query(
    store: str, name: str | None, params: dict[str, str], rows: Rows, memory: int,
    analyses: str | None,
) -> None:  # fmt: skip
    """Run a named analysis; without NAME, list them. NAME --help shows its parameters and columns.

    \b
    Example: attnstore query special_tokens --run minilm/sample
    """
    rows.require()
    if name is None:
        listed = _listed(store, analyses)
        replace(rows, top=rows.top or len(listed)).emit(listed)
        return
    with reading(store, analyses) as opened:
        analysis = opened.named_analyses.find(name)
        rows.require([column.name for column in analysis.columns])
        values = parameters.from_texts(params, analysis.kinds)
        answer = bounded(opened, memory, lambda: opened.query(name, **values))
        for note in opened.notes(name, **values):
            click.echo(f"attnstore: note: {note}", err=True)
        rows.emit(answer)


def _listed(store: str, folder: str | None) -> pl.DataFrame:
    """List the analyses; without a store those of attnstore and of the folder."""
    try:
        with reading(store, folder) as opened:
            named = opened.named_analyses
    except StoreError:
        named = Analyses(folder=folder)
    for problem in named.problems():
        click.echo(f"attnstore: note: {problem}", err=True)
    return frame(named.listing().values()).select("name", "title", "parameters")
