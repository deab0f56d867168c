"""Colors mean one thing: in the explorer's grids, the figures and everywhere else."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.colors import to_hex

from attnstore.display import colors
from attnstore.naming import CLASSES, KINDS
from attnstore.paper.heads import TYPES
from attnstore.plotting import panels, plots
from attnstore.plotting.figures import CHANGES, heads
from attnstore.web import grid_chart
from attnstore.web.head_grid import Cell, Grid

FEATURES = ("noun", "verb", "pronoun", "subject", "object", "negation", "cls", "sep", "punctuation")


def _luminance(color: str) -> float:
    """Relative luminance of WCAG 2."""
    parts = [v / 255 for v in bytes.fromhex(color[1:])]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _grid(values: list[float], signed: bool = False, names: list[str] | None = None) -> Grid:
    cells = {
        (0, i): Cell(v, None, None, 3, names[i] if names else None) for i, v in enumerate(values)
    }
    return Grid("title", "", cells, [0], list(range(len(values))), signed=signed)


def _fills(grid: Grid) -> list[str]:
    """Colors of the cells of a grid in its picture, of the light theme before the dark one."""
    return [part.split('"')[0] for part in str(grid_chart.heads(grid)).split('rx="3" fill="')[1:]]


@pytest.mark.parametrize("names", [TYPES, (*CLASSES, "none"), FEATURES])
def test_classes_that_occur_together_have_different_colors(names: tuple[str, ...]) -> None:
    """No two types, patterns or features share a color."""
    found = colors.of_names(names)
    assert len(set(found.values())) == len(names)


@pytest.mark.parametrize("name", [*TYPES, *CLASSES, *(k for k in KINDS if k != "pad"), *FEATURES])
def test_a_class_has_its_color_in_any_company(name: str) -> None:
    """Alone, beside one class and beside all of them."""
    for others in ((), ("sep",), TYPES, ("something", *CLASSES)):
        assert colors.of_names([*others, name])[name] == colors.CLASSES[name]


def test_unknown_names_take_colors_that_no_class_beside_them_has() -> None:
    """A series beside classes is never mistaken for one of them."""
    found = colors.of_names(["mine", "cls", "yours", "sep"])
    assert len(set(found.values())) == 4


@pytest.mark.parametrize("color", [*colors.SERIES, *colors.CLASSES.values(), colors.EQUAL])
def test_every_color_shows_on_a_dark_page(color: str) -> None:
    """At least 3 to 1 against the dark paper (WCAG 2.1, 1.4.11)."""
    assert (_luminance(color) + 0.05) / (_luminance("#15171b") + 0.05) >= 3


def test_grid_and_figures_give_a_class_the_same_color() -> None:
    """The explorer's grid, a figure of kinds, lines and bars agree on every class."""
    names = ["cls", "broad", "sep"]
    wanted = [colors.CLASSES[name].lower() for name in names]
    assert _fills(_grid([1, 1, 1], names=names)) == wanted
    letters = {name: name[0] for name in names}
    panel = panels.Panel(np.array([[0.0, 1.0, 2.0]]), "t")
    figure = panels.kinds([[panel]], names, letters)
    image = figure.axes[0].images[0]
    assert [to_hex(image.cmap(image.norm(i))) for i in range(3)] == wanted
    one = plots.Series([0], [1.0], [None], [None])
    drawn = plots.bars(["group"], dict.fromkeys(names, one), "share").axes[0].patches
    assert [to_hex(bar.get_facecolor()) for bar in drawn] == wanted
    series = plots.Series([0, 1], [1.0, 2.0], [None] * 2, [None] * 2)
    lines = plots.lines({"p": dict.fromkeys(names, series)}, "share").axes[0].lines
    assert [to_hex(line.get_color()) for line in lines] == wanted


def test_differences_have_one_direction_everywhere() -> None:
    """Less is blue, more is orange, in the explorer and in figures, by the same colors."""
    less, more = colors.diverging(np.array([-1.0, 1.0]), 1.0)
    assert less[2] > less[0]
    assert more[0] > more[2]
    for value, wanted in ((0.0, less), (1.0, more)):
        assert to_hex(CHANGES(value)) == "#{:02x}{:02x}{:02x}".format(*wanted)
    figure = panels.changes([[panels.Panel(np.array([[-1.0, 1.0]]), "t")]], "change")
    assert figure.axes[0].images[0].cmap.name == CHANGES.name


def test_a_difference_grid_is_drawn_for_both_themes() -> None:
    """No difference is light on a light page and dark on a dark one; letters have 4.5 to 1."""
    drawn = str(grid_chart.heads(_grid([-0.5, 0.0, 0.5], signed=True)))
    rects = re.findall(r"<rect[^>]*fill=[^>]*>", drawn)
    letters = re.findall(r'<text class="mid in [^>]*>', drawn)
    for parts in (rects, letters):
        assert ["in-light" in part for part in parts] == [True, False] * 3
        assert ["in-dark" in part for part in parts] == [False, True] * 3
    fills, inks = (
        [p.split('fill="')[1].split('"')[0] for p in parts] for parts in (rects, letters)
    )
    assert _luminance(fills[2]) > 0.8
    assert _luminance(fills[3]) < 0.05
    for fill, ink in zip(fills, inks, strict=True):
        light, dark = sorted((_luminance(fill), _luminance(ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_equal_values_are_gray() -> None:
    """Values that read the same make no rainbow, in a grid, its scale and a figure."""
    values = [3.8201, 3.8203, 3.8248]
    assert set(_fills(_grid(values))) == {colors.EQUAL.lower()}
    assert colors.EQUAL.lower() in str(grid_chart.scale(_grid(values)))
    assert len(set(_fills(_grid([3.82, 3.84])))) == 2
    import polars as pl

    frame = pl.DataFrame({"layer": [0, 0, 0], "head": [0, 1, 2], "mean": values})
    image = heads(frame, "t", "nats").axes[0].images[0]
    assert {to_hex(image.cmap(image.norm(v))) for v in values} == {colors.EQUAL.lower()}


@pytest.mark.parametrize("values", [[], [np.nan], [0.0, 0.0], [1.0, np.inf, 1.0005]])
def test_what_cannot_be_told_apart_is_equal(values: list[float]) -> None:
    """No number, only one number, and numbers beside infinite ones."""
    assert colors.all_equal(values)


def test_drift_is_the_darker_the_more_a_head_moved() -> None:
    """Of cosines the smallest is the darkest, in the grid as in the figure."""
    shades = [_luminance(fill) for fill in _fills(_grid([0.2, 0.6, 1.0]))]
    assert shades == sorted(shades)
    figure = panels.pictures(
        [[panels.Panel(np.array([[0.2, 0.6, 1.0]]), "t")]], "cosine", low=None, high=1.0
    )
    image = figure.axes[0].images[0]
    drawn = [_luminance(to_hex(image.cmap(image.norm(v)))) for v in (0.2, 0.6, 1.0)]
    assert drawn == sorted(drawn)
