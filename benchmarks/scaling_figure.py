"""docs/images/scaling.png: what the index takes, from a thousand examples to a million."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnstore.display.colors import SERIES
from attnstore.plotting.figures import save
from attnstore.plotting.panels import plain

IMAGE = Path(__file__).parents[1] / "docs" / "images" / "scaling.png"
_MARKERS = "osD^vP"
_SIZE = (9.0, 3.1)  # inches

Curves = Mapping[str, Sequence[float]]


def draw(
    examples: Sequence[int], panels: Mapping[str, Curves], targets: Mapping[str, float]
) -> Path:
    """A panel per title, which names what its curves show and in what unit; both axes logarithmic.

    targets: a level to mark, by the title of its panel.
    """
    figure = Figure(figsize=_SIZE, layout="constrained")
    for axes, (title, curves) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        _panel(axes, examples, curves)
        axes.set_title(title, fontsize=9, loc="left")
        if title in targets:
            axes.axhline(
                targets[title], color="0.45", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1
            )
            axes.annotate("target", (examples[0], targets[title]), xytext=(0, 2), fontsize=7,
                          textcoords="offset points", color="0.35")  # fmt: skip
    return save(figure, IMAGE)


def _panel(axes: Axes, examples: Sequence[int], curves: Curves) -> None:
    for (name, values), colour, marker in zip(curves.items(), SERIES, _MARKERS, strict=False):
        axes.plot(
            examples, values, color=colour, marker=marker, markersize=4, linewidth=1.3, label=name
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(examples), [f"{n:,}" for n in examples])
    axes.minorticks_off()
    axes.set_xlabel("examples (144 maps each)", fontsize=8)
    axes.tick_params(labelsize=7.5)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize=7, frameon=False, loc="upper left")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.35)  # room for the legend
    plain(axes)
