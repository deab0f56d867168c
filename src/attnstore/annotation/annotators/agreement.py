"""Candidates that a word may look at, one of which is right: a verb, its subject and other nouns.

Those of the bundled dataset `agreement`, or a user's own from a file with one row per candidate.
"""

from __future__ import annotations

import polars as pl

from attnstore.annotation.annotators.interface import Annotator, Context, Kind, Progress
from attnstore.annotation.annotators.row_file import STRETCH, RowFile
from attnstore.datasets import agreement
from attnstore.datasets.annotations import Annotation
from attnstore.errors import DatasetError

SOURCE = "agreement"
LABELS = ("right", "distractor")
VERSION = 1
"""Raised when the same items make other spans."""


class BundledItems:
    """The verb of each sentence of the bundled dataset, linked to its subject and to the other nouns."""

    source = SOURCE

    def __init__(self, context: Context) -> None:
        if not agreement.named(context.source):
            raise DatasetError(
                f"The dataset {context.dataset!r} was read from {context.source}, and the bundled "
                f"one is called {agreement.NAME}; give your own items as {SOURCE}:FILE."
            )
        self._location = context.source

    def identity(self) -> str:
        """Describe the dataset."""
        return f"{SOURCE} {VERSION} {self._location}"

    def annotate(self, texts: pl.DataFrame, progress: Progress) -> Annotation:
        """Annotate verb, subject and attractors with their number and the kind of sentence."""
        annotation = Annotation()
        items = agreement.items(self._location)
        if texts["text"].to_list() != [item.text for item in items]:
            raise DatasetError(
                f"The texts of {self._location} are another version's; ingest the dataset under another name."
            )
        for example, item in zip(texts["example"], items, strict=True):
            verb = annotation.span(
                example, 0, *item.verb, agreement="source", number=item.subject.number,
                construction=item.construction,
            )  # fmt: skip
            for noun in (item.subject, *item.attractors):
                label = LABELS[noun is not item.subject]
                span = annotation.span(
                    example, 0, noun.start, noun.end, agreement=label, number=noun.number
                )
                annotation.link(example, SOURCE, label, verb, span)
        progress(len(texts), len(texts))
        return annotation


class OwnItems:
    """Candidates from a file: one row per candidate of a word."""

    def __init__(self, spec: str, context: Context) -> None:
        self._file = RowFile(spec, SOURCE, context)
        self.source = self._file.source

    def identity(self) -> str:
        """Return the content of the file."""
        return f"{SOURCE} {VERSION} {self._file.identity()}"

    def annotate(self, texts: pl.DataFrame, progress: Progress) -> Annotation:
        """Return the spans and links of the file. Raises DatasetError, with the row, for what does not fit."""
        file = self._file
        file.require("role")
        rows = file.text(file.rows(texts), "role")
        wrong = rows.filter(~pl.col("role").is_in(LABELS))
        if len(wrong):
            file.refuse(
                wrong["row"][0],
                f"has the role {wrong['role'][0]!r}; write {' or '.join(LABELS)}",
            )
        rows = file.stretches(file.stretches(rows, texts), texts, "source_")
        for name in ("number", "construction"):
            column = pl.col(name).cast(pl.String) if file.has(name) else pl.lit(None, pl.String)
            rows = rows.with_columns(column.fill_null("").alias(name))
        annotation = Annotation()
        names = ("example", "role", "number", "construction", *STRETCH)
        words: dict[tuple[int, ...], int] = {}
        for row in rows.select(*names, *(f"source_{c}" for c in STRETCH)).iter_rows(named=True):
            place = (row["example"], *(row[f"source_{c}"] for c in STRETCH))
            if place not in words:
                words[place] = annotation.span(
                    *place, agreement="source", construction=row["construction"]
                )
            candidate = annotation.span(
                row["example"], *(row[c] for c in STRETCH), agreement=row["role"], number=row["number"]
            )  # fmt: skip
            annotation.link(row["example"], SOURCE, row["role"], words[place], candidate)
        progress(len(texts), len(texts))
        return annotation


def _make(argument: str, context: Context) -> Annotator:
    return OwnItems(argument, context) if argument else BundledItems(context)


KIND = Kind(
    SOURCE,
    (SOURCE, f"{SOURCE}:FILE", f"{SOURCE}:FILE=NAME"),
    "a word and its candidates, one of which is right: of the bundled dataset agreement, or your own from a file",
    _make,
)
