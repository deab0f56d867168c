"""How the command line shows rows: a table for the eye, or csv, json, parquet, markdown."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import polars as pl
from rich.cells import cell_len, set_cell_size
from rich.console import Console

from attnstore.errors import UsageError
from attnstore.readable import cell, places

FORMATS = ("table", "csv", "json", "parquet", "markdown")
ROWS = 40
"""Rows that a table shows; the other formats give every one."""
_ENDINGS = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".md": "markdown"}
_WIDEST = 80  # columns of a value where the width is not limited
_NARROWEST = 12  # columns that a text keeps before whole columns give way
_GAP = "  "


def emit(frame: pl.DataFrame, form: str | None, out: str | None) -> None:
    """Show rows on stdout, or write them to a file, whose ending gives the format if none is given.

    Raises UsageError for parquet to a terminal, and for a file that cannot be written.
    """
    form = form or _ENDINGS.get(Path(out).suffix.lower() if out else "", "table")
    if form == "parquet" and out is None and sys.stdout.isatty():
        raise UsageError("Parquet is not for a terminal; give --out FILE or pipe it on.")
    if form == "table":
        data = table(frame, None if out else _terminal_width()).encode()
    elif form == "markdown":
        data = markdown(frame).encode()
    elif form == "csv":
        data = flat(frame).write_csv().encode()
    elif form == "json":
        data = frame.write_json().encode() + b"\n"
    else:
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        data = buffer.getvalue()
    write(data, out)


def write(data: bytes, out: str | None) -> None:
    """Bytes to a file or to stdout."""
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
            f"{out} cannot be written ({error.strerror}); choose another place for --out."
        ) from error


def _terminal_width() -> int | None:
    return Console().width if sys.stdout.isatty() else None


def flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Lists and structs as JSON text, which csv can hold."""
    nested = [
        pl.Series(name, [_json(v) for v in frame[name].to_list()], dtype=pl.String)
        for name, kind in frame.schema.items()
        if kind.is_nested()
    ]
    return frame.with_columns(nested)


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, default=str, ensure_ascii=False)


def markdown(frame: pl.DataFrame) -> str:
    """Rows as a Markdown table."""
    columns = [[_bars(v) for v in texts] for texts in _texts(frame)]
    rules = ["---:" if kind.is_numeric() else "---" for kind in frame.dtypes]
    rows = [[_bars(name) for name in frame.columns], rules, *zip(*columns, strict=True)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _bars(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def table(frame: pl.DataFrame, width: int | None = None) -> str:
    """Rows as a table of at most `width` columns; says what did not fit."""
    if not frame.columns:
        return ""
    texts = _texts(frame.head(ROWS))
    heads = [cell(name) for name in frame.columns]
    sizes = [
        min(max(map(cell_len, [head, *column])), _WIDEST)
        for head, column in zip(heads, texts, strict=True)
    ]
    sizes = _fitted(sizes, frame.dtypes, width)
    right = [kind.is_numeric() for kind in frame.dtypes[: len(sizes)]]
    rows = [heads, ["─" * n for n in sizes], *zip(*texts, strict=True)]
    lines = [_GAP.join(map(_padded, row[: len(sizes)], sizes, right)).rstrip() for row in rows]
    return "\n".join([*lines, *_missing(frame, len(sizes))]) + "\n"


def _texts(frame: pl.DataFrame) -> list[list[str]]:
    """Every value as text, column by column; the numbers of a column with the same decimals."""
    texts = []
    for column in frame:
        values = column.to_list()
        decimals = places(v for v in values if isinstance(v, float))
        texts.append([cell(value, decimals) for value in values])
    return texts


def _fitted(sizes: list[int], kinds: list[pl.DataType], width: int | None) -> list[int]:
    """Column widths that fit: the widest texts are cut first, then columns drop out on the right."""
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


def _missing(frame: pl.DataFrame, shown: int) -> list[str]:
    """What a table leaves out, in words."""
    said = []
    if frame.height > ROWS:
        said.append(f"… {frame.height:,} rows, the first {ROWS} shown; --format csv gives all")
    if hidden := frame.columns[shown:]:
        named = ", ".join(hidden[:5]) + (", …" if len(hidden) > 5 else "")
        said.append(f"… {len(hidden)} of {frame.width} columns do not fit: {named}")
    if frame.is_empty():
        said.append("0 rows")
    return said
