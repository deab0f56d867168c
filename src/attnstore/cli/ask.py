"""The commands that ask: `sql` and `query`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from attnstore.cli.options import (
    analyses_option,
    format_option,
    memory_option,
    param_option,
    rows_out_option,
    said,
)
from attnstore.cli.reading import bounded, reading
from attnstore.display import row_formats
from attnstore.errors import UsageError
from attnstore.query import parameters


@click.command()
@click.argument("text")
@param_option
@format_option
@rows_out_option
@memory_option
@analyses_option
@click.pass_obj
def sql(
    store: str,
    text: str,
    params: dict[str, str],
    form: str | None,
    out: str | None,
    memory: int,
    analyses: str | None,
) -> None:
    """Ask a question in SQL. TEXT may be @FILE, or - for stdin.

    \b
    Example: attnstore sql 'FROM map_stats WHERE run = $run LIMIT 5' --param run=minilm/sample
    """
    form = row_formats.format_of(form, out)
    asked = _text(text)
    values = parameters.from_texts(params, {})
    with reading(store, analyses) as opened:
        row_formats.emit(bounded(opened, memory, lambda: opened.sql(asked, **values)), form, out)


def _text(text: str) -> str:
    """The question itself, or what the file or stdin holds, as UTF-8."""
    if text != "-" and not text.startswith("@"):
        return said(text)
    name = "Standard input" if text == "-" else f"The file {text[1:]}"
    try:
        data = sys.stdin.buffer.read() if text == "-" else Path(text[1:]).expanduser().read_bytes()
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(
            f"{name} cannot be read ({reason}); TEXT is SQL, @FILE, or - for stdin."
        ) from error


@click.command()
@click.argument("name", required=False)
@param_option
@format_option
@rows_out_option
@memory_option
@analyses_option
@click.pass_obj
def query(
    store: str, name: str | None, params: dict[str, str], form: str | None, out: str | None,
    memory: int, analyses: str | None,
) -> None:  # fmt: skip
    """Run an analysis of sql/analysis; without NAME, list them.

    \b
    Example: attnstore query special_tokens --param run=minilm/sample
    """
    form = row_formats.format_of(form, out)
    with reading(store, analyses) as opened:
        if name is None:
            rows = opened.analyses().select("name", "title", "parameters")
            for problem in opened.named_analyses.problems():
                click.echo(f"attnstore: note: {problem}", err=True)
        else:
            values = parameters.from_texts(params, opened.named_analyses.find(name).kinds)
            rows = bounded(opened, memory, lambda: opened.query(name, **values))
        row_formats.emit(rows, form, out)
