"""Figures about probes of attention: heads of words from a weighted sum of all maps, and its weights.

Section numbers are those of Clark et al. 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from attnstore.naming import ATTENTION, LEFT_BRANCHING, OFFSET, PROBES
from attnstore.paper import schemes
from attnstore.plotting.drawings import Drawing, NothingToDraw, asked, one
from attnstore.plotting.panels import Panel, changes
from attnstore.plotting.plots import Series, bars
from attnstore.query import sql_text

if TYPE_CHECKING:
    from attnstore.store import Store

_PROBED = (
    "No run has a probe; `attnstore probe --run RUN` makes one, of a dataset with dependencies."
)
_NO_TWINS = " WHERE run NOT IN (SELECT twin_run FROM random_twins)"
_NAMES = dict(
    zip(PROBES, ("heads", "heads,\noffsets", "offsets", "best\noffset", "word\nbefore", "word\nafter"), strict=True)
)  # fmt: skip
_LEARNED = """
SELECT run, layer, head, direction, fold, seed, weight
FROM probe_weights
WHERE measure = 'weight' AND variant = 'attention' AND pieces = 'mean' AND specials = 'drop' AND punctuation = 'unscored'
  AND layer IS NOT NULL
QUALIFY annotation = min(annotation) OVER (PARTITION BY run)
"""
_DIRECTIONS = {"from_to": "dependent → head", "to_from": "head → dependent"}


def attention_probe(
    store: Store,
    run: str | None = None,
    by: str = "weight",
    annotation: str | None = None,
    pieces: str = "mean",
    specials: str = "drop",
    punctuation: str = "unscored",
    folds: int = 5,
    seed: int = 0,
    baseline: str = OFFSET,
) -> Drawing:
    """Heads of words from a weighted sum of all attention maps, beside offsets and random weights."""
    probed = f"SELECT run FROM (FROM probes WHERE measure = {sql_text.literal(by)})"
    run = one(store, run, probed + (_NO_TWINS if run is None else ""), _PROBED)
    choices = {
        "by": by, "annotation": annotation, "pieces": pieces, "specials": specials, "punctuation": punctuation,
        "folds": folds, "seed": seed, "baseline": baseline,
    }  # fmt: skip
    rows = store.query("attention_probe", run=run, **choices)
    if rows.is_empty():
        raise NothingToDraw(
            f"Run {run}: {' '.join(store.notes('attention_probe', run=run, **choices))}"
        )
    uas = {row["variant"]: row for row in rows.rows(named=True)}
    places = range(len(rows))
    series = {run: Series(places, *(rows[c].to_list() for c in ("mean", "low", "high")))}
    if rows["random_low"].null_count() < len(rows):
        low, high = (rows[c].fill_null(np.nan).to_list() for c in ("random_low", "random_high"))
        middle = ((rows["random_low"] + rows["random_high"]) / 2).fill_null(np.nan).to_list()
        series["random weights"] = Series(places, middle, low, high)
    table = rows.select("variant", "n", "mean", "low", "high", "difference", "q", "random_low", "random_high", "published", "published_as")  # fmt: skip
    first = uas.get(ATTENTION)
    ours = f"UAS {first['mean']:.3f} [{first['low']:.3f}, {first['high']:.3f}] out of sample" if first else None  # fmt: skip
    return Drawing(
        bars([_NAMES[v] for v in rows["variant"]], series, "share of links (UAS)"),
        "Share of words whose head has the highest score among the other words, out of sample: by one weight per head "
        "and direction (heads), by one per offset to the head (offsets), by both, and by fixed offsets. Bars of a run have 95 % intervals by source text; "
        "those of random weights stand at the middle of the range over the run's twins, which their whiskers show. Section 5."
        f"{schemes.of_norms(by)} n = {int(rows['n'].max())} links of {run}, {folds} folds.",  # type: ignore[arg-type]
        (asked("attention_probe", run=run, **choices),),
        {run: ours} if ours else {},
        _measured(run, uas),
        table,
    )  # fmt: skip


def _measured(run: str, uas: dict[str, dict[str, float | None]]) -> dict[str, dict[str, str]]:
    """Return this store's value beside each published one."""
    values = {variant: _share(row["mean"], row["low"], row["high"]) for variant, row in uas.items()}
    attention = uas.get(ATTENTION)
    if attention and attention["random_low"] is not None:
        values["random"] = f"{attention['random_low']:.3f} to {attention['random_high']:.3f}"
    if LEFT_BRANCHING in values and OFFSET in values:
        values[LEFT_BRANCHING] += f"; the best fixed offset {values[OFFSET]}"
    return {key: {run: value} for key, value in values.items()}


def _share(mean: float | None, low: float | None, high: float | None) -> str:
    return f"{mean:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None else "")


def probe_weights(store: Store, run: str | None = None) -> Drawing:
    """The weight that a probe of dependencies gives to each head, by direction."""
    wanted = f"SELECT run FROM ({_LEARNED})" + (_NO_TWINS if run is None else "")
    run = one(store, run, wanted, _PROBED)
    learned = store.sql(_LEARNED).filter(run=run)
    trainings = learned.select("fold", "seed").n_unique()
    rows = learned.group_by("layer", "head", "direction").agg(pl.col("weight").mean())
    layers, heads = (sorted(rows[c].unique()) for c in ("layer", "head"))
    panels = []
    for direction, name in _DIRECTIONS.items():
        cells = np.full((max(layers) + 1, max(heads) + 1), np.nan)
        part = rows.filter(direction=direction)
        cells[part["layer"].to_numpy(), part["head"].to_numpy()] = part["weight"].to_numpy()
        panels.append(Panel(cells, f"{run}\n{name}"))
    top = rows.sort(pl.col("weight").abs(), descending=True).row(0, named=True)
    return Drawing(
        changes([panels], "weight in the log-odds of a head"),
        "What an attention of 1 from a word to a candidate for its head (left) and from the candidate to the word (right) "
        f"adds to the logarithm of the odds of the candidate, mean over folds; largest: layer {top['layer']}, head "
        f"{top['head']}, {_DIRECTIONS[top['direction']]}, {top['weight']:.1f}. Heads that do the same share a weight, so that a small one says "
        f"little. Section 5. n = {trainings} trainings over {run}.",
        (f'attnstore sql "FROM probe_weights WHERE run = \'{run}\'"',),
    )  # fmt: skip
