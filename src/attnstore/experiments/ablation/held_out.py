"""Held-out inputs of a search: score, interval and verdict of a set, and scores of sets beside it.

The sets of the rounds are tested in their order, from the fewest heads on, each at 2.5 % on one
side, and the first that is not confirmed ends it: a fixed sequence, in which the chance that any
confirmed set loses more than asked stays at 2.5 % (Maurer, Hothorn and Lehmacher 1995).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from scipy.optimize import brentq

from attnstore.experiments.ablation import bootstrap, disabled_scores
from attnstore.experiments.ablation.disabled_scores import Beside
from attnstore.experiments.ablation.scored_classifier import Loaded, Subject
from attnstore.experiments.ablation.scored_job import Passing
from attnstore.experiments.metrics import Floats, predictions, score
from attnstore.head_sets import Heads

CONFIRMED, NOT_CONFIRMED, CONTRADICTED = "confirmed", "not confirmed", "contradicted"
"""Verdicts: the interval lies within the asked loss, reaches beyond it, or lies beyond it."""
_Z = 1.959963984540054


def flips_interval(to_right: int, to_wrong: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a difference between two accuracies over the same inputs.

    The differences that McNemar's score test does not reject at 5 % (Tango 1998): unlike a
    bootstrap, the interval has a width where no input changes.
    """

    def score(difference: float) -> float:
        # Of wrong inputs, the share that maximizes the likelihood under this difference.
        a, b = 2 * n, -to_right - to_wrong + (2 * n - to_right + to_wrong) * difference
        c = -to_wrong * difference * (1 - difference)
        share = (np.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = n * (2 * share + difference * (1 - difference))
        return float((to_right - to_wrong - n * difference) / np.sqrt(max(variance, 1e-12)))

    observed, edge = (to_right - to_wrong) / n, 1 - 1e-9
    low = -1.0 if observed <= -edge else brentq(lambda d: score(d) - _Z, -edge, observed)
    high = 1.0 if observed >= edge else brentq(lambda d: score(d) + _Z, observed, edge)
    return float(low), float(high)


def verdict(loss: float, low: float | None, high: float | None) -> str | None:
    """Return what held-out inputs say of an asked loss; None without an interval."""
    if low is None or high is None:
        return None
    if low >= -loss:
        return CONFIRMED
    return CONTRADICTED if high < -loss else NOT_CONFIRMED


def confirmed(rounds: pl.DataFrame) -> dict[str, Any] | None:
    """Return the round with the largest confirmed set, or None. rounds: rows of `prunings`."""
    largest = None
    scored = rounds.drop_nulls("held_score").filter(pl.col("n_disabled") > 0)
    for row in scored.sort("round").iter_rows(named=True):
        if verdict(row["loss"], row["held_low"], row["held_high"]) != CONFIRMED:
            break
        largest = row
    return largest


class HeldOut:
    """The held-out inputs of a search, with the model loaded."""

    def __init__(self, subject: Subject, loaded: Loaded, passing: Passing) -> None:
        self._subject, self._targets, self._sources = subject, loaded.targets, loaded.sources
        # Sets of different rounds share few hidden states, so none are kept.
        self._passes = replace(passing, memory=0).over(loaded)
        self._value = passing.value

    @cached_property
    def _baseline(self) -> Floats:
        outputs: Floats = self._outputs([frozenset()])[0]
        return outputs

    def _outputs(self, sets: Sequence[Heads]) -> Floats:
        outputs: Floats = self._passes.outputs(sets).double().numpy()
        return outputs

    def row(self, disabled: Heads) -> dict[str, Any]:
        """Score a set: the held-out columns of `prunings`.

        The interval is that of the flips; of scores a bootstrap; where inputs share a text, whatever
        of both lies further out.
        """
        metric, subject = self._subject.metrics[0], self._subject
        outputs = np.stack([self._baseline, self._outputs([disabled])[0]])
        targets = subject.classes(self._targets.astype(np.float64))
        before, after = subject.classes(predictions(outputs))
        flips: dict[str, int] = {}
        ends = []
        if outputs.shape[-1] == 1 or self._sources.max() + 1 < len(targets):
            ends = bootstrap.intervals(metric, targets, before, [after], sources=self._sources)
        if outputs.shape[-1] > 1:
            right, now = before == targets, after == targets
            gained, lost = int((now & ~right).sum()), int((right & ~now).sum())
            flips = {"held_to_right": gained, "held_to_wrong": lost}
            ends.append(flips_interval(gained, lost, len(targets)))
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        return {
            "held_n": len(targets), "held_baseline": score(metric, targets, before),
            "held_score": score(metric, targets, after), "held_low": low, "held_high": high, **flips,
        }  # fmt: skip

    def rows(self, sets: Sequence[Beside], identity: str) -> pl.DataFrame:
        """Score sets beside a pruned one: rows of `pruning_sets`, of the metric that is to be kept."""
        outputs = self._outputs([beside.heads for beside in sets])
        first = replace(self._subject, metrics=self._subject.metrics[:1])
        return disabled_scores.set_rows(
            first, self._value, sets, self._targets, self._baseline, outputs, identity
        )
