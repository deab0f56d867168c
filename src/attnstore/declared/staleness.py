"""Staleness of declared annotations, classes and results.

The result of an analysis is a Parquet file, `<results>/<analysis>/<run>.parquet`. Its metadata
holds a hash over what it was made from: the SQL, its parameters, and the fragments of the run.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from attnstore.annotation import annotate, registry
from attnstore.capture.runs import Run
from attnstore.datasets.corpora import Dataset
from attnstore.declared.config import Declaration
from attnstore.errors import AttnstoreError, UsageError
from attnstore.experiments.patterns import stored_classes
from attnstore.naming import slug
from attnstore.query import analyses
from attnstore.storage import fragments
from attnstore.storage.backend import Backend
from attnstore.store import Store

MADE_FROM = "attnstore.made_from"
"""Key of a result's metadata."""
_RECORDS = ("ingests", "classifications")
"""Tables of how something was made, which changes no result."""


@dataclass(frozen=True)
class Annotating:
    """A declared annotation.

    Attributes:
        dataset: Its name in the store.
        state: current, missing or stale.
        problem: Why it cannot be made, if so.
    """

    dataset: str
    with_: str
    as_published: bool
    state: str
    problem: str | None = None

    @property
    def name(self) -> str:
        """Name in plans and sentences."""
        return f"{self.dataset} by {self.with_}"


@dataclass(frozen=True)
class Classifying:
    """The pattern classes of a run.

    Attributes:
        done: Blocks that the declared network has classified.
        blocks: Blocks of the run.
        other: True if the store has classes by another network.
    """

    run: str
    done: int
    blocks: int
    other: bool

    @property
    def name(self) -> str:
        """Name in plans and sentences."""
        return classes_of(self.run)

    @property
    def state(self) -> str:
        """current, partial, missing or stale."""
        if self.done == self.blocks:
            return "current"
        return "partial" if self.done else "stale" if self.other else "missing"

    @property
    def left(self) -> float:
        """Share of its maps that is left to classify."""
        return 1 - self.done / self.blocks


def classes_of(run: str) -> str:
    """Name the pattern classes of a run."""
    return f"patterns of {run}"


@dataclass(frozen=True)
class Result:
    """A result of a run to keep current.

    Attributes:
        kind: Name of the analysis.
        path: Its file.
        made_from: Hash over the SQL, the parameters and the fragments.
        state: current, missing or stale.
    """

    kind: str
    run: str
    params: dict[str, Any]
    path: Path
    made_from: str
    state: str

    @property
    def name(self) -> str:
        """Name in plans and sentences."""
        return f"{self.kind} of {self.run}"

    def make(self, ask: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        """Ask, and write the answer to its file. Raises UsageError, and what `ask` raises."""
        frame = ask()
        unfinished = self.path.with_name(f".{self.path.name}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            frame.write_parquet(unfinished, metadata={MADE_FROM: self.made_from})
            unfinished.rename(self.path)
        except OSError as error:
            raise UsageError(
                f"{self.path} cannot be written ({error.strerror or error}); give another folder as "
                "results."
            ) from error
        return frame


def annotating(
    backend: Backend, declared: Declaration, datasets: dict[str, Dataset]
) -> Iterator[Annotating]:
    """Yield every declared annotation."""
    owners = {f.part: f.owner for f in fragments.listing(backend, "datasets")}
    for entry in declared.annotate:
        for name in entry.datasets or datasets:
            dataset = owners.get(datasets[name].fingerprint[:16])
            for with_ in entry.with_:
                with_ = registry.located(with_, declared.folder)
                if dataset is None:
                    yield Annotating(name, with_, entry.as_published, "missing")
                else:
                    yield _annotation(backend, dataset, with_, entry.as_published)


def _annotation(backend: Backend, dataset: str, with_: str, as_published: bool) -> Annotating:
    try:
        annotation = annotate.request(backend, dataset, with_, as_published)
        source = slug(annotation.annotator.source)
        stored = not annotation.lacking()
    except AttnstoreError as error:
        return Annotating(dataset, with_, as_published, "missing", str(error))
    if stored:
        return Annotating(dataset, with_, as_published, "current")
    parts = [f.part for f in fragments.listing(backend, "spans", dataset)]
    older = any(part.rpartition(".")[0] == source for part in parts)
    return Annotating(dataset, with_, as_published, "stale" if older else "missing")


def to_classify(declared: Declaration, run: str) -> bool:
    """Return True if a run, by its name, is declared to have pattern classes."""
    return declared.classify is not None and fnmatch.fnmatch(run, declared.classify.runs)


def classifying(declared: Declaration, run: Run) -> Classifying:
    """Compare the pattern classes of a run with the declared network."""
    network = stored_classes.fingerprint(declared.network)
    others = {stored_classes.network_of(f) for f in stored_classes.stored(run)} - {network}
    done = len(stored_classes.blocks(run, network))
    return Classifying(run.run, done, run.record.n_blocks, bool(others))


def results(store: Store, declared: Declaration, runs: Iterable[str]) -> Iterator[Result]:
    """Yield every declared analysis of these runs; one without a parameter `run` is of them all."""
    runs = list(runs)
    base = dict(store.sql("SELECT run, base_run FROM base_runs").iter_rows())
    for entry in declared.analyses:
        analysis = analyses.find(entry.name)
        if "run" not in {p.name for p in analysis.parameters}:
            yield result(store, declared, entry.name, "all runs", entry.params, runs, analysis.sql)
            continue
        for run in fnmatch.filter(runs, entry.runs):
            read = [run, *([base[run]] if run in base else [])]
            params = {**entry.params, "run": run}
            yield result(store, declared, entry.name, run, params, read, analysis.sql)


def result(
    store: Store, declared: Declaration, kind: str, run: str, params: dict[str, Any],
    read: list[str], sql: str,
) -> Result:  # fmt: skip
    """Describe a result of `kind`, made from the fragments of the runs that it reads."""
    path = declared.path(declared.results) / kind / f"{run.replace('/', '--')}.parquet"
    made_from = _made_from(store, read, params, sql)
    state = "missing"
    if path.exists():
        written_from = None
        with contextlib.suppress(OSError, pl.exceptions.PolarsError):
            written_from = pl.read_parquet_metadata(path).get(MADE_FROM)
        state = "current" if written_from == made_from else "stale"
    return Result(kind, run, params, path, made_from, state)


def _made_from(store: Store, read: list[str], params: dict[str, Any], sql: str) -> str:
    runs = store.sql("SELECT run, model, dataset FROM runs").rows()
    owners = {name for row in runs if row[0] in read for name in row}
    owners |= {value for value in params.values() if isinstance(value, str)}
    paths = [f.path for f in fragments.listing(store.backend) if f.owner in owners]
    paths = [path for path in paths if path.split("/")[1] not in _RECORDS]
    content = json.dumps([sql, sorted(params.items()), paths])
    return hashlib.sha256(content.encode()).hexdigest()
