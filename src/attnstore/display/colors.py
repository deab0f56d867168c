"""What colors mean, in the explorer, the figures, the report and the notebook: one place for all.

Sizes are viridis, which keeps its order for color-blind readers and in gray. Differences go from
blue (less) over near white to orange (more). A class has its color wherever it stands. Also PNG bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt

SCALE = "viridis"
"""Matplotlib's name of the scale."""

_ANCHORS = np.array(
    [
        (68, 1, 84), (72, 24, 106), (71, 45, 123), (66, 64, 134), (59, 82, 139), (51, 99, 141),
        (44, 114, 142), (38, 130, 142), (33, 145, 140), (31, 160, 136), (40, 174, 128),
        (63, 188, 115), (94, 201, 98), (132, 212, 75), (173, 220, 48), (216, 226, 25),
        (253, 231, 37),
    ]
)  # fmt: skip


SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#7A7A7A")
"""Colors of series that color-blind readers can distinguish (Okabe and Ito 2008), with gray for their
black, which a dark page hides."""
EQUAL = "#B4B4AE"
"""Color of values that are all equal: no value is high or low then."""
SPREAD = 3e-3
"""Range of values, as a share of the largest size, up to which they are equal: they read the same."""

_BLUE, _ORANGE, _GREEN, _PINK, _SKY, _RED, _YELLOW, _GRAY = SERIES
_PLUM, _PALE = "#9B4F7A", "#C9C9C2"
CLASSES = {
    # types of heads; kinds of tokens have the color of the type of head that attends to them
    "previous": _BLUE, "next": _ORANGE, "self": _GREEN, "cls": _PINK, "sep": _SKY,
    "punctuation": _RED, "broad": _YELLOW, "mixed": _GRAY, "first": _PLUM, "none": _PALE,
    # other kinds of tokens, and their names in figures
    "[CLS]": _PINK, "[SEP]": _SKY, "first token": _PLUM, "word": _BLUE, "other": _BLUE, "special": _GREEN,
    # patterns of maps
    "vertical": _BLUE, "diagonal": _ORANGE, "vertical+diagonal": _GREEN, "block": _PINK,
    "heterogeneous": _SKY,
    # linguistic features
    "noun": _BLUE, "verb": _ORANGE, "pronoun": _GREEN, "subject": _YELLOW, "object": _PLUM,
    "negation": _GRAY,
}  # fmt: skip
"""The color of each class; two classes that occur together never share one."""

_DIVERGING = np.array(
    [
        (0, 68, 136), (40, 101, 162), (84, 138, 188), (136, 175, 211), (190, 211, 231),
        (241, 240, 236), (248, 211, 176), (240, 174, 117), (222, 134, 64), (190, 96, 26),
        (140, 62, 8),
    ]
)  # fmt: skip
_DIVERGING_DARK = np.array(
    [
        (158, 205, 245), (103, 160, 215), (64, 112, 165), (43, 70, 103), (33, 41, 52), (29, 32, 37),
        (52, 41, 33), (103, 66, 37), (163, 98, 44), (216, 144, 82), (247, 198, 145),
    ]
)  # fmt: skip


def scales() -> dict[str, list[list[int]]]:
    """Return the colors of each scale, at equal distances, and of series, for a browser to draw with."""
    return {
        "weight": _ANCHORS.tolist(),
        "difference": _DIVERGING.tolist(),
        "difference_dark": _DIVERGING_DARK.tolist(),
        "equal": [list(bytes.fromhex(EQUAL[1:]))],
        "series": [list(bytes.fromhex(color[1:])) for color in SERIES],
    }


def of_names(names: Iterable[str]) -> dict[str, str]:
    """Return the color of each name: its own if it is a class, else the next one that is free.

    With more names than colors, colors repeat.
    """
    listed = list(dict.fromkeys(names))
    taken = {CLASSES[name] for name in listed if name in CLASSES}
    free = cycle([color for color in SERIES if color not in taken] or SERIES)
    return {name: CLASSES[name] if name in CLASSES else next(free) for name in listed}


def all_equal(values: npt.ArrayLike) -> bool:
    """Return True if values differ by at most `SPREAD`, so that a scale would show noise.

    Values that are not finite do not count.
    """
    numbers = np.asarray(values, float)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return True
    return bool(np.ptp(numbers) <= SPREAD * np.abs(numbers).max())


def diverging(values: npt.NDArray[Any], top: float, dark: bool = False) -> npt.NDArray[np.uint8]:
    """Return the RGB of signed values, (…, 3): blue for -top, the paper's color for 0, orange for top.

    dark: for a dark page, on which 0 is dark.
    """
    anchors = _DIVERGING_DARK if dark else _DIVERGING
    return _through(anchors, (np.asarray(values, float) / (top or 1.0) + 1) / 2)


def own_colormap(weights: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the RGB of each weight, (…, 3), on a scale of their own, up to the largest; gray if all are equal."""
    if all_equal(weights):
        return np.full((*weights.shape, 3), list(bytes.fromhex(EQUAL[1:])), np.uint8)
    return colormap(weights, float(weights.max()))


def colormap(weights: npt.NDArray[Any], top: float) -> npt.NDArray[np.uint8]:
    """Return the RGB of each weight, (…, 3): the scale's dark end for 0, its light end for `top` and above."""
    return _through(_ANCHORS, np.asarray(weights, float) / (top or 1.0))


def _through(
    anchors: npt.NDArray[np.int64], share: npt.NDArray[np.float64]
) -> npt.NDArray[np.uint8]:
    position = np.clip(share, 0, 1) * (len(anchors) - 1)
    at = np.arange(len(anchors))
    bands = [np.interp(position, at, anchors[:, band]) for band in range(3)]
    return np.stack(bands, axis=-1).round().astype(np.uint8)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode RGB or RGBA pixels (height, width, 3 or 4) as a PNG file."""
    height, width, channels = pixels.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(
                b"IHDR",
                struct.pack(">IIBBBBB", width, height, 8, 6 if channels == 4 else 2, 0, 0, 0),
            ),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
