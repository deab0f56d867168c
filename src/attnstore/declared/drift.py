"""Drift of each head in training: against the base model and against the checkpoint before.

    for item in planned(store, declared, pairs):
        frame = item.result.make(lambda: moved(store, item))
    most(frame, 10), alerts(frame, declared.drift)

Drift itself is `sql/analysis/drift.sql`; its result is a file per run, as of any analysis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import polars as pl

from attnstore.declared import staleness
from attnstore.declared.config import Declaration, Drift
from attnstore.declared.plan_parts import Pair
from attnstore.declared.staleness import Result
from attnstore.query import analyses
from attnstore.store import Store

KIND = "movement"
"""Folder of the results."""


@dataclass(frozen=True)
class Movement:
    """A run of a trained model.

    Attributes:
        against: Runs to compare it with, by 'base' and 'previous'.
    """

    result: Result
    step: int | None
    against: dict[str, str]


def planned(store: Store, declared: Declaration, pairs: Sequence[Pair]) -> Iterator[Movement]:
    """Yield every run whose base model or earlier checkpoint has a run of the same settings."""
    base = dict(store.sql("SELECT run, base_run FROM base_runs").iter_rows())
    sql = analyses.find("drift").sql
    complete = [p for p in pairs if p.run is not None]
    for pair in complete:
        assert pair.run is not None
        run, against = pair.run.run, {}
        if run in base:
            against["base"] = base[run]
        if (previous := _previous(pair, complete)) is not None:
            against["previous"] = previous
        if against:
            params = {"run": run, **against}
            result = staleness.result(
                store, declared, KIND, run, params, [run, *against.values()], sql
            )
            yield Movement(result, _step(pair), against)


def _step(pair: Pair) -> int | None:
    assert pair.candidate.checkpoint is not None
    return pair.candidate.checkpoint.step


def _previous(pair: Pair, complete: Sequence[Pair]) -> str | None:
    """Find the run of the checkpoint before, of the same training, dataset and settings."""
    step = _step(pair)
    if step is None:
        return None
    earlier = [
        (before, p.run.run)
        for p in complete
        if p.run is not None
        and p.candidate.entry.name == pair.candidate.entry.name
        and (p.dataset.fingerprint, p.settings) == (pair.dataset.fingerprint, pair.settings)
        and (before := _step(p)) is not None
        and before < step
    ]
    return max(earlier)[1] if earlier else None


def moved(store: Store, item: Movement) -> pl.DataFrame:
    """Ask for one row per head and comparison: run, step, against, other_run, layer, head, n, cosine (mean
    over inputs, with low and high of its 95 % interval), js (Jensen-Shannon distance).

    Kovaleva et al. 2019, section 4.3.
    """
    frames = [
        store.query("drift", run=item.result.run, base_run=other).select(
            pl.lit(item.result.run).alias("run"), pl.lit(item.step, pl.Int64).alias("step"),
            pl.lit(against).alias("against"), pl.lit(other).alias("other_run"),
            "layer", "head", "n", pl.col("mean").alias("cosine"), "low", "high", "js",
        )
        for against, other in item.against.items()
    ]  # fmt: skip
    return pl.concat(frames)


def notes(store: Store, item: Movement) -> list[str]:
    """Say which inputs and heads of a run its comparisons leave out; none where they are whole."""
    run, others = item.result.run, item.against.values()
    noted = (store.notes("drift", run=run, base_run=other) for other in others)
    return list(dict.fromkeys(chain.from_iterable(noted)))


def most(frame: pl.DataFrame, n: int) -> pl.DataFrame:
    """Keep the heads that moved most, at most n of each comparison, the furthest first."""
    return (
        frame.sort("cosine", "layer", "head")
        .group_by("run", "against", maintain_order=True)
        .head(n)
        .sort("run", "against", "cosine")
    )


def alerts(frame: pl.DataFrame, drift: Drift) -> pl.DataFrame:
    """Keep the heads whose mean cosine is below the file's threshold of their comparison."""
    limits = {"base": drift.alert_below_base, "previous": drift.alert_below_previous}
    limit = pl.col("against").replace_strict(limits, return_dtype=pl.Float64)
    return frame.with_columns(limit.alias("limit")).filter(pl.col("cosine") < pl.col("limit"))


def sentences(frame: pl.DataFrame, drift: Drift) -> list[str]:
    """Describe each comparison: the head that moved most, and how many are below the threshold."""
    below = alerts(frame, drift)
    lines = []
    for (run, against), heads in frame.group_by("run", "against", maintain_order=True):
        far = heads.sort("cosine").row(0, named=True)
        line = (
            f"{run} against {far['other_run']} ({against}): layer {far['layer']}, head "
            f"{far['head']} moved most, cosine {far['cosine']:.3f}"
        )
        alerted = below.filter(run=run, against=against)
        if len(alerted):
            line += f"; ALERT: {len(alerted)} heads below {alerted['limit'][0]}"
        lines.append(line)
    return lines
