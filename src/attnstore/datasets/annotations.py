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

WORDS_VERSION = 2
"""Raised when the same words make other spans; annotators of words name it in their identity.

2: a multiword token is split among its words, and a word has its universal and its fine tag."""

_SPANS: dict[str, Any] = {
    "dataset": pl.String, "example": pl.Int64, "source": pl.String, "span": pl.Int32,
    "segment": pl.Int8, "start": pl.Int32, "end": pl.Int32, "kind": pl.String, "label": pl.String,
    "shared": pl.Boolean,
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
        self._spans: list[tuple[int, int, int, int, int, str, str, bool | None]] = []
        self._links: list[tuple[int, str, str, int, int]] = []
        self._numbers: dict[int, int] = {}

    def span(self, example: int, segment: int, start: int, end: int, **labels: str) -> int:
        """Add the characters start to end of a text with their labels by kind; return its number."""
        return self._span(example, segment, start, end, labels, None)

    def _span(
        self,
        example: int,
        segment: int,
        start: int,
        end: int,
        labels: dict[str, str],
        shared: bool | None,
    ) -> int:
        """Add a span. shared: True if another word has some of its characters; None for no word."""
        number = self._numbers.get(example, 0)
        self._numbers[example] = number + 1
        if start < end:
            self._spans += [
                (example, number, segment, start, end, kind, label, shared)
                for kind, label in labels.items()
                if label
            ]
        return number

    def add(
        self, example: int, number: int, segment: int, start: int, end: int, kind: str, label: str
    ) -> None:
        """Add one label of a span whose number is known already."""
        self._spans.append((example, number, segment, start, end, kind, label, None))

    def link(self, example: int, kind: str, label: str, from_span: int, to_span: int) -> None:
        """Add a link between two spans of an example."""
        self._links.append((example, kind, label, from_span, to_span))

    def words(self, example: int, segment: int, words: Iterable[Word]) -> None:
        """Add the words of one text, each linked to its head; words with common characters are shared."""
        words = list(words)
        numbers = [
            self._span(example, segment, w.start, w.end, _labels(w), shared)
            for w, shared in zip(words, _shared(words), strict=True)
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


def _labels(word: Word) -> dict[str, str]:
    return {"tag": word.tag, "upos": word.upos, "dep": word.relation}


def _shared(words: list[Word]) -> list[bool]:
    """Return for each word whether another word has some of its characters."""
    shared, furthest = [False] * len(words), None
    for n in sorted(range(len(words)), key=lambda n: (words[n].start, words[n].end)):
        if words[n].start == words[n].end:
            continue
        if furthest is not None and words[n].start < words[furthest].end:
            shared[n] = shared[furthest] = True
        if furthest is None or words[n].end > words[furthest].end:
            furthest = n
    return shared


def _parts_of_speech(spans: pl.DataFrame) -> pl.DataFrame:
    """Call fine tags `xpos` unless they are Penn's, so that `tag` means the same in every source."""
    lettered = spans.filter(pl.col("label").str.contains(r"\p{L}"), kind="tag")
    share = lettered["label"].is_in(PENN).mean()
    if share is None or float(share) < PENN_SHARE:  # type: ignore[arg-type]
        spans = spans.with_columns(pl.col("kind").replace("tag", "xpos"))
    return spans.sort("example", "span", maintain_order=True)
