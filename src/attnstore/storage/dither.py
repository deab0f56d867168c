"""Random numbers for rounding without bias, given by their place: layer, head, example and cell of the map.

No generator is carried along, so a map has the same numbers whenever, wherever and in whatever batch and
block it is computed. They are the same in every run, so that equal maps of two checkpoints are stored equal, and
what differs is not lost in noise. Works on numpy arrays and on tensors alike, in 32 bits, whose products
wrap around.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

BITS = 24
"""Random bits of a number: a float32 holds each of them."""
_STEP = -1640531527
"""2³² divided by the golden ratio, as a signed number: spreads numbers that follow each other."""


def keys(layer: int, heads: Sequence[int], examples: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Compute the key of each map: (examples, heads). examples: their numbers."""
    of_layer = _mixed(_spread(np.array([layer + 1])))
    of_heads = _mixed(of_layer ^ _spread(np.asarray(heads)))
    of_maps: npt.NDArray[np.int32] = _mixed(of_heads[None, :] ^ _spread(examples)[:, None])
    return of_maps


def numbers(keys: Any, places: Any) -> Any:
    """Compute a number in 0 … 2^BITS - 1 for each key and place. places: `spread` cells, int32."""
    return _mixed(keys ^ places) & ((1 << BITS) - 1)


def spread(cells: Any) -> Any:
    """Spread cells of a map, int32, over all bits."""
    return cells * _STEP


def _spread(values: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    return spread(values.astype(np.int32))  # type: ignore[no-any-return]


def _mixed(x: Any) -> Any:
    """Mix the bits of a fresh array of int32, in place (C. Wellons, "Prospecting for hash functions", lowbias32)."""
    x ^= (x >> 16) & 0xFFFF
    x *= 0x7FEB352D
    x ^= (x >> 15) & 0x1FFFF
    x *= 0x846CA68B - (1 << 32)
    x ^= (x >> 16) & 0xFFFF
    return x
