"""Heads as points of a plane, beside the matrix of their distances.

The values come in as arrays; what they mean is left to `paper.alike`. Made without pyplot, like `figures`.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from attnstore.display.colors import SCALE
from attnstore.plotting.figures import LAYER
from attnstore.plotting.panels import Array, plain

Ints = npt.NDArray[np.int64]

MARKERS = "osD^vP*Xhp<>"
"""Shapes of clusters; beyond so many they repeat."""
_SIDE, _LEFT, _BELOW, _ABOVE, _GAP, _RIGHT = 4.3, 0.45, 0.95, 0.3, 1.25, 0.75  # inches
_BAR = 0.12  # inches of the width of a color bar


def points_and_matrix(
    places: Array, heads: Sequence[tuple[int, int]], clusters: Ints, distances: Array, label: str
) -> Figure:
    """Draw heads as points, colors for layers and shapes for clusters, and their distances as a matrix.

    Args:
        places: (n, 2), NaN for a head without a place.
        heads: Layer and head of each.
        clusters: Cluster of each, from 0; -1 for none.
        distances: (n, n), in the same order.
        label: What the distances measure.
    """
    size = (_LEFT + 2 * _SIDE + _GAP + _RIGHT, _BELOW + _SIDE + _ABOVE)
    figure = Figure(figsize=size)
    layers = np.array([layer for layer, _ in heads])
    _points(_axes(figure, _LEFT), places, heads, clusters, label)
    _matrix(_axes(figure, _LEFT + _SIDE + _GAP), layers, distances, label)
    return figure


def _axes(figure: Figure, left: float) -> Axes:
    width, height = figure.get_size_inches()
    box = (left / width, _BELOW / height, _SIDE / width, _SIDE / height)
    return figure.add_axes(box)


def _points(
    axes: Axes, places: Array, heads: Sequence[tuple[int, int]], clusters: Ints, label: str
) -> None:
    """Draw a shape per head, with its number inside, and the legends of clusters and layers."""
    layers = sorted({layer for layer, _ in heads})
    colors = matplotlib.colormaps[SCALE].resampled(max(len(layers), 2))
    for (x, y), (layer, head), cluster in zip(places, heads, clusters.tolist(), strict=True):
        if np.isnan(x):
            continue
        color = colors(layers.index(layer))
        axes.plot(
            x, y, MARKERS[cluster % len(MARKERS)], color=color, markersize=10, alpha=0.9, mew=0.4, mec="white"
        )  # fmt: skip
        dark = np.dot(color[:3], (0.299, 0.587, 0.114)) < 0.5
        axes.annotate(
            str(head), (x, y), ha="center", va="center", fontsize=5.5, color="white" if dark else "black"
        )  # fmt: skip
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_title("places in a plane (number: head)", fontsize=8)
    axes.set_xlabel(label, fontsize=8)
    plain(axes, open_sides=False)
    shapes = [
        Line2D([], [], marker=MARKERS[c % len(MARKERS)], color="0.4", linestyle="", markersize=6,
               label=f"cluster {c}: {int((clusters == c).sum())}")
        for c in range(int(clusters.max()) + 1)
    ]  # fmt: skip
    axes.legend(
        handles=shapes, loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=min(len(shapes), 4),
        fontsize=7, frameon=False,
    )  # fmt: skip
    scale = BoundaryNorm([*(y - 0.5 for y in layers), layers[-1] + 0.5], max(len(layers), 2))
    _bar(axes, ScalarMappable(scale, colors), LAYER, layers)


def _matrix(axes: Axes, layers: Ints, distances: Array, label: str) -> None:
    """Draw the distances of every two heads, in their order, with a line between layers."""
    image = axes.imshow(
        np.ma.masked_invalid(distances), cmap=SCALE, vmin=0, interpolation="nearest"
    )
    axes.set_facecolor("0.85")
    ends = np.flatnonzero(np.diff(layers)) + 1
    starts = np.array([0, *ends])
    for at in ends - 0.5:
        axes.axhline(at, color="white", lw=0.6)
        axes.axvline(at, color="white", lw=0.6)
    middles = (starts + np.array([*ends, len(layers)]) - 1) / 2
    axes.set_xticks(middles, [str(layers[s]) for s in starts])
    axes.set_yticks(middles, [str(layers[s]) for s in starts])
    axes.set_title("distance of every two heads, in their order", fontsize=8)
    axes.set_xlabel(LAYER, fontsize=8)
    plain(axes, open_sides=False)
    _bar(axes, image, label)


def _bar(
    axes: Axes, colors: ScalarMappable, label: str, ticks: Sequence[int] | None = None
) -> None:
    """Draw a color bar right of axes."""
    beside = axes.inset_axes((1.02, 0, _BAR / _SIDE, 1))
    bar = axes.figure.colorbar(colors, cax=beside, ticks=ticks)
    bar.set_label(label, fontsize=8)
    bar.outline.set_linewidth(0.5)
    beside.tick_params(length=2, width=0.5, labelsize=7)
