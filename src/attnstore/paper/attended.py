"""Figures of what kinds of tokens receive: special tokens, by weight and by norm, and linguistic features.

A function is a figure, its name the figure's name: it takes a store and choices and gives a
`Drawing`. Section numbers are those of Kovaleva et al. 2019.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from attnstore.paper import schemes
from attnstore.plotting.drawings import (
    ANNOTATED,
    INGESTED,
    Drawing,
    Runs,
    asked,
    chosen,
    counted,
    every,
    kept_of,
    n_of,
    per_run,
)  # fmt: skip
from attnstore.plotting.figures import by_head
from attnstore.plotting.panels import Panel, in_rows, pictures
from attnstore.plotting.plots import Series, lines

if TYPE_CHECKING:
    from attnstore.store import Store

FEATURES = ("cls", "sep", "punctuation", "noun", "verb", "pronoun", "subject", "object", "negation")
SPECIAL = {"cls": "[CLS]", "sep": "[SEP]", "first": "first token"}


def special_tokens(
    store: Store, run: Runs = None, by: str = "weight", runs_like: str = "%"
) -> Drawing:
    """Attention to [CLS], [SEP] and punctuation by layer."""
    runs, more = every(store, 8, runs_like, run)
    frames = per_run(store, "special_tokens", runs, by=by)
    panels = {
        f"{run}, {n_of(f)}{kept_of(f)}": _by_kind(f, ("mean", "low", "high"))
        for run, f in frames.items()
    }
    return Drawing(
        lines(panels, "share of attention"),
        "The share of a token's attention that [CLS], [SEP], punctuation, the first token of inputs "
        "without [CLS], and all other tokens receive together, mean over inputs and heads, with the 95 % interval over inputs. Section "
        f"4.4; Clark et al. 2019, section 3.2.{schemes.of_norms(by)} {counted(frames)}{more}",
        tuple(asked("special_tokens", run=run, by=by) for run in frames),
        {run: _preferred(f) for run, f in frames.items()},
        {"sep": {run: _most_on_sep(f) for run, f in frames.items()}},
    )


def norm_share(store: Store, run: Runs = None, runs_like: str = "%") -> Drawing:
    """What attention moves: the share of each class of tokens by weight and by norm, side by side."""
    runs, more = chosen(
        store, 4, "SELECT run FROM map_kinds WHERE kind = 'norm' AND complete AND run LIKE $runs_like",
        "No run holds value norms; `attnstore ingest … --update` adds them to runs of an earlier capture.",
        run, runs_like=runs_like,
    )  # fmt: skip
    frames = per_run(store, "norm_share", runs)
    panels = {
        f"by {share}: {run}": _by_kind(f, (share, f"{share}_low", f"{share}_high"))
        for run, f in frames.items()
        for share in ("weight", "norm")
    }
    return Drawing(
        lines(panels, "share of attention"),
        "By weight: the share of a token's attention that each class of tokens receives. By norm: the weight "
        "times the length of the vector that it moves, as a share of its row. Mean over inputs and heads, "
        f"with the 95 % interval over inputs. Kobayashi et al. 2020. {counted(frames)}{more}",
        tuple(asked("norm_share", run=run) for run in frames),
        {run: _turned(f) for run, f in frames.items()},
    )


def _turned(frame: pl.DataFrame) -> str:
    """Return the class whose share differs most between weight and norm, in words."""
    layer, kind, weight, norm = (
        frame.sort((pl.col("norm") - pl.col("weight")).abs(), descending=True)
        .select("layer", "kind", "weight", "norm").row(0)
    )  # fmt: skip
    return f"layer {layer}: {SPECIAL.get(kind, kind)} takes {weight:.2f} of the weight and {norm:.2f} of what is moved"


def _by_kind(frame: pl.DataFrame, columns: tuple[str, str, str]) -> dict[str, Series]:
    """Return a line over layers for each kind of token. columns: mean, lower and upper end."""
    return {
        SPECIAL.get(kind, kind): Series(*(part[c].to_list() for c in ("layer", *columns)))
        for (kind,), part in frame.group_by("kind", maintain_order=True)
    }


def feature_attention(
    store: Store,
    run: Runs = None,
    as_published: bool = False,
    annotation: str | None = None,
    scheme: str | None = None,
    by: str = "weight",
    runs_like: str = "%",
) -> Drawing:
    """The attention that each linguistic feature receives, by head."""
    runs, more = chosen(
        store, 7, "SELECT run FROM runs SEMI JOIN spans USING (dataset) WHERE run LIKE $runs_like "
        "AND dataset IN (SELECT dataset FROM spans SEMI JOIN feature_labels USING (kind, label))",
        f"No dataset has parts of speech or dependencies; `{ANNOTATED}` supplies them.",
        run, runs_like=runs_like,
    )  # fmt: skip
    choices = {"as_published": as_published, "annotation": annotation, "by": by}
    labels = schemes.of_runs(store, runs, scheme)
    frames = {
        run: store.query("feature_attention", run=run, scheme=labels[run], **choices)
        for run in runs
    }
    present = {feature for frame in frames.values() for feature in frame["feature"]}
    rows: list[list[Panel | None]] = []
    for run, frame in frames.items():
        row: list[Panel | None] = []
        for feature in (f for f in FEATURES if f in present):
            part = frame.filter(feature=feature)
            title = f"{SPECIAL.get(feature, feature)}\n{n_of(part) if len(part) else ''}"
            heading = "" if any(row) else run
            row.append(Panel(by_head(part), title, heading=heading) if len(part) else None)
        rows.append(row)
    return Drawing(
        pictures(rows, "share of attention", root=True),
        "Per head, the mean over inputs that have the feature of the weight that a token of it "
        "receives from all tokens, divided by the length; the largest where an input has several. "
        f"{schemes.in_words(labels)} Section 4.4, Figure 6.{schemes.of_norms(by)} {counted(frames)}{more}",
        tuple(asked("feature_attention", run=run, scheme=labels[run], **choices) for run in frames),
    )


def cls_attention(
    store: Store,
    run: Runs = None,
    layer: int | None = None,
    statistic: str = "sum",
    annotation: str | None = None,
    scheme: str | None = None,
    by: str = "weight",
    runs_like: str = "%",
) -> Drawing:
    """The attention of [CLS] in the last layer or another, by head and kind of token."""
    runs, more = chosen(
        store, 8, "SELECT r.run FROM runs r JOIN models m USING (model) WHERE r.run LIKE $runs_like "
        "AND list_contains(r.layers, coalesce($layer::INTEGER, m.n_layers - 1))",
        "No run holds the last layer of its model, or the one that is asked for; name another with "
        f"layer, or ingest the model without --layers: `{INGESTED}`.",
        run, runs_like=runs_like, layer=layer,
    )  # fmt: skip
    choices = {"layer": layer, "statistic": statistic, "annotation": annotation, "by": by}
    labels = schemes.of_runs(store, runs, scheme)
    frames = {
        run: store.query("cls_attention", run=run, scheme=labels[run], **choices) for run in runs
    }
    frames = {run: f for run, f in frames.items() if len(f)}
    present = {feature for f in frames.values() for feature in f["feature"]}
    names = [feature for feature in FEATURES if feature in present]
    panels = []
    for run, frame in frames.items():
        cells = np.full((len(names), int(frame["head"].to_numpy().max()) + 1), np.nan)
        for head, feature, mean in frame.select("head", "feature", "mean").iter_rows():
            cells[names.index(feature), head] = mean
        title = f"{run}\nlayer {frame['layer'][0]} (from 0), {n_of(frame)}"
        rows = [SPECIAL.get(name, name) for name in names]
        panels.append(Panel(cells, title, None, rows, ("head (from 0)", "attended token")))
    return Drawing(
        pictures(in_rows(panels), "share of attention"),
        "What [CLS] attends to, by head: the mean over inputs that have the feature of its "
        f"{'summed' if statistic == 'sum' else 'largest'} weight to the feature's tokens; punctuation is apart from the other features. {schemes.in_words(labels)} Section 4.5, "
        f"Figure 7.{schemes.of_norms(by)} Grey: no input has the feature, or none is annotated. {counted(frames)}{more}",
        tuple(asked("cls_attention", run=run, scheme=labels[run], **choices) for run in frames),
        {run: _most_attended(f) for run, f in frames.items()},
    )


def _preferred(frame: pl.DataFrame) -> str:
    """Return the layers that prefer [CLS] or [SEP], in words; without these, the first token."""
    if not {"cls", "sep"} <= set(frame["kind"]):
        kind = next((k for k in ("cls", "sep", "first") if k in frame["kind"]), "other")
        shares = frame.filter(kind=kind)["mean"].to_list()
        return f"{SPECIAL.get(kind, kind)}: {sum(shares) / len(shares):.2f} over all layers"
    wide = frame.pivot("kind", index="layer", values="mean").sort("layer")
    first = (wide["cls"] > wide["sep"]).to_list()
    runs = [
        (more, list(part))
        for more, part in groupby(zip(first, wide["layer"], strict=True), itemgetter(0))
    ]
    return ", ".join(
        f"{SPECIAL['cls' if more else 'sep']} in layers {part[0][1]} to {part[-1][1]}"
        for more, part in runs
    )


def _most_on_sep(frame: pl.DataFrame) -> str:
    """Return the layers in which [SEP] receives over half of all attention, in words."""
    layers = frame.filter(pl.col("kind") == "sep", pl.col("mean") > 0.5)["layer"].sort().to_list()
    return (", ".join(map(str, layers)) or "none") + f" of {frame['layer'].n_unique()}"


def _most_attended(frame: pl.DataFrame) -> str:
    means = frame.group_by("feature").agg(pl.col("mean").mean())
    name = str(means.sort("mean", "feature", descending=[True, False])["feature"][0])
    return SPECIAL.get(name, name)
