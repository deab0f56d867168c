"""The smallest set of heads that keeps a classifier's score, by greedy search: table `prunings`.

Half of the examples are for the search, the other half is held out. Each round tries disabling
each remaining head in addition to those already disabled, then disables the heads that cost least,
as many at once as the allowed loss permits. The search ends when no further head can be disabled
within that loss; the set is then scored on the held-out half. A round is the unit of work and
commit. Michel et al. 2019 order heads by gradient; this search orders them by measured effect.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from attnstore.errors import DatasetError, UsageError
from attnstore.experiments.ablation import bootstrap, scored_classifier
from attnstore.experiments.ablation.scored_classifier import Loaded, Subject
from attnstore.experiments.ablation.scored_job import Passing, ScoredJob
from attnstore.experiments.metrics import Floats, losses, predictions, score
from attnstore.head_sets import Heads, heads_text, parse_heads
from attnstore.job import Report, Unit
from attnstore.storage import location
from attnstore.storage.backend import Backend
from attnstore.storage.location import Location

if TYPE_CHECKING:
    from attnstore.experiments.ablation.disabled_passes import Passes

_SCHEMA = {
    "model": pl.String, "dataset": pl.String, "value": pl.String, "metric": pl.String,
    "loss": pl.Float64, "round": pl.Int32, "disabled": pl.String, "n_disabled": pl.Int32,
    "n": pl.Int64, "baseline": pl.Float64, "score": pl.Float64, "held_n": pl.Int64,
    "held_baseline": pl.Float64, "held_score": pl.Float64, "held_low": pl.Float64,
    "held_high": pl.Float64, "last": pl.Boolean, "max_length": pl.Int32, "identity": pl.String,
}  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """The outcome of a search.

    row: its last round, as view `prunings`; n_heads: of the whole model; rounds: run by this call;
    seconds: wall time.
    """

    row: dict[str, Any]
    n_heads: int
    rounds: int
    seconds: float

    def lines(self) -> list[str]:
        """Return one line with the score and one with the disabled heads."""
        row, n_left = self.row, self.n_heads - self.row["n_disabled"]
        return [
            f"{row['model']} over {row['dataset']}: {n_left} of {self.n_heads} heads keep "
            f"{row['metric']} within {row['loss']:g} ({row['value']}), {row['score']:.4f} of "
            f"{row['baseline']:.4f} over {row['n']:,} inputs; held out {row['held_score']:.4f} of "
            f"{row['held_baseline']:.4f} over {row['held_n']:,} (difference "
            f"{row['held_score'] - row['held_baseline']:+.4f}, 95 % {row['held_low']:+.4f} to "
            f"{row['held_high']:+.4f}), {self.rounds} rounds run now in {self.seconds:.1f} s",
            f"disabled: {row['disabled'] or 'none'}",
        ]


@dataclass(frozen=True)
class Request:
    """A resolved search: checkpoint and examples are read, nothing is loaded or written.

    loss: allowed fall of the metric below the baseline (share of 1); at_once: maximum number of
    heads disabled in one round.
    """

    subject: Subject
    loss: float
    at_once: int
    passing: Passing

    @property
    def identity(self) -> str:
        """Return the SHA-256 over everything that determines the search, names excluded."""
        content = [self.subject.identity, self.loss, self.at_once, self.passing.value]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def request(
    model: str, dataset: str, *, loss: float = 0.01, at_once: int = 4, **options: Any
) -> Request:
    """Find a checkpoint and its examples; nothing is written.

    options: limit, seed, max_length, split, text, pair, label, as `scored_classifier.find` takes
    them, and the fields of `Passing`: value, device, tokens, memory.
    Raises ModelError, DatasetError, UsageError.
    """
    passing = Passing.taken_from(options)
    if not 0 <= loss < 1:
        raise UsageError(f"The loss is {loss:g}; give a share of 1, as in 0.01 for one point.")
    if at_once < 1:
        raise UsageError(f"The heads at once are {at_once}; give 1 or more.")
    subject = scored_classifier.find(model, dataset, **options)
    if len(subject.chosen) < 2:
        raise DatasetError(
            f"{subject.dataset.source} has one input with text; a search needs inputs to search on "
            "and others to hold out."
        )
    return Request(subject, loss, at_once, passing)


class Pruning(ScoredJob[Report, Summary]):
    """One search; its units are rounds, run in sequence."""

    kind, noun, in_turn = "prune", "heads on trial", True

    def __init__(self, backend: Backend, asked: Request) -> None:
        super().__init__(backend, asked.subject, "pruning", "Pruning", asked.identity[:16])
        self.asked = asked
        order = np.random.default_rng(0).permutation(len(self.subject.chosen))
        half = len(order) // 2
        self._halves = [self.subject.part(np.sort(part)) for part in (order[half:], order[:half])]
        self._shape = self.subject.checkpoint.n_layers, self.subject.checkpoint.n_heads
        self._size = self._shape[0] * self._shape[1]
        self._rows = pl.DataFrame(schema=_SCHEMA)

    def lacking(self) -> list[Unit]:
        """Return the next round, if the search has not ended."""
        if (rows := self.rows("prunings")) is not None:
            self._rows = rows.sort("round")
        if self._rows["last"].any():
            return []
        number, heads = len(self._rows) + 1, self._size - len(self.disabled)
        return [Unit(f"round {number}", number, heads, heads)]

    @property
    def disabled(self) -> Heads:
        """Return the heads disabled so far."""
        text = self._rows["disabled"][-1] if len(self._rows) else ""
        return parse_heads(text, *self._shape) if text else frozenset()

    @cached_property
    def loaded(self) -> tuple[Loaded, Loaded]:
        """Load the model with the search inputs, and with the held-out inputs."""
        device = self.asked.passing.device
        search, held_out = (scored_classifier.load(half, device) for half in self._halves)
        return search, held_out

    @cached_property
    def _passes(self) -> Passes:
        return self.asked.passing.over(self.loaded[0])

    @cached_property
    def _baseline(self) -> float:
        return self._scored(self._passes.outputs([frozenset()]).double().numpy())[0][0]

    def _scored(self, outputs: Floats) -> list[tuple[float, float]]:
        """Return the metric and minus the mean loss of each set on the search inputs."""
        metric, targets = self.subject.metrics[0], self.loaded[0].targets
        true = self.subject.classes(targets.astype(np.float64))
        predicted = self.subject.classes(predictions(outputs))
        scores = [score(metric, true, p) for p in predicted]
        lost = losses(outputs, targets)
        return [(-1.0 if np.isnan(s) else s, -x) for s, x in zip(scores, lost, strict=True)]

    def store(self, unit: Unit) -> Report:
        """Run and commit one round."""
        gone, least = self.disabled, self._baseline - self.asked.loss
        trials = self._trials(gone)
        bearable = [trial for trial in trials if trial[0][0] >= least - 1e-12]
        going, score = gone, None
        n = min(self.asked.at_once, len(bearable), self._size - len(gone) - 1)
        while n > 0:  # together they may cost more than the sum of single costs
            together = gone | {head for _, head in bearable[:n]}
            outputs = self._passes.outputs([together]).double().numpy()
            if (reached := self._scored(outputs)[0][0]) >= least - 1e-12:
                going, score = together, reached
                break
            n //= 2
        if score is None:
            outputs = self._passes.outputs([gone]).double().numpy()
            score = self._scored(outputs)[0][0]
        last = going == gone or len(going) == self._size - 1
        self._commit(unit.number, going, score, last)
        return Report(unit, 0)

    def _trials(self, gone: Heads) -> list[tuple[tuple[float, float], tuple[int, int]]]:
        """Return ((score, minus the loss), head) with each remaining head disabled, best first."""
        left = [
            [(layer, head) for head in range(self._shape[1]) if (layer, head) not in gone]
            for layer in range(self._shape[0])
        ]
        trials = []
        for heads in left:  # heads of one layer share the layers below it
            if heads:
                outputs = self._passes.outputs([gone | {head} for head in heads]).double().numpy()
                trials += list(zip(self._scored(outputs), heads, strict=True))
                self.move(len(heads), len(heads))
        return sorted(trials, key=lambda trial: (-trial[0][0], -trial[0][1], trial[1]))

    def _commit(self, number: int, disabled: Heads, score: float, last: bool) -> None:
        search, model, dataset = self.asked, *self.names
        row = {
            "model": model, "dataset": dataset, "value": search.passing.value,
            "metric": self.subject.metrics[0], "loss": search.loss, "round": number,
            "disabled": heads_text(disabled, self._shape[1]), "n_disabled": len(disabled),
            "n": len(self._halves[0].chosen), "baseline": self._baseline, "score": score,
            "last": last, "max_length": self.subject.max_length, "identity": search.identity,
            **(self._confirmed(disabled) if last else {}),
        }  # fmt: skip
        frame = pl.DataFrame([row], schema=_SCHEMA).with_columns(pl.col(pl.Float64).fill_nan(None))
        self.write("prunings", f"{number:04d}", frame)

    def _confirmed(self, disabled: Heads) -> dict[str, Any]:
        """Score the held-out inputs with and without these heads."""
        held_out, metric = self.loaded[1], self.subject.metrics[0]
        outputs = self.asked.passing.over(held_out).outputs([frozenset(), disabled])
        targets = self.subject.classes(held_out.targets.astype(np.float64))
        before, after = self.subject.classes(predictions(outputs.double().numpy()))
        ((low, high),) = bootstrap.intervals(metric, targets, before, [after])
        return {
            "held_n": len(targets), "held_baseline": score(metric, targets, before),
            "held_score": score(metric, targets, after), "held_low": low, "held_high": high,
        }  # fmt: skip

    def summary(self, seconds: float) -> Summary:
        """Return the last round."""
        return Summary(self._rows.row(-1, named=True), self._size, len(self.reports), seconds)


def planned(path: Location, asked: Request) -> Pruning:
    """Create the job of a request; the store is not read yet."""
    return Pruning(location.locate(path), asked)
