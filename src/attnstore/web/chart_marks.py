"""The rows that a chart draws: cleaned, averaged where several share a place, and bounded in number.

Whatever is left out, averaged or cut is a sentence beside the chart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from attnstore.errors import UsageError
from attnstore.formatting import number, plain
from attnstore.query import bands
from attnstore.web import chart_bins
from attnstore.web.chart_choices import MOST_FACETS, MOST_SERIES, Choice
from attnstore.web.chart_columns import Field, ends

MOST = {"lines": 5000, "bars": 200, "heatmap": 10_000, "scatter": 4000}
"""Marks of each kind of chart."""
_UNEVEN = 10  # times that values may be larger than others on one axis
_JOINED = " · "


@dataclass(frozen=True)
class Marks:
    """What a chart draws.

    Attributes:
        frame: Columns x, y, and where the chart has them color, facet, low, high, random_low,
            random_high; of a histogram x, x2 and y.
        notes: Sentences about what is left out, averaged or cut.
    """

    frame: pl.DataFrame
    notes: list[str]

    def values(self, channel: str) -> list[object]:
        """Return the different values of a channel, in order; none where the chart lacks it."""
        if channel not in self.frame.columns:
            return []
        return self.frame[channel].unique(maintain_order=True).to_list()


def made(fields: Mapping[str, Field], frame: pl.DataFrame, choice: Choice) -> Marks:
    """Make the marks of a choice.

    Raises:
        UsageError: An axis is missing, or the chart has too many marks to be read.
    """
    require_axes(fields, choice)
    if choice.kind == "histogram":
        return _histogram(fields, frame, choice)
    notes: list[str] = []
    rows = _named(fields, frame, choice)
    rows = _finite(rows, notes)
    if rows.is_empty():
        raise UsageError("There is nothing to draw: every row lacks a number. " + " ".join(notes))
    rows = _few(rows, "facet", MOST_FACETS, notes)
    if choice.kind != "heatmap" and rows.schema.get("color") == pl.String:
        rows = _few(rows, "color", MOST_SERIES, notes)
    if choice.kind != "scatter":
        rows = _averaged(rows, fields, choice, notes)
    return Marks(_bounded(rows, choice.kind, notes), notes)


def require_axes(fields: Mapping[str, Field], choice: Choice) -> None:
    """Raise UsageError for a choice without what its kind of chart needs."""
    numeric = {n for n in (choice.x, *choice.y, *choice.color) if n and fields[n].numeric}
    if choice.kind == "heatmap":
        if choice.x is None or not choice.y or not choice.color or choice.x in choice.y:
            raise UsageError(
                "A heatmap needs two columns for its sides, x and y, and one for its color."
            )
        return
    if choice.kind == "histogram":
        if choice.x not in numeric:
            raise UsageError("A histogram needs a column of numbers as x.")
        return
    if not choice.y or choice.x in choice.y or (choice.kind != "bars" and choice.x is None):
        raise UsageError(
            f"A chart of {choice.kind} needs two different columns as x and y; choose them."
        )
    wanted = (*choice.y, choice.x) if choice.kind == "scatter" else choice.y
    texts = [n for n in wanted if n not in numeric]
    if texts and not (choice.kind == "bars" and choice.x in numeric):
        raise UsageError(f"Column {texts[0]} holds no numbers; choose another for this axis.")


def is_sideways(fields: Mapping[str, Field], choice: Choice) -> bool:
    """Return True for bars that go from left to right, their names at the left."""
    return choice.kind == "bars" and len(choice.y) == 1 and not fields[choice.y[0]].numeric


def _named(fields: Mapping[str, Field], frame: pl.DataFrame, choice: Choice) -> pl.DataFrame:
    """Return the chosen columns under the names of their channels, several values one below another."""
    picked: dict[str, pl.Expr] = {}
    if choice.kind == "heatmap":
        picked["color"] = _value(fields[choice.color[0]])
    elif choice.color:
        picked["color"] = _color(fields, choice)
    if choice.facet:
        picked["facet"] = _text(choice.facet)
    picked["x"] = _value(fields[choice.x]) if choice.x else pl.lit("")
    for end, column in _interval(fields, choice).items():
        picked[end] = pl.col(column).cast(pl.Float64)
    channel = series_channel(frame, choice)
    parts = []
    for name in choice.y:
        part = {**picked, "y": _value(fields[name])}
        if channel is not None:
            part[channel] = pl.lit(plain(name), pl.String)
        parts.append(frame.select(**part))
    return pl.concat(parts)


def series_channel(frame: pl.DataFrame, choice: Choice) -> str | None:
    """Return the channel that tells several values apart: facets where one axis would hide some."""
    if len(choice.y) < 2:
        return None
    tops = [float(frame[name].cast(pl.Float64).abs().max() or 0.0) for name in choice.y]  # type: ignore[arg-type]
    uneven = max(tops) > _UNEVEN * max(min(tops), 1e-12)
    return "facet" if (choice.color or uneven) and not choice.facet else "color"


def _interval(fields: Mapping[str, Field], choice: Choice) -> dict[str, str]:
    """Return the columns of the interval and of the band of random weights, by channel."""
    columns: dict[str, str] = {}
    if len(choice.y) != 1 or choice.kind in ("heatmap", "scatter"):
        return columns
    if choice.interval in ends(fields):
        columns |= {"low": str(choice.interval), "high": ends(fields)[str(choice.interval)]}
    if choice.interval == "low" and {bands.LOW, bands.HIGH} <= set(fields):
        columns |= {"random_low": bands.LOW, "random_high": bands.HIGH}
    return columns


def _value(field: Field) -> pl.Expr:
    if field.numeric:
        return pl.col(field.name).cast(pl.Float64)
    if field.kind == "time":
        return pl.col(field.name).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%dT%H:%M:%S")
    return _text(field.name)


def _color(fields: Mapping[str, Field], choice: Choice) -> pl.Expr:
    if len(choice.color) == 1 and fields[choice.color[0]].numeric:
        return _value(fields[choice.color[0]])
    named = [n for n in choice.color if fields[n].numeric]
    parts = [pl.lit(f"{n} ") + _text(n) if n in named else _text(n) for n in choice.color]
    return pl.concat_str(parts, separator=_JOINED)


def _text(name: str) -> pl.Expr:
    """Return a column as texts that a page can show, NULL as a word."""
    texts = pl.col(name).cast(pl.String).fill_null("NULL").str.slice(0, 200)
    return texts.map_elements(plain, return_dtype=pl.String)


def _finite(rows: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Return the rows whose numbers are there and finite; count the others."""
    numbers = [c for c in ("x", "y", "color") if rows.schema.get(c) == pl.Float64]
    missing = pl.any_horizontal(pl.col(numbers).is_null() | pl.col(numbers).is_nan())
    endless = pl.any_horizontal(pl.col(numbers).is_infinite().fill_null(False))
    if not numbers:
        return rows
    counts = rows.select(missing=missing.sum(), endless=(endless & ~missing).sum())
    n_missing, n_endless = counts.row(0)
    if n_missing:
        notes.append(f"{_rows(n_missing)} without a number (NULL) left out.")
    if n_endless:
        notes.append(f"{_rows(n_endless)} with an infinite number left out.")
    return rows.filter(~missing & ~endless)


def _rows(n: int, name: str = "row") -> str:
    return f"{n:,} {name}{'s' if n != 1 else ''}"


def _few(rows: pl.DataFrame, channel: str, most: int, notes: list[str]) -> pl.DataFrame:
    """Return the rows of the first values of a channel."""
    if channel not in rows.columns:
        return rows
    names = rows[channel].unique(maintain_order=True)
    if len(names) <= most:
        return rows
    what = "series" if channel == "color" else "facets"
    notes.append(f"The first {most} of {len(names):,} {what} are drawn.")
    return rows.filter(pl.col(channel).is_in(names.head(most).to_list()))


def _averaged(
    rows: pl.DataFrame, fields: Mapping[str, Field], choice: Choice, notes: list[str]
) -> pl.DataFrame:
    """Return one row per place, the mean of those that share it."""
    value = "color" if choice.kind == "heatmap" else "x" if is_sideways(fields, choice) else "y"
    place = [c for c in ("x", "y", "color", "facet") if c in rows.columns and c != value]
    sizes = rows.group_by(place, maintain_order=True).len()
    most = int(sizes["len"].to_numpy().max(initial=0))
    if most < 2:
        return rows
    if rows.schema[value] != pl.Float64:
        notes.append(f"Up to {most:,} rows share a place; the first of them is drawn.")
        return rows.unique(place, keep="first", maintain_order=True)
    notes.append(
        f"Up to {most:,} rows share a place; their mean is drawn, without an interval. "
        "Color or facets tell them apart."
    )
    return rows.group_by(place, maintain_order=True).agg(pl.col(value).mean())


def _bounded(rows: pl.DataFrame, kind: str, notes: list[str]) -> pl.DataFrame:
    """Return as many rows as a chart can show.

    Raises:
        UsageError: A heatmap has more cells.
    """
    most = MOST[kind]
    if len(rows) <= most:
        return rows
    if kind == "heatmap":
        raise UsageError(
            f"A heatmap of {len(rows):,} cells cannot be read; at most {most:,}: group the rows, or choose other sides."
        )
    if kind == "bars":
        notes.append(f"The first {most} of {len(rows):,} bars are drawn.")
        return rows.head(most)
    notes.append(f"{most:,} of {len(rows):,} points are drawn, every one as likely.")
    at = np.sort(np.random.default_rng(0).choice(len(rows), most, replace=False))
    return rows.select(pl.all().gather(at.tolist()))


def _histogram(fields: Mapping[str, Field], frame: pl.DataFrame, choice: Choice) -> Marks:
    """Count the values of a column in bins of equal width, of every color and facet its own."""
    notes: list[str] = []
    parts = {"x": _value(fields[str(choice.x)])}
    if choice.color:
        parts["color"] = _color(fields, choice).cast(pl.String)
    if choice.facet:
        parts["facet"] = _text(choice.facet)
    rows = _finite(frame.select(**parts), notes)
    if rows.is_empty():
        raise UsageError("There is nothing to draw: every row lacks a number. " + " ".join(notes))
    for channel, most in (("facet", MOST_FACETS), ("color", MOST_SERIES)):
        rows = _few(rows, channel, most, notes)
    edges, remark = chart_bins.edges(rows["x"].to_numpy())
    notes += remark
    by = [c for c in ("color", "facet") if c in rows.columns]
    groups = rows.partition_by(by, maintain_order=True) if by else [rows]
    counted = [
        pl.DataFrame(
            {"x": edges[:-1], "x2": edges[1:], "y": np.histogram(part["x"].to_numpy(), edges)[0]}
        ).with_columns(**{c: pl.lit(part[c][0]) for c in by})
        for part in groups
    ]
    bins = len(edges) - 1
    width = number(float(edges[1] - edges[0]), 3)
    notes.append(f"{_rows(len(rows), 'value')} in {bins} bin{'s' if bins > 1 else ''} of {width}.")
    return Marks(pl.concat(counted).filter(pl.col("y") > 0), notes)
