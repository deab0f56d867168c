"""The figure of coreference: in how many mentions a head's most attended other mention is of the same entity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from attnstore.paper import schemes
from attnstore.plotting.drawings import Drawing, NothingToDraw, Runs, asked, chosen, per_run
from attnstore.plotting.figures import by_head
from attnstore.plotting.panels import Panel, in_rows, pictures

if TYPE_CHECKING:
    from attnstore.store import Store

_RULES = {
    "nearest": "nearest",
    "string_match": "same text",
    "head_match": "same head word",
    "sieve": "text, else head word, else nearest",
    "chance": "random choice",
}


def coreference_heads(
    store: Store,
    run: Runs = None,
    direction: str = "from_to",
    statistic: str = "max",
    annotation: str | None = None,
    by: str = "weight",
    candidates: str = "all",
    type: str | None = None,
    runs_like: str = "%",
) -> Drawing:
    """How often a head's most attended other mention is of the same entity."""
    twins = "" if run else " AND run NOT IN (SELECT twin_run FROM random_twins)"
    runs, more = chosen(
        store, 4,
        f"SELECT run FROM link_tokens WHERE kind = 'coreference' AND run LIKE $runs_like{twins}",
        "No input has links of coreference; ingest GAP with `attnstore ingest --model MODEL --dataset gap-development.tsv=gap "
        "--text Text`, then `attnstore annotate --dataset gap --with gap`.",
        run, runs_like=runs_like,
    )  # fmt: skip
    choices = {
        "direction": direction, "statistic": statistic, "annotation": annotation, "by": by,
        "candidates": candidates, "type": type or "each",
    }  # fmt: skip
    frames = per_run(store, "coreference_heads", runs, **choices)
    frames = {run: frame for run, frame in frames.items() if len(frame)}
    if not frames:
        raise NothingToDraw(
            f"In {', '.join(runs)} no mention that is asked for has another of its entity whole; ask for other mentions "
            "(type, candidates, annotation), or ingest with a larger --max-length."
        )
    panels = [_panel(run, part) for run, frame in frames.items() for part in _types(frame)]
    mentions = ", ".join(
        f"{int(f['mentions'].to_numpy().max())} mentions of {run}" for run, f in frames.items()
    )
    where = "before it" if candidates == "before" else "of the input"
    return Drawing(
        pictures(in_rows(panels), "share of mentions"),
        "Per head, the share of mentions whose most attended other mention is of the same entity, among those "
        f"{where}; framed: the best head, dot: above the choice by rules (the nearest of the same text, without one that of the "
        "same head word, without one the nearest; false discovery rate 0.05). Clark et al. 2019, section 4.3."
        f"{schemes.of_norms(by)} n = {mentions}.{more}",
        tuple(asked("coreference_heads", run=run, **choices) for run in frames),
        measured={
            key: {run: value for run, f in frames.items() if (value := _ours(f, key))}
            for key in ("all", "pronominal", "proper", "nominal", "nearest", "head_match")
        },
        table=pl.concat([_table(run, frame) for run, frame in frames.items()]),
    )  # fmt: skip


def _types(frame: pl.DataFrame) -> list[pl.DataFrame]:
    """Return the rows of each type; of one type alone, that of all says the same."""
    parts = frame.partition_by("type", maintain_order=True)
    counts = {part["type"][0]: part["mentions"][0] for part in parts}
    same = [kind for kind in counts if kind != "all" and counts[kind] == counts.get("all")]
    return [part for part in parts if not (same and part["type"][0] == "all")]


def _panel(run: str, part: pl.DataFrame) -> Panel:
    return Panel(
        by_head(part, "antecedent"), f"{run}\n{part['type'][0]}, n = {part['mentions'][0]}",
        outlined=list(part.filter("best").select("layer", "head").iter_rows()),
        dotted=list(part.filter("gain_above").select("layer", "head").iter_rows()),
    )  # fmt: skip


def _ours(frame: pl.DataFrame, key: str) -> str:
    """Return our value of a published one, in per cent; '' for a type that there is none of."""
    if key in ("nearest", "head_match"):
        share = frame.filter(pl.col("type") == frame["type"][0])[key].to_list()[0]
        return f"{100 * share:.1f} %"
    best = frame.filter(pl.col("type") == key, "best").head(1).to_dicts()
    if not best:
        return ""
    row = best[0]
    held_out = f", {100 * row['held_out']:.1f} held out" if row["held_out"] is not None else ""
    return f"{100 * row['antecedent']:.1f} %{held_out} (layer {row['layer']}, head {row['head']})"


def _table(run: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the best head of each type beside the rules that read no weight, in per cent."""
    best = frame.filter("best")
    percent = [
        (100 * pl.col(name)).round(1).alias(label)
        for name, label in {"antecedent": "best head", "antecedent_low": "from", "antecedent_high": "to",
                            "held_out": "held out", **_RULES}.items()
    ]  # fmt: skip
    place = pl.format("{}.{}", "layer", "head").alias("layer.head")
    return best.select(pl.lit(run).alias("run"), "type", "mentions", place, *percent)
