"""Figures of mean maps: every head of a run as a small picture, layers down and heads across."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from attnstore.display import mean_maps
from attnstore.display.colors import SCALE
from attnstore.display.mean_maps import GAP, MeanMaps
from attnstore.plotting.figures import HEAD, LAYER, fonts

_WIDTH = 6.9  # inches of a page of two columns
_PICTURE = 0.86  # share of it that is no scale
_TITLE = 0.5  # inches of a title and the numbers of the heads


def grids(runs: Mapping[str, MeanMaps]) -> Figure:
    """Draw the mean maps of some runs below one another, on one scale from 0 to 1 by the square root."""
    pictures = {name: mean_maps.mosaic(found.maps) for name, found in runs.items()}
    heights = [_WIDTH * _PICTURE * cells.shape[0] / cells.shape[1] for cells in pictures.values()]
    figure = Figure(figsize=(_WIDTH, sum(heights) + _TITLE * len(heights)), layout="constrained")
    panels = figure.subplots(len(runs), squeeze=False, height_ratios=heights)[:, 0]
    cmap = matplotlib.colormaps[SCALE].with_extremes(bad="white")
    for axes, (name, cells) in zip(panels, pictures.items(), strict=True):
        found = runs[name]
        image = axes.imshow(
            np.ma.masked_invalid(cells),
            cmap=cmap,
            norm=PowerNorm(0.5, 0, 1),
            interpolation="nearest",
        )
        for place, numbers, side in (
            (axes.set_xticks, found.heads, mean_maps.WIDTH),
            (axes.set_yticks, found.layers, mean_maps.LENGTH),
        ):
            at = np.arange(len(numbers)) * (side + GAP) + (side - 1) / 2
            place(at, [str(number) for number in numbers])
        axes.tick_params(length=0, labelsize=7, pad=2)
        axes.spines[:].set_visible(False)
        axes.set_title(name, fontsize=8, parse_math=False, fontfamily=fonts())
        axes.set_ylabel(LAYER, fontsize=8)
    panels[-1].set_xlabel(HEAD, fontsize=8)
    bar = figure.colorbar(image, ax=panels.tolist(), shrink=0.6, fraction=0.03, pad=0.01)
    bar.set_label("mean weight (colors by square root)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure
