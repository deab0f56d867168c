"""The pattern class of every map of a run: table `patterns`, one fragment per block.

    summary = classify(backend, "minilm/rte")

Stored maps are not classified again; classes of another network replace all existing ones, so the
patterns of a run always come from one network. See `training` for training, `labels` for labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from attnstore import job
from attnstore.capture import catalog
from attnstore.capture.runs import Run
from attnstore.errors import UsageError
from attnstore.experiments.patterns import class_rule, stored_classes
from attnstore.experiments.patterns.class_rule import COLUMNS as COLUMNS
from attnstore.experiments.patterns.network import Network, load
from attnstore.job import Job, Progress, Report, Runner, Share, Unit, in_process, silent
from attnstore.naming import CLASSES, OUTSIDE
from attnstore.storage import arrays, fragments, layout, location
from attnstore.storage.arrays import Floats
from attnstore.storage.backend import Backend
from attnstore.storage.location import Location

_BATCH_CELLS = 1 << 20
"""Weights converted to pictures at once (4 MiB)."""

_FOREIGN = (
    "{run}: most maps are unlike any map that the network learned from, as those of a decoder, of random "
    "weights or of very long inputs are; do not read their classes as those of the paper."
)


@dataclass(frozen=True)
class Summary:
    """The outcome of a classification.

    maps: classified maps of the run; stored: maps classified by this call; shares: share of each
    class among all maps; network: its fingerprint; seconds: wall time of this call; none, doubtful,
    outside: share of the maps without a pattern, of doubtful ones, and of those unlike any map of
    the network's training.
    """

    run: str
    maps: int
    stored: int
    shares: dict[str, float]
    network: str
    seconds: float
    none: float = 0.0
    doubtful: float = 0.0
    outside: float = 0.0

    def lines(self) -> list[str]:
        """Return one line, one about doubt if there is any, and a warning about a run of another kind."""
        shares = self.shares | ({"no pattern": self.none} if self.none else {})
        text = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        lines = [
            f"{self.run}: {self.maps:,} maps ({text}), {self.stored:,} of them classified now "
            f"in {self.seconds:.1f} s by network {self.network}"
        ]
        if self.doubtful or self.outside:
            lines.append(
                f"{self.run}: {self.doubtful:.0%} doubtful, {self.outside:.0%} outside of the "
                "domain of the network's training"
            )
        if self.outside > 0.5:
            lines.append(_FOREIGN.format(run=self.run))
        return lines


class Classification(Job[Report, Summary]):
    """Classification of one run, created by `planned`. Its units are committed blocks."""

    kind, noun, history = "classify", "maps", "classifications"

    def __init__(self, run: Run, network: Network) -> None:
        super().__init__(run.backend, run.run, lock=run.run, subject=f"Run {run.run}")
        self.run, self.network = run, network
        self.n_heads: int = run.record.n_maps

    def look(self) -> None:
        """Find missing blocks, and drop classes of another network."""
        # The run may have been dropped since planning, and another run may have its name.
        self.run = _find(self.backend, self.title)
        listed, own = stored_classes.stored(self.run), self.network.fingerprint
        fragments.discard(self.backend, *(f for f in listed if stored_classes.network_of(f) != own))
        super().look()

    def lacking(self) -> list[Unit]:
        """Return the committed blocks without complete patterns of this network."""
        classified = stored_classes.blocks(self.run, self.network.fingerprint)
        committed = fragments.listing(self.backend, "blocks", self.title)
        missing = sorted({int(f.part) for f in committed} - classified)
        maps = {b: self.n_heads * (s.stop - s.start) for b, s in enumerate(self.run.blocks)}
        return [Unit(f"block {block}", block, maps[block], maps[block]) for block in missing]

    @cached_property
    def _arrays(self) -> arrays.RunArrays:
        return arrays.open_run(self.backend, self.title, self.run.shape)

    def store(self, unit: Unit) -> Report:
        """Classify and commit one block. Raises DamageError, StoreError."""
        rows = self.run.plan[self.run.blocks[unit.number]]
        classes = self._table(rows, *self._judged(rows))
        part = stored_classes.part(unit.number, self.network.fingerprint)
        fragments.write(self.backend, "patterns", self.title, part, classes)
        return Report(unit, 0)

    def stored(self, unit: Unit) -> Report | None:
        """Return the report of a block that has complete patterns of this network."""
        blocks = stored_classes.blocks(self.run, self.network.fingerprint)
        return Report(unit, 0) if unit.number in blocks else None

    def share(self) -> Share:
        """Return the arguments that another process needs to classify blocks of this run."""
        name, network = self.backend.name, self.network.fingerprint
        arguments = (name, self.title, self.network)
        return Share(f"{self.run.record.identity}.{network}", elsewhere, arguments)

    def _judged(self, rows: pl.DataFrame) -> tuple[Floats, Floats]:
        """Judge the inputs of one block.

        Returns:
            Probabilities (layers x heads, inputs, classes) after `class_rule`, and typicality
            (layers x heads, inputs), 0 for a causal map; float32.
        """
        length = rows["length"].cast(pl.Int64).to_numpy()
        cells = np.full(self.n_heads, (length**2).sum())
        first = np.full(self.n_heads, rows["cell"][0])
        maps = self._arrays.gather("maps", np.arange(self.n_heads), first, cells)
        maps = maps.reshape(self.n_heads, -1)
        pieces = layout.stretches(length)
        probabilities, typicality = self.network.look(_batches(maps, length, pieces))
        two = class_rule.have_blocks(rows)
        blocks = torch.from_numpy(np.concatenate([np.tile(two[p], self.n_heads) for p in pieces]))
        classes, later_unseen, at = [], [], 0
        for weights in _batches(maps, length, pieces):
            classes.append(class_rule.possible(weights, blocks[at : at + len(weights)]))
            later_unseen.append(class_rule.causal(weights))
            at += len(weights)
        shares = class_rule.shared_out(probabilities, torch.cat(classes))
        typicality = typicality.masked_fill(torch.cat(later_unseen), 0)
        return self._by_head(shares, pieces), self._by_head(typicality, pieces)

    def _by_head(self, flat: torch.Tensor, pieces: list[slice]) -> Floats:
        """Order values of maps, (maps, …) stretch by stretch, as (layers x heads, inputs, …)."""
        sizes = [self.n_heads * (piece.stop - piece.start) for piece in pieces]
        parts = [p.reshape(self.n_heads, -1, *p.shape[1:]) for p in torch.split(flat, sizes)]
        return torch.cat(parts, 1).numpy()

    def _table(self, rows: pl.DataFrame, probabilities: Floats, typicality: Floats) -> pl.DataFrame:
        """Return one row per map, in the order of the maps: layer, head, input."""
        layers, heads = (
            np.array(x, np.int16) for x in (self.run.record.layers, self.run.record.heads)
        )
        n = typicality.size
        keys = {
            "run_key": pl.repeat(self.run.key, n, dtype=pl.UInt64, eager=True),
            "example": np.tile(rows["example"].to_numpy(), self.n_heads),
            "layer": np.repeat(layers, len(heads) * len(rows)),
            "head": np.tile(np.repeat(heads, len(rows)), len(layers)),
            "typicality": pl.Series(typicality.reshape(-1)).fill_nan(None),
        }
        return pl.DataFrame(keys | class_rule.columns(probabilities.reshape(-1, len(CLASSES))))

    def row(self) -> dict[str, Any]:
        """Return the row of table `classifications`."""
        blocks = {report.unit.number for report in self.reports}
        new = [f for f in stored_classes.stored(self.run) if stored_classes.block(f) in blocks]
        return {
            "run_key": self.run.key, "network": self.network.fingerprint, "maps": self.n_stored,
            "bytes": sum(f.bytes for f in new),
        }  # fmt: skip

    def summary(self, seconds: float) -> Summary:
        """Count the stored classes of the run."""
        columns = {"class": pl.String, "doubtful": pl.Boolean, "typicality": pl.Float32}
        frames = [
            fragments.read(self.backend, f).select(*columns)
            for f in stored_classes.stored(self.run)
        ]
        maps = pl.concat(frames) if frames else pl.DataFrame(schema=columns)
        n = max(len(maps), 1)
        shares = {c: int((maps["class"] == c).sum()) / n for c in CLASSES}
        return Summary(
            self.title, len(maps), self.n_stored, shares, self.network.fingerprint, seconds,
            none=maps["class"].null_count() / n, doubtful=int(maps["doubtful"].sum()) / n,
            outside=int((maps["typicality"] < OUTSIDE).sum()) / n,
        )  # fmt: skip


def _batches(
    maps: Floats, length: npt.NDArray[np.int64], pieces: list[slice]
) -> Iterator[torch.Tensor]:
    """Yield maps of one length, (maps, L, L), of all heads of a stretch of inputs.

    maps: (heads, cells), the inputs concatenated; length: (inputs,), in tokens.
    """
    at = 0
    for piece in pieces:
        n, size = piece.stop - piece.start, int(length[piece.start])
        weights = torch.from_numpy(maps[:, at : at + n * size**2]).reshape(-1, size, size)
        yield from torch.split(weights, max(1, _BATCH_CELLS // size**2))
        at += n * size**2


def planned(path: Location, run: str, network: str | Path | None = None) -> Classification:
    """Find a run and a network.

    Raises UnknownNameError (no such run), UsageError (it holds no maps yet, or the file is no
    network).
    """
    return Classification(_find(location.find(path), run), load(network))


def elsewhere(place: str, run: str, network: Network) -> Classification:
    """Create a classification in another process, for a run that is already locked."""
    return Classification(_find(location.locate(place), run), network)


def _find(backend: Backend, run: str) -> Run:
    stored_run = catalog.named(backend, run)
    if not fragments.listing(backend, "blocks", run):
        raise UsageError(f"Run {run} holds no maps yet; ingest it, then classify it.")
    return stored_run


def classify(
    path: Location,
    run: str,
    *,
    network: str | Path | None = None,
    runner: Runner = in_process,
    progress: Progress = silent,
) -> Summary:
    """Store the class and the probabilities of every map of a run.

    network: a file that `training` wrote, otherwise the network that ships with the package.
    Kovaleva et al. 2019, section 4.1. Raises what `planned` and `Classification.store` raise, and
    BusyError if another process ingests, drops or classifies the run.
    """
    return job.run(planned(path, run, network), runner, progress)
