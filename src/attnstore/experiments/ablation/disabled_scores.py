"""Scores of a subject with heads disabled, and their difference from its baseline, as rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
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
    "to_right": pl.Int64, "to_wrong": pl.Int64, "bootstrap_p": pl.Float64, "sources": pl.Int64,
    "sample": pl.Int64, "seed": pl.Int64,
    "max_length": pl.Int32, "identity": pl.String,
}  # fmt: skip
"""Columns of table `ablations`."""
SET_SCHEMA = {
    "model": pl.String, "dataset": pl.String, "value": pl.String, "metric": pl.String,
    "setting": pl.String, "kind": pl.String, "disabled": pl.String, "n_disabled": pl.Int32,
    "baseline": pl.Float64, "score": pl.Float64, "difference": pl.Float64, "n": pl.Int64,
    "to_right": pl.Int64, "to_wrong": pl.Int64, "max_length": pl.Int32, "identity": pl.String,
}  # fmt: skip
"""Columns of tables `random_sets` and `pruning_sets`."""
RANDOM, GRADIENT = "random", "gradient"
"""Kinds of sets that a set is compared with."""


@dataclass(frozen=True)
class Setting:
    """Heads that are disabled together. name: their canonical text."""

    name: str
    heads: Heads

    @property
    def layer(self) -> int:
        """Return the lowest layer with a disabled head."""
        return min(self.heads)[0]


@dataclass(frozen=True)
class Beside:
    """A set of heads beside a setting. setting: its name; kind: RANDOM or GRADIENT."""

    setting: str
    kind: str
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
    sources: npt.NDArray[np.int64],
) -> pl.DataFrame:
    """Return one row per setting and metric with the columns of SCHEMA; model and dataset are NULL.

    baseline: outputs (n, labels) of the unchanged model; outputs: (settings, n, labels); sources:
    number of each input's source, (n,).
    """
    scored = _Scored(subject, targets, baseline, outputs)
    records = []
    for metric in subject.metrics:
        resampled = bootstrap.differences(
            metric, scored.true, scored.before, list(scored.after), sources=sources
        )
        for i, (setting, differences) in enumerate(zip(chosen, resampled, strict=True)):
            low, high = bootstrap.ends(differences)
            records.append({
                **_layer_and_head(setting, subject.checkpoint.n_heads), "setting": setting.name,
                "n_disabled": len(setting.heads), "value": value, "metric": metric,
                **scored.row(metric, i), "low": low, "high": high,
                "bootstrap_p": bootstrap.p_value(differences), "sources": int(sources.max()) + 1,
                "sample": subject.sample,
                "seed": subject.seed, "max_length": subject.max_length,
                "identity": subject.identity, **scored.counts(i),
            })  # fmt: skip
    return _framed(records, SCHEMA)


def set_rows(
    subject: Subject,
    value: str,
    sets: Sequence[Beside],
    targets: Targets,
    baseline: Floats,
    outputs: Floats,
    identity: str,
) -> pl.DataFrame:
    """Return one row per set and metric with the columns of SET_SCHEMA; model and dataset are NULL.

    baseline, outputs: as `rows` takes them; identity: of the ablation or the search.
    """
    scored = _Scored(subject, targets, baseline, outputs)
    records = [
        {"value": value, "metric": metric, "setting": beside.setting, "kind": beside.kind,
         "disabled": heads_text(beside.heads, subject.checkpoint.n_heads),
         "n_disabled": len(beside.heads), **scored.row(metric, i), **scored.flips(i),
         "max_length": subject.max_length, "identity": identity}
        for metric in subject.metrics
        for i, beside in enumerate(sets)
    ]  # fmt: skip
    return _framed(records, SET_SCHEMA)


class _Scored:
    """Predictions of a baseline and of each set, (n,) and (sets, n), beside what is true."""

    def __init__(
        self, subject: Subject, targets: Targets, baseline: Floats, outputs: Floats
    ) -> None:
        self.before = subject.classes(predictions(baseline))
        self.after = subject.classes(predictions(outputs))
        self.true = subject.classes(targets.astype(float))
        self._is_class = outputs.shape[-1] > 1

    def row(self, metric: str, i: int) -> dict[str, float | int]:
        """Return baseline, score, difference and n of a set."""
        before, after = (score(metric, self.true, p) for p in (self.before, self.after[i]))
        return {
            "baseline": before, "score": after, "difference": after - before, "n": len(self.true)
        }  # fmt: skip

    def counts(self, i: int) -> dict[str, int]:
        """Count inputs that are right without and with a set; nothing for scores."""
        if not self._is_class:
            return {}
        correct = {
            "baseline_correct": int((self.before == self.true).sum()),
            "n_correct": int((self.after[i] == self.true).sum()),
        }
        return correct | self.flips(i)

    def flips(self, i: int) -> dict[str, int]:
        """Count inputs that turn right and wrong; nothing for scores."""
        if not self._is_class:
            return {}
        right, now = self.before == self.true, self.after[i] == self.true
        return {"to_right": int((now & ~right).sum()), "to_wrong": int((right & ~now).sum())}


def _framed(records: list[dict[str, Any]], schema: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(records, schema=schema).with_columns(pl.col(pl.Float64).fill_nan(None))


def _layer_and_head(setting: Setting, n_heads: int) -> dict[str, int | None]:
    """Return layer and head of a single head, the layer of a whole layer, else None for both."""
    layers = {layer for layer, _ in setting.heads}
    if len(setting.heads) == 1 and n_heads > 1:
        layer, head = next(iter(setting.heads))
        return {"layer": layer, "head": head}
    whole = len(layers) == 1 and len(setting.heads) == n_heads
    return {"layer": setting.layer if whole else None, "head": None}
