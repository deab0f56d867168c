"""Disable heads and layers of a model and store its scores.

Tables `ablations`, `random_sets`, `head_importance`.

    summary = job.run(planned(backend, request("out/rte/checkpoint-234", "rte.parquet")))

A layer is the unit of work and commit: its heads, the whole layer, and sets of heads that begin in
it, with random sets of the same layer profile beside each. The gradient scores of all heads are one more unit. Stored results are not computed again.
Kovaleva et al. 2019, section 4.6; Michel et al. 2019.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from attnstore.errors import UsageError
from attnstore.experiments.ablation import disabled_scores, scored_classifier
from attnstore.experiments.ablation.ablation_summary import Summary
from attnstore.experiments.ablation.disabled_scores import RANDOM, Beside, Setting
from attnstore.experiments.ablation.random_sets import check_number, draw
from attnstore.experiments.ablation.scored_classifier import Loaded, Subject
from attnstore.experiments.ablation.scored_job import Passing, ScoredJob
from attnstore.head_sets import HEADS, LAYERS, RANDOM_SETS, heads_text
from attnstore.job import Report, Share, Unit
from attnstore.storage import location
from attnstore.storage.backend import Backend
from attnstore.storage.location import Location

if TYPE_CHECKING:
    from attnstore.experiments.ablation.disabled_passes import Passes
    from attnstore.experiments.metrics import Floats


@dataclass(frozen=True)
class Request:
    """A resolved ablation: checkpoint and examples are read, nothing is loaded or written.

    importance: compute the gradient score of each head too; beside: random sets of each set of
    several heads.
    """

    subject: Subject
    settings: tuple[Setting, ...]
    passing: Passing
    importance: bool
    beside: tuple[Beside, ...]


@dataclass(frozen=True)
class Scored(Report):
    """A layer that was run. settings: their number; in_pieces: True if the model ran in stages."""

    settings: int
    in_pieces: bool


def request(
    model: str,
    dataset: str,
    *,
    what: Sequence[str] = (HEADS, LAYERS),
    importance: bool = True,
    random_sets: int = RANDOM_SETS,
    **options: Any,
) -> Request:
    """Find a checkpoint and its examples, and parse the sets of heads; nothing is written.

    random_sets: beside each set of several heads, as many of each layer; options: limit, seed, max_length, split, text, pair, label, as `scored_classifier.find` takes
    them, and the fields of `Passing`: value, device, tokens, memory.
    Raises ModelError, DatasetError, UsageError.
    """
    passing = Passing.taken_from(options)
    check_number(random_sets)
    subject = scored_classifier.find(model, dataset, **options)
    checkpoint = subject.checkpoint
    chosen = disabled_scores.settings(what, checkpoint.n_layers, checkpoint.n_heads)
    if not chosen:
        raise UsageError(
            "Nothing is to be disabled; say what: heads, layers, or a set as 0.3,2.11."
        )
    beside = tuple(
        Beside(setting.name, RANDOM, heads)
        for setting in chosen
        if len(setting.heads) > 1
        for heads in draw(setting.heads, checkpoint.n_heads, random_sets)
    )
    return Request(subject, tuple(chosen), passing, importance, beside)


IMPORTANCE = "importance"
"""Name of the unit of gradient scores; the other units are layers."""


class Ablation(ScoredJob[Report, Summary]):
    """One ablation; its units are layers and the importance of all heads."""

    kind, noun = "ablate", "inputs"

    def __init__(self, backend: Backend, asked: Request) -> None:
        subject = asked.subject
        super().__init__(backend, subject, "ablation", "Disabling heads of", subject.identity[:16])
        self.asked = asked
        self._chosen: dict[int, list[Setting]] = {}
        self._beside: dict[int, list[Beside]] = {}

    def lacking(self) -> list[Unit]:
        """Return the importance, and the layers with settings that the store lacks."""
        rows, n = self.rows("ablations"), len(self.subject.chosen)
        stored = set() if rows is None else set(rows.filter(value=self._value)["setting"])
        self._chosen = _by_layer([s for s in self.asked.settings if s.name not in stored])
        self._beside = _by_layer(self._beside_missing())
        units = []
        if self.asked.importance and self.rows("head_importance") is None:
            units.append(Unit(IMPORTANCE, -1, n, n))
        for at, layer in enumerate(sorted({*self._chosen, *self._beside})):
            sets = [*self._chosen.get(layer, ()), *self._beside.get(layer, ())]
            inputs = n * (len(sets) + (at == 0))  # the baseline runs with the first
            units.append(Unit(f"layer {layer}", layer, inputs, inputs))
        return units

    def _beside_missing(self) -> list[Beside]:
        """Return the random sets that the store lacks."""
        rows, n_heads = self.rows("random_sets"), self.subject.checkpoint.n_heads
        stored = set()
        if rows is not None:
            stored = set(rows.filter(value=self._value).select("setting", "disabled").iter_rows())
        return [
            beside
            for beside in self.asked.beside
            if (beside.setting, heads_text(beside.heads, n_heads)) not in stored
        ]

    @property
    def _value(self) -> str:
        return self.asked.passing.value

    @cached_property
    def loaded(self) -> Loaded:
        """Load the model and its inputs on first access."""
        return scored_classifier.load(self.subject, self.asked.passing.device)

    @cached_property
    def _passes(self) -> Passes:
        return self.asked.passing.over(self.loaded)

    def _ran(self, inputs: int) -> None:
        self.move(inputs, inputs)

    @cached_property
    def _baseline(self) -> Floats:
        """Compute outputs (n, labels) of the unchanged model."""
        outputs: Floats = self._passes.outputs([frozenset()], self._ran)[0].double().numpy()
        return outputs

    def store(self, unit: Unit) -> Report:
        """Run and commit the missing settings of one layer, or the gradient score of every head."""
        if unit.name == IMPORTANCE:
            return self._store_importance(unit)
        chosen = self._chosen.get(unit.number, [])
        beside = self._beside.get(unit.number, [])
        sets = [setting.heads for setting in chosen] + [other.heads for other in beside]
        baseline = self._baseline
        outputs = self._passes.outputs(sets, self._ran).double().numpy()
        subject, value, targets = self.subject, self._value, self.loaded.targets
        if beside:
            rows = disabled_scores.set_rows(
                subject, value, beside, targets, baseline, outputs[len(chosen) :], subject.identity
            )
            self._write(
                "random_sets", unit, [f"{x.setting} {sorted(x.heads)}" for x in beside], rows
            )
        if chosen:
            rows = disabled_scores.rows(
                subject,
                value,
                chosen,
                targets,
                baseline,
                outputs[: len(chosen)],
                self.loaded.sources,
            )
            self._write("ablations", unit, [x.name for x in chosen], rows)
        return Scored(unit, 0, len(chosen), self._passes.in_pieces)

    def _write(self, table: str, unit: Unit, names: list[str], rows: pl.DataFrame) -> None:
        digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
        self.write(table, f"{self._value}.{unit.number:03d}.{digest}", rows)

    def _store_importance(self, unit: Unit) -> Report:
        from attnstore.experiments.ablation.importance import head_importance

        loaded, subject = self.loaded, self.subject
        scores = head_importance(loaded.model, loaded.inputs, loaded.targets, self._ran)
        rows = [
            {"layer": layer, "head": head, "importance": float(value), "n": len(subject.chosen),
             "sample": subject.sample, "seed": subject.seed, "max_length": subject.max_length,
             "identity": subject.identity}
            for layer, heads in enumerate(scores)
            for head, value in enumerate(heads)
        ]  # fmt: skip
        types = {"layer": pl.Int16, "head": pl.Int16, "sample": pl.Int64, "seed": pl.Int64}
        self.write("head_importance", "", pl.DataFrame(rows, schema_overrides=types))
        return Report(unit, 0)

    def stored(self, unit: Unit) -> Report | None:
        """Return the report of a unit that is completely stored, else None."""
        return None if unit.name in {u.name for u in self.lacking()} else Report(unit, 0)

    def share(self) -> Share:
        """Return the arguments that another process needs to run layers; it loads the model once."""
        ablation, name = self.asked, self.backend.name
        settings = [s.name for s in ablation.settings]
        sets = len(ablation.beside)
        key = f"{self.key}.{self._value}.{settings}.{ablation.importance}.{sets}"
        return Share(key, planned, (name, ablation))

    def summary(self, seconds: float) -> Summary:
        """Collect the stored results of this ablation."""
        settings = pl.DataFrame({"setting": [s.name for s in self.asked.settings]})
        rows, sets = self.rows("ablations"), self.rows("random_sets")
        assert rows is not None
        results = settings.join(rows.filter(value=self._value), on="setting", maintain_order="left")
        if sets is None:
            sets = pl.DataFrame(schema=disabled_scores.SET_SCHEMA)
        sets = settings.join(
            sets.filter(value=self._value), on="setting", maintain_order="left_right"
        )
        model, dataset = results.select("model", "dataset").row(0)
        scored = [report for report in self.reports if isinstance(report, Scored)]
        in_pieces = all(report.in_pieces for report in scored) if scored else None
        return Summary(
            model, dataset, self._value, len(self.subject.chosen), results, sets,
            sum(report.settings for report in scored), in_pieces, seconds,
        )  # fmt: skip


_S = TypeVar("_S", Setting, Beside)


def _by_layer(sets: Sequence[_S]) -> dict[int, list[_S]]:
    """Group sets by their lowest layer, in order."""
    grouped: dict[int, list[_S]] = {layer: [] for layer in sorted({s.layer for s in sets})}
    for one in sets:
        grouped[one.layer].append(one)
    return grouped


def planned(path: Location, asked: Request) -> Ablation:
    """Create the job of a request; the store is not read yet."""
    return Ablation(location.locate(path), asked)
