"""The word maps of a run's inputs in a temporary file: extracted once, read a group at a time."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from attnstore.errors import StoreError
from attnstore.experiments.probing.probe_request import Request, Subject
from attnstore.experiments.probing.treebank import Group, Treebank
from attnstore.formatting import size
from attnstore.query import word_kernels
from attnstore.store import Store

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class WordMaps:
    """Word maps of all inputs, (maps, cells) float32 on disk, so that memory holds one group's.

    The file has no name, so a process that is killed leaves none behind.
    """

    def __init__(self, n_maps: int, n_cells: int) -> None:
        """Reserve the file.

        Raises:
            StoreError: The folder of temporary files has no room for it.
        """
        self._file = tempfile.TemporaryFile(prefix="attnstore-probe-")  # noqa: SIM115
        needed = 4 * n_maps * n_cells
        try:
            if hasattr(
                os, "posix_fallocate"
            ):  # a sparse file that finds the disk full ends the process
                os.posix_fallocate(self._file.fileno(), 0, needed)
            else:
                self._file.truncate(needed)
        except OSError as error:
            self._file.close()
            raise StoreError(
                f"{Path(tempfile.gettempdir())} has no room for {size(needed)} of word maps "
                f"({error.strerror}); set TMPDIR to a folder that has."
            ) from error
        self._values = np.memmap(self._file, np.float32, "r+", shape=(n_maps, n_cells))

    def put(self, first: int, maps: Floats) -> None:
        """Keep the maps of an input, (maps, n²), from a cell on."""
        self._values[:, first : first + maps.shape[1]] = maps

    def of(self, group: Group) -> Doubles:
        """Read the maps of a group, (maps, inputs, n, n): from a word to a word."""
        shape = (-1, group.n_inputs, group.n_words, group.n_words)
        return self._values[:, group.cells].astype(np.float64).reshape(shape)

    def close(self) -> None:
        """Give the file back."""
        del self._values
        with contextlib.suppress(OSError):
            self._file.close()


def extract(
    store: Store, subject: Subject, treebank: Treebank, progress: Callable[[float], None]
) -> WordMaps:
    """Read the maps of a run and sum them over words (Clark et al. 2019, section 4.1).

    Args:
        store: The store.
        subject: The run and the rules.
        treebank: Its inputs.
        progress: Called with the part that is read, 0 to 1.
    """
    places = {
        int(example): group.first + k * group.n_words**2
        for group in treebank.groups
        for k, example in enumerate(group.examples)
    }
    n_maps, asked = len(subject.layers), subject.asked
    kept = WordMaps(n_maps, treebank.n_cells)
    stream = store.maps(asked.run, examples=places, kind=asked.kind)
    for done, (example, _, weights) in enumerate(stream, 1):
        tokens = weights.reshape(n_maps, -1)
        kept.put(places[example], _summed(tokens, treebank.words[example], asked))
        progress(done / len(places))
    return kept


def _summed(tokens: Floats, words: list[int], asked: Request) -> Floats:
    """Sum the maps of an input (maps, L²) over words: (maps, n²). A row that moves nothing is 0."""
    n_maps, length = len(tokens), np.full(len(tokens), len(words))
    numbers = np.tile(np.array(words, np.int64), n_maps)
    senders = word_kernels.first_pieces(length, numbers) if asked.pieces == "first" else numbers
    summed = word_kernels.maps(tokens.reshape(-1), length, numbers, senders)
    maps = np.nan_to_num(summed, nan=0.0).astype(np.float64).reshape(n_maps, -1)
    if asked.specials == "renormalise":
        rows = maps.reshape(n_maps, max(words) + 1, -1)
        sums = rows.sum(axis=2, keepdims=True)
        maps = (rows / np.where(sums > 0, sums, 1)).reshape(n_maps, -1)
    return maps.astype(np.float32)
