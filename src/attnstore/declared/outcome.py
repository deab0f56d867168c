"""The outcome of a refresh: what it made, what it waits for, and what went wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from attnstore.capture.ingestion import Summary


@dataclass
class Outcome:
    """The outcome of a refresh.

    Attributes:
        ingested: Summaries of its ingestions.
        updated: Names of runs to which it added arrays: kinds of maps, and what an earlier capture lacks.
        annotated, classified, analysed: Names of what it made.
        moved: Drift of the heads of runs that were new to it.
        most: Of these, the heads that moved most.
        alerts: Of these, the heads below the file's thresholds.
        lines: One line about each thing that was made.
        waiting: A sentence about each model that is not ready.
        refused: A sentence about each run that was refused before and not tried again.
        problems: A sentence about each failure.
        page: The report.
    """

    ingested: list[Summary] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    annotated: list[str] = field(default_factory=list)
    classified: list[str] = field(default_factory=list)
    analysed: list[str] = field(default_factory=list)
    moved: pl.DataFrame = field(default_factory=pl.DataFrame)
    most: pl.DataFrame = field(default_factory=pl.DataFrame)
    alerts: pl.DataFrame = field(default_factory=pl.DataFrame)
    lines: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    page: Path | None = None

    @property
    def changed(self) -> bool:
        """True if anything was made."""
        made = (self.ingested, self.updated, self.annotated, self.classified, self.analysed)
        return any(len(results) for results in (*made, self.moved))
