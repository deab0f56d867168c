"""The commands that ask: `sql` and `query`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import polars as pl

from attnstore.cli.options import (
    format_option,
    memory_option,
    param_option,
    rows_out_option,
    said,
)
from attnstore.cli.reading import bounded, reading
from attnstore.display import row_formats
from attnstore.errors import UsageError
from attnstore.query import analyses, parameters


@click.command()
@click.argument("text")
@param_option
@format_option
@rows_out_option
@memory_option
@click.pass_obj
def sql(
    store: str, text: str, params: dict[str, str], form: str | None, out: str | None, memory: int
) -> None:
    """Ask a question in SQL. TEXT may be @FILE, or - for stdin.

    \b
    Example: attnstore sql 'FROM map_stats WHERE run = $run LIMIT 5' --param run=minilm/sample
    """
    form = row_formats.format_of(form, out)
    asked = _text(text)
    values = parameters.from_texts(params, {})
    with reading(store) as opened:
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
@click.pass_obj
def query(
    store: str, name: str | None, params: dict[str, str], form: str | None, out: str | None,
    memory: int,
) -> None:  # fmt: skip
    """Run an analysis of sql/analysis; without NAME, list them.

    \b
    Example: attnstore query special_tokens --param run=minilm/sample
    """
    form = row_formats.format_of(form, out)
    if name is None:
        row_formats.emit(_analyses(), form, out)
        return
    values = parameters.from_texts(params, analyses.find(name).kinds)
    with reading(store) as opened:
        row_formats.emit(
            bounded(opened, memory, lambda: analyses.run(opened, name, **values)), form, out
        )


def _analyses() -> pl.DataFrame:
    rows = [
        (a.name, a.title, ", ".join(_shown(p) for p in a.parameters))
        for a in analyses.listing().values()
    ]
    return pl.DataFrame(
        rows, schema=dict.fromkeys(("name", "title", "parameters"), pl.String), orient="row"
    )


def _shown(parameter: analyses.Parameter) -> str:
    return parameter.name + ("" if parameter.required else f"={json.dumps(parameter.default)}")
