"""Annotate a dataset that a store holds: parts of speech, dependencies, frames, negation,
coreference.

    annotate(root, "rte", "spacy:en_core_web_sm")

What is annotated are the texts, by characters, so one annotation serves the runs of every model.
One fragment of `spans` and one of `links` per dataset and source; a second annotation by the same
source takes the first one's place, the same again costs nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from attnstore.annotation import registry
from attnstore.annotation.annotators.interface import Annotator, Context, Progress
from attnstore.errors import BusyError, UnknownNameError, UsageError
from attnstore.naming import near, slug
from attnstore.storage import fragments, index, location, locks, s3

VERSION = 1
"""Raised when the same annotator would write other rows for the same texts."""


@dataclass(frozen=True)
class Summary:
    """What an annotation holds. examples: those annotated (the ones that runs hold); spans,
    links: rows of the two tables; stored: whether it was written now, not found; seconds: wall
    time."""

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


@dataclass(frozen=True)
class Request:
    """What is to be annotated, and with what; made by `request`."""

    root: Path
    dataset: str
    annotator: Annotator
    texts: pl.DataFrame
    identity: str

    def store(self, progress: Progress = lambda *_: None) -> Summary:
        """Annotate unless the store has it, and let the index catch up unless a reader holds it.

        Raises BusyError where another process annotates the same.
        """
        began = time.perf_counter()
        source = self.annotator.source
        lock = locks.path_of(self.root, f"annotate--{self.dataset}--{slug(source)}")
        with locks.hold(lock, what=f"The annotation of {self.dataset} by {source}"):
            held = self.stored()
            spans, links = held or self._commit(progress)
        with contextlib.suppress(BusyError):  # it catches up when the store is next opened
            index.catch_up(self.root)
        return Summary(
            self.dataset, source, int(self.texts["used"].sum()), len(spans), len(links),
            held is None, time.perf_counter() - began,
        )  # fmt: skip

    def stored(self) -> tuple[pl.DataFrame, pl.DataFrame] | None:
        """The rows of `spans` and `links` if the store has this annotation whole."""
        return _held(self.root, self.dataset, f"{slug(self.annotator.source)}.{self.identity}")

    def _commit(self, progress: Progress) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Annotate, and put the result in the place of the source's older one, never half of it.

        Links without spans do not count (view `links`), so the spans go first and come last.
        """
        source, used = self.annotator.source, self.texts.filter("used")
        found = self.annotator.annotate(self.texts, progress).tables(self.dataset, source)
        spans, links = (table.join(used, on="example", how="semi") for table in found)
        for table in ("spans", "links"):
            for older in fragments.listing(self.root, table, self.dataset):
                if older.part.rpartition(".")[0] == slug(source):
                    fragments.discard(self.root, older)
        part = f"{slug(source)}.{self.identity}"
        fragments.write(self.root, "links", self.dataset, part, links)
        fragments.write(self.root, "spans", self.dataset, part, spans)
        return spans, links


class _LinksRequest(Request):
    """Links for stored spans: they take the place of that annotation's links."""

    @cached_property
    def _links(self) -> pl.DataFrame:
        """The rows of `links`. Raises UnknownNameError where the store has no spans of the source."""
        annotation = self.annotator.annotate(self.texts, lambda *_: None)
        _, links = annotation.tables(self.dataset, self.annotator.source)
        return links.join(self.texts.filter("used"), on="example", how="semi")

    @property
    def _part(self) -> str:
        parts = [f.part for f in fragments.listing(self.root, "spans", self.dataset)]
        source = slug(self.annotator.source)
        return next(part for part in parts if part.rpartition(".")[0] == source)

    def stored(self) -> tuple[pl.DataFrame, pl.DataFrame] | None:
        """The links if the store has just these."""
        links = self._links
        held = _held(self.root, self.dataset, self._part)
        return (links.clear(), links) if held is not None and held[1].equals(links) else None

    def _commit(self, progress: Progress) -> tuple[pl.DataFrame, pl.DataFrame]:
        links = self._links
        fragments.write(self.root, "links", self.dataset, self._part, links)
        progress(len(self.texts), len(self.texts))
        return links.clear(), links


def request(path: str | Path, dataset: str, with_: str, as_published: bool = False) -> Request:
    """Find the dataset and what to annotate it with; see `annotate`. Annotates nothing yet."""
    root = location.find(path)
    record, texts = _dataset(root, dataset)
    annotator = registry.make(with_, _context(root, record, as_published))
    kind = _LinksRequest if registry.check(with_, as_published).links_only else Request
    return kind(root, dataset, annotator, texts, _identity(annotator, record, texts))


def annotate(
    path: str | Path,
    dataset: str,
    with_: str,
    as_published: bool = False,
    progress: Progress = lambda *_: None,
) -> Summary:
    """Annotate the examples of a dataset that runs of the store hold.

    Args:
        path: the store.
        dataset: its name in the store.
        with_: an annotator, as `registry.forms` lists them, such as spacy:MODEL.
        as_published: FrameNet's links by the rule of the authors' notebook.
        progress: called with the number of texts that are done, and of all.

    Raises:
        UnknownNameError: the store has no such dataset.
        UsageError, DatasetError, ModelError: it cannot be annotated with that.
    """
    return request(path, dataset, with_, as_published).store(progress)


def _dataset(root: Path, dataset: str) -> tuple[dict[str, str | None], pl.DataFrame]:
    """The record of a dataset and its rows; `used` are those that a run of it holds."""
    known = {f.owner for f in fragments.listing(root, "datasets")}
    records = fragments.read_one(root, "datasets", dataset) if dataset in known else None
    rows = fragments.read_one(root, "examples", dataset) if dataset in known else None
    if records is None or rows is None:
        listed = f"; it holds {', '.join(sorted(known)) or 'none: ingest one first'}"
        raise UnknownNameError(
            f"The store {s3.of(root).name} holds no dataset {dataset!r}{near(dataset, known) or listed}"
        )
    held = [
        fragments.read(root, inputs)["example"]
        for run in fragments.listing(root, "runs")
        if fragments.read(root, run)["dataset"].item() == dataset
        for inputs in fragments.listing(root, "inputs", run.owner)
    ]
    if not held:
        raise UsageError(
            f"No run of {s3.of(root).name} holds the dataset {dataset!r}; ingest it, then annotate it."
        )
    used = pl.col("example").is_in(pl.concat(held).implode())
    return records.row(0, named=True), rows.with_columns(used.alias("used"))


def _context(root: Path, record: dict[str, str | None], as_published: bool) -> Context:
    """What an annotator may ask about a dataset."""
    dataset = str(record["dataset"])

    def inputs(run: str) -> pl.DataFrame:
        parts = fragments.listing(root, "inputs", run)
        runs = fragments.read_one(root, "runs", run) if parts else None
        if runs is None or runs["dataset"].item() != dataset:
            raise UnknownNameError(
                f"The store {s3.of(root).name} holds no run {run!r} of the dataset {dataset!r}; "
                "`attnstore runs` lists them."
            )
        return pl.concat([fragments.read(root, part) for part in parts])

    def spans(source: str) -> pl.DataFrame:
        parts = fragments.listing(root, "spans", dataset)
        rows = [fragments.read(root, p) for p in parts if p.part.rpartition(".")[0] == slug(source)]
        if not rows:
            listed = ", ".join(p.part.rpartition(".")[0] for p in parts) or "none"
            raise UnknownNameError(
                f"The dataset {dataset!r} has no spans of the source {source!r} (it has those of "
                f"{listed}); annotate it with its spans first."
            )
        return pl.concat(rows)

    return Context(dataset, str(record["source"]), as_published, inputs, spans)


def _identity(annotator: Annotator, record: dict[str, str | None], texts: pl.DataFrame) -> str:
    """The first 64 bits of the SHA-256 over everything that decides an annotation."""
    examples = hashlib.sha256(texts["used"].to_numpy().tobytes()).hexdigest()
    content = [VERSION, annotator.identity(), record["fingerprint"], examples]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _held(root: Path, dataset: str, part: str) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """The rows of an annotation if the store has it whole."""
    found = []
    for table in ("spans", "links"):
        fragment = [f for f in fragments.listing(root, table, dataset) if f.part == part]
        if not fragment or not fragments.whole(root, fragment[0]):
            return None
        found.append(fragments.read(root, fragment[0]))
    return found[0], found[1]
