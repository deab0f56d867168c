"""The grid of a run's heads for a paper: an SVG of a given width that stands alone, and its numbers as CSV.

Sizes are in points (1/72 inch). Colors are those of the explorer's light page.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from attnstore.display import colors
from attnstore.formatting import number, places
from attnstore.web import grid_chart
from attnstore.web.head_grid import Grid

_LEFT, _TOP = 24.0, 21.0  # room for the numbers of layers and heads
_LARGEST = 34.0  # a cell
_LETTER = 7.5  # of titles
_BAR = 96.0  # the bar of colors
_SWATCH = 4.4  # width of a letter of a legend, of Helvetica at 7.5 points at most
_LEGIBLE = 4.5  # the smallest letters that a cell is worth
COLUMNS = ("layer", "head", "class", "value", "low", "high", "n", "random_low", "random_high")


def svg(grid: Grid, title: str, width: float) -> Markup:
    """Draw a grid.

    Args:
        grid: The values.
        title: What they are, with their unit.
        width: Of the picture.
    """
    pitch = min((width - _LEFT - 2) / len(grid.heads), _LARGEST)
    left = _LEFT + (width - _LEFT - 2 - pitch * len(grid.heads)) / 2
    bottom = _TOP + pitch * len(grid.layers)
    legend = list(_legend(grid, left, bottom + 14, width))
    height = legend[-1]["y"] + 4 if legend else bottom + 28
    return grid_chart.drawn(
        "grid_figure", width=width, height=height, left=left, top=_TOP, pitch=pitch, bottom=bottom, letter=_LETTER,
        heads=grid.heads, layers=grid.layers, cells=_cells(grid, left, pitch), legend=legend, title=title,
        ink=_ink(pitch), step=max(1, round(9 / pitch)), bar=_bar(grid), long=_BAR,
        ends=[number(end, 3) for end in grid.ends],
    )  # fmt: skip


def _cells(grid: Grid, left: float, pitch: float) -> list[dict[str, Any]]:
    decimals = min(2, places(c.value for c in grid.cells.values() if c.value is not None))
    legible, longest = _ink(pitch) >= _LEGIBLE, int(pitch * 0.92 / (_ink(pitch) * 0.56))
    fills = grid_chart.fills(grid, dark=False)
    cells = []
    for i, layer in enumerate(grid.layers):
        for j, head in enumerate(grid.heads):
            cell, rgb = grid.cells.get((layer, head)), fills.get((layer, head))
            cells.append(
                {
                    "x": left + j * pitch, "y": _TOP + i * pitch,
                    "fill": grid_chart.as_hex(rgb) if rgb is not None else "#f0f0ec",
                    "ink": grid_chart.ink(rgb) if rgb is not None else "#000000",
                    "text": grid_chart.brief(cell, decimals, max(longest, 4)) if cell and rgb is not None and legible else "",
                }
            )  # fmt: skip
    return cells


def _ink(pitch: float) -> float:
    """Return the size of the letters in a cell."""
    return min(7.5, pitch * 0.38)


def _bar(grid: Grid) -> list[str]:
    return [] if grid.names else grid_chart.bar(grid, dark=False)


def _legend(grid: Grid, left: float, top: float, width: float) -> Iterator[dict[str, Any]]:
    """Place the names of classes, a line below where there is no room."""
    x, y = left, top
    for name, color in colors.of_names(grid.names).items():
        needed = 11 + len(name) * _SWATCH + 8
        if x > left and x + needed > width:
            x, y = left, y + 11
        yield {"x": x, "y": y, "name": name, "color": color}
        x += needed


def table(grid: Grid) -> str:
    """Return the values of a grid as CSV, a row for each head."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for (layer, head), cell in sorted(grid.cells.items()):
        random = cell.random or (None, None)
        rows.writerow((layer, head, cell.name, cell.value, cell.low, cell.high, cell.n, *random))
    return text.getvalue()
