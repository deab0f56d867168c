"""Disable heads and layers of a model and store its scores: tables `ablations`, `head_importance`.

    summary = job.run(planned(backend, request("out/rte/checkpoint-234", "rte.parquet")))

A layer is the unit of work and commit: its heads, the whole layer, and sets of heads that begin in
it. The gradient scores of all heads are one more unit. Stored results are not computed again.
Kovaleva et al. 2019, section 4.6; Michel et al. 2019.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from attnstore.errors import UsageError
from attnstore.experiments.ablation import disabled_scores, scored_classifier
from attnstore.experiments.ablation.disabled_scores import Setting
from attnstore.experiments.ablation.scored_classifier import Loaded, Subject
from attnstore.experiments.ablation.scored_job import Passing, ScoredJob
from attnstore.head_sets import HEADS, LAYERS
from attnstore.job import Report, Share, Unit
from attnstore.storage import location
from attnstore.storage.backend import Backend
from attnstore.storage.location import Location

if TYPE_CHECKING:
    from attnstore.experiments.ablation.disabled_passes import Passes
    from attnstore.experiments.metrics import Floats


@dataclass(frozen=True)
class Summary:
    """The outcome of an ablation.

    results: one row per setting and metric, as view `ablations`; stored: settings run by this
    call; in_pieces: True if the model ran in stages, None if nothing ran; seconds: wall time.
    """

    model: str
    dataset: str
    value: str
    n: int
    results: pl.DataFrame
    stored: int
    in_pieces: bool | None
    seconds: float

    def lines(self) -> list[str]:
        """Return a summary line, and one line per metric with its baseline and largest changes."""
        how = {None: "all stored before", True: "", False: ", one full pass each"}[self.in_pieces]
        now = f"{self.stored:,} of them run now in {self.seconds:.1f} s{how}"
        settings = self.results["setting"].n_unique()
        lines = [
            f"{self.model} over {self.dataset}: {settings:,} settings ({self.value}) over "
            f"{self.n:,} inputs, {now if self.stored else how}"
        ]
        for (metric,), rows in self.results.group_by("metric", maintain_order=True):
            ordered = rows.sort("difference", descending=True, nulls_last=True)
            better, worse = rows.filter(pl.col("low") > 0), rows.filter(pl.col("high") < 0)
            best, worst = ordered.row(0, named=True), ordered.row(-1, named=True)
            baseline = best["baseline"]
            lines.append(
                f"  {metric}: baseline {'undefined' if baseline is None else f'{baseline:.4f}'}; best "
                f"without {_change(best)}, worst without {_change(worst)}; {len(better)} better and "
                f"{len(worse)} worse beyond their interval"
            )
        return lines


def _change(row: dict[str, Any]) -> str:
    if row["difference"] is None or row["low"] is None:
        return f"{row['setting']} (undefined)"
    ends = f"{row['low']:+.4f} to {row['high']:+.4f}"
    return f"{row['setting']} ({row['difference']:+.4f}, 95 % {ends})"


@dataclass(frozen=True)
class Request:
    """A resolved ablation: checkpoint and examples are read, nothing is loaded or written.

    importance: compute the gradient score of each head too.
    """

    subject: Subject
    settings: tuple[Setting, ...]
    passing: Passing
    importance: bool


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
    **options: Any,
) -> Request:
    """Find a checkpoint and its examples, and parse the sets of heads; nothing is written.

    options: limit, seed, max_length, split, text, pair, label, as `scored_classifier.find` takes
    them, and the fields of `Passing`: value, device, tokens, memory.
    Raises ModelError, DatasetError, UsageError.
    """
    passing = Passing.taken_from(options)
    subject = scored_classifier.find(model, dataset, **options)
    checkpoint = subject.checkpoint
    chosen = disabled_scores.settings(what, checkpoint.n_layers, checkpoint.n_heads)
    if not chosen:
        raise UsageError(
            "Nothing is to be disabled; say what: heads, layers, or a set as 0.3,2.11."
        )
    return Request(subject, tuple(chosen), passing, importance)


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

    def lacking(self) -> list[Unit]:
        """Return the importance, and the layers with settings that the store lacks."""
        rows, n = self.rows("ablations"), len(self.subject.chosen)
        stored = set() if rows is None else set(rows.filter(value=self._value)["setting"])
        missing = [s for s in self.asked.settings if s.name not in stored]
        self._chosen = {
            layer: [s for s in missing if s.layer == layer]
            for layer in sorted({s.layer for s in missing})
        }
        units = []
        if self.asked.importance and self.rows("head_importance") is None:
            units.append(Unit(IMPORTANCE, -1, n, n))
        for at, (layer, settings) in enumerate(self._chosen.items()):
            inputs = n * (len(settings) + (at == 0))  # the baseline runs with the first
            units.append(Unit(f"layer {layer}", layer, inputs, inputs))
        return units

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
        chosen, baseline = self._chosen[unit.number], self._baseline
        outputs = self._passes.outputs([s.heads for s in chosen], self._ran).double().numpy()
        rows = disabled_scores.rows(
            self.subject, self._value, chosen, self.loaded.targets, baseline, outputs
        )
        digest = hashlib.sha256("\n".join(s.name for s in chosen).encode()).hexdigest()[:8]
        self.write("ablations", f"{self._value}.{unit.number:03d}.{digest}", rows)
        return Scored(unit, 0, len(chosen), self._passes.in_pieces)

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
        key = f"{self.key}.{self._value}.{settings}.{ablation.importance}"
        return Share(key, planned, (name, ablation))

    def summary(self, seconds: float) -> Summary:
        """Collect the stored results of this ablation."""
        settings = pl.DataFrame({"setting": [s.name for s in self.asked.settings]})
        rows = self.rows("ablations")
        assert rows is not None
        results = settings.join(rows.filter(value=self._value), on="setting", maintain_order="left")
        model, dataset = results.select("model", "dataset").row(0)
        scored = [report for report in self.reports if isinstance(report, Scored)]
        in_pieces = all(report.in_pieces for report in scored) if scored else None
        return Summary(
            model, dataset, self._value, len(self.subject.chosen), results,
            sum(report.settings for report in scored), in_pieces, seconds,
        )  # fmt: skip


def planned(path: Location, asked: Request) -> Ablation:
    """Create the job of a request; the store is not read yet."""
    return Ablation(location.locate(path), asked)
