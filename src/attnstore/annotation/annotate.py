"""Annotate a dataset that a store holds: parts of speech, dependencies, frames, negation,
coreference.

    annotate(backend, "rte", "spacy:en_core_web_sm")

What is annotated are the texts, by characters, so one annotation serves the runs of every model.
One fragment of `spans` and one of `links` per dataset and source; a second annotation by the same
source takes the first one's place, the same again costs nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from attnstore import job
from attnstore.annotation import registry
from attnstore.annotation.annotators.interface import Annotator, Context
from attnstore.errors import UnknownNameError, UsageError
from attnstore.job import Job, Progress, Report, Runner, Unit, in_process, silent
from attnstore.naming import near, slug
from attnstore.storage import fragments, location
from attnstore.storage.backend import Backend
from attnstore.storage.location import Location

VERSION = 1
"""Raised when the same annotator would write other rows for the same texts."""


@dataclass(frozen=True)
class Summary:
    """Counts of an annotation. examples: those annotated (the ones that runs hold); spans, links:
    rows of the two tables; stored: True if it was written now; seconds: wall time."""

    dataset: str
    source: str
    examples: int
    spans: int
    links: int
    stored: bool
    seconds: float

    def lines(self) -> list[str]:
        """Return one line."""
        stored = "stored" if self.stored else "found"
        return [
            f"{self.dataset} by {self.source}: {self.examples:,} examples, {self.spans:,} labels of "
            f"spans, {self.links:,} links, {stored} in {self.seconds:.1f} s"
        ]


class AnnotationJob(Job[Report, Summary]):
    """One dataset being annotated by one annotator, as one unit; made by `request`."""

    kind, noun = "annotate", "texts"

    def __init__(
        self,
        backend: Backend,
        dataset: str,
        annotator: Annotator,
        texts: pl.DataFrame,
        identity: str,
    ) -> None:
        source = slug(annotator.source)
        super().__init__(
            backend, f"{dataset} by {annotator.source}", lock=f"annotate--{dataset}--{source}",
            subject=f"The annotation of {dataset} by {annotator.source}",
        )  # fmt: skip
        self.dataset, self.annotator, self.texts, self.identity = (
            dataset, annotator, texts, identity
        )  # fmt: skip
        self._part = f"{source}.{identity}"

    def lacking(self) -> list[Unit]:
        """Return the annotation unless the store has both of its tables whole."""
        n = len(self.texts)
        return [] if self._tables() else [Unit("annotation", 0, n, n)]

    def store(self, unit: Unit) -> Report:
        """Annotate, and put the result in the place of the source's older one, never half of it.

        Links without spans do not count (view `links`), so the spans go first and come last.
        """

        def progress(done: int, total: int) -> None:
            self.reach(unit, done / max(total, 1))

        source, used = self.annotator.source, self.texts.filter("used")
        whole = self.annotator.annotate(self.texts, progress).tables(self.dataset, source)
        spans, links = (table.join(used, on="example", how="semi") for table in whole)
        for table in ("spans", "links"):
            listed = fragments.listing(self.backend, table, self.dataset)
            older = [f for f in listed if f.part.rpartition(".")[0] == slug(source)]
            fragments.discard(self.backend, *older)
        fragments.write(self.backend, "links", self.dataset, self._part, links)
        fragments.write(self.backend, "spans", self.dataset, self._part, spans)
        return Report(unit, 0)

    def _tables(self) -> tuple[pl.DataFrame, pl.DataFrame] | None:
        """Return spans and links if the store has both whole."""
        return _whole(self.backend, self.dataset, self._part)

    def summary(self, seconds: float) -> Summary:
        """Count the rows of both tables."""
        tables = self._tables()
        assert tables is not None
        spans, links = map(len, tables)
        return Summary(
            self.dataset, self.annotator.source, int(self.texts["used"].sum()), spans, links,
            bool(self.reports), seconds,
        )  # fmt: skip


class _LinksJob(AnnotationJob):
    """Links for stored spans: they take the place of that annotation's links."""

    @cached_property
    def _links(self) -> pl.DataFrame:
        """The rows of `links`. Raises UnknownNameError where the store has no spans of the source."""
        annotation = self.annotator.annotate(self.texts, lambda *_: None)
        _, links = annotation.tables(self.dataset, self.annotator.source)
        return links.join(self.texts.filter("used"), on="example", how="semi")

    @property
    def _spans_part(self) -> str:
        parts = [f.part for f in fragments.listing(self.backend, "spans", self.dataset)]
        source = slug(self.annotator.source)
        return next(part for part in parts if part.rpartition(".")[0] == source)

    def _tables(self) -> tuple[pl.DataFrame, pl.DataFrame] | None:
        """Return no spans, and the links if the store has just these."""
        links = self._links
        stored = _whole(self.backend, self.dataset, self._spans_part)
        return (links.clear(), links) if stored is not None and stored[1].equals(links) else None

    def store(self, unit: Unit) -> Report:
        """Write the links beside the spans."""
        fragments.write(self.backend, "links", self.dataset, self._spans_part, self._links)
        return Report(unit, 0)


def request(path: Location, dataset: str, with_: str, as_published: bool = False) -> AnnotationJob:
    """Find the dataset and what to annotate it with; see `annotate`. Annotates nothing yet."""
    backend = location.find(path)
    record, texts = _dataset(backend, dataset)
    annotator = registry.make(with_, _context(backend, record, as_published))
    kind = _LinksJob if registry.check(with_, as_published).links_only else AnnotationJob
    return kind(backend, dataset, annotator, texts, _identity(annotator, record, texts))


def annotate(
    path: Location,
    dataset: str,
    with_: str,
    as_published: bool = False,
    *,
    runner: Runner = in_process,
    progress: Progress = silent,
) -> Summary:
    """Annotate the examples of a dataset that runs of the store hold.

    Args:
        path: the store.
        dataset: its name in the store.
        with_: an annotator, as `registry.forms` lists them, such as spacy:MODEL.
        as_published: FrameNet's links by the rule of the authors' notebook.
        runner: where it is stored.
        progress: called as texts go.

    Raises:
        UnknownNameError: the store has no such dataset.
        UsageError, DatasetError, ModelError: it cannot be annotated with that.
        BusyError: another process annotates the same.
    """
    return job.run(request(path, dataset, with_, as_published), runner, progress)


def _dataset(backend: Backend, dataset: str) -> tuple[dict[str, str | None], pl.DataFrame]:
    """Return the record of a dataset and its rows; `used` are those that a run of it holds."""
    known = {f.owner for f in fragments.listing(backend, "datasets")}
    records = fragments.read_one(backend, "datasets", dataset) if dataset in known else None
    rows = fragments.read_one(backend, "examples", dataset) if dataset in known else None
    if records is None or rows is None:
        listed = f"; it holds {', '.join(sorted(known)) or 'none: ingest one first'}"
        raise UnknownNameError(
            f"The store {backend.name} holds no dataset {dataset!r}{near(dataset, known) or listed}"
        )
    used_examples = [
        fragments.read(backend, inputs)["example"]
        for run in fragments.listing(backend, "runs")
        if fragments.read(backend, run)["dataset"].item() == dataset
        for inputs in fragments.listing(backend, "inputs", run.owner)
    ]
    if not used_examples:
        raise UsageError(
            f"No run of {backend.name} holds the dataset {dataset!r}; ingest it, then annotate it."
        )
    used = pl.col("example").is_in(pl.concat(used_examples).implode())
    return records.row(0, named=True), rows.with_columns(used.alias("used"))


def _context(backend: Backend, record: dict[str, str | None], as_published: bool) -> Context:
    """Collect what an annotator may ask about a dataset."""
    dataset = str(record["dataset"])

    def inputs(run: str) -> pl.DataFrame:
        parts = fragments.listing(backend, "inputs", run)
        runs = fragments.read_one(backend, "runs", run) if parts else None
        if runs is None or runs["dataset"].item() != dataset:
            raise UnknownNameError(
                f"The store {backend.name} holds no run {run!r} of the dataset {dataset!r}; "
                "`attnstore runs` lists them."
            )
        return pl.concat([fragments.read(backend, part) for part in parts])

    def spans(source: str) -> pl.DataFrame:
        parts = fragments.listing(backend, "spans", dataset)
        rows = [
            fragments.read(backend, p) for p in parts if p.part.rpartition(".")[0] == slug(source)
        ]
        if not rows:
            listed = ", ".join(p.part.rpartition(".")[0] for p in parts) or "none"
            raise UnknownNameError(
                f"The dataset {dataset!r} has no spans of the source {source!r} (it has those of "
                f"{listed}); annotate it with its spans first."
            )
        return pl.concat(rows)

    return Context(dataset, str(record["source"]), as_published, inputs, spans)


def _identity(annotator: Annotator, record: dict[str, str | None], texts: pl.DataFrame) -> str:
    """Return the first 64 bits of the SHA-256 over everything that decides an annotation."""
    examples = hashlib.sha256(texts["used"].to_numpy().tobytes()).hexdigest()
    content = [VERSION, annotator.identity(), record["fingerprint"], examples]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _whole(backend: Backend, dataset: str, part: str) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """Return the rows of spans and links of an annotation if the store has both whole."""
    tables = []
    for table in ("spans", "links"):
        parts = [f for f in fragments.listing(backend, table, dataset) if f.part == part]
        if not parts or not fragments.whole(backend, parts[0]):
            return None
        tables.append(fragments.read(backend, parts[0]))
    return tables[0], tables[1]
