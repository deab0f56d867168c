"""The attention probe of a run: table `probes`, one fragment per variant and fold.

    summary = job.run(planned(backend, Request("minilm/ewt")))

It reads the store alone: maps, links and source texts. A variant that is trained on all folds but one and scored on
that one is the unit of work and commit, so every link is scored once, by weights that never saw its text. Results of
the same settings over another content of the run or of the annotation are replaced.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from attnstore import store
from attnstore.errors import UsageError
from attnstore.experiments.probing import conditional_logit, probe_request, treebank, word_maps
from attnstore.experiments.probing.conditional_logit import Model
from attnstore.experiments.probing.probe_request import REACH, Request, Subject
from attnstore.experiments.probing.probe_summary import Summary
from attnstore.experiments.probing.treebank import Group, Ints, Treebank
from attnstore.experiments.probing.word_maps import WordMaps
from attnstore.job import Job, Report, Share, Unit
from attnstore.naming import (
    ATTENTION,
    ATTENTION_DISTANCES,
    DISTANCES,
    LEFT_BRANCHING,
    OFFSET,
    PROBES,
    RIGHT_BRANCHING,
)
from attnstore.storage import fragments
from attnstore.storage.fragments import Fragment
from attnstore.storage.location import Location
from attnstore.store import Store

TABLE = "probes"
_COSTS = {ATTENTION: 30, ATTENTION_DISTANCES: 40, DISTANCES: 5}
"""About how long variants take, to guess the time that is left."""
_READING = 0.5
"""Part of the first unit with attention that goes into reading maps, for the progress."""
_NOTHING = -1
"""A predicted head that lies outside of the input."""


class Probe(Job[Report, Summary]):
    """The probe of one run, created by `planned`."""

    kind, noun = "probe", "fits"

    def __init__(self, opened: Store, asked: Request, subject: Subject) -> None:
        super().__init__(opened.backend, asked.run, lock=asked.run, subject=f"Run {asked.run}")
        self._store, self._asked, self.subject = opened, asked, subject

    def hold(self, entered: contextlib.ExitStack) -> None:
        """Take the lock; the store is closed with it, and the file of word maps."""
        entered.callback(self._forget)
        entered.callback(self._store.close)
        super().hold(entered)

    def _forget(self) -> None:
        if (maps := self.__dict__.pop("_maps", None)) is not None:
            maps.close()
        self.__dict__.pop("_treebank", None)

    def look(self) -> None:
        """See what is missing, and drop results of another content of the run or the annotation."""
        self._store.catch_up()
        found = probe_request.find(self._store, self._asked)
        if found != self.subject:
            self._forget()
            self.subject = found
        listed = self._fragments(found.settings)
        fragments.discard(self.backend, *(f for f in listed if not f.part.startswith(found.key)))
        super().look()

    def _fragments(self, beginning: str) -> list[Fragment]:
        listed = fragments.listing(self.backend, TABLE, self.title)
        return [fragment for fragment in listed if fragment.part.startswith(beginning)]

    def lacking(self) -> list[Unit]:
        """Return the variants and folds whose fragments the store lacks."""
        listed = self._fragments(self.subject.key)
        parts = {f.part for f in listed if fragments.whole(self.backend, f)}
        return [unit for unit in self._units() if self._part(unit) not in parts]

    def _units(self) -> list[Unit]:
        return [
            Unit(f"{variant}, fold {fold}", fold * len(PROBES) + number, 1, _COSTS.get(variant, 1))
            for number, variant in enumerate(PROBES)
            for fold in range(self.subject.asked.folds)
        ]

    def _part(self, unit: Unit) -> str:
        return f"{self.subject.key}.{unit.number:05d}"

    @cached_property
    def _treebank(self) -> Treebank:
        return treebank.read(self._store, self.subject)

    @cached_property
    def _maps(self) -> WordMaps:
        def progress(part: float) -> None:
            if self._reading is not None:
                self.reach(self._reading, part * _READING)

        return word_maps.extract(self._store, self.subject, self._treebank, progress)

    _reading: Unit | None = None
    """The unit that is being stored in this process."""

    def store(self, unit: Unit) -> Report:
        """Train a variant on all folds but one, score it on that one, and commit both.

        Raises:
            UsageError: Too few texts for the folds, or the annotation was replaced meanwhile.
        """
        fold, number = divmod(unit.number, len(PROBES))
        self._reading = unit
        train, test = self._treebank.split(fold)
        columns, predicted = self._of_variant(PROBES[number], train, test)
        row = self._row(test, predicted) | columns | self._asked_columns()
        frame = pl.DataFrame(
            {name: [value] for name, value in (row | {"variant": PROBES[number], "fold": fold}).items()},
            schema_overrides=_TYPES,
        )  # fmt: skip
        if probe_request.find(self._store, self._asked) != self.subject:
            raise UsageError(
                f"The annotation of {self.title} by {self.subject.asked.annotation} was replaced while it was "
                "probed; run the same command again."
            )
        fragments.write(self.backend, TABLE, self.title, self._part(unit), frame)
        return Report(unit, 0)

    def _of_variant(
        self, variant: str, train: Sequence[Group], test: Sequence[Group]
    ) -> tuple[dict[str, Any], list[Ints]]:
        """Return what a variant learned, as columns, and the head of each link of the test groups."""
        none = {"loss": None, "gradient": None, "steps": None}
        if variant not in _COSTS:
            offset = _best_offset(train) if variant == OFFSET else _FIXED[variant]
            heads = [_beside(group, offset) for group in test]
            return none | {"offset": offset, "trained": _count(train)}, heads
        maps = None if variant == DISTANCES else self._maps
        model = Model(maps, len(self.subject.layers), None if variant == ATTENTION else REACH)
        fit = conditional_logit.fit(model, train)
        heads = [model.scores(fit.weights, g)[g.input, g.dependent].argmax(1) for g in test]
        learned = {
            "trained": _count(train), "loss": fit.loss, "gradient": fit.gradient, "steps": fit.steps,
        }  # fmt: skip
        return learned | self._weights(model, fit.weights), heads

    def _weights(self, model: Model, weights: conditional_logit.Doubles) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        n = model.n_maps
        if n:
            columns |= {
                "layers": list(self.subject.layers), "heads": list(self.subject.heads),
                "from_to": weights[:n].tolist(), "to_from": weights[n : 2 * n].tolist(),
            }  # fmt: skip
        if model.n_offsets:
            apart = np.arange(-REACH, REACH + 1) != 0
            columns["distances"] = np.arange(-REACH, REACH + 1)[apart].tolist()
            columns["distance_weights"] = weights[2 * n :][apart].tolist()
        return columns

    def _row(self, test: Sequence[Group], predicted: Sequence[Ints]) -> dict[str, Any]:
        """Return the scored links as lists, in the order of examples and words."""
        rows = []
        for group, heads in zip(test, predicted, strict=True):
            k, j, i = group.input, group.dependent, group.head
            span = np.where(heads == _NOTHING, _NOTHING, group.spans[k, heads])
            rows.append(np.stack([group.examples[k], group.spans[k, j], group.spans[k, i], span]))
        example, dependent, head, found = np.concatenate(rows, axis=1)
        order = np.lexsort((head, dependent, example))
        return {
            "examples": example[order].tolist(), "dependents": dependent[order].tolist(),
            "gold": head[order].tolist(), "correct": (head == found)[order].tolist(),
            "predicted": [None if s == _NOTHING else s for s in found[order].tolist()],
        }  # fmt: skip

    def _asked_columns(self) -> dict[str, Any]:
        asked, subject = self.subject.asked, self.subject
        columns = {name: value for name, value in vars(asked).items() if name != "run"}
        return columns | {
            "content": subject.content,
            "inputs": subject.inputs,
            "identity": subject.key,
        }

    def stored(self, unit: Unit) -> Report | None:
        """Return the report of a unit that is stored, else None."""
        return None if unit.name in {u.name for u in self.lacking()} else Report(unit, 0)

    def share(self) -> Share:
        """Return what another process needs to store units; it reads the maps once."""
        return Share(
            f"{self.title}.{self.subject.key}", elsewhere, (self.backend.name, self._asked, self.subject)
        )  # fmt: skip

    def summary(self, seconds: float) -> Summary:
        """Collect the stored results of this probe."""
        rows = pl.concat(
            [
                fragments.read(self.backend, f).select("variant", "correct", "gradient")
                for f in self._fragments(self.subject.key)
            ]
        )
        counted = rows.group_by("variant").agg(
            n=pl.col("correct").list.len().sum(), right=pl.col("correct").list.sum().sum()
        )
        shares = {variant: right / n for variant, n, right in counted.iter_rows()}
        asked, gradient = self.subject.asked, rows["gradient"].max()
        return Summary(
            asked.run, str(asked.annotation), asked.by, asked.folds, int(counted["n"].max() or 0),  # type: ignore[arg-type]
            {variant: shares[variant] for variant in PROBES if variant in shares},
            float(gradient or 0), len(rows), self.n_stored, seconds,  # type: ignore[arg-type]
        )  # fmt: skip


_FIXED = {RIGHT_BRANCHING: -1, LEFT_BRANCHING: 1}
_TYPES: dict[str, Any] = {
    "loss": pl.Float64, "gradient": pl.Float64, "offset": pl.Int32, "folds": pl.Int32, "fold": pl.Int32,
    "predicted": pl.List(pl.Int32), "layers": pl.List(pl.Int16), "heads": pl.List(pl.Int16),
    "distances": pl.List(pl.Int32), "dependents": pl.List(pl.Int32), "gold": pl.List(pl.Int32),
}  # fmt: skip


def _count(groups: Sequence[Group]) -> int:
    return sum(len(group.head) for group in groups)


def _best_offset(train: Sequence[Group]) -> int:
    """Return the commonest offset from dependent to head; of equal ones the nearest, then to the right."""
    offsets = np.concatenate([group.head - group.dependent for group in train])
    values, counts = np.unique(offsets, return_counts=True)
    return int(values[np.lexsort((values, -abs(values), counts))[-1]])


def _beside(group: Group, offset: int) -> Ints:
    """Return the word at an offset from each dependent; _NOTHING beyond the input."""
    heads: Ints = group.dependent + offset
    return np.where((heads >= 0) & (heads < group.n_words), heads, _NOTHING)


def planned(path: Location, asked: Request) -> Probe:
    """Find a run and its annotation; nothing is written yet. Raises what `probe_request.find` raises."""
    opened = store.open(path)
    subject = probe_request.find(opened, asked)
    opened.close()  # until the probe begins
    return Probe(opened, asked, subject)


def elsewhere(path: str, asked: Request, subject: Subject) -> Probe:
    """Make a probe in another process, of a run whose lock is held there."""
    return Probe(store.open(path), asked, subject)


def with_twins(path: Location, asked: Request) -> list[Request]:
    """Return a request, and the same for each random-weights twin of its run that can be probed so."""
    with store.open(path) as opened:
        twins = opened.sql(
            "SELECT twin_run FROM random_twins JOIN map_kinds ON map_kinds.run = twin_run AND kind = $kind "
            "WHERE random_twins.run = $run AND complete ORDER BY seed, twin_run",
            run=asked.run, kind=asked.kind,
        )  # fmt: skip
    return [asked, *(Request(**{**vars(asked), "run": run}) for run in twins["twin_run"])]
