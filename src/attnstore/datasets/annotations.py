"""Result of an annotator: labeled spans of a dataset's texts and links between them.

A span is a stretch of characters with a number; it may carry several labels, one of each kind. A
word is one span with its part of speech and its relation, and a link leads from it to its head.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

PENN = (
    "CC", "CD", "DT", "EX", "FW", "IN", "JJ", "JJR", "JJS", "LS", "MD", "NN", "NNS", "NNP", "NNPS",
    "PDT", "POS", "PRP", "PRP$", "RB", "RBR", "RBS", "RP", "SYM", "TO", "UH", "VB", "VBD", "VBG",
    "VBN", "VBP", "VBZ", "WDT", "WP", "WP$", "WRB", "ADD", "AFX", "GW", "HYPH", "NFP", "XX",
    "-LRB-", "-RRB-",
)  # fmt: skip
"""The Penn Treebank's tags that hold a letter, with those of OntoNotes and English UD."""
PENN_SHARE = 0.9
"""Minimum share of Penn tags, among those with a letter, for a tag set to be treated as Penn.

English EWT has 1.0; Russian GSD, some of whose own tags look the same, 0.73."""

_SPANS: dict[str, Any] = {
    "dataset": pl.String, "example": pl.Int64, "source": pl.String, "span": pl.Int32,
    "segment": pl.Int8, "start": pl.Int32, "end": pl.Int32, "kind": pl.String, "label": pl.String,
}  # fmt: skip
_LINKS: dict[str, Any] = {
    "dataset": pl.String, "example": pl.Int64, "source": pl.String, "kind": pl.String,
    "label": pl.String, "from_span": pl.Int32, "to_span": pl.Int32,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Word:
    """A syntactic word. start, end: characters in its text; tag: as the source has it; upos:
    universal part of speech; relation: to its head, the place of a word in its text, None for a
    root. A label that the source does not give is ''."""

    start: int
    end: int
    tag: str
    upos: str
    relation: str
    head: int | None


class Annotation:
    """The spans and links of one source, gathered text by text."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int, int, int, int, str, str]] = []
        self._links: list[tuple[int, str, str, int, int]] = []
        self._numbers: dict[int, int] = {}

    def span(self, example: int, segment: int, start: int, end: int, **labels: str) -> int:
        """Add the characters start to end of a text with their labels by kind; return its number."""
        number = self._numbers.get(example, 0)
        self._numbers[example] = number + 1
        if start < end:
            self._spans += [
                (example, number, segment, start, end, kind, label)
                for kind, label in labels.items()
                if label
            ]
        return number

    def add(
        self, example: int, number: int, segment: int, start: int, end: int, kind: str, label: str
    ) -> None:
        """Add one label of a span whose number is known already."""
        self._spans.append((example, number, segment, start, end, kind, label))

    def link(self, example: int, kind: str, label: str, from_span: int, to_span: int) -> None:
        """Add a link between two spans of an example."""
        self._links.append((example, kind, label, from_span, to_span))

    def words(self, example: int, segment: int, words: Iterable[Word]) -> None:
        """Add the words of one text, each linked to its head."""
        words = list(words)
        numbers = [
            self.span(example, segment, w.start, w.end, tag=w.tag, upos=w.upos, dep=w.relation)
            for w in words
        ]
        for word, number in zip(words, numbers, strict=True):
            if word.head is not None:
                self.link(example, "dep", word.relation, number, numbers[word.head])

    def tables(self, dataset: str, source: str) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the rows of `spans` and of `links`, as core.spans and core.links have them."""
        names = pl.lit(dataset).alias("dataset"), pl.lit(source).alias("source")
        spans = _parts_of_speech(pl.DataFrame(self._spans, _own(_SPANS), orient="row"))
        links = pl.DataFrame(self._links, _own(_LINKS), orient="row")
        return spans.with_columns(*names).select(*_SPANS), links.with_columns(*names).select(
            *_LINKS
        )


def _own(columns: dict[str, Any]) -> dict[str, Any]:
    """Return the columns whose values differ from row to row."""
    return {name: kind for name, kind in columns.items() if name not in ("dataset", "source")}


def _parts_of_speech(spans: pl.DataFrame) -> pl.DataFrame:
    """Keep one part of speech per word: Penn's tag, else the universal one.

    A fine tag that is not Penn's is called `xpos`, so that `tag` means the same in every source.
    """
    tagged = spans.filter(kind="tag")
    lettered = tagged.filter(pl.col("label").str.contains(r"\p{L}"))
    share = lettered["label"].is_in(PENN).mean()
    if share is not None and float(share) >= PENN_SHARE:  # type: ignore[arg-type]
        universal = spans.filter(kind="upos").join(tagged, on=["example", "span"], how="anti")
        spans = pl.concat([spans.filter(pl.col("kind") != "upos"), universal])
    else:
        spans = spans.with_columns(pl.col("kind").replace("tag", "xpos"))
    return spans.sort("example", "span", maintain_order=True)
