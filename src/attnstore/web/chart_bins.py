"""The bins of a histogram: of equal width, whatever numbers they hold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from attnstore.errors import UsageError
from attnstore.formatting import number

BINS = 30
_LARGEST, _SMALLEST = 1e300, 1e-300  # numbers that an axis can place, and the shortest axis
_STEPS = 64  # neighboring numbers of 64 bits that a bin holds at least


def edges(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Return the ends of bins of equal width, and sentences about them.

    One bin holds all values where they are too close to one another for more.

    Args:
        values: At least one number, all finite.

    Raises:
        UsageError: The numbers are too large for an axis.
    """
    low, high = float(values.min()), float(values.max())
    largest = max(abs(low), abs(high))
    if largest > _LARGEST:
        raise UsageError(
            f"The values reach from {number(low, 3)} to {number(high, 3)}, which no axis can show; "
            "leave some out, or take their logarithm."
        )
    if high - low > max(BINS * _STEPS * float(np.spacing(largest)), _SMALLEST):
        return np.histogram_bin_edges(values, BINS), []
    room = max(0.5, largest / 100)
    remark = [f"The values differ by {high - low:.1e}, too little for several bins."]
    return np.array([low - room, high + room]), remark if low < high else []
