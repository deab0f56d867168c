"""The pattern class of every map of a run: table `patterns`, one fragment per block.

    summary = classify(root, "minilm/rte")

What is stored is not classified again; another network's classes take the place of all that are
there, so the patterns of a run are always of one network. Training is left to `training`,
labels to `labels`; `flows.classify` does the same with one Prefect task per block.
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from attnstore.capture.runs import Run
from attnstore.errors import BusyError, UnknownNameError, UsageError
from attnstore.experiments.patterns import stored_classes
from attnstore.experiments.patterns.network import Network, load
from attnstore.naming import CLASSES, near
from attnstore.storage import arrays, fragments, index, layout, location, locks
from attnstore.storage.arrays import Floats

COLUMNS = tuple(name.replace("+", "_") for name in CLASSES)
"""The columns of `patterns` that hold the probability of each class."""
_BATCH_CELLS = 1 << 20
"""Weights that are made into pictures at once (4 MiB)."""


@dataclass(frozen=True)
class Summary:
    """What a classification did and what the run holds now.

    maps: classified maps of the run; stored: of these, by this classification; shares: of each
    class among all of them; network: its fingerprint; seconds: wall time of this classification.
    """

    run: str
    maps: int
    stored: int
    shares: dict[str, float]
    network: str
    seconds: float


class Classification:
    """One run being classified; made by `planned`, which holds the run's lock."""

    def __init__(self, run: Run, network: Network) -> None:
        self.run, self.network = run, network
        self.n_heads: int = len(run.record["layers"]) * len(run.record["heads"])
        self._started = datetime.now(UTC).replace(tzinfo=None)
        self._began = time.perf_counter()
        self._stored: dict[str, int] = {}  # maps by part

    def remove_others(self) -> None:
        """Drop what another network said, as one run's patterns are of one network, and damaged
        records of earlier classifications."""
        fragments.remove_damaged(self.run.root, "classifications", self.run.run)
        for fragment in stored_classes.stored(self.run):
            if stored_classes.network_of(fragment) != self.network.fingerprint:
                fragments.discard(self.run.root, fragment)

    @cached_property
    def missing(self) -> list[int]:
        """Committed blocks without whole patterns of this network."""
        held = stored_classes.blocks(self.run, self.network.fingerprint)
        committed = fragments.listing(self.run.root, "blocks", self.run.run)
        return sorted({int(f.part) for f in committed} - held)

    @property
    def maps_left(self) -> int:
        """Maps in the missing blocks."""
        blocks = [self.run.blocks[b] for b in self.missing]
        return self.n_heads * int(sum(rows.stop - rows.start for rows in blocks))

    @cached_property
    def _arrays(self) -> arrays.RunArrays:
        return arrays.open_run(self.run.root, self.run.run, self.run.shape)

    def store(self, block: int) -> int:
        """Classify and commit one block; returns how many maps. Raises DamageError, StoreError."""
        rows = self.run.plan[self.run.blocks[block]]
        found = self._table(rows, self._probabilities(rows))
        part = stored_classes.part(block, self.network.fingerprint)
        fragments.write(self.run.root, "patterns", self.run.run, part, found)
        self._stored[part] = len(found)
        return len(found)

    def _probabilities(self, rows: pl.DataFrame) -> Floats:
        """(layers x heads, inputs, classes) float32 of the inputs of one block."""
        length = rows["length"].cast(pl.Int64).to_numpy()
        cells = np.full(self.n_heads, (length**2).sum())
        first = np.full(self.n_heads, rows["cell"][0])
        maps = self._arrays.gather("maps", np.arange(self.n_heads), first, cells)
        maps = maps.reshape(self.n_heads, -1)
        pieces = layout.stretches(length)
        flat = self.network.classify(_batches(maps, length, pieces)).numpy()
        found = np.empty((self.n_heads, len(rows), len(CLASSES)), np.float32)
        at = 0
        for piece in pieces:
            n = self.n_heads * (piece.stop - piece.start)
            found[:, piece] = flat[at : at + n].reshape(self.n_heads, -1, len(CLASSES))
            at += n
        return found

    def _table(self, rows: pl.DataFrame, found: Floats) -> pl.DataFrame:
        """One row per map, ordered as the maps lie: layer, head, input."""
        layers, heads = (np.array(self.run.record[f"{a}s"], np.int16) for a in ("layer", "head"))
        flat = found.reshape(-1, len(CLASSES))
        best = flat.argmax(1)
        keys = {
            "run_key": pl.repeat(self.run.key, len(flat), dtype=pl.UInt64, eager=True),
            "example": np.tile(rows["example"].to_numpy(), self.n_heads),
            "layer": np.repeat(layers, len(heads) * len(rows)),
            "head": np.tile(np.repeat(heads, len(rows)), len(layers)),
            "class": pl.Series(CLASSES).gather(best),
            "probability": flat[np.arange(len(flat)), best],
        }
        return pl.DataFrame(keys | {name: flat[:, i] for i, name in enumerate(COLUMNS)})

    def finish(self) -> Summary:
        """Record how it went, and count what the run holds; the index catches up unless a reader
        holds it."""
        root, seconds = self.run.root, time.perf_counter() - self._began
        stored = sum(self._stored.values())
        if stored:
            part = f"{self._started:%Y%m%dT%H%M%S%f}"
            fragments.write(root, "classifications", self.run.run, part, self._row(stored, seconds))
        with contextlib.suppress(BusyError):  # it catches up when a store is next opened
            index.catch_up(root)
        found = [fragments.read(root, f)["class"] for f in stored_classes.stored(self.run)]
        classes = pl.concat(found) if found else pl.Series([], dtype=pl.String)
        shares = {c: int((classes == c).sum()) / max(len(classes), 1) for c in CLASSES}
        name = self.network.fingerprint
        return Summary(self.run.run, len(classes), stored, shares, name, seconds)

    def _row(self, stored: int, seconds: float) -> pl.DataFrame:
        mine = [f for f in stored_classes.stored(self.run) if f.part in self._stored]
        row = {
            "run_key": self.run.key, "started": self._started, "host": platform.node(),
            "network": self.network.fingerprint, "maps": stored, "bytes": sum(f.bytes for f in mine),
            "seconds": seconds,
        }  # fmt: skip
        return pl.DataFrame([row], schema_overrides={"run_key": pl.UInt64})


def _batches(
    maps: Floats, length: npt.NDArray[np.int64], pieces: list[slice]
) -> Iterator[torch.Tensor]:
    """Maps of one length at a time, all heads of a stretch of inputs: (maps, L, L).

    maps: (heads, cells) of inputs of these lengths, end to end.
    """
    at = 0
    for piece in pieces:
        n, size = piece.stop - piece.start, int(length[piece.start])
        weights = torch.from_numpy(maps[:, at : at + n * size**2]).reshape(-1, size, size)
        yield from torch.split(weights, max(1, _BATCH_CELLS // size**2))
        at += n * size**2


@contextlib.contextmanager
def planned(
    path: str | Path, run: str, network: str | Path | None = None
) -> Iterator[Classification]:
    """Find a run and a network, and hold the run against ingestion, dropping and a second one.

    Raises UnknownNameError (no such run), UsageError (it holds no maps yet, or the file is no
    network), BusyError.
    """
    root = location.find(path)
    _find(root, run)
    loaded = load(network)
    with locks.hold(location.run_lock(root, run), what=f"Run {run}"):
        # Looked at again: it may have been dropped meanwhile, and another run have its name.
        yield Classification(_find(root, run), loaded)


def _find(root: Path, run: str) -> Run:
    records = {f.owner: f for f in fragments.listing(root, "runs")}
    if run not in records:
        raise UnknownNameError(
            f"The store holds no run {run!r}{near(run, records) or '; `attnstore runs` lists them'}"
        )
    if not fragments.listing(root, "blocks", run):
        raise UsageError(f"Run {run} holds no maps yet; ingest it, then classify it.")
    return Run(root, run, fragments.read(root, records[run]).row(0, named=True))


Progress = Callable[[int, int], None]
"""Called with the number of maps that are done, and of those to do."""
RunBlocks = Callable[[Classification, Progress], None]
"""Stores the missing blocks of a classification, telling progress after each."""


def store_blocks(classification: Classification, progress: Progress) -> None:
    """In this process, one block after the other."""
    done, total = 0, classification.maps_left
    for block in classification.missing:
        done += classification.store(block)
        progress(done, total)


def classify(
    path: str | Path,
    run: str,
    progress: Progress | None = None,
    *,
    network: str | Path | None = None,
    run_blocks: RunBlocks = store_blocks,
) -> Summary:
    """Store the class and the probabilities of every map of a run; by default without Prefect.

    network: a file that `training` wrote, otherwise the network that ships with the package.
    Kovaleva et al. 2019, section 4.1. Raises what `planned` and `Classification.store` raise.
    """
    with planned(path, run, network) as classification:
        classification.remove_others()
        run_blocks(classification, progress or (lambda *_: None))
        return classification.finish()
