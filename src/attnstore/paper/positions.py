"""Figures of where heads look: distances, confidence, rare tokens, punctuation, depth, parts of speech.

A function is a figure, its name the figure's name: it takes a store and choices and gives a
`Drawing`. The papers: Voita et al. 2019, Clark et al. 2019, Vig and Belinkov 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from attnstore.paper import schemes
from attnstore.plotting.drawings import (
    ANNOTATED,
    INGESTED,
    Drawing,
    NothingToDraw,
    Runs,
    asked,
    chosen,
    every,
    per_run,
)  # fmt: skip
from attnstore.plotting.figures import by_head
from attnstore.plotting.panels import Panel, changes, in_rows, pictures

if TYPE_CHECKING:
    from attnstore.store import Store

_DISTANCES = {-1: "the token before", 1: "the token after", 0: "itself", None: "another distance"}
_TOP = 6
"""Heads of each run in the table below a picture."""


def positional_heads(
    store: Store,
    run: Runs = None,
    share: float = 0.9,
    level: str = "token",
    specials: str = "keep",
    by: str = "weight",
    runs_like: str = "%",
) -> Drawing:
    """How often each head attends most to the token at its commonest distance."""
    choices = {"share": share, "level": level, "specials": specials, "by": by}
    runs, more = every(store, 4, runs_like, run)
    frames = per_run(store, "positional_heads", runs, **choices)
    rows = []
    for name, frame in frames.items():
        near = pl.col("distance").is_in([d for d in _DISTANCES if d is not None])
        row: list[Panel] = []
        for distance, title in _DISTANCES.items():
            here = ~near if distance is None else pl.col("distance") == distance
            cells = frame.with_columns(mean=pl.when(here).then("mean"))
            heads = frame.filter(here & pl.col("positional")).select("layer", "head").rows()
            row.append(Panel(by_head(cells), title, heading="" if row else name, outlined=heads))
        rows.append(row)
    return Drawing(
        pictures(rows, "share of rows", high=1.0),
        f"The share of attending {level}s whose most attended {level} lies at the head's commonest distance; "
        f"each head stands in the panel of that distance. Framed: positional, at least {share:.0%} (Voita et al. 2019, section "
        f"5.1). {_SPECIALS[specials]}{schemes.of_norms(by)} {_rows(frames)}{more}",
        tuple(asked("positional_heads", run=name, **choices) for name in frames),
        {name: _positional(frame) for name, frame in frames.items()},
        table=_top(frames, "distance", "mean", "possible", "held_out", "baseline"),
    )


_SPECIALS = {
    "keep": "Special tokens count as any other.",
    "drop": "Special tokens are left out.",
}


def _positional(frame: pl.DataFrame) -> str:
    """Say how many heads are positional, and at which distances."""
    found = frame.filter("positional").sort("layer", "head")
    heads = ", ".join(f"{r['layer']}.{r['head']} at {r['distance']:+d}" for r in found.rows(named=True))  # fmt: skip
    return f"{len(found)} of {len(frame)}" + (f" ({heads})" if heads else "")


def confidence(
    store: Store,
    run: Runs = None,
    specials: str = "sep",
    by: str = "weight",
    runs_like: str = "%",
) -> Drawing:
    """The mean of the largest weight of each head's rows."""
    choices = {"specials": specials, "by": by}
    runs, more = every(store, 8, runs_like, run)
    frames = per_run(store, "confidence", runs, **choices)
    panels = [Panel(by_head(f), f"{name}\neven: {f['baseline'][0]:.3f}") for name, f in frames.items() if len(f)]  # fmt: skip
    return Drawing(
        pictures(in_rows(panels), "largest weight of a row", high=1.0),
        "The mean over rows of the weight to the most attended token, [SEP] left out unless the rule for "
        f"special tokens says otherwise (here {specials}); even attention has the number above. Voita et al. 2019, section 4."
        f"{schemes.of_norms(by)} {_rows(frames)}{more}",
        tuple(asked("confidence", run=name, **choices) for name in frames),
        table=_top(frames, "mean", "low", "high", "baseline"),
    )


def rare_words(
    store: Store,
    run: Runs = None,
    common: int = 500,
    counted: str = "store",
    specials: str = "drop",
    by: str = "weight",
    runs_like: str = "%",
) -> Drawing:
    """How often each head attends most to the rarest token of the input."""
    choices = {"common": common, "counted": counted, "specials": specials, "by": by}
    runs, more = every(store, 8, runs_like, run)
    frames = {n: f for n, f in per_run(store, "rare_words", runs, **choices).items() if len(f)}
    if not frames:
        raise NothingToDraw(
            f"No run has an input with a token outside the {common} commonest of the {counted}; `{INGESTED}` with more texts has some."
        )
    panels = [
        Panel(
            by_head(f), f"{name}\n{f['inputs'][0]} inputs",
            outlined=f.filter("best").select("layer", "head").rows(),
            dotted=f.filter("rare_head").select("layer", "head").rows(),
        )
        for name, f in frames.items()
    ]  # fmt: skip
    best = {name: f.filter("best").row(0, named=True) for name, f in frames.items()}
    return Drawing(
        pictures(in_rows(panels), "share of rows"),
        "The share of attending tokens whose most attended token is the rarest of the input, over inputs whose rarest "
        f"token is not among the {common} commonest of the {counted}. Framed: the best head; dot: more than other uncommon tokens "
        f"of the same inputs (false discovery rate 0.05). Voita et al. 2019, section 5.3. {_SPECIALS[specials]}"
        f"{schemes.of_norms(by)} {_rows(frames)}{more}",
        tuple(asked("rare_words", run=name, **choices) for name in frames),
        measured={
            key: {n: f"{b[column]:.0%} (layer {b['layer']}, head {b['head']})" for n, b in best.items()}
            for key, column in (("rarest", "mean"), ("two", "two"))
        },
        table=_top(frames, "mean", "baseline", "two", "two_baseline", "other", "rarer", "held_out"),
    )  # fmt: skip


def punctuation_heads(
    store: Store,
    run: Runs = None,
    threshold: float = 0.6,
    specials: str = "keep",
    by: str = "weight",
    runs_like: str = "%",
) -> Drawing:
    """The share of attention that punctuation gets from each head."""
    choices = {"threshold": threshold, "specials": specials, "by": by}
    runs, more = every(store, 8, runs_like, run)
    frames = {n: f for n, f in per_run(store, "punctuation_heads", runs, **choices).items() if len(f)}  # fmt: skip
    if not frames:
        raise NothingToDraw(
            f"No input has punctuation; `{INGESTED}` with texts that have some supplies it."
        )
    panels = [
        Panel(
            by_head(f), f"{name}\neven: {f['baseline'][0]:.3f}",
            outlined=f.filter("punctuation").select("layer", "head").rows(),
            dotted=f.filter("above").select("layer", "head").rows(),
        )
        for name, f in frames.items()
    ]  # fmt: skip
    return Drawing(
        pictures(in_rows(panels), "share of attention"),
        f"The share of a token's attention that punctuation gets, mean over inputs that have some. Framed: above {threshold}; dot: more "
        "than even attention (false discovery rate 0.05), whose share stands above. Clark et al. 2019, sections 3.1 and 3.2."
        f"{schemes.of_norms(by)} {_rows(frames, 'inputs')}{more}",
        tuple(asked("punctuation_heads", run=name, **choices) for name in frames),
        table=_top(frames, "mean", "baseline", "period", "period_baseline", "comma", "comma_baseline"),
    )  # fmt: skip


def attention_depth(
    store: Store, run: Runs = None, by: str = "weight", runs_like: str = "%"
) -> Drawing:
    """How far each head looks, without special tokens."""
    runs, more = every(store, 8, runs_like, run)
    frames = {
        name: pl.concat(store.query("depth_and_tags", run=name, measure=m, by=by) for m in ("distance", "variability"))
        for name in runs
    }  # fmt: skip
    distances = {n: f.filter(pl.col("head").is_not_null(), measure="distance") for n, f in frames.items()}  # fmt: skip
    layers = [
        f.filter(pl.col("head").is_null())
        .pivot("measure", index="layer", values=["mean", "baseline"])
        .select(pl.lit(name).alias("run"), "layer", distance="mean_distance", even="baseline_distance",
                variability="mean_variability", even_variability="baseline_variability")
        for name, f in frames.items()
    ]  # fmt: skip
    panels = [Panel(by_head(f), f"{name}\n{f['n'][0]:,} inputs", dotted=f.filter("above").select("layer", "head").rows()) for name, f in distances.items() if len(f)]  # fmt: skip
    return Drawing(
        pictures(in_rows(panels), "mean distance (tokens)"),
        "The mean distance that attention spans: the sum of weight times distance over the sum of weight, among the tokens that are "
        "no special ones. Dot: farther than even attention (false discovery rate 0.05). The table has the layers, and how much attention "
        f"varies with the text over the first 10 tokens. Vig and Belinkov 2019, section 4.{schemes.of_norms(by)} {_rows(distances, 'inputs')}{more}",
        tuple(asked("depth_and_tags", run=name, by=by) for name in frames),
        table=pl.concat(layers),
    )


def tag_shares(
    store: Store,
    run: Runs = None,
    labels: str = "upos",
    by: str = "weight",
    runs_like: str = "%",
) -> Drawing:
    """Which parts of speech each layer attends to and from, beside even attention."""
    runs, more = chosen(
        store, 4, "SELECT run FROM runs JOIN (SELECT DISTINCT dataset FROM spans WHERE kind = $labels) USING (dataset) WHERE run LIKE $runs_like",
        f"No dataset has labels of kind {labels}; `{ANNOTATED}` supplies parts of speech.", run, labels=labels, runs_like=runs_like,
    )  # fmt: skip
    frames = {n: store.query("depth_and_tags", run=n, labels=labels, by=by) for n in runs}
    rows, tables = [], []
    for name, frame in frames.items():
        layers = frame.filter(pl.col("head").is_null(), pl.col("label").is_not_null())
        order = layers.filter(measure="to").group_by("label").agg(pl.col("frequency").first())
        names = order.sort("frequency", "label", descending=[True, False])["label"].to_list()
        rows.append([
            Panel(_by_label(layers.filter(measure=side), names), title, down=names, titles=("layer (from 0)", ""), heading=name if side == "to" else "")
            for side, title in (("to", "attention to"), ("from", "attention from"))
        ])  # fmt: skip
        tables.append(layers.select(pl.lit(name).alias("run"), "measure", "label", "layer", "mean", "frequency", "baseline", "difference", "q"))  # fmt: skip
    return Drawing(
        changes(rows, "share of attention less even attention's"),
        "By layer, the share of attention that tokens of each part of speech get and give, less what even attention would give "
        f"them in the same inputs; the commonest on top; special tokens left out. Vig and Belinkov 2019, section 5.{schemes.of_norms(by)} "
        f"{_rows(frames, 'inputs')}{more}",
        tuple(asked("depth_and_tags", run=name, labels=labels, by=by) for name in frames),
        table=pl.concat(tables).filter(pl.col("measure") == "to").sort("run", "difference", descending=[False, True]).head(12),
    )  # fmt: skip


def _by_label(frame: pl.DataFrame, names: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:  # fmt: skip
    """Return the differences as (label, layer), NaN where there is none."""
    cells = np.full((len(names), int(frame["layer"].to_numpy().max(initial=0)) + 1), np.nan)
    for label, layer, difference in frame.select("label", "layer", "difference").iter_rows():
        cells[names.index(label), layer] = difference
    return cells


def _top(frames: dict[str, pl.DataFrame], *columns: str) -> pl.DataFrame:
    """Return the heads of each run with the largest mean."""
    return pl.concat(
        f.sort("mean", "layer", "head", descending=[True, False, False]).head(_TOP)
        .select(pl.lit(name).alias("run"), "layer", "head", *columns)
        for name, f in frames.items()
    )  # fmt: skip


def _rows(frames: dict[str, pl.DataFrame], what: str = "rows") -> str:
    """Say the n of each run."""
    sizes = [f"{int(f['n'].to_numpy().max()):,} {what} of {name}" for name, f in frames.items() if len(f)]  # fmt: skip
    return "n = " + "; ".join(sizes) + "."
