"""Figures of heads that are alike: places, clusters and distances of a run's heads, and heads of two runs.

A function is a figure, its name the figure's name: it takes a store and choices and gives a `Drawing`.
Section numbers are those of Clark et al. 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from attnstore import extras
from attnstore.errors import MissingExtraError
from attnstore.paper import schemes
from attnstore.plotting.drawings import (
    INGESTED,
    Drawing,
    NothingToDraw,
    Runs,
    asked,
    counted,
    one,
    parts,
    per_run,
    trained,
)
from attnstore.plotting.figures import by_head
from attnstore.plotting.panels import Panel, in_rows, pictures
from attnstore.plotting.points import points_and_matrix

if TYPE_CHECKING:
    from attnstore.store import Store

_LABELS = {
    "js_divergence": "Jensen-Shannon divergence (bits)",
    "js_distance": "Jensen-Shannon distance",
    "cosine": "1 − cosine",
    "pearson": "1 − Pearson's correlation",
}
_OF_MODELS = (
    "SELECT r.run FROM runs r JOIN models m USING (model) "
    "WHERE m.random_seed IS NULL OR r.run = $wish"
)


def heads_alike(
    store: Store,
    run: str | None = None,
    clusters: int | None = None,
    specials: str = "keep",
    measure: str = "js_divergence",
    limit: int | None = 100,
    by: str = "weight",
) -> Drawing:
    """The heads as points of a plane, with their clusters, and the distance of every two of them."""
    run = one(store, run, _OF_MODELS, f"The store holds no run; `{INGESTED}` makes one.")
    try:
        extras.require("sklearn")
    except MissingExtraError as error:
        raise NothingToDraw(str(error)) from error
    choices: dict[str, Any] = {
        "specials": specials, "measure": measure, "limit": limit, "by": by,
    }  # fmt: skip
    heads = store.query("heads_alike", run=run, clusters=clusters, **choices)
    if heads["x"].drop_nulls().len() < 3:
        raise NothingToDraw(f"Run {run} has fewer than three heads with distances to place.")
    pairs = store.query("head_pairs_alike", run=run, **choices)
    layers = store.query("layers_alike", run=run, **choices)
    names = list(heads.select("layer", "head").iter_rows())
    figure = points_and_matrix(
        heads.select("x", "y").to_numpy().astype(float), names,
        heads["cluster"].fill_null(-1).to_numpy().astype(np.int64), _square(pairs, names), _LABELS[measure],
    )  # fmt: skip
    first, every = heads.row(0, named=True), layers.row(-1, named=True)
    silhouettes = heads["silhouette"].drop_nulls().to_numpy()
    fit = f"mean silhouette {silhouettes.mean():.2f}" if len(silhouettes) else "no silhouette"
    return Drawing(
        figure,
        f"Left: heads placed by metric multidimensional scaling of their distances (stress {first['stress']:.2f}: 0 where the "
        f"plane has the very distances), shapes for the {first['clusters']} clusters of agglomerative clustering ({fit}). "
        f"Right: the distances, {_LABELS[measure]}, {_over(measure)}. The table has the distances of heads within a layer and to "
        "heads of other layers, p from shuffled layers, and the share of heads whose nearest head is of their own layer. "
        f"Section 6, Figure 6.{schemes.of_norms(by)} n = {first['n']} inputs of {run}.{parts(store, run)}",
        (
            asked("heads_alike", run=run, clusters=clusters, **choices),
            asked("head_pairs_alike", run=run, **choices),
            asked("layers_alike", run=run, **choices),
        ),
        {run: _within(every)} if every["p"] is not None else {},
        table=layers.select("layer", "heads", "within", "between", "difference", "p", "q", "nearest", "chance"),
    )  # fmt: skip


def _over(measure: str) -> str:
    """Say what the distances are a mean over."""
    return "mean over the rows of all inputs" if measure.startswith("js_") else "mean over inputs"


def _within(row: dict[str, Any]) -> str:
    """Say what layers are to the distances of heads."""
    return (
        f"{row['within']:.3f} within a layer, {row['between']:.3f} between layers (p {row['p']:.4f}); {row['nearest']:.0%} of heads "
        f"have their nearest head in their own layer, {row['chance']:.0%} by chance"
    )


def _square(pairs: pl.DataFrame, heads: list[tuple[int, int]]) -> np.ndarray[Any, Any]:
    """Return the distances as a symmetric matrix, 0 on the diagonal, NaN where there is none."""
    distances = np.zeros((len(heads), len(heads)))
    distances[np.triu_indices(len(heads), 1)] = pairs["mean"].cast(pl.Float64).to_numpy()
    return distances + distances.T


def heads_across_runs(
    store: Store,
    run: Runs = None,
    base_run: str | None = None,
    specials: str = "keep",
    measure: str = "js_divergence",
    limit: int | None = 100,
    by: str = "weight",
    runs_like: str = "%",
) -> Drawing:
    """How far training moved each head, as a share of how far the nearest other head is, by run."""
    runs, more = trained(store, 8, runs_like, run, base_run)
    choices: dict[str, Any] = {
        "base_run": base_run, "specials": specials, "measure": measure, "limit": limit, "by": by,
    }  # fmt: skip
    frames = per_run(store, "heads_across_runs", runs, **choices)
    panels = [
        Panel(
            by_head(f.with_columns(mean=pl.col("itself") / pl.col("other"))), f"{name}\n{_same(f)}",
            outlined=list(f.filter(pl.col("rank") > 1).select("layer", "head").iter_rows()), written=len(frames) == 1,
        )
        for name, f in frames.items()
    ]  # fmt: skip
    return Drawing(
        pictures(in_rows(panels), "distance to itself /\ndistance to the nearest other head"),
        f"Per head, its distance ({_LABELS[measure]}, {_over(measure)}) to the same head before training, divided by that to the "
        "nearest other head before training, which is chosen on one half of the inputs and measured on the other: 0 where training "
        "did not move it, 1 where another head is as near. Framed: heads whose nearest head is another one. "
        f"{counted(frames)}{more}{schemes.of_norms(by)}",
        tuple(asked("heads_across_runs", run=name, **choices) for name in frames),
        {name: _same(f) for name, f in frames.items()},
    )


def _same(frame: pl.DataFrame) -> str:
    """Count the heads whose nearest head is themselves."""
    return f"{frame.filter(pl.col('rank') == 1).height} of {len(frame)} heads nearest to themselves"
