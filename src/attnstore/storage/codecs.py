"""The storage precisions: how a weight in [0, 1] is kept, and how it comes back as float32.

`float32` keeps it as it is, `float16` rounds to nearest, `compact` keeps 8 bits on a square-root
scale: weight = (q / 255)², q = round(255 √weight); largest error 0.004, where weights are large.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "compact": np.dtype(np.uint8),
}
"""The array type of each precision."""

_LZ4 = {"cname": "lz4", "clevel": 5, "shuffle": 2}
BLOSC: dict[str, dict[str, Any]] = {
    "float32": _LZ4,
    "float16": _LZ4,
    "compact": {"cname": "zstd", "clevel": 1, "shuffle": 0},
}
"""How the chunks of each precision are compressed (shuffle: 0 none, 2 bits): lz4 over shuffled bits;
for 8-bit weights zstd is 1.1 bits per weight smaller, and fast enough."""

COMPACT_SCALE = "weight = (q / 255) ** 2"

_COMPACT = ((np.arange(256) / 255.0) ** 2).astype(np.float32)


def encode(weights: npt.NDArray[np.float32], precision: str) -> npt.NDArray[Any]:
    """Weights (float32, any shape) as they are stored."""
    if precision == "compact":
        return np.rint(np.sqrt(weights) * np.float32(255)).astype(np.uint8)
    return weights.astype(DTYPES[precision])


def decode_into(stored: npt.NDArray[Any], out: npt.NDArray[np.float32]) -> None:
    """Write stored weights into `out` (float32, same shape), told apart by their type."""
    if stored.dtype == np.uint8:
        np.take(_COMPACT, stored, out=out, mode="clip")
    else:
        out[...] = stored


def decode(stored: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Stored weights as float32, same shape; those that are float32 already are not copied."""
    if stored.dtype == np.float32:
        return stored
    out = np.empty(stored.shape, np.float32)
    decode_into(stored, out)
    return out
