"""Figures that hold tasks and trained models side by side: patterns, drift, special tokens, features.

A function is a figure, its name the figure's name: it takes a store and choices and gives a
`Drawing`. Section numbers are those of Kovaleva et al. 2019.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from attnstore.naming import CLASSES, SURE
from attnstore.paper import schemes
from attnstore.plotting.drawings import (
    ANNOTATED,
    CLASSIFIED,
    INGESTED,
    TRAINED,
    Drawing,
    Runs,
    asked,
    chosen,
    counted,
    every,
    n_of,
    one,
    per_run,
)  # fmt: skip
from attnstore.plotting.figures import by_head
from attnstore.plotting.panels import Panel, in_rows, kinds, pictures
from attnstore.plotting.plots import Series, bars, lines

if TYPE_CHECKING:
    from attnstore.store import Store

FEATURES = ("cls", "sep", "punctuation", "noun", "verb", "pronoun", "subject", "object", "negation")
SPECIAL = {"cls": "[CLS]", "sep": "[SEP]", "first": "first token"}
_LETTERS = dict(zip(CLASSES, "VD+BH", strict=True))
_UNCLASSIFIED = f"No map is classified; `{CLASSIFIED}` does it."


def pattern_examples(store: Store, run: str | None = None, examples: int = 2) -> Drawing:
    """Typical maps of each class, the most probable ones of different heads."""
    run = one(store, run, "SELECT run FROM patterns", _UNCLASSIFIED)
    maps = store.sql(
        "SELECT p.class, p.example, p.layer, p.head, p.probability "
        "FROM patterns p JOIN inputs i USING (run, example) WHERE p.run = $run "
        "QUALIFY row_number() OVER (PARTITION BY p.class, p.layer, p.head "
        "    ORDER BY abs(i.length - 16) > 6, p.probability DESC, p.example) = 1 "
        "ORDER BY abs(i.length - 16) > 6, p.probability DESC, p.example, p.layer, p.head",
        run=run,
    )
    rows: list[list[Panel | None]] = [[None] * len(CLASSES) for _ in range(examples)]
    for column, name in enumerate(CLASSES):
        for row, at in enumerate(
            maps.filter(pl.col("class") == name).head(examples).rows(named=True)
        ):
            one_map = store.map(run, at["example"], at["layer"], at["head"])
            rows[row][column] = Panel(
                one_map.weights.astype(float),
                f"{name}\nlayer {at['layer']}, head {at['head']}\np = {at['probability']:.2f}",
                one_map.texts, one_map.texts, ("to token", "from token"),
            )  # fmt: skip
    shown = [row for row in rows if any(row)]
    present = [any(row[column] for row in shown) for column in range(len(CLASSES))]
    n = store.sql("SELECT count(*) FROM patterns WHERE run = $run", run=run).item()
    return Drawing(
        pictures([[p for p, keep in zip(row, present, strict=True) if keep] for row in shown],
                 "attention weight", high=1.0, root=True),
        "Typical maps of each pattern class: those that the network gives the highest probability "
        "p, of different heads (layer and head from 0), of inputs of 10 to 22 tokens where there are "
        f"any. Section 4.1, Figure 1. n = {n:,} classified maps of {run}.",
        (
            "attnstore sql 'FROM patterns WHERE run = $run ORDER BY probability DESC LIMIT 20' "
            f"--param {shlex.quote(f'run={run}')}",
        ),
    )  # fmt: skip


def pattern_shares(store: Store, run: Runs = None, runs_like: str = "%") -> Drawing:
    """The share of each class, by run."""
    runs, more = _classified(store, 12, runs_like, run)
    frames = per_run(store, "pattern_shares", runs)
    series = {}
    for name in CLASSES:
        rows = [f.filter(pl.col("class") == name).row(0, named=True) for f in frames.values()]
        series[name] = Series(
            range(len(rows)), *([r[c] for r in rows] for c in ("mean", "low", "high"))
        )
    shares = dict(zip(runs, series["heterogeneous"].mean, strict=True))
    names = [run.replace("/", "\n") + _kept(f, "\n") for run, f in frames.items()]
    return Drawing(
        bars(names, series, "share of maps"),
        "Share of the maps of each pattern class, mean over inputs, with the 95 % interval over "
        f"inputs. {_doubts(frames)}Section 4.1, Figure 2. {counted(frames)}{more}",
        (asked("pattern_shares", run=run if isinstance(run, str) else None),),
        {run: f"{share:.0%}".replace("%", " %") for run, share in shares.items()},
    )


def pattern_by_head(store: Store, run: Runs = None, runs_like: str = "%") -> Drawing:
    """The pattern class of most of a head's maps."""
    runs, more = _classified(store, 8, runs_like, run)
    frames = per_run(store, "pattern_by_head", runs)
    numbers = {name: number for number, name in enumerate(CLASSES)}
    panels = [
        Panel(
            by_head(f.with_columns(mean=pl.col("class").replace_strict(numbers, default=None))),
            f"{run}\n{n_of(f)}",
        )
        for run, f in frames.items()
    ]
    return Drawing(
        kinds(in_rows(panels), CLASSES, _LETTERS),
        f"The pattern class of most of a head's maps. Section 4.1. {counted(frames)}{more}",
        tuple(asked("pattern_by_head", run=run) for run in frames),
    )


def drift(
    store: Store,
    run: Runs = None,
    base_run: str | None = None,
    as_published: bool = False,
    runs_like: str = "%",
) -> Drawing:
    """The cosine between each head's maps before and after training, by run."""
    comparable = (
        "SELECT b.run FROM base_runs b JOIN run_pairs p ON p.run = b.run AND "
        "p.other_run = coalesce($base_run, b.base_run) WHERE p.refusal IS NULL AND b.run LIKE $runs_like"
        " UNION SELECT run FROM run_pairs WHERE other_run = $base_run AND refusal IS NULL "
        "AND run <> other_run AND run LIKE $runs_like"
    )
    runs, more = chosen(
        store, 8, comparable,
        "No run of a trained model stands beside one of its pre-trained model over the same "
        f"dataset; `{TRAINED}` supplies it, with a folder of checkpoints.",
        run, runs_like=runs_like, base_run=base_run,
    )  # fmt: skip
    choices = {"base_run": base_run, "as_published": as_published}
    frames = per_run(store, "drift", runs, **choices)
    panels = [Panel(by_head(f), f"{run}\n{n_of(f)}") for run, f in frames.items()]
    return Drawing(
        pictures(in_rows(panels), "cosine similarity", low=None, high=1.0),
        "Per head, the mean over inputs of the cosine between the flattened maps of the trained and "
        "of its pre-trained model: the darker, the more training moved it. Section 4.3, Figure 5. "
        f"{counted(frames)}{more}{_notes(store, 'drift', frames, choices)}",
        tuple(asked("drift", run=run, **choices) for run in frames),
        {run: _moved_most(f) for run, f in frames.items() if _is_whole(store, run, f)},
    )


def special_tokens(
    store: Store, run: Runs = None, by: str | None = None, runs_like: str = "%"
) -> Drawing:
    """Attention to [CLS], [SEP] and punctuation by layer, by weight and by norm side by side."""
    runs, more = every(store, 8, runs_like, run)
    frames = per_run(store, "special_tokens", runs, by="weight" if by is None else by)
    by_norm = per_run(store, "special_tokens", _with_norms(store, runs, by), by="norm")
    panels = {}
    for name, frame in frames.items():
        title = f"{name}, {n_of(frame)}{_kept(frame)}"
        panels[f"{title}, by weight" if name in by_norm else title] = _by_kind(frame)
        if name in by_norm:
            panels[f"{title}, by norm"] = _by_kind(by_norm[name])
    norms = (
        " By norm: the weight times the length of the vector that it moves, as a share of its row "
        "(Kobayashi et al. 2020)."
    )
    return Drawing(
        lines(panels, "share of attention"),
        "The share of a token's attention that [CLS], [SEP], punctuation, the first token of inputs "
        "without [CLS], and all other tokens receive together, mean over inputs and heads, with the 95 % interval over inputs. Section "
        f"4.4; Clark et al. 2019, section 3.2.{norms if by_norm or by == 'norm' else ''} {counted(frames)}{more}",
        (
            *(asked("special_tokens", run=run, by=by or "weight") for run in frames),
            *(asked("special_tokens", run=run, by="norm") for run in by_norm),
        ),
        {run: _preferred(f) for run, f in frames.items()},
    )


def _with_norms(store: Store, runs: Iterable[str], by: str | None) -> list[str]:
    """Return the runs of which a figure shows both, weights and norms: those that hold them, unless it is of one."""
    if by is not None:
        return []
    rows = store.sql("SELECT run FROM map_kinds WHERE kind = 'norm' AND complete")
    return [run for run in runs if run in set(rows["run"])]


def _by_kind(frame: pl.DataFrame) -> dict[str, Series]:
    """Return a line over layers for each kind of token."""
    return {
        SPECIAL.get(kind, kind): Series(
            *(part[c].to_list() for c in ("layer", "mean", "low", "high"))
        )
        for (kind,), part in frame.group_by("kind", maintain_order=True)
    }


def feature_attention(
    store: Store,
    run: Runs = None,
    as_published: bool = False,
    annotation: str | None = None,
    scheme: str | None = None,
    runs_like: str = "%",
) -> Drawing:
    """The attention that each linguistic feature receives, by head."""
    runs, more = chosen(
        store, 7, "SELECT run FROM runs SEMI JOIN spans USING (dataset) WHERE run LIKE $runs_like "
        "AND dataset IN (SELECT dataset FROM spans SEMI JOIN feature_labels USING (kind, label))",
        f"No dataset has parts of speech or dependencies; `{ANNOTATED}` supplies them.",
        run, runs_like=runs_like,
    )  # fmt: skip
    choices = {"as_published": as_published, "annotation": annotation}
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
            heading = "" if row else run
            row.append(Panel(by_head(part), title, heading=heading) if len(part) else None)
        rows.append(row)
    return Drawing(
        pictures(rows, "share of attention", root=True),
        "Per head, the mean over inputs that have the feature of the weight that a token of it "
        "receives from all tokens, divided by the length; the largest where an input has several. "
        f"{schemes.in_words(labels)} Section 4.4, Figure 6. {counted(frames)}{more}",
        tuple(asked("feature_attention", run=run, scheme=labels[run], **choices) for run in frames),
    )


def cls_attention(
    store: Store,
    run: Runs = None,
    layer: int | None = None,
    statistic: str = "sum",
    annotation: str | None = None,
    scheme: str | None = None,
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
    choices = {"layer": layer, "statistic": statistic, "annotation": annotation}
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
        f"Figure 7. Grey: no input has the feature, or none is annotated. {counted(frames)}{more}",
        tuple(asked("cls_attention", run=run, scheme=labels[run], **choices) for run in frames),
        {run: _most_attended(f) for run, f in frames.items()},
    )


def _notes(store: Store, name: str, runs: Iterable[str], choices: Mapping[str, object]) -> str:
    """Return what a reader of an analysis's results has to know, a sentence each."""
    notes = [note for run in runs for note in store.notes(name, run=run, **choices)]
    return "".join(f" {note}" for note in notes)


def _classified(store: Store, most: int, runs_like: str, run: Runs) -> tuple[list[str], str]:
    wanted = "SELECT run FROM patterns WHERE run LIKE $runs_like"
    return chosen(store, most, wanted, _UNCLASSIFIED, run, runs_like=runs_like)


def _doubts(frames: dict[str, pl.DataFrame]) -> str:
    """Say how many maps the network is unsure of and does not know, mean over runs that tell."""
    rows = pl.concat(frames.values()).filter(pl.col("doubtful").is_not_null())
    runs = rows["run"].n_unique()
    if not runs:
        return ""
    doubtful, outside = (
        float((rows["mean"] * rows[c]).sum()) / runs for c in ("doubtful", "out_of_domain")
    )
    return (
        f"{doubtful:.0%} of the maps have a doubtful class (probability below {SURE}), {outside:.0%} are "
        "unlike those that the network learned from. ".replace("%", " %")
    )


def _kept(frame: pl.DataFrame, before: str = ", ") -> str:
    """Return how many of how many heads a result is of, in words; '' if it is of all."""
    heads, of_heads = frame.select("heads", "of_heads").row(0) if len(frame) else (0, 0)
    return f"{before}{heads} of {of_heads} heads" if heads < of_heads else ""


def _is_whole(store: Store, run: str, frame: pl.DataFrame) -> bool:
    """Return True if a result has a row for every head of a run: its base run holds them all too."""
    record = store.run(run)
    return bool(len(frame) == record.n_layers * record.n_heads)


def _moved_most(frame: pl.DataFrame) -> str:
    layers = frame.group_by("layer").agg(pl.col("mean").mean()).sort("mean", "layer").head(2)
    return "layers " + " and ".join(map(str, sorted(layers["layer"].to_list())))


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


def _most_attended(frame: pl.DataFrame) -> str:
    means = frame.group_by("feature").agg(pl.col("mean").mean())
    name = str(means.sort("mean", "feature", descending=[True, False])["feature"][0])
    return SPECIAL.get(name, name)
