"""The plan of a refresh: declared runs and their states, and everything else to look at."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field

import polars as pl

from attnstore.capture.further_maps import FurtherMaps
from attnstore.capture.runs import Run, Settings
from attnstore.datasets.corpora import Dataset
from attnstore.declared.costs import Estimate
from attnstore.declared.readiness import Candidate


@dataclass(frozen=True)
class Pair:
    """A declared run of a model over a dataset.

    Attributes:
        name: Name of its run, now or once it is registered.
        identity: Identity of its run.
        run: The run, if the store has it.
        left: Blocks that are not committed; None if the run is not registered.
        refused: Why it was refused before, if so.
        older: Blocks of an earlier capture, which lack what today's adds to the maps.
        maps: Kinds of maps that the run is to have beside its weights.
    """

    name: str
    identity: str
    candidate: Candidate
    dataset: Dataset
    settings: Settings
    run: Run | None
    left: int | None
    estimate: Estimate
    refused: str | None = None
    older: int = 0
    maps: tuple[FurtherMaps, ...] = ()

    @property
    def state(self) -> str:
        """current, refused, partial or missing."""
        if self.refused is not None and self.left != 0:
            return "refused"
        return "missing" if self.left is None else "partial" if self.left else "current"


@dataclass(frozen=True)
class Row:
    """A line of the plan that is no run to ingest.

    Attributes:
        what: model, run, maps, classification, annotation or analysis.
        state: waiting, unreadable, missing, partial, stale, older capture or undeclared.
        why: The reason of the state.
    """

    what: str
    name: str
    state: str
    why: str
    estimate: Estimate | None = None


@dataclass(frozen=True)
class Plan:
    """What a store lacks, and what it has that nobody declares.

    Attributes:
        pairs: Every declared run whose model can be read.
        rows: Everything else to do or to look at.
    """

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
    def is_pending(self) -> bool:
        """True if a refresh has something to make or to wait for; a run that was refused is neither."""
        states = {(r.what, r.state) for r in self.rows}
        open_states = {"missing", "partial", "waiting", "unreadable"}
        stale = any(state == "stale" and what != "run" for what, state in states)
        return bool(self.to_ingest) or stale or any(state in open_states for _, state in states)

    @property
    def settling(self) -> bool:
        """True if some model only has to stay unchanged for a moment."""
        return any(c.settling for c in self.candidates)

    def table(self) -> pl.DataFrame:
        """List what is to be done or looked at, one row each; what is current is left out.

        Columns: what, name, state, why, examples, seconds, bytes (estimates; NULL: not known).
        """
        rows = [Row("run", p.name, p.state, _why(p), p.estimate) for p in self.to_ingest]
        rows += [Row("run", p.name, "refused", p.refused or "") for p in self.refused]
        older = [p for p in self.pairs if p.older and p.state == "current"]
        rows += [Row("run", p.name, "older capture", _lacks(p)) for p in older]
        rows += self.rows
        values = [
            (r.what, r.name, r.state, r.why, *(astuple(r.estimate) if r.estimate else [None] * 3))
            for r in rows
        ]
        schema = {
            "what": pl.String, "name": pl.String, "state": pl.String, "why": pl.String,
            "examples": pl.Int64, "seconds": pl.Float64, "bytes": pl.Float64,
        }  # fmt: skip
        return pl.DataFrame(values, schema=schema, orient="row")


def _lacks(pair: Pair) -> str:
    n = pair.run.record.n_blocks if pair.run else 0
    return (
        f"{pair.older} of {n} blocks lack value norms and mixing ratios; `attnstore refresh "
        "--update` adds them"
    )


def _why(pair: Pair) -> str:
    if pair.run is None:
        return ""
    n = pair.run.record.n_blocks
    return f"{n - (pair.left or 0)} of {n} blocks are stored"
