"""Figures about what models score on tasks: Table 1, and scores over the steps of a training.

A function is a figure, its name the figure's name: it takes a store and choices and gives a
`Drawing`. Section numbers are those of Kovaleva et al. 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from attnstore.plotting.drawings import Drawing, NothingToDraw, asked
from attnstore.plotting.plots import Series, bars, lines

if TYPE_CHECKING:
    from attnstore.store import Store

INITS = {
    "none": "pre-trained, head untrained",
    "normal": "normal, fine-tuned",
    "pretrained": "pre-trained, fine-tuned",
}
"""The name of each init in a figure, in the order of the paper's columns."""
_MOST = 8
_SCORED = "attnstore finetune --model MODEL --task TASK --out FOLDER"
_DATASET = ("base", "dataset", "metric")


def table1(store: Store, base: str | None = None) -> Drawing:
    """Scores by task, with and without pre-training and fine-tuning."""
    scores = store.query("table1", base=base)
    if scores.is_empty():
        raise NothingToDraw(f"No model is evaluated on a task; `{_SCORED}` does it.")
    scores = scores.unique([*_DATASET, "init"], keep="last", maintain_order=True)
    groups = scores.select(_DATASET).unique(maintain_order=True)
    series, marks = {}, {}
    for init, name in INITS.items():
        if init not in scores["init"]:
            continue
        rows = groups.join(
            scores.filter(init=init), on=_DATASET, how="left", maintain_order="left"
        ).with_columns(pl.col("score").fill_null(float("nan")))
        series[name] = _series(rows, range(len(groups)))
        marks[name] = rows["published"].to_list()
    several = groups["base"].n_unique() > 1
    seeds = scores["seeds"].to_list()
    return Drawing(
        bars(
            [f"{f'{b}, ' if several else ''}{d}\n{m}" for b, d, m in groups.iter_rows()],
            series, "%", marks,
        ),
        "Scores after the last step, mean over seeds with the sample standard deviation; "
        "a diamond is the published score. Of several trainings the one of most examples and epochs. "
        f"Section 4.3, Table 1. {min(seeds)} to {max(seeds)} seeds; n = {_inputs(scores)}.",
        (asked("table1", base=base),),
    )  # fmt: skip


def scores_over_steps(store: Store, base: str | None = None) -> Drawing:
    """Scores of the checkpoints of each training."""
    rows = store.query("scores_over_steps", base=base)
    keys = [*_DATASET, "init", "n_train", "epochs", "learning_rate"]
    rows = rows.filter(pl.col("step").n_unique().over(keys) > 1)
    if rows.is_empty():
        raise NothingToDraw(
            f"No training has two evaluated checkpoints; `{_SCORED} --checkpoints-per-epoch 2` "
            "supplies them."
        )
    several = rows["base"].n_unique() > 1
    panels: dict[str, dict[str, Series]] = {}
    for (model, dataset, metric), part in rows.group_by(_DATASET, maintain_order=True):
        panels[f"{f'{model}, ' if several else ''}{dataset}: {metric}"] = {
            INITS[str(init)]: _series(rows, rows["step"].to_list())
            for (init,), rows in part.unique(["init", "step"], keep="last", maintain_order=True)
            .group_by("init", maintain_order=True)
        }  # fmt: skip
    left = len(panels) - _MOST
    return Drawing(
        lines(dict(list(panels.items())[:_MOST]), "%", "step"),
        "Scores of each kept checkpoint, mean over seeds with the sample standard deviation. "
        f"n = {_inputs(rows)}."
        + (f" {left} more panels are left out; choose with base." if left > 0 else ""),
        (asked("scores_over_steps", base=base),),
    )


def _series(rows: pl.DataFrame, x: range | list[int]) -> Series:
    """Means with one standard deviation to each side."""
    low, high = pl.col("score") - pl.col("deviation"), pl.col("score") + pl.col("deviation")
    return Series(x, *(rows.select(c).to_series().to_list() for c in ("score", low, high)))


def _inputs(rows: pl.DataFrame) -> str:
    low, high = int(rows["n"].to_numpy().min()), int(rows["n"].to_numpy().max())
    return f"{low:,} inputs" if low == high else f"{low:,} to {high:,} inputs"
