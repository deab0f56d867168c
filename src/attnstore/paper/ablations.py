"""Figures about disabled heads and layers: what a task loses or gains without them.

A function is a figure, its name the figure's name: it takes a store and choices and gives a
`Drawing`. Section numbers are those of Kovaleva et al. 2019.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import polars as pl

from attnstore.plotting.drawings import DISABLED, PRUNED, Drawing, NothingToDraw
from attnstore.plotting.figures import by_head
from attnstore.plotting.panels import Panel, changes, in_rows
from attnstore.plotting.plots import Series, bars, differences

if TYPE_CHECKING:
    from attnstore.store import Store

_MOST = 8
_TEST = (
    "McNemar's exact test of the inputs that turn right and wrong, a paired bootstrap for "
    "correlations, corrected for the number of {} by Benjamini and Hochberg"
)


def disabled_heads(
    store: Store, models_like: str = "%", value: str = "uniform", metric: str | None = None
) -> Drawing:
    """The change of each task's score without one head."""
    frames, more = _frames(store, "head IS NOT NULL", models_like, value, metric)
    panels = [
        Panel(
            100 * by_head(f, "difference"), _title(f), dotted=_beyond_chance(f).iter_rows()
        )
        for f in frames.values()
    ]  # fmt: skip
    return Drawing(
        changes(in_rows(panels), "change (points)"),
        f"The score of a classifier without one head ({_meaning(value)}), less its baseline, in "
        f"points of 100; dotted where q is below 0.05 ({_TEST.format('heads')}). The sets of the same "
        "size and layer profile as a head are the others of its row. Section 4.6, Figure 8. "
        f"{_counted(frames)}{more}",
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
        "baseline, in points of 100, with the 95 % interval of a paired bootstrap over inputs; "
        f"{_changed(frames)} ({_TEST.format('layers')}). A whole layer has no other set of its size "
        f"and layer profile. Section 4.6, Figure 9. {_counted(frames)}{more}",
        tuple(_command(name, "head IS NULL", f, value) for name, f in frames.items()),
        {name: _best(f, "layer") for name, f in frames.items()},
    )


def pruned_heads(store: Store, models_like: str = "%") -> Drawing:
    """What a classifier loses without many heads, and what held-out inputs confirm."""
    rows = store.query("pruned_sets", models_like=models_like)
    if rows.is_empty():
        raise NothingToDraw(f"No heads are pruned in any model; `{PRUNED}` does it.")
    left = len(rows) - _MOST
    more = f" {left} more sets are left out; choose others with models_like." if left > 0 else ""
    rows = rows[:_MOST]
    x, unknown = list(range(len(rows))), [None] * len(rows)
    series = {
        "inputs searched on": Series(x, _points(rows["search_lost"]), unknown, unknown),
        "held-out inputs": Series(x, *(_points(rows[c]) for c in ("lost", "low", "high"))),
        "random sets": Series(
            x, *(_points(rows[c]) for c in ("others_lost", "others_low", "others_high"))
        ),
        "least gradient": Series(x, _points(rows["gradient_lost"]), unknown, unknown),
    }
    groups = [
        f"{row['dataset']}\n{row['model']}\n{row['n_disabled']} of {row['of_heads']} heads\n"
        f"{row['verdict']}"
        for row in rows.iter_rows(named=True)
    ]
    sizes = ", ".join(
        f"{row['n']:,} held-out inputs, {row['others'] or 0} random sets ({row['model']})"
        for row in rows.iter_rows(named=True)
    )
    return Drawing(
        bars(groups, series, "loss (points)", {"held-out inputs": _points(rows["asked"])}),
        "What a classifier loses without the heads that a search disables, in points of 100: over the "
        "inputs that the search saw, and over held-out inputs with the 95 % interval (paired "
        "proportions; a paired bootstrap for correlations), the diamond at the loss that was asked "
        "for; it is confirmed where the whole interval lies below. Beside it, over the same held-out "
        "inputs, random sets with as many heads of each layer (the bar their mean, the line 95 % of "
        f"them) and as many heads of least gradient. n = {sizes}.{more}",
        (f"attnstore query pruned_sets --param {shlex.quote(f'models_like={models_like}')}",),
    )  # fmt: skip


def _points(values: pl.Series) -> list[float]:
    """Values in points of 100, NaN where there is none."""
    return [float(x) for x in (100 * values).fill_null(float("nan"))]


def _frames(
    store: Store, which: str, models_like: str, value: str, metric: str | None
) -> tuple[dict[str, pl.DataFrame], str]:
    """By model/dataset, the rows of one metric, at most _MOST of them, and about those left out."""
    rows = store.sql(
        "SELECT concat(model, '/', dataset) AS name, model, dataset, layer, head, metric, baseline, "
        "difference, low, high, n, q_value(p, list(p) OVER (PARTITION BY model, dataset, metric)) AS q "
        "FROM (SELECT *, ablation_p(metric, to_right, to_wrong, bootstrap_p, n, sources) AS p FROM ablations "
        f"WHERE {which} AND widest AND model LIKE $models_like "
        'AND "value" = $value AND CASE WHEN $metric IS NULL THEN metric IN (\'accuracy\', \'pearson\') '
        "ELSE metric = $metric END) ORDER BY dataset, model, layer, head",
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


def _beyond_chance(frame: pl.DataFrame) -> pl.DataFrame:
    """Heads and layers that change the score beyond chance."""
    return frame.filter(pl.col("q") < 0.05).select("layer", "head")


def _changed(frames: dict[str, pl.DataFrame]) -> str:
    """The layers that change the score beyond chance."""
    layers = {name: _beyond_chance(f)["layer"].to_list() for name, f in frames.items()}
    texts = [f"{', '.join(map(str, some))} of {name}" for name, some in layers.items() if some]
    return f"q is below 0.05 for layers {'; '.join(texts)}" if texts else "q is below 0.05 for none"


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
