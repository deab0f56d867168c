"""What a subject scores with heads disabled, and how that differs from its baseline: rows of results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from attnstore.experiments.ablation import bootstrap
from attnstore.experiments.ablation.scored_classifier import Subject
from attnstore.experiments.metrics import Floats, Targets, predictions, score
from attnstore.head_sets import HEADS, LAYERS, Heads, heads_text, parse_heads

SCHEMA = {
    "model": pl.String, "dataset": pl.String, "setting": pl.String, "layer": pl.Int16,
    "head": pl.Int16, "n_disabled": pl.Int32, "value": pl.String, "metric": pl.String,
    "baseline": pl.Float64, "score": pl.Float64, "difference": pl.Float64, "low": pl.Float64,
    "high": pl.Float64, "n": pl.Int64, "baseline_correct": pl.Int64, "n_correct": pl.Int64,
    "to_right": pl.Int64, "to_wrong": pl.Int64, "sample": pl.Int64, "seed": pl.Int64,
    "max_length": pl.Int32, "identity": pl.String,
}  # fmt: skip
"""Columns of table `ablations`."""


@dataclass(frozen=True)
class Setting:
    """Heads that are disabled together. name: their canonical text; layer: the lowest of them."""

    name: str
    heads: Heads

    @property
    def layer(self) -> int:
        """The lowest layer that it changes."""
        return min(self.heads)[0]


def settings(what: Iterable[str], n_layers: int, n_heads: int) -> list[Setting]:
    """What `--what` asks for: `heads` (each one), `layers` (each one), or sets like `0.3,2.11`.

    Each set of heads once, in the order asked for. Raises UsageError.
    """
    found: dict[Heads, Setting] = {}
    for text in what:
        for heads in _sets(text, n_layers, n_heads):
            found.setdefault(heads, Setting(heads_text(heads, n_heads), heads))
    return list(found.values())


def _sets(text: str, n_layers: int, n_heads: int) -> list[Heads]:
    if text == HEADS:
        return [frozenset({(i, j)}) for i in range(n_layers) for j in range(n_heads)]
    if text == LAYERS:
        return [frozenset((i, j) for j in range(n_heads)) for i in range(n_layers)]
    return [parse_heads(text, n_layers, n_heads)]


def rows(
    subject: Subject,
    value: str,
    chosen: Sequence[Setting],
    targets: Targets,
    baseline: Floats,
    outputs: Floats,
) -> pl.DataFrame:
    """One row per setting and metric, as SCHEMA says, the names of model and dataset left open.

    baseline: outputs (n, labels) of the model as it is; outputs: (settings, n, labels).
    """
    held, found = subject.classes(predictions(baseline)), subject.classes(predictions(outputs))
    wanted = subject.classes(targets.astype(float))
    classes = outputs.shape[-1] > 1
    right, now = held == wanted, found == wanted
    made = []
    for metric in subject.metrics:
        before = score(metric, wanted, held)
        ends = bootstrap.intervals(metric, wanted, held, list(found))
        for i, (setting, (low, high)) in enumerate(zip(chosen, ends, strict=True)):
            after = score(metric, wanted, found[i])
            counts = {
                "baseline_correct": right.sum(), "n_correct": now[i].sum(),
                "to_right": (now[i] & ~right).sum(), "to_wrong": (right & ~now[i]).sum(),
            }  # fmt: skip
            made.append({
                **_place(setting, subject.checkpoint.n_heads), "setting": setting.name,
                "n_disabled": len(setting.heads), "value": value, "metric": metric,
                "baseline": before, "score": after, "difference": after - before, "low": low,
                "high": high, "n": len(wanted), "sample": subject.sample, "seed": subject.seed,
                "max_length": subject.max_length, "identity": subject.identity,
                **({k: int(v) for k, v in counts.items()} if classes else {}),
            })  # fmt: skip
    return pl.DataFrame(made, schema=SCHEMA).with_columns(pl.col(pl.Float64).fill_nan(None))


def _place(setting: Setting, n_heads: int) -> dict[str, int | None]:
    """Layer and head of a single head; layer alone of a whole layer; neither of any other set."""
    layers = {layer for layer, _ in setting.heads}
    if len(setting.heads) == 1 and n_heads > 1:
        layer, head = next(iter(setting.heads))
        return {"layer": layer, "head": head}
    whole = len(layers) == 1 and len(setting.heads) == n_heads
    return {"layer": setting.layer if whole else None, "head": None}
