"""Lines over layers and bars in groups, with their intervals.

Beside `panels`, which draws pictures; made without pyplot, like `figures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from attnstore.display.colors import SERIES, of_names
from attnstore.plotting.figures import LAYER
from attnstore.plotting.panels import Array, fitted, legend, plain

_MARKERS = "osD^vP*X"
_WIDTH, _HEIGHT = 2.0, 1.8  # inches of the axes of a panel of lines
_LINE = 0.15  # inches of a further line of a title
_LEFT, _BELOW, _ABOVE, _BETWEEN = 0.5, 0.42, 0.3, 0.15  # inches around and between them


@dataclass(frozen=True, eq=False)
class Series:
    """Points with the ends of their intervals, None where there is none."""

    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float | None]
    high: Sequence[float | None]


def lines(panels: Mapping[str, Mapping[str, Series]], label: str, across: str = LAYER) -> Figure:
    """A panel per title with a line per name and its interval as a band; all on the same axes."""
    names = list(dict.fromkeys(chain.from_iterable(panels.values())))
    n_rows = -(-len(panels) // 4)
    columns = -(-len(panels) // n_rows)
    top = max(float(np.nanmax(_ends(s.high, s.mean))) for p in panels.values() for s in p.values())
    figure = Figure(
        figsize=(_LEFT + columns * (_WIDTH + _BETWEEN), n_rows * (_HEIGHT + _ABOVE) + _BELOW)
    )
    for i, (title, series) in enumerate(panels.items()):
        axes = _panel(figure, *divmod(i, columns))
        for name, s in series.items():
            color, marker = _style(names, name)
            axes.plot(s.x, s.mean, color=color, marker=marker, markersize=3.5, linewidth=1.2)
            low, high = _ends(s.low, s.mean), _ends(s.high, s.mean)
            axes.fill_between(s.x, low, high, color=color, alpha=0.2, lw=0)
        axes.set_ylim(0, top * 1.05)
        _titles(
            axes,
            title,
            label if i % columns == 0 else "",
            across if i + columns >= len(panels) else "",
        )
    keys = []
    for name in names:
        color, marker = _style(names, name)
        keys.append(Line2D([], [], color=color, marker=marker, markersize=4, label=name))
    legend(figure, keys)
    return figure


def differences(panels: Mapping[str, Series], label: str, across: str = LAYER) -> Figure:
    """A panel per title, of one line or more, with points and their intervals around a line at 0.

    All panels are on the same axes.
    """
    n_rows = -(-len(panels) // 4)
    columns = -(-len(panels) // n_rows)
    above = _ABOVE + _LINE * max(title.count("\n") for title in panels)
    ends = [e for s in panels.values() for e in (*_ends(s.low, s.mean), *_ends(s.high, s.mean))]
    low, high = min(*ends, 0.0), max(*ends, 0.0)
    room = 0.06 * (high - low) or 0.01
    size = (_LEFT + columns * (_WIDTH + _BETWEEN), n_rows * (_HEIGHT + above) + _BELOW)
    figure = Figure(figsize=size)
    for i, (title, s) in enumerate(panels.items()):
        axes = _panel(figure, *divmod(i, columns), above)
        mean = np.asarray(s.mean, float)
        unknown = np.full_like(mean, np.nan)  # no bar is not a short bar
        error = np.clip([mean - _ends(s.low, unknown), _ends(s.high, unknown) - mean], 0, None)
        axes.axhline(0, color=SERIES[1], linewidth=1.4)
        axes.errorbar(s.x, mean, error, fmt="o", color=SERIES[0], markersize=4, elinewidth=1,
                      capsize=2)  # fmt: skip
        axes.set_ylim(low - room, high + room)
        axes.set_xlim(min(s.x) - 0.5, max(s.x) + 0.5)
        _titles(
            axes,
            title,
            label if i % columns == 0 else "",
            across if i + columns >= len(panels) else "",
        )
    legend(figure, [Line2D([], [], color=SERIES[1], label="no layer disabled")])
    return figure


def bars(
    groups: Sequence[str],
    series: Mapping[str, Series],
    label: str,
    marks: Mapping[str, Sequence[float | None]] | None = None,
    marked: str | None = None,
) -> Figure:
    """Bars side by side in groups, one per name, with their intervals. x of a series: its groups.

    marks: by name, another value to show on each bar as a diamond, None where there is none; marked:
    what the legend calls them.
    """
    width = 0.8 / len(series)
    inches = 0.9 + len(groups) * (0.3 + 0.17 * len(series))
    figure = Figure(figsize=(min(max(3.6, inches), 10), 2.8))
    axes = figure.subplots()
    fills = of_names(series)
    for i, (name, s) in enumerate(series.items()):
        x = np.asarray(s.x) + (i - (len(series) - 1) / 2) * width
        mean = np.asarray(s.mean, float)
        unknown = np.full_like(mean, np.nan)  # no bar is not a short bar
        error = np.clip([mean - _ends(s.low, unknown), _ends(s.high, unknown) - mean], 0, None)
        axes.bar(x, mean, width * 0.92, color=fills[name], label=name,
                 yerr=error, error_kw={"elinewidth": 0.8, "capsize": 1.5})  # fmt: skip
        others = np.array((marks or {}).get(name, [None] * len(x)), float)
        if not np.isnan(others).all():
            axes.plot(x, others, "D", color="black", markerfacecolor="white", markersize=4, zorder=3,
                      label=marked)  # fmt: skip
            marked = None  # once in the legend
    room = figure.get_figwidth() * 0.75 / len(groups)
    names = ["\n".join(fitted(line, room) for line in group.split("\n")) for group in groups]
    axes.set_xticks(range(len(groups)), names, parse_math=False)
    axes.set_ylabel(label, fontsize=8)
    plain(axes)
    figure.subplots_adjust(bottom=0.18)
    legend(figure, axes.get_legend_handles_labels()[0])
    return figure


def _titles(axes: Axes, title: str, down: str, across: str) -> None:
    """Title, and what the axes are where this panel says it; elsewhere no numbers either."""
    lines = (fitted(line, _WIDTH + _BETWEEN) for line in title.split("\n"))
    axes.set_title("\n".join(lines), fontsize=8, parse_math=False)
    axes.set_ylabel(down, fontsize=8)
    axes.set_xlabel(across, fontsize=8)
    axes.tick_params(labelleft=bool(down), labelbottom=bool(across))


def _panel(figure: Figure, row: int, column: int, above: float = _ABOVE) -> Axes:
    width, height = figure.get_size_inches()
    left = _LEFT + column * (_WIDTH + _BETWEEN)
    bottom = height - (row + 1) * (_HEIGHT + above)
    axes = figure.add_axes((left / width, bottom / height, _WIDTH / width, _HEIGHT / height))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    plain(axes)
    return axes


def _style(names: list[str], name: str) -> tuple[str, str]:
    return of_names(names)[name], _MARKERS[names.index(name) % len(_MARKERS)]


def _ends(ends: Sequence[float | None], mean: Sequence[float] | Array) -> Array:
    """Ends of intervals as numbers; where there is none, the mean itself."""
    return np.array([m if e is None else e for e, m in zip(ends, mean, strict=True)], float)
