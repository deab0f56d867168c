"""Fill a statistic of `map_stats` from the stored weights, without the model.

    attnstore.recompute("storage", "sharpness")     # every run whose maps lack it

A run that was captured before a statistic was declared has NULL there. Each block's fragment of
`map_stats` is replaced by one with the column, which is committed like any other fragment: a kill
leaves the old rows or the new ones. What capture stored is never replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import torch

from attnstore import statistics
from attnstore.capture import catalog, stored_weights
from attnstore.capture.runs import Run
from attnstore.capture.sink import token_marks
from attnstore.capture.statistics import compute
from attnstore.job import Job, Report, Share, Unit
from attnstore.statistics import Statistic
from attnstore.storage import arrays, fragments, location
from attnstore.storage.fragments import Fragment


@dataclass(frozen=True)
class Summary:
    """A statistic of a run. maps: that the run holds; stored: of these, filled now."""

    run: str
    statistic: str
    maps: int
    stored: int
    seconds: float

    def lines(self) -> list[str]:
        """Return one line."""
        return [
            f"{self.run}: {self.statistic} of {self.maps:,} maps, {self.stored:,} of them computed "
            f"now in {self.seconds:.1f} s"
        ]


class Recomputation(Job[Report, Summary]):
    """One statistic of one run; its units are committed blocks whose `map_stats` lack the column."""

    kind, noun = "recompute", "maps"

    def __init__(self, run: Run, statistic: Statistic) -> None:
        """Name it; nothing is looked at yet."""
        super().__init__(run.backend, run.run, lock=run.run, subject=f"Run {run.run}")
        self.run, self.statistic = run, statistic
        self._listed: dict[str, Fragment] = {}

    def lacking(self) -> list[Unit]:
        """Return the blocks that lack the statistic."""
        self._listed = self._fragments()
        missing = sorted(int(part) for part, f in self._listed.items() if not self._has(f))
        return [self._unit(block) for block in missing]

    def _unit(self, block: int) -> Unit:
        rows = self.run.blocks[block]
        maps = self.run.record.n_maps * (rows.stop - rows.start)
        return Unit(f"block {block}", block, maps, maps)

    def _fragments(self) -> dict[str, Fragment]:
        """Return the newest fragment of `map_stats` of each committed block, by part."""
        committed = {f.part for f in fragments.listing(self.backend, "blocks", self.title)}
        found = fragments.listing(self.backend, "map_stats", self.title)
        return {f.part: f for f in sorted(found, key=lambda f: f.modified) if f.part in committed}

    def _has(self, fragment: Fragment) -> bool:
        return self.statistic.name in fragments.read(self.backend, fragment).columns

    def store(self, unit: Unit) -> Report:
        """Compute one block and commit it. Raises DamageError, StoreError."""
        part = f"{unit.number:06d}"
        if part not in self._listed:  # in another process than the one that looked
            self._listed = self._fragments()
        rows = fragments.read(self.backend, self._listed[part])
        filled = rows.join(
            self.values(unit.number), on=["layer", "head", "example"], how="left", maintain_order="left"
        )  # fmt: skip
        fragments.write(self.backend, "map_stats", self.title, part, filled)
        return Report(unit, 0)

    def stored(self, unit: Unit) -> Report | None:
        """Return the report of a block that has the statistic."""
        return Report(unit, 0) if self._has(self._fragments()[f"{unit.number:06d}"]) else None

    @cached_property
    def _arrays(self) -> arrays.RunArrays:
        return arrays.open_run(self.backend, self.title, self.run.shape)

    def values(self, block: int) -> pl.DataFrame:
        """Compute the statistic of a block's maps: layer, head, example and a column of its name."""
        inputs = self.run.plan[self.run.blocks[block]]
        marks, record = token_marks(inputs, torch.device("cpu")), self.run.record
        values = np.empty((record.n_maps, len(inputs)), np.float32)
        for part in stored_weights.of_block(self.run, self._arrays, block):
            n, length = part.maps.shape[0], part.maps.shape[-1]
            tokens = [mark[part.tokens].view(n, length) for mark in marks]
            found = compute(self.statistic, part.maps, tokens, record.sinks)
            values[part.heads, part.inputs] = found.T.numpy()
        layers, n_heads = np.array(record.layers, np.int16), len(record.heads)
        keys = {
            "layer": np.repeat(layers, n_heads * len(inputs)),
            "head": np.tile(np.repeat(np.array(record.heads, np.int16), len(inputs)), len(layers)),
            "example": np.tile(inputs["example"].to_numpy(), record.n_maps),
        }
        name = self.statistic.name
        return pl.DataFrame({**keys, name: values.ravel()}).with_columns(
            pl.col(name).fill_nan(None)
        )

    def share(self) -> Share:
        """Return what another process needs to store blocks of it."""
        arguments = (self.backend.name, self.title, self.statistic.name)
        return Share(f"{self.run.record.identity}.{self.statistic.name}", elsewhere, arguments)

    def summary(self, seconds: float) -> Summary:
        """Count the maps of the committed blocks."""
        maps = sum(self._unit(int(part)).items for part in self._fragments())
        return Summary(self.title, self.statistic.name, maps, self.n_stored, seconds)


def elsewhere(place: str, run: str, statistic: str) -> Recomputation:
    """Make a recomputation in another process, of a run whose lock is held."""
    return Recomputation(catalog.named(location.locate(place), run), statistics.find(statistic))
