"""Formats of rows on the command line: a table for the eye, csv, tsv, json, parquet, markdown, latex, html."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.cells import cell_len, set_cell_size
from rich.console import Console

from attnstore.display import documents
from attnstore.errors import UsageError
from attnstore.formatting import cell, places
from attnstore.naming import near

FORMATS = ("table", "csv", "tsv", "json", "parquet", "markdown", "latex", "html")
ROWS = 40
"""Rows that a table shows by default; the other formats have all of them."""
_ENDINGS = {
    ".txt": "table", ".csv": "csv", ".tsv": "tsv", ".json": "json", ".parquet": "parquet",
    ".md": "markdown", ".tex": "latex", ".html": "html",
}  # fmt: skip
_WIDEST = 80  # columns of a value where the width is not limited
_NARROWEST = 12  # columns that a text keeps before whole columns give way
_GAP = "  "


def format_of(form: str | None, out: str | None) -> str:
    """Choose the format of an output: the requested one, else the one that the file's ending names.

    Called before a question is asked, so that nothing is computed for nothing.

    Raises:
        UsageError: The ending names no format, or another one than requested; or parquet would go to
            a terminal.
    """
    if out is None:
        if form == "parquet" and sys.stdout.isatty():
            raise UsageError("Parquet is not for a terminal; give --out FILE or pipe it on.")
        return form or "table"
    ending = Path(out).suffix.lower()
    named = _ENDINGS.get(ending)
    if form is None and named is None:
        raise UsageError(
            f"{out} names no format that rows can be written in; end it in {', '.join(_ENDINGS)}, or "
            "give --format."
        )
    if form is not None and (named or form) != form:
        raise UsageError(
            f"--format {form} and the file {out}, which would hold {named}, do not fit; leave "
            "--format out, or give the file another ending."
        )
    if named is None and ending in _FOREIGN:
        raise UsageError(f"attnstore writes no {ending} files; end it in {', '.join(_ENDINGS)}.")
    return form or str(named)


_FOREIGN = (
    ".xlsx", ".xls", ".ods", ".feather", ".arrow", ".ipc", ".avro", ".orc", ".jsonl", ".ndjson",
    ".db", ".duckdb", ".sqlite", ".pkl", ".pickle", ".npy", ".npz", ".pdf", ".docx", ".gz", ".zip",
    ".png", ".svg", ".xml", ".yaml", ".yml", ".toml",
)  # fmt: skip
"""Endings of formats that are not written: a file of another format under them misleads."""


def arranged(
    frame: pl.DataFrame,
    sort: Sequence[str] = (),
    top: int | None = None,
    headings: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """Sort rows, and keep the first ones.

    Args:
        frame: The rows.
        sort: Keys as in `mean:desc`, the most important first; rows that are equal keep their order,
            NULL comes last.
        top: Rows to keep; None for all.
        headings: Other names of columns in keys.

    Raises:
        UsageError: There is no such column.
    """
    if keys := sort_keys(frame.columns, sort, headings):
        columns, descending = zip(*keys, strict=True)
        try:
            frame = frame.sort(columns, descending=descending, nulls_last=True, maintain_order=True)
        except pl.exceptions.PolarsError as error:
            raise UsageError(
                f"These rows cannot be sorted by {', '.join(columns)} "
                f"({str(error).splitlines()[0]}); sort by a column of numbers or texts."
            ) from error
    return frame if top is None else frame.head(top)


def sort_keys(
    columns: Sequence[str], sort: Sequence[str], headings: Mapping[str, str] | None = None
) -> list[tuple[str, bool]]:
    """Read sort keys as (column, True for descending). Raises UsageError for an unknown column."""
    known = dict(zip(columns, columns, strict=True)) | dict(headings or {})
    keys = []
    for text in sort:
        name, colon, order = text.rpartition(":")
        if text in known or not colon:
            name, order = text, "asc"
        if order.lower() not in ("asc", "desc"):
            raise UsageError(
                f"--sort {text} has no order {order!r}; write {name}:asc or {name}:desc."
            )
        if name not in known:
            raise UsageError(
                f"There is no column {name!r} to sort by"
                f"{near(name, known) or '; there are ' + ', '.join(columns)}"
            )
        keys.append((known[name], order.lower() == "desc"))
    return keys


def emit(frame: pl.DataFrame, form: str | None, out: str | None, most: int | None = None) -> None:
    """Print rows, or write them to a file, in the format that `format_of` chooses.

    Args:
        frame: The rows.
        form: The requested format.
        out: The file; None for stdout.
        most: Rows that a table shows; ROWS if it is None.

    Raises:
        UsageError: As `format_of`; or the file cannot be written.
    """
    form = format_of(form, out)
    try:
        data = _bytes(frame, form, None if out else _terminal_width(), most or ROWS)
    except pl.exceptions.PolarsError as error:
        raise UsageError(
            f"These rows cannot be written as {form} ({str(error).splitlines()[0]}); cast the column "
            "to text in the query, or take another --format."
        ) from error
    write(data, out)


def _bytes(frame: pl.DataFrame, form: str, width: int | None, most: int) -> bytes:
    """Encode rows in a format; width, most: columns and rows of a table."""
    if form == "parquet":
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        return buffer.getvalue()
    texts: dict[str, Callable[[], str]] = {
        "table": lambda: table(frame, width, most),
        "csv": lambda: flat(frame).write_csv(),
        "tsv": lambda: flat(frame).write_csv(separator="\t"),
        "json": lambda: json_text(frame) + "\n",
        "markdown": lambda: markdown(frame),
        "latex": lambda: documents.latex(frame),
        "html": lambda: documents.html(frame),
    }
    return texts[form]().encode()


def write(data: bytes, out: str | None) -> None:
    """Write bytes to a file or to stdout."""
    if out is None:
        stream, rest = sys.stdout.buffer, memoryview(data)
        while rest:  # with PYTHONUNBUFFERED a write may take less than it is given
            rest = rest[stream.write(rest) :]
        stream.flush()
        return
    try:
        Path(out).expanduser().write_bytes(data)
    except OSError as error:
        raise UsageError(
            f"{out} cannot be written ({error.strerror}); choose another file for --out."
        ) from error


def _terminal_width() -> int | None:
    return Console().width if sys.stdout.isatty() else None


def flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Turn lists and structs into JSON text and bytes into hexadecimal digits, which csv can hold."""
    return _texts_of(frame, [n for n, kind in frame.schema.items() if kind.is_nested()])


def json_text(frame: pl.DataFrame) -> str:
    """Encode rows as a JSON array of objects, bytes as hexadecimal digits."""
    of_bytes = [n for n, kind in frame.schema.items() if kind.is_nested() and "Binary" in str(kind)]
    return _texts_of(frame, of_bytes).write_json()


def _texts_of(frame: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Turn these columns into JSON text, and those of bytes into hexadecimal digits."""
    texts = [
        pl.Series(name, [_json(v) for v in frame[name].to_list()], dtype=pl.String)
        for name in names
    ]
    hexadecimal = [
        frame[name].bin.encode("hex") for name, kind in frame.schema.items() if kind == pl.Binary
    ]
    return frame.with_columns(*texts, *hexadecimal)


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def markdown(frame: pl.DataFrame) -> str:
    """Format rows as a Markdown table."""
    columns = [[_bars(v) for v in texts] for texts in _texts(frame)]
    rules = ["---:" if kind.is_numeric() else "---" for kind in frame.dtypes]
    rows = [[_bars(name) for name in frame.columns], rules, *zip(*columns, strict=True)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _bars(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def table(frame: pl.DataFrame, width: int | None = None, most: int = ROWS) -> str:
    """Format at most `most` rows as a table of at most `width` columns; it says what did not fit."""
    if not frame.columns:
        return ""
    texts = _texts(frame.head(most))
    heads = [cell(name) for name in frame.columns]
    sizes = [
        min(max(map(cell_len, [head, *column])), _WIDEST)
        for head, column in zip(heads, texts, strict=True)
    ]
    sizes = _fitted(sizes, frame.dtypes, width)
    right = [kind.is_numeric() for kind in frame.dtypes[: len(sizes)]]
    rows = [heads, ["─" * n for n in sizes], *zip(*texts, strict=True)]
    lines = [_GAP.join(map(_padded, row[: len(sizes)], sizes, right)).rstrip() for row in rows]
    return "\n".join([*lines, *_missing(frame, len(sizes), most)]) + "\n"


def _texts(frame: pl.DataFrame) -> list[list[str]]:
    """Format every value, column by column; the numbers of a column with the same decimals."""
    texts = []
    for column in frame:
        values = column.to_list()
        decimals = places(v for v in values if isinstance(v, float))
        texts.append([cell(value, decimals) for value in values])
    return texts


def _fitted(sizes: list[int], kinds: list[pl.DataType], width: int | None) -> list[int]:
    """Fit column widths: the widest texts are cut first, then columns on the right are left out."""
    sizes = list(sizes)
    while width and sum(sizes) + len(_GAP) * (len(sizes) - 1) > width:
        texts = [
            i for i, size in enumerate(sizes) if size > _NARROWEST and not kinds[i].is_numeric()
        ]
        if texts:
            sizes[max(texts, key=sizes.__getitem__)] -= 1
        elif len(sizes) > 1:
            sizes.pop()
        else:
            return [width]
    return sizes


def _padded(text: str, size: int, right: bool) -> str:
    if (length := cell_len(text)) > size:
        return set_cell_size(set_cell_size(text, size - 1).rstrip() + "…", size)
    return " " * (size - length) + text if right else set_cell_size(text, size)


def _missing(frame: pl.DataFrame, shown: int, most: int) -> list[str]:
    """Say what a table leaves out."""
    notes = []
    if frame.height > most:
        notes.append(f"… {frame.height:,} rows, the first {most} shown; --format csv gives all")
    if hidden := frame.columns[shown:]:
        named = ", ".join(hidden[:5]) + (", …" if len(hidden) > 5 else "")
        notes.append(f"… {len(hidden)} of {frame.width} columns do not fit: {named}")
    if frame.is_empty():
        notes.append("0 rows")
    return notes
