"""Maps on their way to the browser: bytes for its canvas, PNGs for lists.

A map travels as float32, the overview of all heads as bytes on a square-root scale, number = top ·
(q/255)², without signs; where an input is long, a thumbnail keeps the largest weight of each of its cells.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from attnstore.display.colors import all_equal, colormap, own_colormap, png

Floats = npt.NDArray[np.float32]

SIDE = 96
"""Most cells along a side of a thumbnail."""


def thumbnails(maps: Floats, side: int = SIDE, top: float = 1.0) -> npt.NDArray[np.uint8]:
    """Return maps (…, R, C) as bytes (…, min(R, side), min(C, side)): q = 255 √(size / top)."""
    maps = np.asarray(np.abs(np.nan_to_num(maps)) / top, np.float32)
    for axis in (-1, -2):
        length = maps.shape[axis]
        if length > side:
            at = np.linspace(0, length, side, endpoint=False).astype(np.intp)
            maps = np.maximum.reduceat(maps, at, axis=axis)
    small: npt.NDArray[np.uint8] = (np.sqrt(np.clip(maps, 0, 1)) * 255).round().astype(np.uint8)
    return small


def picture(weights: Floats, top: float = 1.0, side: int = SIDE, equal_gray: bool = False) -> bytes:
    """Return one map (L, L) as a PNG of at most `side` pixels a side: √(size / top).

    equal_gray: gray where all weights are equal, for a scale that is the map's own.
    """
    small = thumbnails(weights, side, top)
    gray = equal_gray and all_equal(weights)
    return png(own_colormap(np.ones_like(small)) if gray else colormap(small, 255))
