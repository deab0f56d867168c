"""Small charts as SVG, drawn here: bars, a line per series, a heatmap of heads, a histogram.

Colours of data stand in the picture; letters and rules take the page's by class. `standalone`
makes a picture a file of its own. Every text is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from attnstore.display.colors import OKABE_ITO, colours, diverging
from attnstore.formatting import number, places
from attnstore.web.measures import Cell, Grid

_CELL = 40  # pixels of a head in the grid
_LEFT = 34  # room for the numbers of the layers
_TOP = 22
_STYLE = (
    "text{font:11px 'Helvetica Neue',Arial,sans-serif;fill:#333}.rule{stroke:#ddd}"
    ".end{text-anchor:end}.mid{text-anchor:middle}.empty{fill:#eee}.band{opacity:.18}"
    ".bar{fill:#2a788e}.line{fill:none;stroke-width:1.8}.whisker{stroke:#333}"
)


@dataclass(frozen=True)
class Bar:
    """A bar with the ends of its interval, where it has one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Point:
    """A point of a line."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


def hexed(rgb: Sequence[int]) -> str:
    """A colour as HTML writes it."""
    return "#{:02x}{:02x}{:02x}".format(*(int(v) for v in rgb))


def ink(rgb: Sequence[int]) -> str:
    """Black or white, whichever has more contrast on a colour (WCAG 2, relative luminance)."""
    linear = [(v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4) for v in rgb]
    light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#10151c" if light > 0.179 else "#ffffff"


def class_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each class, always the same for the same classes."""
    told = [name for name in sorted(names) if name != "none"]
    found = {name: OKABE_ITO[i % len(OKABE_ITO)] for i, name in enumerate(told)}
    return found | ({"none": "#c9c9c2"} if "none" in names else {})


def fills(grid: Grid) -> dict[tuple[int, int], tuple[int, ...]]:
    """The colour of each head that has a value or a class."""
    named = class_colours(grid.names)
    found = {
        at: tuple(bytes.fromhex(named[c.name][1:]))
        for at, c in grid.cells.items()
        if c.name is not None
    }
    numbers = {
        at: c.value for at, c in grid.cells.items() if c.name is None and c.value is not None
    }
    low, high = grid.ends
    values = np.array(list(numbers.values()))
    rgb = diverging(values, high) if grid.signed else colours(values - low, high - low)
    return found | {at: tuple(row) for at, row in zip(numbers, rgb.tolist(), strict=True)}


def told(grid: Grid, layer: int, head: int, cell: Cell | None) -> str:
    """What a head has, in words."""
    where = f"layer {layer} · head {head}"
    if cell is None or (cell.value is None and cell.name is None):
        return f"{where}: nothing"
    parts = [cell.name] if cell.name is not None else []
    if cell.value is not None:
        shown = number(cell.value)
        if cell.low is not None and cell.high is not None:
            shown += f" (95% {number(cell.low)} to {number(cell.high)})"
        parts.append(f"{shown} {grid.unit}".strip())
    if cell.n:
        parts.append(f"n = {cell.n:,}")
    return f"{where}: {', '.join(parts)}"


def heads(grid: Grid, href: str | None = None) -> Markup:
    """The grid, layers downwards. href: where a head's link goes, ending in layer/head."""
    width = _LEFT + len(grid.heads) * _CELL + 2
    height = _TOP + len(grid.layers) * _CELL + 2
    decimals = min(2, places(c.value for c in grid.cells.values() if c.value is not None))
    parts = [
        Markup('<text class="mid" x="{}" y="14">{}</text>').format(_LEFT + (i + 0.5) * _CELL, head)
        for i, head in enumerate(grid.heads)
    ]
    filled = fills(grid)
    for j, layer in enumerate(grid.layers):
        y = _TOP + j * _CELL
        parts.append(
            Markup('<text class="end" x="{}" y="{}">{}</text>').format(
                _LEFT - 8, y + _CELL / 2 + 4, layer
            )
        )
        for i, head in enumerate(grid.heads):
            rgb = filled.get((layer, head))
            shape = _head(grid.cells.get((layer, head)), rgb, _LEFT + i * _CELL, y, decimals)
            if href is not None:
                tip = told(grid, layer, head, grid.cells.get((layer, head)))
                shape = Markup(
                    '<a href="{}/{}/{}" data-layer="{}" data-head="{}" data-tip="{}" aria-label="{}">{}</a>'
                ).format(href, layer, head, layer, head, tip, tip, shape)
            parts.append(shape)
    return _svg(width, height, parts, "grid", "Layers downwards, heads across")


def _head(
    cell: Cell | None, rgb: Sequence[int] | None, x: float, y: float, decimals: int
) -> Markup:
    side = _CELL - 2
    if cell is None or rgb is None:
        return Markup('<rect class="empty" x="{}" y="{}" width="{}" height="{}" rx="3"/>').format(
            x, y, side, side
        )
    text = _short(cell.name) if cell.name is not None else _brief(cell.value or 0.0, decimals)
    return Markup(
        '<rect x="{}" y="{}" width="{}" height="{}" rx="3" fill="{}"/>'
        '<text class="mid in" x="{}" y="{}" fill="{}">{}</text>'
    ).format(x, y, side, side, hexed(rgb), x + side / 2, y + side / 2 + 4, ink(rgb), text)


def _short(name: str) -> str:
    """A class in at most four letters."""
    return "+".join(part[:1] for part in name.split("+")) if "+" in name else name[:4]


def _brief(value: float, decimals: int) -> str:
    shown = f"{value:.{decimals}f}"
    return shown.replace("0.", ".", 1) if shown.lstrip("-").startswith("0.") else shown


def scale(grid: Grid) -> Markup:
    """The colours of a grid of numbers from its lowest value to its highest."""
    low, high = grid.ends
    at = np.linspace(low, high, 48)
    rgb = diverging(at, high) if grid.signed else colours(at - low, (high - low) or 1)
    cells = [
        Markup('<rect x="{}" y="0" width="5" height="10" fill="{}"/>').format(i * 4, hexed(c))
        for i, c in enumerate(rgb)
    ]
    return _svg(193, 10, cells, "scale", f"from {number(low)} to {number(high)}")


def bars(rows: Sequence[Bar], unit: str = "") -> Markup:
    """Horizontal bars, one a row, with their values."""
    ends = [v for b in rows for v in (b.value, b.low, b.high) if v is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    room, wide = 116, 210
    at = _axis(low, high, room, room + wide)
    decimals = places(b.value for b in rows)
    parts = []
    for i, bar in enumerate(rows):
        y = i * 22
        x, x0 = at(bar.value), at(0.0)
        parts.append(
            Markup(
                '<text class="end" x="{}" y="{}">{}</text>'
                '<rect class="bar" x="{:.1f}" y="{}" width="{:.1f}" height="14" rx="2"/>'
            ).format(room - 8, y + 15, _cut(bar.name, 18), min(x, x0), y + 4, abs(x - x0))
        )
        if bar.low is not None and bar.high is not None:
            parts.append(
                Markup('<line class="whisker" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>').format(
                    at(bar.low), at(bar.high), y + 11, y + 11
                )
            )
        shown = max(x, at(bar.high) if bar.high is not None else x)
        parts.append(
            Markup('<text x="{:.1f}" y="{}">{}</text>').format(
                shown + 7, y + 15, number(bar.value, decimals)
            )
        )
    return _svg(room + wide + 76, max(len(rows), 1) * 22 + 4, parts, "bars", unit)


def histogram(counts: Sequence[int], low: float, high: float, label: str) -> Markup:
    """How values lie between two ends, in columns of equal width."""
    top, wide, tall = max(counts, default=0) or 1, 420, 120
    step = wide / max(len(counts), 1)
    parts = []
    for i, count in enumerate(counts):
        height = count / top * tall
        tip = f"{number(low + i * (high - low) / len(counts))} to {number(low + (i + 1) * (high - low) / len(counts))}: {count:,} inputs"
        parts.append(
            Markup(
                '<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" data-tip="{}"/>'
            ).format(i * step, tall - height, max(step - 1.5, 1), max(height, 0.5), tip)
        )
    parts.append(
        Markup('<line class="rule" x1="0" x2="{}" y1="{}" y2="{}"/>').format(wide, tall, tall)
    )
    parts.append(Markup('<text x="0" y="{}">{}</text>').format(tall + 16, number(low)))
    parts.append(
        Markup('<text class="end" x="{}" y="{}">{}</text>').format(wide, tall + 16, number(high))
    )
    parts.append(
        Markup('<text class="mid" x="{}" y="{}">{}</text>').format(wide / 2, tall + 16, label)
    )
    return _svg(wide, tall + 22, parts, "histogram", label)


def lines(series: Mapping[str, Sequence[Point]], across: str, label: str) -> Markup:
    """A line per name over one axis, with its interval as a band, and names at the lines' ends."""
    points = [p for line in series.values() for p in line]
    xs = [p.x for p in points]
    ys = [v for p in points for v in (p.y, p.low, p.high) if v is not None]
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    wide, tall, left, top = 460, 240, 56, 12
    at_x = _axis(x0, x1, left, left + wide)
    at_y = _axis(y0, y1, top + tall, top)
    decimals = places([y0, y1])
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y, value = top + tall * (1 - share), y0 + (y1 - y0) * share
        parts.append(
            Markup(
                '<line class="rule" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
                '<text class="end" x="{}" y="{:.1f}">{}</text>'
            ).format(left, left + wide, y, y, left - 7, y + 4, number(value, decimals))
        )
    parts += [
        Markup('<text class="mid" x="{:.1f}" y="{}">{}</text>').format(
            at_x(x), top + tall + 18, f"{x:g}"
        )
        for x in _ticks(sorted(set(xs)))
    ]
    parts.append(
        Markup('<text class="mid" x="{}" y="{}">{}</text>').format(
            left + wide / 2, top + tall + 36, across
        )
    )
    ends: list[float] = []
    for i, (name, line) in enumerate(series.items()):
        colour = OKABE_ITO[i % len(OKABE_ITO)]
        parts.append(_line(line, at_x, at_y, colour))
        last = at_y(line[-1].y)
        while any(abs(last - other) < 12 for other in ends):
            last += 12
        ends.append(last)
        parts.append(
            Markup('<text x="{:.1f}" y="{:.1f}"><tspan fill="{}">■</tspan> {}</text>').format(
                at_x(line[-1].x) + 8, last + 4, colour, _cut(name, 18)
            )
        )
    height = max(top + tall + 44, max(ends, default=0) + 12)
    return _svg(left + wide + 130, height, parts, "lines", label)


def _axis(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Where along an axis a value stands."""
    return lambda value: start + (value - low) / ((high - low) or 1) * (end - start)


def _line(line: Sequence[Point], at_x: Any, at_y: Any, colour: str) -> Markup:
    path = " ".join(f"{at_x(p.x):.1f},{at_y(p.y):.1f}" for p in line)
    drawn = Markup('<polyline class="line" points="{}" stroke="{}"/>').format(path, colour)
    if any(p.low is None or p.high is None for p in line):
        return drawn
    there = [f"{at_x(p.x):.1f},{at_y(p.high):.1f}" for p in line]
    back = [f"{at_x(p.x):.1f},{at_y(p.low):.1f}" for p in reversed(line)]
    band = Markup('<polygon class="band" points="{}" fill="{}"/>')
    return band.format(" ".join([*there, *back]), colour) + drawn


def _ticks(xs: Sequence[float]) -> Sequence[float]:
    return xs if len(xs) <= 12 else [xs[round(i * (len(xs) - 1) / 9)] for i in range(10)]


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _svg(width: float, height: float, parts: Sequence[Markup], kind: str, label: str) -> Markup:
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" class="chart chart-{}" viewBox="0 0 {:.0f} {:.0f}" '
        'width="{:.0f}" height="{:.0f}" role="group" aria-label="{}">{}</svg>'
    ).format(kind, width, height, width, height, label, Markup("").join(parts))


def standalone(svg: Markup) -> str:
    """A chart as a file of its own: with the colours of letters and rules, on white."""
    head, rest = str(svg).split(">", 1)
    return f"{head}><style>{escape(_STYLE)}</style>{rest}"
