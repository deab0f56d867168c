"""Figures that hold tasks and trained models side by side: patterns and drift.

A function is a figure, its name the figure's name: it takes a store and choices and gives a
`Drawing`. Section numbers are those of Kovaleva et al. 2019.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import polars as pl

from attnstore.naming import CLASSES, SURE
from attnstore.plotting.drawings import (
    CLASSIFIED,
    Drawing,
    Runs,
    asked,
    chosen,
    counted,
    kept_of,
    n_of,
    one,
    per_run,
    trained,
)  # fmt: skip
from attnstore.plotting.figures import by_head
from attnstore.plotting.panels import Panel, in_rows, kinds, pictures
from attnstore.plotting.plots import Series, bars

if TYPE_CHECKING:
    from attnstore.store import Store

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
    names = [run.replace("/", "\n") + kept_of(f, "\n") for run, f in frames.items()]
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
    runs, more = trained(store, 8, runs_like, run, base_run)
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


def _is_whole(store: Store, run: str, frame: pl.DataFrame) -> bool:
    """Return True if a result has a row for every head of a run: its base run holds them all too."""
    record = store.run(run)
    return bool(len(frame) == record.n_layers * record.n_heads)


def _moved_most(frame: pl.DataFrame) -> str:
    layers = frame.group_by("layer").agg(pl.col("mean").mean()).sort("mean", "layer").head(2)
    return "layers " + " and ".join(map(str, sorted(layers["layer"].to_list())))
