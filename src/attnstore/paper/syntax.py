"""Figures of dependencies: the best head along each relation, ensembles of heads, and trees.

A function is a figure, its name the figure's name: it takes a store and choices and gives a `Drawing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from attnstore.paper import published, schemes
from attnstore.plotting.drawings import ANNOTATED, Drawing, NothingToDraw, asked, one, parts
from attnstore.plotting.plots import Series, bars, lines

if TYPE_CHECKING:
    from attnstore.store import Store

PARSED = (
    "SELECT run FROM runs WHERE dataset IN (SELECT dataset FROM links WHERE kind = 'dep') "
    "AND run NOT IN (SELECT twin_run FROM random_twins)"
)
MISSING = f"No dataset has dependencies; `{ANNOTATED}` supplies them, or `--with conllu` where the dataset is a CoNLL-U file."
_ARROWS = {"from_to": "→", "to_from": "←"}
_SHOWN = {"dependency_table": 12, "head_ensembles": 11}
"""Relations that fit side by side."""


def dependency_table(
    store: Store,
    run: str | None = None,
    least: int = 50,
    direction: str = "both",
    pieces: str = "mean",
    specials: str = "drop",
    to_itself: bool = False,
    punctuation: str = "unscored",
    subtypes: str = "apart",
    annotation: str | None = None,
    by: str = "weight",
) -> Drawing:
    """The best head along each dependency, beside the best fixed offset and the published heads."""
    run = one(store, run, PARSED, MISSING)
    choices = {
        "direction": direction, "pieces": pieces, "specials": specials, "to_itself": to_itself,
        "punctuation": punctuation, "subtypes": subtypes, "annotation": annotation, "by": by,
    }  # fmt: skip
    table = store.query("dependency_table", run=run, least=least, **choices)
    if table.is_empty():  # a small dataset: all that there is
        least = 1
        table = store.query("dependency_table", run=run, least=least, **choices)
    heads = store.query("dependency_heads", run=run, **choices).filter("best")
    frame = table.join(
        heads, on=["relation", "direction"], suffix="_of_head", maintain_order="left"
    )
    frame = _with_links(frame, run).head(_SHOWN["dependency_table"])
    groups = [f"{_arrow(r)} {r['layer']}.{r['head']}" for r in frame.rows(named=True)]
    series = {
        "best head, held out": _series(frame, "held_out_of_head", "held_out_low", "held_out_high"),
        "best fixed offset": _series(frame, "baseline_of_head", "baseline_low", "baseline_high"),
    }
    marks = {
        "best head, held out": _shares(frame, "clark"),
        "best fixed offset": _shares(frame, "clark_baseline"),
    }
    flagged = int(table["syntactic"].fill_null(False).sum())
    return Drawing(
        bars(groups, series, "accuracy (share of links)", marks, "published"),
        "The share of links whose attending word attends most to the other word, for the best head of one half of the texts "
        "on the other half, and for the best fixed offset chosen likewise; the better direction of each relation (→ from dependent "
        "to head, ← back), the head that is best on all texts below it, the commonest relations. Diamonds: "
        "the best head and offset of bert-base-uncased on the Penn Treebank, where the relation has a counterpart there (Clark et al. "
        f"2019, section 4.2). {flagged} of the {len(table)} relations with {least} links and more have a head at least 10 percentage points "
        f"above the offset, which Voita et al. 2019 call syntactic.{schemes.of_norms(by)} n = {_least_and_most(frame)} links a "
        f"relation of {run}.{parts(store, run)}",
        (
            asked("dependency_table", run=run, least=least, **choices),
            asked("dependency_heads", run=run, **choices),
        ),
        measured=_measured(
            "dependency_table", run, table.select("clark_label", "held_out", "baseline")
        ),
    )


def head_ensembles(
    store: Store,
    run: str | None = None,
    relation: str | None = None,
    direction: str = "both",
    heads: int = 4,
    candidates: int = 25,
    pieces: str = "mean",
    specials: str = "renormalise",
    to_itself: bool = False,
    punctuation: str = "unscored",
    subtypes: str = "apart",
    annotation: str | None = None,
    by: str = "weight",
) -> Drawing:
    """Ensembles of heads along dependencies, beside the best single head and the published ensembles."""
    run = one(store, run, PARSED, MISSING)
    choices = {
        "relation": relation, "direction": direction, "heads": heads, "candidates": candidates, "pieces": pieces,
        "specials": specials, "to_itself": to_itself, "punctuation": punctuation, "subtypes": subtypes,
        "annotation": annotation, "by": by,
    }  # fmt: skip
    every = _with_links(store.query("head_ensembles", run=run, **choices), run)
    shown = every.sort(
        pl.col("published").is_null(),
        "n",
        "mean",
        "direction",
        descending=[False, True, True, False],
    ).unique("relation", keep="first", maintain_order=True)
    shown = shown.head(_SHOWN["head_ensembles"]).sort("n", "relation", descending=[True, False])
    series = {
        "ensemble, held out": _series(shown, "mean", "low", "high"),
        "best head, held out": _series(shown, "single"),
        "best fixed offset": _series(shown, "baseline"),
    }
    marks = dict(
        zip(series, (shown[c].to_list() for c in ("published", "published_single", "published_baseline")), strict=True)
    )  # fmt: skip
    better = int(every["better"].fill_null(False).sum())
    return Drawing(
        bars([_arrow(r) for r in shown.rows(named=True)], series, "accuracy (share of links)", marks, "published"),
        f"The share of links whose attending word attends most to the other word, in the mean map of up to {heads} heads that were "
        "chosen greedily on one half of the texts and are scored on the other, beside the best single head and the best fixed offset, "
        "chosen likewise. → from dependent to head, ← back: the published direction, else the better one; the commonest relations. "
        "Diamonds: bert-base-uncased on modified Universal Dependencies (Limisiewicz et al. 2020). Along "
        f"{better} of {len(every)} relations and directions the ensemble is better than the best head (false discovery rate 0.05)."
        f"{schemes.of_norms(by)} n = {_least_and_most(shown)} links a relation of {run}.{parts(store, run)}",
        (asked("head_ensembles", run=run, **choices),),
        measured=_measured(
            "head_ensembles", run,
            every.filter(pl.col("published").is_not_null())
            .select(pl.concat_str("relation", "direction", separator=" "), pl.col("single", "mean", "baseline") * 100),
        ),
    )  # fmt: skip


def trees(
    store: Store,
    run: str | None = None,
    root: str = "gold",
    direction: str = "from_to",
    pieces: str = "mean",
    punctuation: str = "unscored",
    heads: str | None = "found",
    annotation: str | None = None,
    by: str = "weight",
) -> Drawing:
    """Trees of dependencies from maps by layer, beside chains, branching trees and random ones."""
    run = one(store, run, PARSED, MISSING)
    choices = {
        "root": root, "direction": direction, "pieces": pieces, "punctuation": punctuation, "heads": heads,
        "annotation": annotation, "by": by,
    }  # fmt: skip
    frame = _with_links(store.query("trees", run=run, **choices), run)
    best = frame.filter(pl.col("head").is_not_null())
    ensemble = frame.filter(pl.col("layer").is_null())
    panels = {
        f"UUAS, {run}": _by_layer(frame, ("mean", "low", "high"), {"chain of neighbors": "chain", "random tree": "chance"}),
        f"UAS, {run}": _by_layer(
            frame, ("uas", "uas_low", "uas_high"),
            {"head is the word after": "left_branching", "head is the word before": "right_branching", "random tree": "chance_uas"},
        ),
    }  # fmt: skip
    best_row = best.sort("mean", "layer", "head", descending=[True, False, False]).row(
        0, named=True
    )
    joint = (
        f", ensemble {ensemble['mean'][0]:.3f} (UAS {ensemble['uas'][0]:.3f})"
        if len(ensemble)
        else ""
    )
    return Drawing(
        lines(panels, "share of links"),
        "The maximum spanning arborescence of each map of words, "
        f"{'with the root of the annotation' if root == 'gold' else 'with any root'}. Left, UUAS: the share of links whose two words it joins. "
        "Right, UAS: the share whose dependent has its head. By layer: the best head of the layer, the mean map of its heads"
        f"{_of_ensemble(ensemble)}; flat lines are the baselines. Bands are 95 % intervals. Htut et al. 2019; Raganato and Tiedemann 2018; "
        f"Limisiewicz et al. 2020.{schemes.of_norms(by)} n = {frame['n'][0]} links of {run}.{parts(store, run)}",
        (asked("trees", run=run, **choices),),
        measured={
            "uuas": {run: f"{best_row['mean']:.3f} (head {best_row['layer']}.{best_row['head']}){joint}; chain {best_row['chain']:.3f}"},
            "uas": {run: f"{100 * ensemble['uas'][0]:.1f}" if len(ensemble) else "no ensemble"},
        },
    )  # fmt: skip


def _measured(figure: str, run: str, frame: pl.DataFrame) -> dict[str, dict[str, str]]:
    """Return the numbers of a run by the key of each published fact. frame: keys, and per cent."""
    values = {
        str(key): " / ".join(f"{x:.1f}" for x in row)
        for key, *row in frame.iter_rows()
        if None not in row
    }
    keys = [fact.key for fact in published.facts() if fact.figure == figure]
    return {key: {run: values.get(key, "no such links")} for key in keys}


def _of_ensemble(ensemble: pl.DataFrame) -> str:
    """Say which heads an ensemble is of; '' where there is none."""
    if ensemble.is_empty():
        return ""
    return f", and, over all layers, the mean map of the heads {ensemble['ensemble'][0]}"


def _by_layer(
    frame: pl.DataFrame, columns: tuple[str, str, str], flat: Mapping[str, str]
) -> dict[str, Series]:
    """Lines over layers: the best head, the mean of the layer, the ensemble, and baselines by name and column."""
    mean = columns[0]
    of_layers = frame.filter(pl.col("layer").is_not_null())
    single = of_layers.filter(pl.col("head").is_not_null())
    best = single.sort(mean, "head", descending=[True, False]).unique("layer", keep="first")
    layers = sorted(of_layers["layer"].unique())
    named = {
        "best head": best.sort("layer"),
        "mean of the layer": of_layers.filter(pl.col("head").is_null()).sort("layer"),
    }
    made = {
        name: Series(part["layer"].to_list(), *(part[c].to_list() for c in columns))
        for name, part in named.items()
    }
    for row in frame.filter(pl.col("layer").is_null()).select(columns).rows():
        made["ensemble"] = Series(layers, *([value] * len(layers) for value in row))
    for name, column in flat.items():
        level = [frame[column][0]] * len(layers)
        made[name] = Series(layers, level, level, level)
    return made


def _with_links(frame: pl.DataFrame, run: str) -> pl.DataFrame:
    """Return a result. Raises NothingToDraw for one without rows."""
    if frame.is_empty():
        raise NothingToDraw(
            f"No link between two words of {run} can be scored; {MISSING[0].lower()}{MISSING[1:]}"
        )
    return frame


def _series(
    frame: pl.DataFrame, mean: str, low: str | None = None, high: str | None = None
) -> Series:
    """A bar for each row; NaN where there is no number."""
    none = [None] * len(frame)
    ends = (frame[column].to_list() if column else none for column in (low, high))
    values = [float("nan") if x is None else x for x in frame[mean].to_list()]
    return Series(range(len(frame)), values, *ends)


def _shares(frame: pl.DataFrame, column: str) -> list[float | None]:
    """Percentages as shares."""
    return [None if x is None else x / 100 for x in frame[column].to_list()]


def _arrow(row: Mapping[str, object]) -> str:
    return f"{row['relation']}\n{_ARROWS[str(row['direction'])]}"


def _least_and_most(frame: pl.DataFrame) -> str:
    low, high = int(frame["n"].to_numpy().min()), int(frame["n"].to_numpy().max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
