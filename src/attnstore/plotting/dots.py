"""Dots in rows: one row per thing, several values of it beside each other.

Beside `plots`; made without pyplot, like `figures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from attnstore.display.colors import of_names
from attnstore.plotting.panels import fitted, legend, plain
from attnstore.plotting.plots import Series

_ROW, _BELOW, _ABOVE = 0.16, 0.4, 0.08  # inches of a row, and below and above the rows
_NAMES, _WIDTH = 3.0, 4.2  # inches of the names of rows, and of the axes
_MARKERS = "oD|x"


def dots(names: Sequence[str], series: Mapping[str, Series], label: str) -> Figure:
    """Draw rows of dots, the first row on top, on an axis from 0 to 1.

    Args:
        names: Names of the rows.
        series: By name, values of rows (`x`: their numbers) with their intervals as lines.
        label: What the axis is.
    """
    height = _BELOW + _ABOVE + _ROW * len(names)
    figure = Figure(figsize=(_NAMES + _WIDTH + 0.1, height))
    width = figure.get_figwidth()
    axes = figure.add_axes(
        (_NAMES / width, _BELOW / height, _WIDTH / width, _ROW * len(names) / height)
    )
    keys, inks = [], of_names(series)
    for number, (name, s) in enumerate(series.items()):
        color, marker = inks[name], _MARKERS[number % len(_MARKERS)]
        face = color if number == 0 else "none"
        style: dict[str, Any] = {
            "color": color,
            "marker": marker,
            "markerfacecolor": face,
            "linestyle": "",
        }
        low, high = (np.array(ends, float) for ends in (s.low, s.high))
        axes.hlines(s.x, low, high, color=color, linewidth=1)
        axes.plot(s.mean, s.x, markersize=4.5, **style)
        keys.append(Line2D([], [], markersize=4.5, label=name, **style))
    axes.set_yticks(range(len(names)), [fitted(n, _NAMES) for n in names], parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-0.01, 1.01)
    axes.set_xlabel(label, fontsize=8)
    axes.grid(axis="y", linewidth=0.3, color="0.85")
    axes.set_axisbelow(True)
    plain(axes)
    legend(figure, keys)
    return figure
