"""Large arrays of float32 whose memory is used again: fresh pages cost as much as decoding into them.

An array goes back by itself, when nothing refers to it any more: no view of it, no Arrow buffer, no vector of DuckDB.
"""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np
import numpy.typing as npt

SMALLEST = 1 << 20
"""Bytes from which memory is used again; the allocator does so itself below."""
KEPT = 4
"""Pieces of memory that are kept, of at most LARGEST bytes each."""
LARGEST = 32 << 20
_STEP = 1 << 22  # bytes by which pieces differ, so that one of like length serves again

_idle: deque[npt.NDArray[np.uint8]] = deque(maxlen=KEPT)  # its methods are atomic: no lock


def empty(size: int) -> npt.NDArray[np.float32]:
    """Return an array of `size` numbers, whatever they are."""
    need = 4 * size
    if not SMALLEST <= need <= LARGEST:
        return np.empty(size, np.float32)
    piece = _found(need)
    if piece is None:
        piece = np.empty(-(-need // _STEP) * _STEP, np.uint8)
    # A view of the array refers to it, not to the memory behind: its base is no array.
    lent = np.frombuffer(piece.data, np.float32, size)
    weakref.finalize(lent, _idle.append, piece).atexit = False
    return lent


def _found(need: int) -> npt.NDArray[np.uint8] | None:
    """Take idle memory that is long enough and not four times too long; what does not fit is let go."""
    for _ in range(KEPT):
        try:
            piece = _idle.popleft()
        except IndexError:
            return None
        if need <= piece.nbytes <= 4 * need + _STEP:
            return piece
    return None
