"""Figures about attention through all layers: rollout, flow, what other tokens give, and what a classifier uses.

A function is a figure, its name the figure's name: it takes a store and choices and gives a `Drawing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from attnstore.paper import schemes
from attnstore.paper.attended import SPECIAL
from attnstore.plotting.drawings import (
    Drawing,
    NothingToDraw,
    Runs,
    asked,
    chosen,
    counted,
    n_of,
    per_run,
)
from attnstore.plotting.figures import by_head
from attnstore.plotting.panels import Panel, changes
from attnstore.plotting.plots import Series, bars, lines

if TYPE_CHECKING:
    from attnstore.store import Store

MOST_INPUTS = 300
"""Inputs up to which a figure that goes through all layers is drawn without being asked for the run."""
_KINDS = ("cls", "sep", "punctuation", "word", "first")
_WHOLE = (
    "SELECT r.run FROM runs r JOIN models m USING (model) WHERE r.n_layers = m.n_layers AND r.n_heads = m.n_heads "
    "AND r.run LIKE $runs_like"
)
_MEASURES = {
    "attn_w": "weights alone",
    "attn_n": "value vectors",
    "attn_res_w": "weights, half residual",
    "attn_res_n": "value vectors, residual",
    "attn_res_ln_n": "these after LayerNorm",
}


def rollout(
    store: Store,
    run: Runs = None,
    from_kind: str = "cls",
    scheme: str = "upos",
    by: str = "weight",
    runs_like: str = "%",
) -> Drawing:
    """Where attention comes from through all layers so far, beside each layer's own weights."""
    runs, more = _small(store, "rollout", 3, run, runs_like)
    choices = {"from_kind": from_kind, "scheme": scheme, "by": by}
    frames = {
        name: f.filter(pl.col("kind").is_in(_KINDS))
        for name, f in per_run(store, "rollout", runs, **choices).items()
    }
    panels = {
        f"{title}: {name}": {SPECIAL.get(k, k): _over_layers(f.filter(kind=k), *columns) for k in _present(f)}
        for name, f in frames.items()
        for title, columns in (("rollout", ("mean", "low", "high")), ("the layer alone", ("weight",)))
    }  # fmt: skip
    return Drawing(
        lines(panels, "share"),
        f"Rollout: the share of each kind of token in what {SPECIAL.get(from_kind, from_kind)} receives through all "
        "layers up to this one, half of each step being the residual connection; mean over inputs, with the 95 % "
        f"interval. The layer alone: its own weights, mean over heads. Abnar and Zuidema 2020, section 3."
        f"{schemes.of_norms(by)} {counted(frames)}{more}",
        tuple(asked("rollout", run=name, **choices) for name in frames),
    )


def flow(
    store: Store,
    run: Runs = None,
    layer: int | None = None,
    from_pos: int | None = None,
    longest: int = 64,
    by: str = "weight",
    runs_like: str = "%",
) -> Drawing:
    """The maximum flow from [CLS] of the last layer to the tokens of the input, beside rollout."""
    runs, more = _small(store, "flow", 3, run, runs_like)
    choices = {"layer": layer, "from_pos": from_pos, "longest": longest, "by": by}
    frames = {name: f for name, f in per_run(store, "flow", runs, **choices).items() if len(f)}
    if not frames:
        raise NothingToDraw(
            f"No input has {longest} tokens or fewer; `attnstore query flow --run RUN --param longest=256` takes longer ones."
        )
    groups = [f"{SPECIAL.get(k, k)}\n{name}" for name, f in frames.items() for k in f["kind"]]
    rows = pl.concat(frames.values())
    unknown = [None] * len(rows)
    x = range(len(rows))
    series = {
        "flow": Series(x, *(rows[c].to_list() for c in ("mean", "low", "high"))),
        "rollout": Series(x, rows["rollout"].to_list(), unknown, unknown),
        "all tokens alike": Series(x, rows["tokens"].to_list(), unknown, unknown),
    }
    notes = "".join(f" {note}" for n in frames for note in store.notes("flow", run=n, **choices))
    return Drawing(
        bars(groups, series, "share"),
        "The share of each kind of token in the maximum flow from [CLS] of the last layer (or the token that is asked "
        "for) down to the input, mean over inputs with the 95 % interval, beside its share of rollout and its share of "
        f"all tokens. Abnar and Zuidema 2020, section 3.{schemes.of_norms(by)}{notes} {counted(frames)}{more}",
        tuple(asked("flow", run=name, **choices) for name in frames),
    )


def mixing_ratio(store: Store, run: Runs = None, runs_like: str = "%") -> Drawing:
    """How much of what reaches a token comes from other tokens, by layer."""
    runs, more = chosen(
        store, 4, "SELECT run FROM runs WHERE run LIKE $runs_like",
        "The store holds no such run; `attnstore ingest --model MODEL --dataset DATASET` makes one.",
        run, runs_like=runs_like,
    )  # fmt: skip
    frames = {n: f.filter(pl.col("n") > 0) for n, f in per_run(store, "mixing_ratio", runs).items()}
    panels = {
        f"{name}, {n_of(f)}": {
            _MEASURES[m]: _over_layers(f.filter(pl.col("measure") == m, pl.col("layer").is_not_null()), "mean", "low", "high")
            for m in _MEASURES if m in f["measure"]
        }
        for name, f in frames.items()
    }  # fmt: skip
    return Drawing(
        lines(panels, "ratio"),
        "The length of what comes from other tokens, as a share of that and what comes from the token itself: by the "
        "weights alone, with value vectors, and with the residual connection and the LayerNorm that follow; mean over "
        "tokens, with the 95 % interval over inputs. Kobayashi et al. 2021, sections 4 and 5. Below, the mean over all "
        "layers; published are 992 segments of Wikipedia with 12 % of the tokens masked, which texts of a run are not. "
        f"{counted(frames)}{more}",
        tuple(asked("mixing_ratio", run=name) for name in frames),
        table=_mixing_table(store, frames),
    )


def _mixing_table(store: Store, frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Return a row for each measure with the mean over layers of each run, and the published ones."""
    columns = {name: _means(f) for name, f in frames.items()}
    for (model,), part in store.sql("FROM published_mixing ORDER BY model").group_by(
        "model", maintain_order=True
    ):
        columns[f"published, {model}"] = dict(part.select("measure", "value").iter_rows())
    return pl.DataFrame(
        {"measure": list(_MEASURES), "what others give": list(_MEASURES.values())}
        | {name: [_three(values.get(m)) for m in _MEASURES] for name, values in columns.items()}
    )


def _means(frame: pl.DataFrame) -> dict[str, float]:
    """Return the mean over layers by measure."""
    return dict(frame.filter(pl.col("layer").is_null()).select("measure", "mean").iter_rows())


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def faithfulness(
    store: Store,
    run: str | None = None,
    method: str = "gradient_x_input",
    explained: str = "predicted",
    by: str = "weight",
    signed: bool = False,
    specials: str = "drop",
    attributed: str | None = None,
) -> Drawing:
    """Whether attention goes to the tokens that matter to a classifier."""
    (name,), _ = chosen(
        store, 1, "SELECT r.run FROM runs r JOIN attributions a USING (model, dataset) WHERE a.method = $method "
        "AND a.explained = $explained UNION SELECT $attributed",
        "No tokens were weighed for a classifier; `attnstore attribute --model CHECKPOINT --dataset DATASET` does it.",
        run, method=method, explained=explained, attributed=attributed,
    )  # fmt: skip
    choices = {
        "method": method, "explained": explained, "by": by, "signed": signed, "specials": specials,
        "attributed": attributed,
    }  # fmt: skip
    frame = store.query("faithfulness", run=name, **choices)
    titles = {"cls": "weights from [CLS]", "received": "mean weight received"}
    panels = [
        Panel(
            by_head(part, "kendall"), f"{title}\n{n_of(part)}",
            dotted=list(part.filter(pl.col("q") < 0.05).select("layer", "head").iter_rows()),
        )
        for measure, title in titles.items()
        if len(part := frame.filter(measure=measure))
    ]  # fmt: skip
    if not panels:
        raise NothingToDraw(" ".join(store.notes("faithfulness", run=name, **choices)))
    spearman = {
        measure: ", ".join(f"{mean:.2f}" for mean in _by_layer(frame, measure)["spearman"])
        for measure in ("cls", "rollout")
    }
    return Drawing(
        changes([panels], "Kendall's τ"),
        f"Per head, the rank correlation of its attention with the importance of the tokens ({method}, {explained} "
        "output), mean over inputs; dotted where it is not 0 at a false discovery rate of 5 % over the heads. Below, the "
        "mean over a layer's heads beside rollout from [CLS]. Jain and Wallace 2019, section 4.1; Abnar and Zuidema 2020, "
        f"section 4.{schemes.of_norms(by)} {counted({name: frame})} {name}.",
        (asked("faithfulness", run=name, **choices),),
        measured={measure: {name: text} for measure, text in spearman.items()},
        table=_faithfulness_table(frame),
    )


def _by_layer(frame: pl.DataFrame, measure: str) -> pl.DataFrame:
    """Return the mean of both correlations over the heads of each layer."""
    return (
        frame.filter(measure=measure).group_by("layer").agg(pl.col("kendall", "spearman").mean()).sort("layer")
    )  # fmt: skip


def _faithfulness_table(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each layer with Kendall's τ and Spearman's ρ of the three measures."""
    rows = frame.select("layer").unique().sort("layer")
    for measure in ("cls", "received", "rollout"):
        part = _by_layer(frame, measure).select(
            "layer", *(pl.col(c).round(3).alias(f"{measure}, {c}") for c in ("kendall", "spearman"))
        )
        rows = rows.join(part, on="layer", how="left")
    return rows


def _small(store: Store, name: str, most: int, run: Runs, runs_like: str) -> tuple[list[str], str]:
    """Choose whole runs; where none is asked for, of few inputs only, as these figures take long."""
    few = f"{_WHOLE} AND r.stored <= {MOST_INPUTS}"
    return chosen(
        store, most, few if run is None else _WHOLE,
        f"It takes all layers and heads and, where no run is asked for, at most {MOST_INPUTS} inputs, and no run of the "
        f"store is so; `attnstore figure {name} --run RUN` draws a longer one.",
        run, runs_like=runs_like,
    )  # fmt: skip


def _present(frame: pl.DataFrame) -> list[str]:
    present = set(frame["kind"])
    return [kind for kind in _KINDS if kind in present]


def _over_layers(frame: pl.DataFrame, mean: str, *ends: str) -> Series:
    """Return a column of a result as a line over layers, with its interval where it has one."""
    unknown: list[None] = [None] * len(frame)
    low, high = (frame[c].to_list() for c in ends) if ends else (unknown, unknown)
    return Series(frame["layer"].to_list(), frame[mean].to_list(), low, high)
