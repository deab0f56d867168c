"""The storage precisions: encode a weight in [0, 1] for the store, and decode it to float32.

A new one is an entry of `PRECISIONS`: arrays, their description, capture on any device, the command
line, checks and forecasts take it from here. Formulas work on numpy arrays and on tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Precision:
    """One encoding of stored weights.

    text: description for users; dtype: on disk; bits: expected on disk of a weight (MiniLM on RTE,
    docs/benchmarks.md); rounding: largest error of weights, from the weights (concave, so a row of L
    is off by at most L times that of 1/L); to_code, from_code: between weights and the numbers cast to
    dtype, None where only the type changes; scale: from_code in words, an attribute of the array.
    """

    name: str
    text: str
    dtype: np.dtype[Any]
    bits: float
    rounding: Callable[[Any], Any]
    to_code: Callable[[Any], Any] | None = None
    from_code: Callable[[Any], Any] | None = None
    scale: str | None = None

    @cached_property
    def _table(self) -> npt.NDArray[np.float32]:
        """Tabulate the weights of every code of one byte."""
        assert self.from_code is not None
        return np.asarray(self.from_code(np.arange(256.0)), np.float32)

    def encode(self, weights: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Encode weights (float32, any shape)."""
        codes = weights if self.to_code is None else self.to_code(weights)
        return np.asarray(codes).astype(self.dtype)

    def decode_into(self, stored: npt.NDArray[Any], out: npt.NDArray[np.float32]) -> None:
        """Write stored weights into `out` (float32, same shape)."""
        if self.from_code is None:
            out[...] = stored
        elif self.dtype.itemsize == 1:
            np.take(self._table, stored, out=out, mode="clip")
        else:
            out[...] = self.from_code(stored)

    def decode(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return stored weights as float32, same shape; those that are float32 already are not copied."""
        if self.from_code is None and stored.dtype == np.float32:
            return stored
        out = np.empty(stored.shape, np.float32)
        self.decode_into(stored, out)
        return out

    def row_rounding(self, length: npt.NDArray[np.int64]) -> npt.NDArray[np.floating[Any]]:
        """Bound how far rounding moves the sum of a row of `length` weights from 1."""
        return np.asarray(length * self.rounding(1 / length) + 0.0 * length)


def _square_root_code(weights: Any) -> Any:
    """Compute codes 0 to 255 on a square-root scale, of a tensor in place.

    torch's root may miss the last bit, which moves a weight on the edge between two codes.
    """
    if isinstance(weights, np.ndarray):
        return np.rint(np.sqrt(weights) * np.float32(255))
    return weights.sqrt().mul_(255).round_()


_PRECISIONS = (
    Precision("float32", "as computed", np.dtype(np.float32), 27.4, lambda weights: 0.0),
    Precision(
        "float16", "rounded to nearest, by at most 1/2048 of a weight", np.dtype(np.float16), 12.75,
        lambda weights: 2.0**-11 * weights + 2.0**-25,
    ),
    Precision(
        "compact", "8 bits on a square-root scale, off by at most 0.004 where weights are large",
        np.dtype(np.uint8), 5.2, lambda weights: weights**0.5 / 255 + 1 / 510**2,
        to_code=_square_root_code, from_code=lambda codes: (codes / 255.0) ** 2,
        scale="weight = (q / 255) ** 2",
    ),
)  # fmt: skip
PRECISIONS = {precision.name: precision for precision in _PRECISIONS}
"""Precisions by name, in the order of help texts."""
FLOAT32 = PRECISIONS["float32"]
"""That of `received`, whatever the precision of the maps."""
