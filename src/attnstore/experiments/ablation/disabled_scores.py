"""Scores of a subject with heads disabled, and their difference from its baseline, as rows."""

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
    """Heads that are disabled together. name: their canonical text."""

    name: str
    heads: Heads

    @property
    def layer(self) -> int:
        """Return the lowest layer with a disabled head."""
        return min(self.heads)[0]


def settings(what: Iterable[str], n_layers: int, n_heads: int) -> list[Setting]:
    """Parse `--what`: `heads` (each one), `layers` (each one), or sets such as `0.3,2.11`.

    Returns each set of heads once, in the order given. Raises UsageError.
    """
    by_heads: dict[Heads, Setting] = {}
    for text in what:
        for heads in _sets(text, n_layers, n_heads):
            by_heads.setdefault(heads, Setting(heads_text(heads, n_heads), heads))
    return list(by_heads.values())


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
    """Return one row per setting and metric with the columns of SCHEMA; model and dataset are NULL.

    baseline: outputs (n, labels) of the unchanged model; outputs: (settings, n, labels).
    """
    base_predicted = subject.classes(predictions(baseline))
    predicted = subject.classes(predictions(outputs))
    true = subject.classes(targets.astype(float))
    classes = outputs.shape[-1] > 1
    right, now = base_predicted == true, predicted == true
    records = []
    for metric in subject.metrics:
        before = score(metric, true, base_predicted)
        ends = bootstrap.intervals(metric, true, base_predicted, list(predicted))
        for i, (setting, (low, high)) in enumerate(zip(chosen, ends, strict=True)):
            after = score(metric, true, predicted[i])
            counts = {
                "baseline_correct": right.sum(), "n_correct": now[i].sum(),
                "to_right": (now[i] & ~right).sum(), "to_wrong": (right & ~now[i]).sum(),
            }  # fmt: skip
            records.append({
                **_layer_and_head(setting, subject.checkpoint.n_heads), "setting": setting.name,
                "n_disabled": len(setting.heads), "value": value, "metric": metric,
                "baseline": before, "score": after, "difference": after - before, "low": low,
                "high": high, "n": len(true), "sample": subject.sample, "seed": subject.seed,
                "max_length": subject.max_length, "identity": subject.identity,
                **({k: int(v) for k, v in counts.items()} if classes else {}),
            })  # fmt: skip
    return pl.DataFrame(records, schema=SCHEMA).with_columns(pl.col(pl.Float64).fill_nan(None))


def _layer_and_head(setting: Setting, n_heads: int) -> dict[str, int | None]:
    """Return layer and head of a single head, the layer of a whole layer, else None for both."""
    layers = {layer for layer, _ in setting.heads}
    if len(setting.heads) == 1 and n_heads > 1:
        layer, head = next(iter(setting.heads))
        return {"layer": layer, "head": head}
    whole = len(layers) == 1 and len(setting.heads) == n_heads
    return {"layer": setting.layer if whole else None, "head": None}
