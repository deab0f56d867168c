"""What a plan holds: the runs that are declared and can be run, and everything else to look at."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field

import polars as pl

from attnstore.capture.runs import Run, Settings
from attnstore.datasets.corpora import Dataset
from attnstore.declared.costs import Estimate
from attnstore.declared.readiness import Candidate


@dataclass(frozen=True)
class Pair:
    """A model over a dataset that is declared and can be run. name: what its run is or will be
    called; identity: of its run; run: what the store holds of it; left: blocks that are not
    committed, None where nothing is planned yet; refused: why it was refused before, if so."""

    name: str
    identity: str
    candidate: Candidate
    dataset: Dataset
    settings: Settings
    run: Run | None
    left: int | None
    estimate: Estimate
    refused: str | None = None

    @property
    def state(self) -> str:
        """held, refused, partial or missing."""
        if self.refused is not None and self.left != 0:
            return "refused"
        return "missing" if self.left is None else "partial" if self.left else "held"


@dataclass(frozen=True)
class Row:
    """A line of the plan that is no run to ingest. what: model, run, classification, annotation or
    analysis; state: waiting, unreadable, missing, partial, stale or no longer declared."""

    what: str
    name: str
    state: str
    why: str
    estimate: Estimate | None = None


@dataclass(frozen=True)
class Plan:
    """What a store lacks and what it has too much. pairs: every declared run that can be run."""

    candidates: list[Candidate]
    datasets: dict[str, Dataset]
    pairs: list[Pair]
    rows: list[Row] = field(default_factory=list)

    @property
    def to_ingest(self) -> list[Pair]:
        """The pairs that are missing or partial."""
        return [p for p in self.pairs if p.state in ("missing", "partial")]

    @property
    def refused(self) -> list[Pair]:
        """The pairs that were tried before, with the same bytes, and refused."""
        return [p for p in self.pairs if p.state == "refused"]

    @property
    def settling(self) -> bool:
        """Whether some model only has to stay unchanged for a moment."""
        return any(c.settling for c in self.candidates)

    def table(self) -> pl.DataFrame:
        """What is to be done or looked at, one row each; what is held is left out.

        Columns: what, name, state, why, examples, seconds, bytes (estimates; NULL: not known).
        """
        rows = [Row("run", p.name, p.state, _why(p), p.estimate) for p in self.to_ingest]
        rows += [Row("run", p.name, "refused", p.refused or "") for p in self.refused]
        rows += self.rows
        told = [
            (r.what, r.name, r.state, r.why, *(astuple(r.estimate) if r.estimate else [None] * 3))
            for r in rows
        ]
        schema = {
            "what": pl.String, "name": pl.String, "state": pl.String, "why": pl.String,
            "examples": pl.Int64, "seconds": pl.Float64, "bytes": pl.Float64,
        }  # fmt: skip
        return pl.DataFrame(told, schema=schema, orient="row")


def _why(pair: Pair) -> str:
    if pair.run is None:
        return ""
    n = pair.run.record.n_blocks
    return f"{n - (pair.left or 0)} of {n} blocks are stored"
