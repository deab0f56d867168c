"""Forecast of a run: tokens, bytes, and the room on the disk.

Bytes follow from the plan, which is exact, and from what a weight took in the runs that were
measured (docs/benchmarks.md); very peaked maps take less.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attnstore.formatting import size
from attnstore.storage.array_kinds import MIXING
from attnstore.storage.backend import Backend
from attnstore.storage.precision import PRECISIONS
from attnstore.storage.run_record import RunRecord


@dataclass(frozen=True)
class Forecast:
    """The blocks of a run that are not stored yet.

    examples, tokens, cells: exact, cells per layer and head; bytes: expected on disk; free: bytes of
    the disk that are free, None for a bucket.
    """

    run: str
    examples: int
    tokens: int
    cells: int
    bytes: int
    free: int | None

    @property
    def short(self) -> bool:
        """True if the disk has less room than expected bytes."""
        return self.free is not None and self.bytes > self.free

    @property
    def sentence(self) -> str:
        """The forecast as a sentence."""
        if not self.examples:
            return "every example is stored already"
        text = (
            f"{self.examples:,} examples to store, {self.tokens:,} tokens, about {size(self.bytes)}"
        )
        if self.free is None:
            return text
        short = " (not enough: free some, or store fewer layers, heads or examples)"
        return f"{text}; {size(self.free)} free{short if self.short else ''}"


def of(backend: Backend, run: str, length: npt.NDArray[np.int32], record: RunRecord) -> Forecast:
    """Forecast inputs of some lengths (tokens) in a store.

    record: of the run; of a model without value norms or mixing ratios it is some percent less.
    """
    lengths = length.astype(np.int64)
    cells, tokens = int((lengths**2).sum()), int(lengths.sum())
    weights = record.n_maps * cells * PRECISIONS[record.precision].bits / 8
    rows = 2 * record.n_maps + len(record.layers) * len(MIXING.components)  # received, value_norm
    n_bytes = weights + tokens * rows * np.dtype(np.float32).itemsize
    return Forecast(run, len(lengths), tokens, cells, round(n_bytes), free(backend))


def free(backend: Backend) -> int | None:
    """Return the free bytes of the disk of a store; None for a bucket."""
    if not backend.is_local:
        return None
    folders = (backend.root, *backend.root.parents)
    return shutil.disk_usage(next(folder for folder in folders if folder.is_dir())).free
