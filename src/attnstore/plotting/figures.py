"""Figures for papers and pages: one map with its tokens, a measure over all heads; saving.

The home of matplotlib, with `panels` for figures of several panels. Figures are made without
pyplot, so none lives on after its caller.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from attnstore.display.colors import EQUAL, SCALE, all_equal, scales
from attnstore.errors import UsageError

FORMATS = ("png", "svg", "pdf")
DPI = 200
LAYER, HEAD = "layer (from 0)", "head (from 0)"
"""Titles of the axes: numbered as in SQL."""
CHANGES = LinearSegmentedColormap.from_list(
    "attnstore-changes", np.array(scales()["difference"]) / 255
)
"""The scale of changes: blue below, near white at 0, orange above."""
SPACES = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥"})
"""Marks of white space, for tokens that are nothing else."""
_LARGEST = 8.6  # inches of the longer side of a picture, labels aside
_INCH = 72.0  # points
_LONGEST = 18  # characters of a token's label
_FONTS = (
    "DejaVu Sans", "Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei",
    "Hiragino Sans", "PingFang SC", "Microsoft YaHei", "Arial Unicode MS", "Unifont",
)  # fmt: skip
"""Tried in turn for each letter of a token, as far as they are installed."""


def attention_map(
    weights: npt.NDArray[np.float32],
    tokens: Sequence[str],
    title: str = "",
    label: str = "attention weight",
    signed: bool = False,
) -> Figure:
    """A map as a picture, of numbers of either sign with 0 in the middle of the colors.

    weights: (L, L), rows attend to columns; tokens: (L,); label: what the numbers are.
    """
    n = len(tokens)
    pitch = min(0.17, _LARGEST / n)  # inches of a cell; up to 60 tokens every label has room
    side = max(n * pitch, 1.6)
    axes = _axes(side, side)
    reach = float(np.nanmax(np.abs(weights), initial=0)) if signed else None
    image = axes.imshow(
        weights, cmap=CHANGES if signed else sizes(weights), vmin=-reach if reach is not None else 0, vmax=reach,
        interpolation="nearest", aspect="auto",
    )  # fmt: skip
    letter = min(8.0, max(side / n * _INCH * 0.8, 5.5))
    every = int(np.ceil(letter * 1.1 / (side / n * _INCH)))
    labels = [shortened(token) for token in tokens[::every]]
    places = range(0, n, every)
    font: dict[str, Any] = {"fontsize": letter, "fontfamily": fonts(), "parse_math": False}
    axes.set_xticks(places, labels, rotation=90, **font)
    axes.set_yticks(places, labels, **font)
    axes.tick_params(length=2, width=0.5, pad=2)
    axes.set_xlabel("to token", fontsize=9)
    axes.set_ylabel("from token", fontsize=9)
    return _finish(axes, image, title, label)


def heads(frame: pl.DataFrame, title: str, label: str, value: str = "mean") -> Figure:
    """A measure over heads as a picture, layers down and heads across, both from 0.

    frame: columns layer, head and `value`, one row per head; label: what the colors measure and
    in which unit. Heads without a value stay light gray. Raises UsageError for a frame without rows.
    """
    if frame.is_empty():
        raise UsageError("There is no head to draw: the frame has no row.")
    cells = by_head(frame, value)
    n_layers, n_heads = cells.shape
    pitch = min(0.36, _LARGEST / max(n_layers, n_heads))
    axes = _axes(max(n_heads * pitch, 1.6), max(n_layers * pitch, 1.6))
    axes.set_facecolor("0.85")
    masked = np.ma.masked_invalid(cells)
    image = axes.imshow(masked, cmap=sizes(cells), interpolation="nearest", aspect="auto")
    axes.set_xticks(numbers(n_heads, pitch))
    axes.set_yticks(numbers(n_layers, pitch))
    axes.tick_params(length=2, width=0.5, labelsize=8)
    axes.set_xlabel(HEAD, fontsize=9)
    axes.set_ylabel(LAYER, fontsize=9)
    return _finish(axes, image, title, label)


def sizes(values: npt.NDArray[np.floating[Any]]) -> Colormap:
    """The scale of some values: viridis, or one gray where all are equal."""
    if all_equal(values):
        return ListedColormap([EQUAL])
    return matplotlib.colormaps[SCALE]


def by_head(frame: pl.DataFrame, value: str = "mean") -> npt.NDArray[np.float64]:
    """A column of a result with one row per head as an array (layer, head); NaN where none is."""
    at = [frame[axis].to_numpy() for axis in ("layer", "head")]
    cells = np.full([int(numbers.max()) + 1 for numbers in at], np.nan)
    cells[at[0], at[1]] = frame[value].cast(pl.Float64).to_numpy()
    return cells


def kind_of(path: str | Path) -> str:
    """The format that the ending of a figure's file names. Raises UsageError for another."""
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise UsageError(
            f"A figure cannot be written as {Path(path).name!r}; end it in .{', .'.join(FORMATS)}."
        )
    return kind


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as png (200 dpi), svg or pdf, the same bytes for the same figure.

    Raises UsageError for another ending, and where the file cannot be written.
    """
    path = Path(path).expanduser()
    try:
        _write(figure, path, kind_of(path), DPI)
    except OSError as error:
        raise UsageError(
            f"The figure {path} cannot be written ({error.strerror or error}); "
            "choose another place for it."
        ) from error
    return path


def png(figure: Figure, longest: int) -> bytes:
    """A figure as the bytes of a PNG of at most about so many pixels a side, and at most 200 dpi."""
    inches = max(*figure.get_size_inches(), 1.0)
    written = io.BytesIO()
    _write(figure, written, "png", min(DPI, longest / inches))
    return written.getvalue()


def _write(figure: Figure, file: Path | io.BytesIO, kind: str, dpi: float) -> None:
    undated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    with _stable(), warnings.catch_warnings():
        # A letter that no font has is drawn as a box: seen there, and not said once each.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(
            file, format=kind, dpi=dpi, bbox_inches="tight", pad_inches=0.05, metadata=undated
        )


def _stable() -> AbstractContextManager[None]:
    """Element names in SVG that do not change from call to call, and letters that stay text."""
    return matplotlib.rc_context(
        {"svg.hashsalt": "attnstore", "svg.fonttype": "none", "pdf.fonttype": 42}
    )


def _axes(width: float, height: float) -> Axes:
    """Axes of a new figure, of that size in inches, with room for labels around."""
    left, bottom, right, top = 1.6, 1.6, 1.0, 0.4
    figure = Figure(figsize=(left + width + right, bottom + height + top))
    whole = figure.get_size_inches()
    return figure.add_axes(
        (left / whole[0], bottom / whole[1], width / whole[0], height / whole[1])
    )


def _finish(axes: Axes, image: AxesImage, title: str, label: str) -> Figure:
    """Title, thin frame, and a colour bar as high as the picture; returns the figure."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    for side in axes.spines.values():
        side.set_linewidth(0.5)
    axes.set_title(title, fontsize=10, parse_math=False)
    inch = 1 / (axes.get_position().width * figure.get_figwidth())
    place = axes.inset_axes((1 + 0.1 * inch, 0, 0.14 * inch, 1))
    bar = figure.colorbar(image, cax=place)
    bar.set_label(label, fontsize=9, parse_math=False)
    bar.outline.set_linewidth(0.5)
    place.tick_params(length=2, width=0.5, labelsize=8)
    return figure


def numbers(n: int, pitch: float) -> range:
    """The numbers to write along an axis of n cells of `pitch` inches."""
    return range(0, n, 1 if pitch > 0.2 else int(np.ceil(0.25 / pitch)))


def shortened(token: str, longest: int = _LONGEST) -> str:
    """A token as a label: white space alone as its marks, what cannot be printed replaced, at most so many letters."""
    marked = token if token.strip() else token.translate(SPACES)
    text = "".join(c if c.isprintable() else "\ufffd" for c in marked)
    return text if len(text) <= longest else text[: longest - 1] + "…"


@cache
def fonts() -> list[str]:
    """The installed ones of the fonts that are tried in turn for each letter of a token."""
    installed = set(font_manager.get_font_names())
    return [font for font in _FONTS if font in installed]
