"""Decoding alone: what reading the weights of a run costs when nothing is asked of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import attnstore
from attnstore.storage import arrays, location, zarr_metadata
from benchmarks.common import RUN

NOTE = (
    "*Decoding alone* reads the weights of one head after another of the whole run into numpy, with "
    "every core, and does nothing with them; the questions read the same chunks, in the same process, in turn."
)


def one_head(store: str) -> Callable[[int], Any]:
    """Return a function that reads every weight of a head, layer by layer numbered through."""
    backend = location.find(store)
    stored = arrays.open_run(backend, RUN, zarr_metadata.recorded(backend, RUN))
    text = "SELECT max(cell + length * length) FROM map_places WHERE run = $run"
    cells = int(attnstore.open(store).sql(text, run=RUN).item())

    return lambda row: stored.gather("maps", *(np.array([n]) for n in (row, 0, cells)))


def every_head(store: str) -> Callable[[int], Any]:
    """Return a function that reads every weight of the run, head by head; it takes a round's number."""
    backend = location.find(store)
    recorded = zarr_metadata.recorded(backend, RUN)
    n_heads, decode = len(recorded.layers) * len(recorded.heads), one_head(store)

    def decode_all(_: int) -> None:
        for row in range(n_heads):
            decode(row)

    return decode_all
