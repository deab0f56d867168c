"""Figures of attention that goes nowhere: sinks, heads without effect, and outlier dimensions.

A function is a figure, its name the figure's name: it takes a store and choices and gives a `Drawing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from attnstore.paper import schemes
from attnstore.plotting.drawings import (
    INGESTED,
    Drawing,
    NothingToDraw,
    Runs,
    asked,
    chosen,
    counted,
    every,
    n_of,
    per_run,
)  # fmt: skip
from attnstore.plotting.figures import by_head
from attnstore.plotting.panels import Panel, in_rows, pictures
from attnstore.plotting.plots import Series, bars, lines

if TYPE_CHECKING:
    from attnstore.store import Store

_DIMENSIONS = 8


def sinks(
    store: Store,
    run: Runs = None,
    threshold: float = 0.3,
    position: int | None = None,
    first: int | None = None,
    below: bool = False,
    by: str = "weight",
    runs_like: str = "%",
) -> Drawing:
    """In how many heads one token receives much of all attention, by layer."""
    runs, more = every(store, 4, runs_like, run)
    choices = {
        "threshold": threshold,
        "position": position,
        "first": first,
        "below": below,
        "by": by,
    }
    frames = _filled(per_run(store, "sinks", runs, **choices), threshold)
    panels = {f"{name}, {n_of(f)}": _lines_of(f) for name, f in frames.items()}
    return Drawing(
        lines(panels, "share"),
        f"The share of a layer's heads in which one token receives more than {threshold} of all attention (a sink), mean "
        "over inputs with the 95 % interval; the largest share that a token receives, mean over inputs and heads; and "
        "the share of such heads in twins with random weights, from lowest to highest, where the store has them. Below, "
        "which token the sinks are, and how long its value vector is beside the other tokens'. Xiao et al. 2023; Gu et "
        f"al. 2025.{schemes.of_norms(by)} {counted(frames)}{more}",
        tuple(asked("sinks", run=name, **choices) for name in frames),
        table=_sink_table(frames),
    )


def sink_heads(
    store: Store,
    run: Runs = None,
    threshold: float = 0.3,
    position: int | None = None,
    first: int | None = None,
    below: bool = False,
    by: str = "weight",
    runs_like: str = "%",
) -> Drawing:
    """The largest share of all attention that one token receives, by head."""
    runs, more = every(store, 8, runs_like, run)
    choices = {
        "threshold": threshold,
        "position": position,
        "first": first,
        "below": below,
        "by": by,
    }
    frames = _filled(per_run(store, "sink_heads", runs, **choices), threshold)
    panels = [
        Panel(
            by_head(f), f"{name}\n{n_of(f)}",
            outlined=list(f.filter("no_op").select("layer", "head").iter_rows()),
            dotted=list(f.filter("sink").select("layer", "head").iter_rows()),
        )
        for name, f in frames.items()
    ]  # fmt: skip
    return Drawing(
        pictures(in_rows(panels), "share of attention", high=1.0),
        "Per head, the largest share of all attention that one token receives, mean over inputs; dotted where it is above "
        f"{threshold} (false discovery rate 0.05 over the heads), framed where what receives most also moves least: its "
        f"value vector is less than half as long as the other tokens'. Xiao et al. 2023; Gu et al. 2025; Kobayashi et al. 2020.{schemes.of_norms(by)} "
        f"{counted(frames)}{more}",
        tuple(asked("sink_heads", run=name, **choices) for name in frames),
    )


def no_op_heads(
    store: Store, run: Runs = None, share: float = 0.5, small: float = 0.5, runs_like: str = "%"
) -> Drawing:
    """Heads without effect: much weight on delimiters, whose values move next to nothing."""
    runs, more = chosen(
        store, 4, "SELECT run FROM map_kinds WHERE kind = 'norm' AND complete AND run LIKE $runs_like",
        "No run holds value norms; `attnstore ingest … --update` adds them to runs of an earlier capture.",
        run, runs_like=runs_like,
    )  # fmt: skip
    choices = {"share": share, "small": small}
    frames = per_run(store, "no_op_heads", runs, **choices)
    rows = [
        [
            Panel(
                by_head(f, column), f"{name}\n{title}" if column == "mean" else title,
                outlined=list(f.filter("no_op").select("layer", "head").iter_rows()),
            )
            for name, f in frames.items()
        ]
        for column, title in (("mean", "by weight"), ("norm", "by norm"))
    ]  # fmt: skip
    numbers = "; ".join(
        f"{f['no_op'].sum()} of {len(f)} heads of {name}" for name, f in frames.items()
    )
    return Drawing(
        pictures(rows, "share from delimiters", high=1.0),
        "Per head, the share of attention that goes to [CLS], [SEP] and punctuation (top), and the share of what the head "
        f"moves that comes from them (bottom), mean over inputs. Framed, heads without effect: over {share} of the weight on "
        f"delimiters, whose value vectors are less than {small} as long as the other tokens': {numbers}. Clark et al. "
        f"2019, section 3.2; Kobayashi et al. 2020. {counted(frames)}{more}",
        tuple(asked("no_op_heads", run=name, **choices) for name in frames),
    )


def outlier_dimensions(store: Store, model: str | None = None, deviations: float = 3.0) -> Drawing:
    """Dimensions whose scale or shift lies far from all others in many layer norms."""
    models = store.sql(
        "SELECT model FROM models SEMI JOIN layer_norms USING (model) WHERE $model IS NULL OR model = $model "
        "ORDER BY random_seed IS NOT NULL, step IS NOT NULL, model LIMIT 1",
        model=model,
    )
    frame = (
        store.query("outlier_dimensions", model=models.item(), deviations=deviations)
        if len(models)
        else models
    )
    if not len(frame):
        raise NothingToDraw(
            f"Nothing is stored of the layer norms of {model or 'any model'}, or none of their entries lies so far out; "
            f"`{INGESTED} --update` stores them."
        )
    name = str(models.item())
    rows = frame.sort("norms", "dimension", descending=[True, False]).head(_DIMENSIONS)
    unknown = [None] * len(rows)
    series = {
        title: Series(range(len(rows)), rows[column].to_list(), unknown, unknown)
        for column, title in (("gamma_norms", "scale"), ("beta_norms", "shift"))
    }
    beyond = frame.filter(pl.col("q") < 0.05).sort("norms", "dimension", descending=[True, False])
    found = beyond.head(_DIMENSIONS).sort("dimension")["dimension"].to_list()
    return Drawing(
        bars([str(d) for d in rows["dimension"]], series, "layer norms"),
        f"The {len(rows)} dimensions of {name} that lie most often over {deviations:g} standard deviations from the mean "
        "of a layer norm's scale or shift, of the norms over hidden states. Dimensions from 0. Kovaleva et al. 2021. "
        f"n = {rows['of_norms'][0]} layer norms of {name}.",
        (asked("outlier_dimensions", model=name, deviations=deviations),),
        {name: f"{len(beyond)} beyond chance (q < 0.05), the most frequent {', '.join(map(str, found))}"},
        table=rows.select(
            "dimension", "layers", "of_layers", "norms", "of_norms",
            pl.col("q").map_elements(lambda q: f"{q:.2g}", pl.String), pl.col("gamma", "beta").round(2),
        ),
    )  # fmt: skip


def _filled(frames: dict[str, pl.DataFrame], threshold: float) -> dict[str, pl.DataFrame]:
    """Leave out runs without an input long enough for a sink."""
    filled = {name: f for name, f in frames.items() if len(f)}
    if not filled:
        raise NothingToDraw(
            f"No input has over {1 / threshold:.1f} tokens, below which even attention is above {threshold}; "
            f"`{INGESTED}` makes a run of longer texts."
        )
    return filled


def _lines_of(frame: pl.DataFrame) -> dict[str, Series]:
    """Return the lines of one run over layers."""
    layers, unknown = frame["layer"].to_list(), [None] * len(frame)
    made = {
        "heads with a sink": Series(layers, *(frame[c].to_list() for c in ("mean", "low", "high"))),
        "largest share": Series(layers, frame["largest"].to_list(), unknown, unknown),
    }
    if frame["random_low"].null_count() == 0:
        low, high = (frame[c].to_list() for c in ("random_low", "random_high"))
        middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
        made["random weights"] = Series(layers, middle, low, high)
    return made


def _sink_table(frames: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Return which token the sinks of each layer are, and how long its value is."""
    return pl.concat(
        f.select(pl.lit(name).alias("run"), "layer", pl.col("mean").round(3).alias("heads with a sink"), "kind",
                 pl.col("kind_share").round(3).alias("of the sinks"), "token",
                 pl.col("norm_ratio").round(3).alias("length of its value"), "no_op")
        for name, f in frames.items()
    )  # fmt: skip
