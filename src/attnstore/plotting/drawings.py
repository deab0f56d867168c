"""A figure of the paper: the picture, its caption, and the commands that give its numbers.

Also which runs of a store a figure can show. Leaves drawing to `panels` and `figures`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import polars as pl
from matplotlib.figure import Figure

from attnstore.errors import AttnstoreError
from attnstore.plotting import figures
from attnstore.query import analyses
from attnstore.query.analysis_file import PARTS

if TYPE_CHECKING:
    from attnstore.store import Store

INGESTED = "attnstore ingest --model MODEL --dataset DATASET"
ANNOTATED = "attnstore annotate --dataset NAME --with spacy:MODEL"
CLASSIFIED = "attnstore classify --run RUN"
DISABLED = "attnstore ablate --model CHECKPOINT --dataset DATASET"
PRUNED = "attnstore prune --model CHECKPOINT --dataset DATASET"
TRAINED = "attnstore ingest --model CHECKPOINT --dataset DATASET"
"""The commands that supply what a figure needs."""


_LONGEST = 900
"""Pixels of the longer side of the picture in a notebook."""
Runs = str | Sequence[str] | None
"""A run, several runs, or None for every run that has what a figure shows."""


class NothingToDraw(AttnstoreError, LookupError):
    """The store lacks what a figure shows; the sentence names the command that supplies it."""


@dataclass(frozen=True)
class Drawing:
    """A figure with what belongs beside it.

    caption: what it shows, its n at the end; commands: what gives its numbers, for a shell;
    ours: by run, this store's value of what the paper states about the figure; measured: the same
    by the key of a published fact, for a figure that gives several values; table: the numbers
    that a reader wants beside the picture, such as the baselines.
    """

    figure: Figure
    caption: str
    commands: tuple[str, ...]
    ours: Mapping[str, str] = field(default_factory=dict)
    measured: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    table: pl.DataFrame | None = None

    def _repr_png_(self) -> bytes:
        """The picture, for a notebook."""
        return figures.png(self.figure, _LONGEST)


def chosen(
    store: Store, most: int, wanted: str, missing: str, run: Runs = None, **params: str | int | None
) -> tuple[list[str], str]:
    """Choose the runs of a figure, at most `most`; twins with random weights only where they are asked for.

    Args:
        store: The store.
        most: Runs that the figure can show.
        wanted: SQL of one column, run: the runs that have what the figure shows.
        missing: Sentence for a store that has none.
        run: The run or runs that are asked for; None for every one.
        params: Parameters of the SQL.

    Returns:
        The runs, and a sentence about those left out.

    Raises:
        UnknownNameError: A run that is asked for is not there.
        NothingToDraw: No run has what the figure shows.
    """
    rows = store.sql(
        "SELECT r.run, m.random_seed IS NOT NULL AS twin FROM runs r JOIN models m USING (model) "
        f"WHERE r.stored > 0 AND r.run IN ({wanted}) ORDER BY r.dataset, r.model, r.run",
        **params,
    )
    trained = rows.filter(~pl.col("twin"))
    whole = run is not None or params.get("runs_like", "%") != "%" or trained.is_empty()
    runs = (rows if whole else trained)["run"].to_list()
    if run is not None:
        asked_for = [run] if isinstance(run, str) else list(run)
        for name in asked_for:
            store.run(name)
            if name not in runs:
                raise NothingToDraw(f"Run {name}: {missing}")
        runs = asked_for
    if not runs:
        raise NothingToDraw(missing)
    left = len(runs) - most
    more = f" {left} more runs are left out; choose others with runs_like." if left > 0 else ""
    return runs[:most], more + "".join(map(partial(parts, store), runs[:most]))


def parts(store: Store, run: str) -> str:
    """Return the sentence that a run holds some layers or heads only, after a space; '' if it holds all."""
    rows = store.sql(PARTS, run=run)
    return f" {rows.item()}" if len(rows) else ""


def every(store: Store, most: int, runs_like: str, run: Runs = None) -> tuple[list[str], str]:
    """Choose the runs of a figure that any run can have: `run`, or those like a pattern of SQL."""
    return chosen(
        store, most, "SELECT run FROM runs WHERE run LIKE $runs_like",
        f"The store holds no such run; `{INGESTED}` makes one.", run, runs_like=runs_like,
    )  # fmt: skip


def trained(
    store: Store, most: int, runs_like: str, run: Runs = None, base_run: str | None = None
) -> tuple[list[str], str]:
    """Choose the runs of a figure that compares trained models with their pre-trained one, or `base_run`."""
    comparable = (
        "SELECT b.run FROM base_runs b JOIN run_pairs p ON p.run = b.run AND "
        "p.other_run = coalesce($base_run, b.base_run) WHERE p.refusal IS NULL AND b.run LIKE $runs_like"
        " UNION SELECT run FROM run_pairs WHERE other_run = $base_run AND refusal IS NULL "
        "AND run <> other_run AND run LIKE $runs_like"
    )
    return chosen(
        store, most, comparable,
        "No run of a trained model stands beside one of its pre-trained model over the same "
        f"dataset; `{TRAINED}` supplies it, with a folder of checkpoints.",
        run, runs_like=runs_like, base_run=base_run,
    )  # fmt: skip


def one(store: Store, run: str | None, wanted: str, missing: str) -> str:
    """The run that is asked for, or the first that a query finds, models of no training before others, random twins last.

    Raises UnknownNameError for a run that is not there, NothingToDraw where none has what is needed.
    """
    if run is not None:
        store.run(run)
    rows = store.sql(
        "SELECT r.run FROM runs r JOIN models m USING (model) WHERE r.stored > 0 "
        f"AND r.run IN ({wanted}) AND ($wish IS NULL OR r.run = $wish) "
        "ORDER BY m.random_seed IS NOT NULL, m.step IS NOT NULL, r.run LIMIT 1",
        wish=run,
    )
    if rows.is_empty():
        raise NothingToDraw(f"Run {run}: {missing}" if run else missing)
    return str(rows.item())


def asked(name: str, /, **params: object) -> str:
    """Write the command that gives the numbers of an analysis; defaults are left out."""
    defaults = {p.name: p.default for p in analyses.find(name).parameters}
    options = (
        f"--param {shlex.quote(f'{key}={_typed(value)}')}"
        for key, value in params.items()
        if value != defaults[key]
    )
    return " ".join(["attnstore query", name, *options])


def _typed(value: object) -> str:
    """Write a value as on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def per_run(
    store: Store, name: str, runs: Sequence[str], **params: object
) -> dict[str, pl.DataFrame]:
    """The result of an analysis for each run."""
    return {run: store.query(name, run=run, **params) for run in runs}


def n_of(frame: pl.DataFrame) -> str:
    """The largest n of a result in words."""
    return f"n = {int(frame['n'].to_numpy().max())}"


def kept_of(frame: pl.DataFrame, before: str = ", ") -> str:
    """Return how many of how many heads a result is of, in words; '' if it is of all."""
    heads, of_heads = frame.select("heads", "of_heads").row(0) if len(frame) else (0, 0)
    return f"{before}{heads} of {of_heads} heads" if heads < of_heads else ""


def counted(frames: Mapping[str, pl.DataFrame]) -> str:
    """The n of some results in words: `n = 60 inputs (a/x, b/x), 20 to 58 (a/y).`"""
    runs_of: dict[str, list[str]] = {}
    for run, frame in frames.items():
        runs_of.setdefault(_range(frame), []).append(run)
    if len(runs_of) == 1:
        return f"n = {next(iter(runs_of))} inputs{' in each run' if len(frames) > 1 else ''}."
    return (
        "n = " + "; ".join(f"{n} inputs ({', '.join(runs)})" for n, runs in runs_of.items()) + "."
    )


def _range(frame: pl.DataFrame) -> str:
    low, high = int(frame["n"].to_numpy().min()), int(frame["n"].to_numpy().max())
    return f"{low}" if low == high else f"{low} to {high}"
