"""The grid of a run's heads as SVG, layers downwards, colored by value or by class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from attnstore.display import colors
from attnstore.display.templating import environment
from attnstore.formatting import number, places
from attnstore.web.head_grid import Cell, Grid

if TYPE_CHECKING:
    from jinja2 import Environment

_CELL = 40  # pixels of a head
_LEFT = 34  # room for the numbers of the layers
_TOP = 22

Rgb = Sequence[int]


def heads(grid: Grid, href: str | None = None, query: str = "") -> Markup:
    """Draw a grid.

    Args:
        grid: The values.
        href: The address of a head without its /layer/head; None for a grid without links.
        query: What follows the question mark of each address.
    """
    painted = {theme: fills(grid, theme == "dark") for theme in _themes(grid)}
    decimals = min(2, places(c.value for c in grid.cells.values() if c.value is not None))
    columns = [(_LEFT + i * _CELL, head) for i, head in enumerate(grid.heads)]
    rows = [(_TOP + i * _CELL, layer) for i, layer in enumerate(grid.layers)]
    cells = []
    for y, layer in rows:
        for x, head in columns:
            cell = grid.cells.get((layer, head))
            paints = [
                {"theme": theme, "fill": as_hex(rgbs[layer, head]), "ink": ink(rgbs[layer, head])}
                for theme, rgbs in painted.items()
                if (layer, head) in rgbs
            ]
            cells.append(
                {
                    "x": x, "y": y, "layer": layer, "head": head, "tip": _tip(grid, layer, head, cell),
                    "paints": paints, "text": "" if cell is None else brief(cell, decimals),
                }
            )  # fmt: skip
    return drawn(
        "grid", columns=columns, rows=rows, cells=cells, href=href, query=query, side=_CELL - 2, left=_LEFT,
        width=_LEFT + len(columns) * _CELL + 2, height=_TOP + len(rows) * _CELL + 2,
    )  # fmt: skip


def shown(grid: Grid, href: str | None = None, query: str = "") -> dict[str, Any]:
    """Return what a template needs to show a grid, with its scale or its legend. href, query: as in `heads`."""
    return {
        "grid": grid,
        "drawn": heads(grid, href, query),
        "scale": None if grid.names else scale(grid),
        "legend": colors.of_names(grid.names),
        "extremes": grid.extremes(5),
    }


@cache
def _templates() -> Environment:
    return environment(Path(__file__).parent / "templates")


def drawn(chart: str, **values: Any) -> Markup:
    """Fill the template of a picture."""
    return Markup(_templates().get_template(f"charts/{chart}.svg").render(values))


def scale(grid: Grid) -> Markup:
    """Draw the colors of a grid of numbers from its lowest value to its highest."""
    low, high = grid.ends
    bars = {theme: bar(grid, theme == "dark") for theme in _themes(grid)}
    label = f"from {number(low)} to {number(high)}"
    return drawn("scale", bars=bars, label=label)


def bar(grid: Grid, dark: bool) -> list[str]:
    """Return the colors of a grid of numbers, from its lowest value to its highest."""
    low, high = grid.ends
    return [as_hex(rgb) for rgb in _colored(grid, np.linspace(low, high, 48), dark)]


def _themes(grid: Grid) -> tuple[str, ...]:
    """Return the themes that a grid is drawn for: a difference of 0 is light or dark as the page is."""
    return ("light", "dark") if grid.signed and not grid.names else ("",)


def fills(grid: Grid, dark: bool) -> dict[tuple[int, int], Rgb]:
    """Return the color of each head that has a value or a class."""
    named = colors.of_names(grid.names)
    classes = {
        at: tuple(bytes.fromhex(named[c.name][1:]))
        for at, c in grid.cells.items()
        if c.name is not None
    }
    numbers = {
        at: c.value for at, c in grid.cells.items() if c.name is None and c.value is not None
    }
    rgb = _colored(grid, np.array(list(numbers.values())), dark)
    return classes | {at: tuple(row) for at, row in zip(numbers, rgb.tolist(), strict=True)}


def _colored(grid: Grid, values: npt.NDArray[np.float64], dark: bool) -> npt.NDArray[np.uint8]:
    """Return the RGB of values on the scale of a grid; one gray where the grid's are all equal."""
    low, high = grid.ends
    if grid.signed:
        return colors.diverging(values, high, dark)
    if grid.is_even:
        gray = np.array(list(bytes.fromhex(colors.EQUAL[1:])), np.uint8)
        return np.tile(gray, (len(values), 1))
    return colors.colormap(values - low, high - low)


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


def brief(cell: Cell, decimals: int, longest: int = 4) -> str:
    """Return a class in at most `longest` letters, or a number without its leading 0."""
    if cell.name is not None:
        if len(cell.name) <= longest:
            return cell.name
        parts = cell.name.split("+")
        return "+".join(part[:1] for part in parts) if len(parts) > 1 else cell.name[:longest]
    text = f"{cell.value or 0.0:.{decimals}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def as_hex(rgb: Rgb) -> str:
    """Return a color as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*(int(v) for v in rgb))


def ink(rgb: Rgb) -> str:
    """Return black or white, whichever has more contrast (WCAG 2, relative luminance)."""
    linear = [(v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4) for v in rgb]
    light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#10151c" if light > 0.179 else "#ffffff"
