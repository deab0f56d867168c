"""Small charts as SVG: bars, a histogram, a line per series. Geometry here, markup in templates/charts.

Colors of data stand in the picture; letters and rules take the page's by class. `standalone` makes a
picture a file of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from attnstore.display.colors import SERIES
from attnstore.display.templating import environment
from attnstore.formatting import number, places

if TYPE_CHECKING:
    from jinja2 import Environment

_STYLE = (
    "text{font:11px 'Helvetica Neue',Arial,sans-serif;fill:#333}.rule{stroke:#ddd}"
    ".end{text-anchor:end}.mid{text-anchor:middle}.empty{fill:#eee}.band{opacity:.18}"
    ".bar{fill:#2a788e}.line{fill:none;stroke-width:1.8}.whisker{stroke:#333}"
)
_MAX_NAME = 18  # characters of a bar's or a line's name


@dataclass(frozen=True)
class Bar:
    """A bar; low, high: the ends of its interval, where it has one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Point:
    """A point of a line; low, high: the ends of its interval, where it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@cache
def _templates() -> Environment:
    templates = environment(Path(__file__).parent / "templates")
    templates.filters["px"] = "{:.1f}".format
    return templates


def draw(chart: str, **values: Any) -> Markup:
    """Fill the template of a chart."""
    return Markup(_templates().get_template(f"charts/{chart}.svg").render(values))


def standalone(svg: Markup) -> str:
    """Return a chart as a file of its own: with the colors of letters and rules, on white."""
    head, rest = str(svg).split(">", 1)
    return f"{head}><style>{escape(_STYLE)}</style>{rest}"


def bars(rows: Sequence[Bar], unit: str = "") -> Markup:
    """Draw horizontal bars, one a row, with their values."""
    ends = [v for b in rows for v in (b.value, b.low, b.high) if v is not None]
    left, wide = 116, 210
    at = _axis(min([0.0, *ends]), max([0.0, *ends]), left, left + wide)
    decimals = places(b.value for b in rows)
    drawn = []
    for bar in rows:
        x, zero = at(bar.value), at(0.0)
        whisker = None
        if bar.low is not None and bar.high is not None:
            whisker = at(bar.low), at(bar.high)
        drawn.append(
            {
                "name": _cut(bar.name), "value": number(bar.value, decimals), "x": min(x, zero),
                "width": abs(x - zero), "whisker": whisker, "end": max(x, *(whisker or (x,))),
            }
        )  # fmt: skip
    height = max(len(rows), 1) * 22 + 4
    return draw("bars", bars=drawn, left=left, width=left + wide + 76, height=height, label=unit)


def histogram(counts: Sequence[int], low: float, high: float, label: str) -> Markup:
    """Draw the numbers of values between two ends, in columns of equal width."""
    top, width, height = max(counts, default=0) or 1, 420, 120
    step, span = width / max(len(counts), 1), (high - low) / max(len(counts), 1)
    columns = [
        {
            "x": i * step,
            "width": max(step - 1.5, 1),
            "height": count / top * height,
            "tip": f"{number(low + i * span)} to {number(low + (i + 1) * span)}: {count:,} inputs",
        }
        for i, count in enumerate(counts)
    ]
    return draw(
        "histogram", columns=columns, width=width, height=height, low=low, high=high, label=label
    )


def lines(series: Mapping[str, Sequence[Point]], across: str, label: str) -> Markup:
    """Draw a line per name over one axis, with its interval as a band and its name at its end."""
    points = [p for line in series.values() for p in line]
    xs = sorted({p.x for p in points})
    ys = [v for p in points for v in (p.y, p.low, p.high) if v is not None]
    left, right, top, bottom = 56, 516, 12, 252
    at_x, at_y = _axis(xs[0], xs[-1], left, right), _axis(min(ys), max(ys), bottom, top)
    decimals = places([min(ys), max(ys)])
    values = [min(ys) + (max(ys) - min(ys)) * share for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    drawn: list[dict[str, Any]] = []
    for i, (name, line) in enumerate(series.items()):
        label_y = at_y(line[-1].y)
        while any(abs(label_y - other["label_y"]) < 12 for other in drawn):
            label_y += 12
        drawn.append(
            {
                "name": _cut(name), "color": SERIES[i % len(SERIES)], "label_y": label_y,
                "end": at_x(line[-1].x), "band": _band(line, at_x, at_y),
                "points": " ".join(f"{at_x(p.x):.1f},{at_y(p.y):.1f}" for p in line),
            }
        )  # fmt: skip
    return draw(
        "lines", lines=drawn, label=label, across=across, left=left, right=right, bottom=bottom,
        rules=[(at_y(value), number(value, decimals)) for value in values],
        ticks=[(at_x(x), f"{x:g}") for x in _ticks(xs)], width=right + 130,
        height=max([bottom + 44, *(line["label_y"] + 12 for line in drawn)]),
    )  # fmt: skip


def _axis(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Return the position of a value along an axis."""
    return lambda value: start + (value - low) / ((high - low) or 1) * (end - start)


def _band(
    line: Sequence[Point], at_x: Callable[[float], float], at_y: Callable[[float], float]
) -> str:
    """Return the corners of a line's interval, '' where a point has none."""
    upper = [f"{at_x(p.x):.1f},{at_y(p.high):.1f}" for p in line if p.high is not None]
    lower = [f"{at_x(p.x):.1f},{at_y(p.low):.1f}" for p in reversed(line) if p.low is not None]
    return " ".join([*upper, *lower]) if len(upper) == len(lower) == len(line) else ""


def _ticks(xs: Sequence[float]) -> Sequence[float]:
    return xs if len(xs) <= 12 else [xs[round(i * (len(xs) - 1) / 9)] for i in range(10)]


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_NAME else text[: _MAX_NAME - 1] + "…"
