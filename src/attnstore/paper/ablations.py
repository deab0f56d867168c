"""Figures about disabled heads and layers: what a task loses or gains without them.

A function is a figure, its name the figure's name: it takes a store and choices and gives a
`Drawing`. Section numbers are those of Kovaleva et al. 2019.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import polars as pl

from attnstore.plotting.drawings import DISABLED, Drawing, NothingToDraw
from attnstore.plotting.figures import by_head
from attnstore.plotting.panels import Panel, changes, in_rows
from attnstore.plotting.plots import Series, differences

if TYPE_CHECKING:
    from attnstore.store import Store

_MOST = 8
_INTERVAL = (
    "the interval is the 95 % interval of the paired bootstrap over inputs, per setting, not "
    "corrected for their number"
)


def disabled_heads(
    store: Store, models_like: str = "%", value: str = "uniform", metric: str | None = None
) -> Drawing:
    """The change of each task's score without one head."""
    frames, more = _frames(store, "head IS NOT NULL", models_like, value, metric)
    panels = [
        Panel(
            100 * by_head(f, "difference"), _title(f), dotted=_beyond(f).iter_rows()
        )
        for f in frames.values()
    ]  # fmt: skip
    return Drawing(
        changes(in_rows(panels), "change (points)"),
        f"The score of a classifier without one head ({_meaning(value)}), less its baseline, in "
        f"points of 100; dotted where the interval leaves out 0: {_INTERVAL}, so that by chance "
        f"alone one head in twenty has a dot. Section 4.6, Figure 8. {_counted(frames)}{more}",
        tuple(_command(name, "head IS NOT NULL", f, value) for name, f in frames.items()),
        {name: _best(f, "head") for name, f in frames.items()},
    )


def disabled_layers(
    store: Store, models_like: str = "%", value: str = "uniform", metric: str | None = None
) -> Drawing:
    """The change of each task's score without all heads of one layer."""
    frames, more = _frames(store, "layer IS NOT NULL AND head IS NULL", models_like, value, metric)
    panels = {
        _title(f): Series(
            f["layer"].to_list(), *((100 * f[c]).to_list() for c in ("difference", "low", "high"))
        )
        for f in frames.values()
    }
    return Drawing(
        differences(panels, "change (points)"),
        f"The score of a classifier without the heads of one layer ({_meaning(value)}), less its "
        f"baseline, in points of 100; {_INTERVAL}. Section 4.6, Figure 9. {_counted(frames)}{more}",
        tuple(_command(name, "head IS NULL", f, value) for name, f in frames.items()),
        {name: _best(f, "layer") for name, f in frames.items()},
    )


def _frames(
    store: Store, which: str, models_like: str, value: str, metric: str | None
) -> tuple[dict[str, pl.DataFrame], str]:
    """By model/dataset, the rows of one metric, at most _MOST of them, and about those left out."""
    rows = store.sql(
        "SELECT concat(model, '/', dataset) AS name, model, dataset, layer, head, metric, baseline, "
        f"difference, low, high, n FROM ablations WHERE {which} AND widest AND model LIKE $models_like "
        'AND "value" = $value AND CASE WHEN $metric IS NULL THEN metric IN (\'accuracy\', \'pearson\') '
        "ELSE metric = $metric END ORDER BY dataset, model, layer, head",
        models_like=models_like, value=value, metric=metric,
    )  # fmt: skip
    if rows.is_empty():
        raise NothingToDraw(f"No heads are disabled in any model; `{DISABLED}` does it.")
    frames = {str(name): part for (name,), part in rows.group_by("name", maintain_order=True)}
    left = len(frames) - _MOST
    more = f" {left} more models are left out; choose others with models_like." if left > 0 else ""
    return dict(list(frames.items())[:_MOST]), more


def _title(frame: pl.DataFrame) -> str:
    """Dataset and model on lines of their own, the metric and its baseline on the last."""
    row = frame.row(0, named=True)
    text = f"{row['metric']} {100 * row['baseline']:.1f}, n = {row['n']:,}"
    return f"{row['dataset']}\n{row['model']}\n{text}"


def _beyond(frame: pl.DataFrame) -> pl.DataFrame:
    """Heads whose interval leaves out 0."""
    return frame.filter((pl.col("low") > 0) | (pl.col("high") < 0)).select("layer", "head")


def _best(frame: pl.DataFrame, what: str) -> str:
    """The largest gain and loss, as the paper states them."""
    ordered = frame.sort("difference", "layer", descending=[True, False])
    best, worst = ordered.row(0, named=True), ordered.row(-1, named=True)

    def text(row: dict[str, float]) -> str:
        place = f"layer {row['layer']}" + (f", head {row['head']}" if what == "head" else "")
        return f"{100 * row['difference']:+.1f} ({place})"

    return f"{text(best)} to {text(worst)}; {frame['metric'][0]}"


def _meaning(value: str) -> str:
    return (
        "its attention made 1/L to every real token"
        if value == "uniform"
        else "its output made zero"
    )


def _counted(frames: dict[str, pl.DataFrame]) -> str:
    sizes = {name: f["n"][0] for name, f in frames.items()}
    return "n = " + ", ".join(f"{n:,} inputs ({name})" for name, n in sizes.items()) + "."


def _command(name: str, which: str, frame: pl.DataFrame, value: str) -> str:
    text = (
        'SELECT setting, score, difference, low, high FROM ablations WHERE model = $model AND '
        f'dataset = $dataset AND metric = $metric AND "value" = $value AND widest AND {which} ORDER BY layer, head'
    )  # fmt: skip
    row = frame.row(0, named=True)
    given = {
        "model": row["model"],
        "dataset": row["dataset"],
        "metric": row["metric"],
        "value": value,
    }
    params = " ".join(f"--param {shlex.quote(f'{k}={v}')}" for k, v in given.items())
    return f"attnstore sql {shlex.quote(text)} {params}"
