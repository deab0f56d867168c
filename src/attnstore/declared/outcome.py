"""What a refresh did, what it waits for, and what went wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from attnstore.capture.ingestion import Summary


@dataclass
class Outcome:
    """What a refresh did. ingested, annotated, classified, analysed: what it made; moved: drift of the heads of runs that were new to it; alerts: of these,
    the heads below the file's thresholds; said: a line about each thing that was made; waiting,
    refused (before, and not tried again), problems: a sentence each; page: the report."""

    ingested: list[Summary] = field(default_factory=list)
    annotated: list[str] = field(default_factory=list)
    classified: list[str] = field(default_factory=list)
    analysed: list[str] = field(default_factory=list)
    moved: pl.DataFrame = field(default_factory=pl.DataFrame)
    most: pl.DataFrame = field(default_factory=pl.DataFrame)
    alerts: pl.DataFrame = field(default_factory=pl.DataFrame)
    said: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    page: Path | None = None

    @property
    def changed(self) -> bool:
        """Whether anything was made."""
        made = (self.ingested, self.annotated, self.classified, self.analysed, self.moved)
        return any(len(found) for found in made)
