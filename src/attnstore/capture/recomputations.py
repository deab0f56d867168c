"""The jobs of `attnstore recompute`, by what is asked for."""

from __future__ import annotations

from typing import Any

from attnstore import offsets, statistics
from attnstore.capture import catalog
from attnstore.capture.recompute import Recomputation, Summary
from attnstore.capture.recompute_offsets import OffsetsRecomputation
from attnstore.job import Job
from attnstore.storage import fragments, location
from attnstore.storage.location import Location


def planned(path: Location, name: str, run: str | None = None) -> list[Job[Any, Summary]]:
    """Find a statistic, or `offsets`, and a run, or every run of a store. Raises UnknownNameError."""
    backend = location.find(path)
    statistic = None if name == offsets.TABLE else statistics.find(name)
    names = [run] if run else sorted({f.owner for f in fragments.listing(backend, "runs")})
    runs = [catalog.named(backend, each) for each in names]
    if statistic is None:
        return [OffsetsRecomputation(each) for each in runs]
    return [Recomputation(each, statistic) for each in runs]
