"""Figures of relations: the best head of each beside its baselines, and weights on pairs with a property.

A function is a figure, its name the figure's name: it takes a store and choices and gives a `Drawing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from attnstore.paper import schemes
from attnstore.plotting.dots import dots
from attnstore.plotting.drawings import (
    ANNOTATED,
    Drawing,
    NothingToDraw,
    asked,
    one,
)  # fmt: skip
from attnstore.plotting.figures import by_head
from attnstore.plotting.panels import Panel, in_rows, pictures
from attnstore.plotting.plots import Series

if TYPE_CHECKING:
    from attnstore.store import Store

_MOST = 45
_ARROWS = {"from_to": "→", "to_from": "←", "either": "↔"}
_MISSING = f"No input has links or spans; `{ANNOTATED}` supplies them, or files of your own."


def relations(
    store: Store,
    run: str | None = None,
    annotation: str | None = None,
    kind: str | None = None,
    least: int = 20,
    attended: str = "word",
    pieces: str = "mean",
    by: str = "weight",
) -> Drawing:
    """The best head of each relation of a dataset, beside its best fixed offset."""
    run = one(store, run, "SELECT run FROM span_tokens", _MISSING)
    choices = {"annotation": annotation, "kind": kind, "least": least, "attended": attended, "pieces": pieces, "by": by}  # fmt: skip
    frame = store.query("relations", run=run, **choices).filter(pl.col("held_out").is_not_null())
    if frame.is_empty():
        raise NothingToDraw(
            f"No relation of {run} has {least} pairs in both halves of its texts; give a smaller "
            f"least, or annotate more: `{ANNOTATED}`."
        )
    key = ["source", "kind", "relation", "label"]
    better = frame.sort("held_out", "direction", descending=[True, False]).unique(key, keep="first")
    shown = better.sort("n", descending=True).head(_MOST).sort("difference", descending=True)
    several = shown["source"].n_unique() > 1
    names = [_name(row, several) for row in shown.iter_rows(named=True)]
    above, left = int(shown["above"].sum()), len(better) - len(shown)
    more = f" {left} relations of fewer pairs are left out." if left else ""
    n = shown["n"].to_list()
    made = _series(shown)
    third = (
        "the best head of random weights, the highest of the twins"
        if "random weights" in made
        else "attention that is the same to all words"
    )
    return Drawing(
        dots(names, made, "share of pairs"),
        "Per relation and its better direction, the accuracy of its best head (layer.head from 0), chosen on one half of the "
        "source texts and scored on the other, with the 95 % interval; beside it the best fixed offset, chosen and scored "
        f"the same way, and {third}. →: from the first end of a link, or the first word of "
        f"a span, to the other; ←: back; ↔: between the words of a span. {above} of {len(shown)} lie above the offset "
        f"(false discovery rate 0.05 over all rows).{schemes.of_norms(by)}{more} n = {min(n)} to {max(n)} pairs of {run}.",
        (asked("relations", run=run, **choices),),
        {run: f"{above} of {len(shown)} relations above their best offset"},
        table=_table(shown),
    )  # fmt: skip


def _name(row: dict[str, object], several: bool) -> str:
    """Name a relation, its direction, its head and its size."""
    parts = [str(row["source"])] if several else []
    if row["kind"] != "dep" or row["label"] == "all":
        parts.append(str(row["kind"]))
    if row["kind"] == "dep" or row["label"] != "all":
        parts.append(str(row["label"]))
    if row["relation"] != "link":
        parts.append(str(row["relation"]))
    return f"{' '.join(parts)} {_ARROWS[str(row['direction'])]} {row['layer']}.{row['head']}"


def _series(shown: pl.DataFrame) -> dict[str, Series]:
    """Return the dots of each row: best head, offset, chance, and random weights where the store has them."""
    rows, unknown = range(len(shown)), [None] * len(shown)
    made = {
        "best head": Series(
            rows, *(shown[f"held_out{end}"].to_list() for end in ("", "_low", "_high"))
        ),
        "best offset": Series(rows, shown["baseline"].to_list(), unknown, unknown),
    }
    if shown["random_high"].null_count() < len(shown):
        made["random weights"] = Series(rows, shown["random_high"].to_list(), unknown, unknown)
    else:
        made["even attention"] = Series(rows, shown["chance"].to_list(), unknown, unknown)
    return made


def _table(shown: pl.DataFrame) -> pl.DataFrame:
    """Return the numbers of the rows."""
    return shown.select(
        "source", "kind", "relation", "label", "direction", "n", "layer", "head",
        pl.col("held_out", "baseline", "chance", "difference").round(3), "distance",
        pl.col("q").map_elements(lambda q: f"{q:.2g}", pl.String), "above",
    )  # fmt: skip


def pair_property(
    store: Store,
    run: str | None = None,
    kind: str | None = None,
    label: str | None = None,
    direction: str = "symmetric",
    threshold: float = 0.3,
    to_itself: bool = True,
    least: int = 100,
    against: str = "background",
    annotation: str | None = None,
    by: str = "weight",
) -> Drawing:
    """Per head, the share of its high weights that lies on linked pairs of tokens."""
    run = one(store, run, "SELECT run FROM link_tokens", _MISSING)
    choices = {
        "label": label or "all", "direction": direction, "threshold": threshold, "to_itself": to_itself, "least": least,
        "against": against, "annotation": annotation, "by": by,
    }  # fmt: skip
    kinds = (
        [kind]
        if kind
        else store.sql(
            "SELECT kind FROM link_tokens WHERE run = $run AND ($annotation IS NULL OR source = $annotation) "
            "GROUP BY kind HAVING count(DISTINCT source) = 1 ORDER BY count(*) DESC, kind LIMIT 4",
            run=run, annotation=annotation,
        )["kind"].to_list()
    )  # fmt: skip
    frames = {k: store.query("pair_property", run=run, kind=k, **choices) for k in kinds}
    frames = {k: f for k, f in frames.items() if len(f)}
    if not frames:
        raise NothingToDraw(f"No kind of links of {run} is of one annotation; give kind and annotation.")  # fmt: skip
    panels = [
        Panel(
            by_head(f.with_columns(mean=pl.when("enough").then("mean"))),
            f"{k}\nbackground {f['background'][0]:.3f}",
            dotted=list(f.filter("above").select("layer", "head").iter_rows()), written=True,
        )
        for k, f in frames.items()
    ]  # fmt: skip
    tested = "; ".join(
        f"{k}: {int(f['enough'].sum())} of {len(f)} heads have {least} such weights, {int(f['above'].sum())} lie above the {against}"
        for k, f in frames.items()
    )
    shares = [m for f in frames.values() for m in f.filter("enough")["mean"]]
    return Drawing(
        pictures(in_rows(panels), "share of attention", high=max(shares, default=1.0) or 1.0),
        f"Per head, the share of all weights of {threshold} and more, over the whole corpus and without special tokens, that "
        "joins two tokens with a link; background is the share of such pairs among all. Dotted: above the "
        f"{against} (false discovery rate 0.05 over the heads); empty: fewer than {least} such weights. {tested}. "
        f"Vig et al. 2021.{schemes.of_norms(by)} n = {_range(frames)} weights of {run}.",
        tuple(asked("pair_property", run=run, kind=k, **choices) for k in frames),
    )  # fmt: skip


def _range(frames: dict[str, pl.DataFrame]) -> str:
    """Return the least and largest number of weights of a head."""
    n = [n for f in frames.values() for n in f["n"]]
    return f"{min(n)} to {max(n)}"
