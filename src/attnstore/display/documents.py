"""Rows as tables of documents: LaTeX and HTML, every row, numbers with every digit they have."""

from __future__ import annotations

import json
import re

import polars as pl

from attnstore.display.templating import render
from attnstore.formatting import plain

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
}  # fmt: skip


def latex(frame: pl.DataFrame) -> str:
    """Format rows as a `tabular` of booktabs: numbers to the right, NULL as an empty cell."""
    kinds = "".join("r" if kind.is_numeric() else "l" for kind in frame.dtypes)
    lines = [" & ".join(map(_latex, row)) + r" \\" for row in _rows(frame)]
    body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    return "\n".join(
        ["% needs \\usepackage{booktabs}", rf"\begin{{tabular}}{{{kinds}}}", *body, r"\end{tabular}", ""]
    )  # fmt: skip


def html(frame: pl.DataFrame) -> str:
    """Return a page with one table; it loads nothing and runs nothing."""
    columns, *rows = _rows(frame)
    numeric = [kind.is_numeric() for kind in frame.dtypes]
    return render("rows.html", columns=columns, rows=rows, numeric=numeric) + "\n"


def _rows(frame: pl.DataFrame) -> list[list[str]]:
    """Return the names of the columns, then every row, as texts."""
    columns = [exact(frame[name]) for name in frame.columns]
    return [[plain(name) for name in frame.columns], *map(list, zip(*columns, strict=True))]


def exact(column: pl.Series) -> list[str]:
    """Format the values of a column as texts that lose nothing; NULL is empty."""
    if column.dtype.is_float():  # a float32 with its own digits, not with those of a float64
        column = column.cast(pl.String)
    return [_exact(value) for value in column.to_list()]


def _exact(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return plain(json.dumps(value, default=str, ensure_ascii=False))
    return plain(value.hex() if isinstance(value, bytes) else str(value))


def _latex(text: str) -> str:
    return re.sub(r"[\\&%$#_{}~^<>|\"]", lambda match: _LATEX[match[0]], text)
