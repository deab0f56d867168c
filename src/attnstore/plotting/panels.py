"""Figures of several panels: pictures on one color scale, and kinds of heads.

The values come in as arrays; what they mean is left to `paper.heads` and `paper.tasks`, lines and
bars to `plots`. Made without pyplot, like `figures`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, FuncNorm, ListedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from attnstore.display import colors
from attnstore.plotting.figures import CHANGES, HEAD, LAYER, fonts, numbers, shortened, sizes

Array = npt.NDArray[np.floating[Any]]
_WIDEST = 9.0  # inches of the panels of a row together, labels aside
_TALLEST = 2.6  # inches of a panel
_GAP = 0.22  # inches between panels
_NAME = 0.8  # inches of the names of tokens and their axis
_LINE = 0.15  # inches of a line of a title
_AXIS = 0.42  # inches of the numbers and title of an axis
_POINTS = 72.0  # in an inch
_LETTER = 0.068  # inches of a letter of a title


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture. cells: (rows, columns), NaN where there is nothing; title: one line or more;
    across, down: names of the columns and rows, None for numbers from 0; titles: of both axes;
    heading: of its row; outlined: cells in a frame; dotted: cells with a dot; written: whether values stand in cells."""

    cells: Array
    title: str
    across: Sequence[str] | None = None
    down: Sequence[str] | None = None
    titles: tuple[str, str] = (HEAD, LAYER)
    heading: str = ""
    outlined: Iterable[tuple[int, int]] = ()
    dotted: Iterable[tuple[int, int]] = ()
    written: bool = False


Rows = Sequence[Sequence[Panel | None]]
"""Panels by row; None leaves a place empty."""


def in_rows(panels: Sequence[Panel]) -> list[Sequence[Panel]]:
    """At most four panels a row, the rows as even as may be."""
    width = -(-len(panels) // -(-len(panels) // 4))
    return [panels[i : i + width] for i in range(0, len(panels), width)]


def pictures(
    rows: Rows, label: str, low: float | None = 0.0, high: float | None = None, root: bool = False
) -> Figure:
    """Rows of panels as pictures, all on one color scale from `low` to `high` (None: of the data).

    label: what the colors measure; root: colors by the square root of the value, so that small
    ones beside large ones can be distinguished.
    """
    values = _values(rows)
    bottom = float(np.nanmin(values)) if low is None else low
    top = max(float(np.nanmax(values)) if high is None else high, bottom + 1e-6)
    scale = PowerNorm(0.5, bottom, top) if root else Normalize(bottom, top)
    name = label + ("\ncolors by square root" if root else "")
    return _drawn(rows, scale, name, sizes(values))


def changes(rows: Rows, label: str) -> Figure:
    """Rows of panels of changes, on one scale around 0: blue below, near white at 0, orange above.

    Colors go by the square root, so that small changes beside a large one can be distinguished.
    """
    most = max(float(np.nanmax(np.abs(_values(rows)))), 1e-6)
    scale = FuncNorm((_root, _square), -most, most)
    return _drawn(rows, scale, f"{label}\ncolors by square root", CHANGES)


def _root(values: Array) -> Array:
    return np.sign(values) * np.sqrt(np.abs(values))


def _square(values: Array) -> Array:
    return np.sign(values) * np.square(values)


def _values(rows: Rows) -> Array:
    return np.concatenate([p.cells.ravel() for p in chain.from_iterable(rows) if p])


def _drawn(rows: Rows, scale: Normalize, label: str, cmap: Colormap) -> Figure:
    figure, places = _placed(rows)
    for at, panel, axes, pitch in places:
        _picture(axes, panel, scale, pitch, cmap)
        _axis_titles(axes, rows, at, panel)
    _scale_bar(figure, scale, label, cmap)
    return figure


def kinds(rows: Rows, names: Sequence[str], letters: Mapping[str, str]) -> Figure:
    """Panels whose cells are numbers of `names`, each a color and a letter in its cell."""
    fills = [colors.of_names(names)[name] for name in names]
    scale = Normalize(-0.5, len(fills) - 0.5)
    figure, places = _placed(rows)
    for at, panel, axes, pitch in places:
        _picture(axes, panel, scale, pitch, ListedColormap(fills))
        for (y, x), kind in np.ndenumerate(panel.cells):
            if not np.isnan(kind):
                ink, size = _ink(fills[int(kind)]), min(7.0, pitch * 36)
                text = letters[names[int(kind)]]
                axes.text(x, y, text, ha="center", va="center", fontsize=size, color=ink)
        _axis_titles(axes, rows, at, panel)
    keys = [
        Patch(color=color, label=f"{letters[name]}  {name}")
        for color, name in zip(fills, names, strict=True)
    ]
    legend(figure, keys, _AXIS)
    return figure


def _axis_titles(axes: Axes, rows: Rows, at: tuple[int, int], panel: Panel) -> None:
    """Label both axes, once per row and column where they are the same."""
    first = next(p for p in rows[at[0]] if p)
    below = [row[at[1]] for row in rows[at[0] + 1 :] if at[1] < len(row)]
    if panel is first or (panel.titles[1], panel.down) != (first.titles[1], first.down):
        axes.set_ylabel(panel.titles[1], fontsize=8)
    else:
        axes.tick_params(labelleft=False, left=False)
    if not any(below) or panel.across:
        axes.set_xlabel(panel.titles[0], fontsize=8)
    else:
        axes.tick_params(labelbottom=False, bottom=False)


def _placed(rows: Rows) -> tuple[Figure, Iterator[tuple[tuple[int, int], Panel, Axes, float]]]:
    """A figure with room for the panels, and each: (row, column), panel, axes, inches of a cell."""
    columns = max(map(len, rows))
    named = any(p and p.down and row[0] and p.down != row[0].down for row in rows for p in row)
    gap = _NAME if named else _GAP
    share = (_WIDEST - gap * (columns - 1)) / columns
    sizes = [[_size(p, share) if p else (0.0, 0.0) for p in row] for row in rows]
    widths = [max(row[j][1] for row in sizes if j < len(row)) for j in range(columns)]
    heights = [max(size[0] for size in row) for row in sizes]
    heads = [_LINE * max(_n_lines(p) for p in row if p) + 0.1 for row in rows]
    below = [_NAME if any(p and p.across for p in row) else 0.12 for row in rows]
    whole = (sum(widths) + gap * (columns - 1), sum(heights) + sum(heads) + sum(below))
    figure = Figure(figsize=whole)

    def places() -> Iterator[tuple[tuple[int, int], Panel, Axes, float]]:
        top = whole[1]
        for i, row in enumerate(rows):
            top -= heads[i]
            for j, panel in enumerate(row):
                if panel is not None:
                    left, (height, width) = sum(widths[:j]) + gap * j, sizes[i][j]
                    box = (
                        left / whole[0],
                        (top - height) / whole[1],
                        width / whole[0],
                        height / whole[1],
                    )
                    yield (i, j), panel, figure.add_axes(box), width / panel.cells.shape[1]
            top -= heights[i] + below[i]

    return figure, places()


def _n_lines(panel: Panel) -> int:
    return panel.title.count("\n") + 1 + bool(panel.heading)


def _size(panel: Panel, widest: float) -> tuple[float, float]:
    """Height and width of a panel in inches; its cells are squares."""
    n_down, n_across = panel.cells.shape
    pitch = min(0.36 if panel.written else 0.2, widest / n_across, max(_TALLEST, widest) / n_down)
    if panel.down and not panel.across:  # a name per row needs a line each
        return n_down * max(pitch, 0.16), n_across * pitch
    return n_down * pitch, n_across * pitch


def _picture(axes: Axes, panel: Panel, scale: Normalize, pitch: float, cmap: Colormap) -> None:
    n_down, n_across = panel.cells.shape
    masked = np.ma.masked_invalid(panel.cells)
    axes.set_facecolor("0.85")
    axes.imshow(masked, cmap=cmap, norm=scale, interpolation="nearest", aspect="auto")
    _ticks(axes, "x", n_across, pitch, panel.across)
    _ticks(axes, "y", n_down, pitch if not panel.down or panel.across else 0.16, panel.down)
    width = n_across * pitch
    title = "\n".join(fitted(line, max(width, 1.0) + _GAP) for line in panel.title.split("\n"))
    axes.set_title(title, fontsize=8, parse_math=False, fontfamily=fonts(), pad=4)
    if panel.heading:
        up = (_LINE * panel.title.count("\n") + 0.24) * _POINTS
        axes.annotate(panel.heading, (0, 1), (0, up), xycoords="axes fraction",
                      textcoords="offset points", fontsize=8, weight="bold", parse_math=False)  # fmt: skip
    for y, x in panel.outlined:
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, ec="#D55E00", lw=1.6))
    for y, x in panel.dotted:
        below = 0.33 * panel.written  # not over the number
        axes.plot(
            x, y + below, "o", color="white", markersize=min(4.0, pitch * 20), mec="black", mew=0.5
        )
    for (y, x), value in np.ndenumerate(panel.cells) if panel.written else ():
        if not np.isnan(value):
            ink = "black" if np.asarray(scale(value)) > 0.6 else "white"
            axes.text(
                x, y, f"{value:.2f}".lstrip("0"), ha="center", va="center", fontsize=6.5, color=ink
            )
    plain(axes, open_sides=False)


def _ticks(axes: Axes, axis: str, n: int, pitch: float, names: Sequence[str] | None) -> None:
    """Numbers or names along an axis, thinned out to what has room."""
    place = axes.set_xticks if axis == "x" else axes.set_yticks
    if names is None:
        place(numbers(n, pitch))
        return
    shown = range(0, n, max(int(np.ceil(0.1 / pitch)), 1))
    turned: dict[str, Any] = {"rotation": 90} if axis == "x" else {}
    place(shown, [shortened(names[i], 11) for i in shown], fontsize=6.5, fontfamily=fonts(),
          parse_math=False, **turned)  # fmt: skip


def _scale_bar(figure: Figure, scale: Normalize, label: str, cmap: Colormap) -> None:
    """One color bar for the whole figure, right of it."""
    width, height = figure.get_size_inches()
    high = min(height * 0.8, 2.2)
    place = figure.add_axes(
        (1 + 0.15 / width, (height - high) / 2 / height, 0.13 / width, high / height)
    )
    bar = figure.colorbar(ScalarMappable(scale, cmap), cax=place)
    bar.set_label(label, fontsize=8, parse_math=False)
    bar.outline.set_linewidth(0.5)
    place.tick_params(length=2, width=0.5, labelsize=7)


def legend(figure: Figure, keys: Sequence[Any], down: float = 0.0) -> None:
    """Draw the legend of colors, so many inches below the figure."""
    width, height = figure.get_size_inches()
    n_rows = -(-len(keys) // max(1, int(width / 1.25)))
    figure.legend(
        handles=keys, loc="upper center", bbox_to_anchor=(0.5, -down / height),
        ncols=-(-len(keys) // n_rows), fontsize=8, frameon=False,
    )  # fmt: skip


def plain(axes: Axes, open_sides: bool = True) -> None:
    """Thin frame and small numbers."""
    axes.tick_params(length=2, width=0.5, labelsize=7, pad=2)
    for name, side in axes.spines.items():
        side.set_linewidth(0.5)
        side.set_visible(not (open_sides and name in ("top", "right")))


def fitted(text: str, width: float) -> str:
    """A line of text cut to a width in inches."""
    room = max(int(width / _LETTER), 4)
    return text if len(text) <= room else text[: room - 1] + "…"


def _ink(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else "white"
