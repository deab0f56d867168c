"""Fill the profiles of `attnstore.offsets` from the stored weights, without the model.

    attnstore.recompute("storage", "offsets")     # every run of an earlier version

Each block gets its fragment of `offsets`, which is committed like any other. What capture stored is never
replaced.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from attnstore import offsets
from attnstore.capture import catalog, stored_weights
from attnstore.capture.offsets import Places, Profile, token_marks
from attnstore.capture.recompute import Summary
from attnstore.capture.runs import Run
from attnstore.capture.statistics import STRIPE_CELLS
from attnstore.job import Job, Report, Share, Unit
from attnstore.offsets import N_GROUPS
from attnstore.storage import arrays, fragments, location
from attnstore.storage.fragments import Fragment


class OffsetsRecomputation(Job[Report, Summary]):
    """The profiles of one run; its units are committed blocks that lack theirs, or hold it damaged."""

    kind, noun = "recompute", "maps"

    def __init__(self, run: Run) -> None:
        """Name it; nothing is looked at yet."""
        super().__init__(run.backend, run.run, lock=run.run, subject=f"Run {run.run}")
        self.run = run

    def lacking(self) -> list[Unit]:
        """Return the blocks that lack their profile."""
        stored = self._stored()
        return [self._unit(block) for block in self._blocks() if f"{block:06d}" not in stored]

    def _blocks(self) -> list[int]:
        return sorted({int(f.part) for f in fragments.listing(self.backend, "blocks", self.title)})

    def _stored(self) -> dict[str, Fragment]:
        """Return the whole fragments of profiles by part."""
        listed = fragments.listing(self.backend, offsets.TABLE, self.title)
        return {f.part: f for f in listed if fragments.whole(self.backend, f)}

    def _unit(self, block: int) -> Unit:
        rows = self.run.blocks[block]
        maps = self.run.record.n_maps * (rows.stop - rows.start)
        return Unit(f"block {block}", block, maps, maps)

    def store(self, unit: Unit) -> Report:
        """Compute one block and commit it. Raises DamageError, StoreError."""
        record, number = self.run.record, unit.number
        rows = self.profile(number).rows(self.run.key, number, record.layers, record.heads)
        fragments.write(self.backend, offsets.TABLE, self.title, f"{number:06d}", rows)
        return Report(unit, 0)

    def stored(self, unit: Unit) -> Report | None:
        """Return the report of a block that has its profile."""
        return Report(unit, 0) if f"{unit.number:06d}" in self._stored() else None

    @cached_property
    def _arrays(self) -> arrays.RunArrays:
        return arrays.open_run(self.backend, self.title, self.run.shape)

    def profile(self, block: int) -> Profile:
        """Compute the profile of a block."""
        tokens = token_marks(self.run.plan[self.run.blocks[block]], torch.device("cpu"))
        record = self.run.record
        parts: dict[int, Profile] = {}
        for part in stored_weights.of_block(self.run, self._arrays, block):
            n, _, length, _ = part.maps.shape
            marks = tokens[:, part.tokens].view(-1, n, length)
            step = max(1, STRIPE_CELLS // length)
            stripes = [slice(at, at + step) for at in range(0, length, step)]
            places = [Places.of(marks, rows) for rows in stripes]
            profile = parts.setdefault(
                part.inputs.start,
                Profile.of(np.zeros((record.n_maps, N_GROUPS)), places),
            )
            for rows, place in zip(stripes, places, strict=True):
                sums = place.sums(part.maps[:, :, rows].contiguous())
                profile.sums[part.heads] += sums.double().numpy()
        return Profile.joined(list(parts.values()))

    def share(self) -> Share:
        """Return what another process needs to store blocks of it."""
        arguments = (self.backend.name, self.title)
        return Share(f"{self.run.record.identity}.{offsets.TABLE}", elsewhere, arguments)

    def summary(self, seconds: float) -> Summary:
        """Count the maps of the committed blocks."""
        maps = sum(self._unit(block).items for block in self._blocks())
        return Summary(self.title, offsets.TABLE, maps, self.n_stored, seconds)


def elsewhere(place: str, run: str) -> OffsetsRecomputation:
    """Make a recomputation in another process, of a run whose lock is held."""
    return OffsetsRecomputation(catalog.named(location.locate(place), run))
