"""The grid of a run's heads as SVG, layers downwards, colored by value or by class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from attnstore.display.colors import OKABE_ITO, colormap, diverging
from attnstore.formatting import number, places
from attnstore.web.charts import draw
from attnstore.web.head_grid import Cell, Grid

_CELL = 40  # pixels of a head
_LEFT = 34  # room for the numbers of the layers
_TOP = 22

Rgb = Sequence[int]


def heads(grid: Grid, href: str | None = None) -> Markup:
    """Draw a grid.

    Args:
        grid: The values.
        href: The address of a head without its /layer/head; None for a grid without links.
    """
    fills = _fills(grid)
    decimals = min(2, places(c.value for c in grid.cells.values() if c.value is not None))
    columns = [(_LEFT + i * _CELL, head) for i, head in enumerate(grid.heads)]
    rows = [(_TOP + i * _CELL, layer) for i, layer in enumerate(grid.layers)]
    cells = []
    for y, layer in rows:
        for x, head in columns:
            cell, rgb = grid.cells.get((layer, head)), fills.get((layer, head))
            cells.append(
                {
                    "x": x, "y": y, "layer": layer, "head": head, "tip": _tip(grid, layer, head, cell),
                    "fill": None if rgb is None else _hex(rgb), "ink": _ink(rgb or (0, 0, 0)),
                    "text": "" if cell is None else _brief(cell, decimals),
                }
            )  # fmt: skip
    return draw(
        "grid", columns=columns, rows=rows, cells=cells, href=href, side=_CELL - 2, left=_LEFT,
        width=_LEFT + len(columns) * _CELL + 2, height=_TOP + len(rows) * _CELL + 2,
    )  # fmt: skip


def scale(grid: Grid) -> Markup:
    """Draw the colors of a grid of numbers from its lowest value to its highest."""
    low, high = grid.ends
    at = np.linspace(low, high, 48)
    rgb = diverging(at, high) if grid.signed else colormap(at - low, (high - low) or 1)
    label = f"from {number(low)} to {number(high)}"
    return draw("scale", fills=[_hex(color) for color in rgb], label=label)


def class_colors(names: Sequence[str]) -> dict[str, str]:
    """Return a color for each class, always the same for the same classes."""
    classes = [name for name in sorted(names) if name != "none"]
    colors = {name: OKABE_ITO[i % len(OKABE_ITO)] for i, name in enumerate(classes)}
    return colors | ({"none": "#c9c9c2"} if "none" in names else {})


def _fills(grid: Grid) -> dict[tuple[int, int], Rgb]:
    """Return the color of each head that has a value or a class."""
    colors = class_colors(grid.names)
    classes = {
        at: tuple(bytes.fromhex(colors[c.name][1:]))
        for at, c in grid.cells.items()
        if c.name is not None
    }
    numbers = {
        at: c.value for at, c in grid.cells.items() if c.name is None and c.value is not None
    }
    low, high = grid.ends
    values = np.array(list(numbers.values()))
    rgb = diverging(values, high) if grid.signed else colormap(values - low, high - low)
    return classes | {at: tuple(row) for at, row in zip(numbers, rgb.tolist(), strict=True)}


def _tip(grid: Grid, layer: int, head: int, cell: Cell | None) -> str:
    """Return the value of a head in words."""
    where = f"layer {layer} · head {head}"
    if cell is None or (cell.value is None and cell.name is None):
        return f"{where}: nothing"
    parts = [cell.name] if cell.name is not None else []
    if cell.value is not None:
        value = number(cell.value)
        if cell.low is not None and cell.high is not None:
            value += f" (95% {number(cell.low)} to {number(cell.high)})"
        parts.append(f"{value} {grid.unit}".strip())
    if cell.n:
        parts.append(f"n = {cell.n:,}")
    if cell.random is not None:
        parts.append(f"random weights {number(cell.random[0])} to {number(cell.random[1])}")
    return f"{where}: {', '.join(parts)}"


def _brief(cell: Cell, decimals: int) -> str:
    """Return a class in at most four letters, or a number without its leading 0."""
    if cell.name is not None:
        parts = cell.name.split("+")
        return "+".join(part[:1] for part in parts) if len(parts) > 1 else cell.name[:4]
    text = f"{cell.value or 0.0:.{decimals}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def _hex(rgb: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*(int(v) for v in rgb))


def _ink(rgb: Rgb) -> str:
    """Return black or white, whichever has more contrast (WCAG 2, relative luminance)."""
    linear = [(v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4) for v in rgb]
    light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#10151c" if light > 0.179 else "#ffffff"
