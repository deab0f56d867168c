"""The smallest set of heads that keeps a classifier's score, by greedy search: table `prunings`.

Half of the examples are for the search, the other half is held out. Each round tries disabling
each remaining head in addition to those already disabled, then disables the heads that cost least,
as many at once as the allowed loss permits. The search ends when no further head can be disabled
within that loss. The set of every round is scored on the held-out half, which says what it
confirms; then random sets and the heads of least gradient (Michel et al. 2019) are scored on it, as
many heads each: table `pruning_sets`. A round is the unit of work and commit.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from attnstore.errors import DatasetError, UsageError
from attnstore.experiments.ablation import held_out, scored_classifier
from attnstore.experiments.ablation.disabled_scores import GRADIENT, RANDOM, Beside
from attnstore.experiments.ablation.held_out import HeldOut
from attnstore.experiments.ablation.pruning_summary import Summary
from attnstore.experiments.ablation.random_sets import check_number, draw
from attnstore.experiments.ablation.scored_classifier import Loaded, Subject
from attnstore.experiments.ablation.scored_job import Passing, ScoredJob
from attnstore.experiments.metrics import Floats, losses, predictions, score
from attnstore.head_sets import RANDOM_SETS, Heads, heads_text, parse_heads
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
    "held_high": pl.Float64, "held_to_right": pl.Int64, "held_to_wrong": pl.Int64,
    "last": pl.Boolean, "max_length": pl.Int32, "identity": pl.String,
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """A resolved search: checkpoint and examples are read, nothing is loaded or written.

    loss: allowed fall of the metric below the baseline (share of 1); at_once: maximum number of
    heads disabled in one round; random_sets: beside the set that is found.
    """

    subject: Subject
    loss: float
    at_once: int
    passing: Passing
    random_sets: int

    @property
    def identity(self) -> str:
        """Return the SHA-256 over everything that determines the search, names excluded."""
        content = [self.subject.identity, self.loss, self.at_once, self.passing.value]
        if self.subject.sources.max() + 1 < len(self.subject.chosen):
            content.append("halves by source")
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def request(
    model: str,
    dataset: str,
    *,
    loss: float = 0.01,
    at_once: int = 4,
    random_sets: int = RANDOM_SETS,
    **options: Any,
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
    check_number(random_sets)
    subject = scored_classifier.find(model, dataset, **options)
    if len(subject.chosen) < 2:
        raise DatasetError(
            f"{subject.dataset.source} has one input with text; a search needs inputs to search on "
            "and others to hold out."
        )
    return Request(subject, loss, at_once, passing, random_sets)


Positions = npt.NDArray[np.int64]
SETS = "sets"
"""Name of the unit of sets beside the pruned one; the other units are rounds."""


class Pruning(ScoredJob[Report, Summary]):
    """One search; its units are rounds, run in sequence, then the sets beside the one found."""

    kind, noun, in_turn = "prune", "heads on trial", True

    def __init__(self, backend: Backend, asked: Request) -> None:
        super().__init__(backend, asked.subject, "pruning", "Pruning", asked.identity[:16])
        self.asked = asked
        self._halves = [self.subject.part(np.sort(half)) for half in _halves(self.subject.sources)]
        self._shape = self.subject.checkpoint.n_layers, self.subject.checkpoint.n_heads
        self._size = self._shape[0] * self._shape[1]
        self._rows = pl.DataFrame(schema=_SCHEMA)

    def lacking(self) -> list[Unit]:
        """Return the next round, if the search has not ended."""
        if (rows := self.rows("prunings")) is not None:
            self._rows = rows.sort("round")
        if self._rows["last"].any():
            n = len(self._beside_missing())
            return [Unit(SETS, len(self._rows) + 1, n, n)] if n else []
        number, heads = len(self._rows) + 1, self._size - len(self.disabled)
        return [Unit(f"round {number}", number, heads, heads)]

    def _beside_missing(self) -> list[Beside]:
        """Return the sets that the store lacks beside the last and the largest confirmed set.

        Those of least gradient have no heads yet: only a loaded model tells them.
        """
        rows, n_heads = self.rows("pruning_sets"), self._shape[1]
        stored = set() if rows is None else set(rows.select("setting", "kind", "disabled").rows())
        with_gradient = {setting for setting, kind, _ in stored if kind == GRADIENT}
        largest = held_out.confirmed(self._rows) or {"disabled": ""}
        missing = []
        for setting in dict.fromkeys((self._rows["disabled"][-1], largest["disabled"])):
            if not setting or not self.asked.random_sets:
                continue
            drawn = draw(parse_heads(setting, *self._shape), n_heads, self.asked.random_sets)
            missing += [
                Beside(setting, RANDOM, heads)
                for heads in drawn
                if (setting, RANDOM, heads_text(heads, n_heads)) not in stored
            ]
            if setting not in with_gradient:
                missing.append(Beside(setting, GRADIENT, frozenset()))
        return missing

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

    @cached_property
    def _held_out(self) -> HeldOut:
        return HeldOut(self._halves[1], self.loaded[1], self.asked.passing)

    def _scored(self, outputs: Floats) -> list[tuple[float, float]]:
        """Return the metric and minus the mean loss of each set on the search inputs."""
        metric, targets = self.subject.metrics[0], self.loaded[0].targets
        true = self.subject.classes(targets.astype(np.float64))
        predicted = self.subject.classes(predictions(outputs))
        scores = [score(metric, true, p) for p in predicted]
        lost = losses(outputs, targets)
        return [(-1.0 if np.isnan(s) else s, -x) for s, x in zip(scores, lost, strict=True)]

    def store(self, unit: Unit) -> Report:
        """Run and commit one round, or the sets beside the pruned one."""
        if unit.name == SETS:
            return self._store_sets(unit)
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
            **self._held_out.row(disabled),
        }  # fmt: skip
        frame = pl.DataFrame([row], schema=_SCHEMA).with_columns(pl.col(pl.Float64).fill_nan(None))
        self.write("prunings", f"{number:04d}", frame)

    def _store_sets(self, unit: Unit) -> Report:
        """Score the sets beside the pruned ones on the held-out inputs and commit them."""
        sets = [
            beside if beside.heads else replace(beside, heads=self._least(beside.setting))
            for beside in self._beside_missing()
        ]
        names = "\n".join(f"{x.setting} {x.kind} {sorted(x.heads)}" for x in sets)
        digest = hashlib.sha256(names.encode()).hexdigest()[:8]
        self.write("pruning_sets", digest, self._held_out.rows(sets, self.asked.identity))
        return Report(unit, 0)

    def _least(self, setting: str) -> Heads:
        """Return as many heads as a set has, those of least gradient."""
        return frozenset(self._by_gradient[: len(parse_heads(setting, *self._shape))])

    @cached_property
    def _by_gradient(self) -> list[tuple[int, int]]:
        """List all heads by importance over the search inputs, normalized per layer, least first."""
        from attnstore.experiments.ablation.importance import head_importance, least_first

        search = self.loaded[0]
        return least_first(head_importance(search.model, search.inputs, search.targets))

    def summary(self, seconds: float) -> Summary:
        """Return the last round, the confirmed one, and the sets beside them."""
        rounds = sum(report.unit.name != SETS for report in self.reports)
        sets = self.rows("pruning_sets")
        return Summary(
            self._rows.row(-1, named=True), held_out.confirmed(self._rows),
            pl.DataFrame() if sets is None else sets, self._size, rounds, seconds,
        )  # fmt: skip


def _halves(sources: npt.NDArray[np.int64]) -> tuple[Positions, Positions]:
    """Return the positions of the inputs to search on and to hold out.

    No source is in both, unless there is only one.
    """
    n_sources = sources.max() + 1
    drawn = np.random.default_rng(0).permutation(n_sources)
    place = np.empty(n_sources, np.int64)
    place[drawn] = np.arange(n_sources)
    order = np.argsort(place[sources], kind="stable")
    half = len(order) // 2
    ends = 1 + np.flatnonzero(
        np.diff(sources[order])
    )  # of sources; none where all inputs share one
    if len(ends):
        half = int(ends[np.abs(ends - half).argmin()])
    return order[half:], order[:half]


def planned(path: Location, asked: Request) -> Pruning:
    """Create the job of a request; the store is not read yet."""
    return Pruning(location.locate(path), asked)
