"""The options of every verb that prints rows, and how it prints them: --sort, --top, --out, --format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click
import polars as pl

from attnstore.display import row_formats

Command = Callable[..., Any]
Shown = tuple[str, Callable[[Any], str]]
"""How a table for the eye shows a column: its heading there, and the text of a value."""

_OPTIONS = (
    click.option("--sort", multiple=True, metavar="COLUMN[:desc]",
                 help="Sort the rows by that column; several times for several."),
    click.option("--top", type=click.IntRange(0), metavar="N", help="Only the first N rows."),
    click.option("--out", metavar="FILE", help="Write the rows there; its ending names the format."),
    click.option("--format", "form", type=click.Choice(row_formats.FORMATS),
                 help="How to show the rows.  [default: table]"),
)  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """What the options of rows say. form: None for a table, unless the file's ending names another."""

    sort: tuple[str, ...] = ()
    top: int | None = None
    out: str | None = None
    form: str | None = None

    @property
    def is_table(self) -> bool:
        """True for a table on the terminal."""
        return self.out is None and self.form in (None, "table")

    @property
    def is_plain(self) -> bool:
        """True if none of the options was given."""
        return self == Rows()

    def require(self, columns: Sequence[str] | None = None) -> None:
        """Refuse what cannot be printed, before anything is computed.

        Args:
            columns: Those that the rows will have, as far as they are known.

        Raises:
            UsageError: The file's ending names no format, or another one than asked for; or there is
                no column to sort by.
        """
        row_formats.format_of(self.form, self.out)
        if columns is not None:
            row_formats.sort_keys(columns, self.sort)

    def emit(self, rows: pl.DataFrame, shown: Mapping[str, Shown] | None = None) -> None:
        """Print rows, or write them to the file.

        Args:
            rows: With the values as they are, which is what they are sorted by.
            shown: Columns that a table for the eye shows otherwise, such as bytes as 3 MB.

        Raises:
            UsageError: There is no such column, or the file cannot be written.
        """
        headings = {heading: column for column, (heading, _) in (shown or {}).items()}
        rows = row_formats.arranged(rows, self.sort, self.top, headings)
        if shown and row_formats.format_of(self.form, self.out) == "table":
            rows = rows.with_columns(
                pl.col(column).map_elements(text, pl.String) for column, (_, text) in shown.items()
            ).rename({column: heading for column, (heading, _) in shown.items()})
        row_formats.emit(rows, self.form, self.out, self.top)

    def say(self, sentence: str) -> None:
        """Print a sentence beside the rows: on stderr where stdout holds rows for a program."""
        click.echo(sentence, err=not self.is_table)


def rows_options(command: Command) -> Command:
    """Give a click command the options of rows; it gets them as `rows`."""

    @wraps(command)
    def with_rows(
        *arguments: Any, sort: tuple[str, ...], top: int | None, out: str | None, form: str | None,
        **options: Any,
    ) -> Any:  # fmt: skip
        return command(*arguments, rows=Rows(sort, top, out, form), **options)

    decorated: Command = with_rows
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
