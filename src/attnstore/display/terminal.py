"""A map as a picture in the terminal: colored half blocks, or shades where there is no color."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len, set_cell_size
from rich.color import Color
from rich.style import Style
from rich.text import Text

from attnstore.display.colors import colormap
from attnstore.formatting import plain

_LABEL = 16  # columns of a token's label, at most
_TICK = 10  # every so many positions one is named
_SHADES = " ░▒▓█"
_STEPS = (0.05, 0.2, 0.4, 0.7)
"""Shares of the largest weight at which each shade begins."""

Weights = npt.NDArray[np.floating[Any]]


def picture(weights: Weights, tokens: Sequence[str], width: int = 80, colour: bool = True) -> Text:
    """Draw a map in at most `width` columns, each line named by its (first) token.

    Args:
        weights: (L, L), rows attend to columns. An input too long for the width is scaled down: a
            place then shows the largest of its weights. NaN, of a head that moves nothing, is as 0.
        tokens: The L tokens.
        width: Columns of the terminal.
        colour: True for colors, False for shades.
    """
    weights, names = np.nan_to_num(weights), _names(tokens)
    room = max(width - cell_len(names[0]) - 1, 10)
    step = -(-len(tokens) // room)
    small = _largest(weights, step)
    top = float(weights.max(initial=0))
    wide = 2 if 2 * len(small) <= room else 1
    text = Text(no_wrap=True, overflow="crop")
    text.append(_ruler(len(names[0]), len(small), step, wide) + "\n", style="dim")
    if colour and wide == 1:
        _half_blocks(text, colormap(small, top), names[:: 2 * step])
    elif colour:
        _blocks(text, colormap(small, top), names[::step])
    else:
        _shades(text, small / (top or 1.0), names[::step], wide)
    text.append(_key(top, step, colour), style="dim")
    return text


def _names(tokens: Sequence[str]) -> list[str]:
    """Write position and token of each row, all of the same width."""
    tokens = [plain(token) for token in tokens]
    wide = min(max(map(cell_len, tokens)), _LABEL)
    digits = len(str(len(tokens) - 1))
    return [f"{i:>{digits}} {_fitted(token, wide)} " for i, token in enumerate(tokens)]


def _fitted(token: str, wide: int) -> str:
    """Fit a token into exactly that many columns; full-width letters take two."""
    if cell_len(token) > wide:
        token = set_cell_size(token, wide - 1).rstrip() + "…"
    return set_cell_size(token, wide)


def _largest(weights: Weights, step: int) -> Weights:
    """Find the largest weight of each square of step × step weights."""
    starts = np.arange(0, len(weights), step)
    rows: Weights = np.maximum.reduceat(weights, starts, axis=0)
    small: Weights = np.maximum.reduceat(rows, starts, axis=1)
    return small


def _ruler(indent: int, n: int, step: int, wide: int) -> str:
    """Write positions above the columns."""
    line = [" "] * (n * wide + 8)
    every = _TICK if wide == 1 or n > _TICK else 2
    for at in range(0, n, every):
        mark = str(at * step)
        line[at * wide : at * wide + len(mark)] = mark
    return " " * indent + "".join(line).rstrip()


def _blocks(text: Text, rgb: npt.NDArray[np.uint8], names: Sequence[str]) -> None:
    for name, row in zip(names, rgb, strict=True):
        text.append(name)
        for pixel in row:
            text.append("  ", style=Style(bgcolor=Color.from_rgb(*pixel)))
        text.append("\n")


def _half_blocks(text: Text, rgb: npt.NDArray[np.uint8], names: Sequence[str]) -> None:
    """Draw two rows a line: one in the upper half of a place, the other in the lower half."""
    for i, name in enumerate(names):
        text.append(name)
        upper = rgb[2 * i]
        lower = rgb[2 * i + 1] if 2 * i + 1 < len(rgb) else None
        for j, pixel in enumerate(upper):
            ground = None if lower is None else Color.from_rgb(*lower[j])
            text.append("▀", style=Style(color=Color.from_rgb(*pixel), bgcolor=ground))
        text.append("\n")


def _shades(text: Text, share: Weights, names: Sequence[str], wide: int) -> None:
    for name, row in zip(names, np.digitize(share, _STEPS), strict=True):
        text.append(name + "".join(_SHADES[level] * wide for level in row).rstrip() + "\n")


def _key(top: float, step: int, colour: bool) -> str:
    """Write the key of the picture, on two lines."""
    scaled = f"; each place shows the largest of {step} × {step} weights" if step > 1 else ""
    if colour:
        legend = f"weights from 0 (dark) to {top:.2g} (light)"
    else:
        steps = zip(_SHADES[1:], _STEPS, strict=True)
        legend = "weights: " + ", ".join(
            f"{shade} from {share * top:.2g}" for shade, share in steps
        )
    return f"rows attend to columns{scaled}\n{legend}"
