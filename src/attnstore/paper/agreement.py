"""The figure of agreement: whether a word looks at the right one of several candidates, by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from attnstore.paper import schemes
from attnstore.plotting.drawings import Drawing, NothingToDraw, asked, n_of, one
from attnstore.plotting.plots import Series, lines

if TYPE_CHECKING:
    from attnstore.store import Store

_LACKING = (
    "No input has a word with candidates; ingest the bundled items with `attnstore ingest --model MODEL --dataset agreement`, "
    "then `attnstore annotate --dataset agreement --with agreement`."
)
_LINES = {
    "match": "all of the same number",
    "mismatch": "all of the other number",
    "mixed": "of both numbers",
    "unknown": "number unknown",
}


def agreement(
    store: Store,
    run: str | None = None,
    per: str = "layer",
    construction: str | None = None,
    annotation: str | None = None,
    by: str = "weight",
) -> Drawing:
    """How much a word confuses the right candidate with others, by layer."""
    twins = "" if run else " AND run NOT IN (SELECT twin_run FROM random_twins)"
    run = one(store, run, f"SELECT run FROM link_tokens WHERE kind = 'agreement'{twins}", _LACKING)
    choices = {"per": per, "construction": construction, "annotation": annotation, "by": by}
    rows = store.query("agreement", run=run, **choices)
    shown = rows.filter(pl.col("distractors") > 0)
    if shown.is_empty():
        raise NothingToDraw(f"Run {run}: no item that is asked for has a wrong candidate whole.")
    if per == "head":  # one line a layer: its least confused head
        shown = shown.sort("confusion", nulls_last=True).unique(
            ["layer", "distractors", "agreement"], keep="first"
        )
    shown = shown.sort("layer")
    panels = {}
    for (n,), part in shown.group_by("distractors", maintain_order=True):
        every = n_of(part.filter(pl.col("agreement") == "all"))
        panels[f"{n} distractor{'s' * (n != 1)}, {every}"] = _lines(part)
    whole = rows.filter(pl.col("distractors").is_null(), pl.col("agreement") == "all")
    heads = "the best head's row" if per == "head" else "mean row of the heads"
    return Drawing(
        lines(panels, "confusion (bits)"),
        "By layer, how much a word (a verb) confuses the right candidate (its subject) with others between them: -log2 of the right "
        f"one's share of what the candidates get ({heads}), mean over items, 95 % intervals; beside it uniform attention, "
        "below which a word looks at the right one more than evenly. Lin et al. 2019."
        f"{schemes.of_norms(by)} {n_of(whole)} items of {run}.",
        (asked("agreement", run=run, **choices),),
        {run: _ours(whole)},
        table=_table(rows.filter(pl.col("agreement") == "all", pl.col("distractors") > 0)),
    )  # fmt: skip


def _lines(part: pl.DataFrame) -> dict[str, Series]:
    """Return a line for each agreement in number, and that of uniform attention."""
    made = {}
    for kind, name in _LINES.items():
        own = part.filter(pl.col("agreement") == kind)
        if len(own):
            made[name] = Series(*(own[c].to_list() for c in ("layer", "confusion", "low", "high")))
    every = part.filter(pl.col("agreement") == "all")
    nothing = [None] * len(every)
    made["uniform attention"] = Series(
        every["layer"].to_list(), every["uniform"].to_list(), nothing, nothing
    )
    return made


def _ours(whole: pl.DataFrame) -> str:
    """Return the differences to uniform attention, in words."""
    low, high = whole["difference"].to_numpy().min(), whole["difference"].to_numpy().max()
    above = whole.filter("above")["layer"].unique().sort().to_list()
    layers = f"layers {', '.join(map(str, above))}" if above else "no layer"
    return f"{low:+.2f} to {high:+.2f} bits below uniform; {layers} clearer than uniform"


def _table(rows: pl.DataFrame) -> pl.DataFrame:
    """Return, by layer, the bits below uniform attention for each number of distractors."""
    wide = rows.with_columns(
        pl.format("{} distractors", "distractors").alias("n"), pl.col("difference").round(2)
    )
    keys = ["layer"] if rows["head"].is_null().all() else ["layer", "head"]
    return wide.pivot("n", index=keys, values="difference").sort(keys)
