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

from attnstore.storage import dither


@dataclass(frozen=True)
class Precision:
    """One encoding of stored weights.

    text: description for users; dtype: on disk; bits: expected on disk of a weight (MiniLM on RTE,
    docs/benchmarks.md); rounding: largest error of weights, from the weights (concave, so a row of L
    is off by at most L times that of 1/L); to_code, from_code: between weights and the numbers cast to
    dtype, None where only the type changes; scale: from_code in words, an attribute of the array.
    row_unit: of a precision whose to_code also takes `dither.numbers`, and which is read by dividing what
    from_code gives by its sum over a row: what from_code gives for a weight of 1.
    """

    name: str
    text: str
    dtype: np.dtype[Any]
    bits: float
    rounding: Callable[[Any], Any]
    to_code: Callable[..., Any] | None = None
    from_code: Callable[[Any], Any] | None = None
    scale: str | None = None
    row_unit: float | None = None

    @cached_property
    def _table(self) -> npt.NDArray[np.float32]:
        """Tabulate the weights of every code of one byte."""
        assert self.from_code is not None
        return np.asarray(self.from_code(np.arange(256.0)), np.float32)

    def encode(self, weights: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Encode weights (float32, any shape); those that are rounded at random as one map of key 0."""
        if self.row_unit:
            cells = dither.spread(np.arange(weights.size, dtype=np.int32)).reshape(weights.shape)
            return self.code(weights, dither.numbers(np.int32(0), cells)).astype(self.dtype)  # type: ignore[no-any-return]
        return np.asarray(self.code(weights)).astype(self.dtype)

    def code(self, weights: Any, numbers: Any = None) -> Any:
        """Compute the numbers that are cast to dtype, of an array or a tensor.

        numbers: of `dither`, one a weight, for a precision with `row_unit`.
        """
        if self.to_code is None:
            return weights
        return self.to_code(weights, numbers) if self.row_unit else self.to_code(weights)

    def decode_into(self, stored: npt.NDArray[Any], out: npt.NDArray[np.float32]) -> None:
        """Write stored weights into `out` (float32, same shape); with `row_unit`, before the division."""
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
        """Bound how far rounding moves the sum of a row of `length` weights from 1.

        Errors without bias add up to more than 5 times the root of the sum of the squares of their
        ranges once in 10²¹ rows (Hoeffding 1963, theorem 2); the squares are concave, too.
        """
        if self.row_unit:
            return np.asarray(5 * np.sqrt(length) * self.rounding(1 / length))
        return np.asarray(length * self.rounding(1 / length) + 0.0 * length)


def _square_root_code(weights: Any) -> Any:
    """Compute codes 0 to 255 on a square-root scale, of a tensor in place.

    torch's root may miss the last bit, which moves a weight on the edge between two codes.
    """
    if isinstance(weights, np.ndarray):
        return np.rint(np.sqrt(weights) * np.float32(255))
    return weights.sqrt().mul_(255).round_()


_TINY = 63
"""The largest code of `tiny`."""


def _drawn_code(weights: Any, numbers: Any) -> Any:
    """Compute codes 0 to 63 on a square-root scale, up with the probability that keeps the mean of the weight."""
    squares = weights * (_TINY * _TINY)
    root = np.sqrt(squares) if isinstance(weights, np.ndarray) else squares.sqrt()
    low = np.floor(root) if isinstance(weights, np.ndarray) else root.floor_()
    up = (squares - low * low) / (2 * low + 1) * (1 << dither.BITS)
    return (low + (numbers < up)).clip(max=_TINY)


_PRECISIONS = (
    Precision("float32", "as computed", np.dtype(np.float32), 26.6, lambda weights: 0.0),
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
    Precision(
        "tiny", "6 bits on a square-root scale, rounded at random so that means stay; a large weight may be off by 0.03",
        np.dtype(np.uint8), 3.4, lambda weights: 2 / _TINY * weights**0.5 + 1 / _TINY**2,
        to_code=_drawn_code, from_code=lambda codes: codes * codes,
        scale="weight = q ** 2 / sum of q ** 2 over its row", row_unit=float(_TINY * _TINY),
    ),
)  # fmt: skip
PRECISIONS = {precision.name: precision for precision in _PRECISIONS}
"""Precisions by name, in the order of help texts."""
FLOAT32 = PRECISIONS["float32"]
"""That of `received`, whatever the precision of the maps."""
