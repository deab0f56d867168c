"""Negation words as whole words, with the contractions that GLUE's texts write with spaces.

The list is Kovaleva et al. 2019's; where it names some contractions with n't, every auxiliary's
counts. The notebook's substrings ("not" in "another") do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import polars as pl

from attnstore.annotation.annotators.interface import Kind, Progress
from attnstore.datasets.annotations import Annotation

WORDS = ("neither", "nor", "not", "never", "none", "nothing", "nowhere")
AUXILIARIES = (
    "do", "does", "did", "have", "has", "had", "is", "are", "was", "were", "ai", "ca", "could",
    "wo", "would", "sha", "should", "might", "must", "may", "need", "dare", "ought",
)  # fmt: skip
"""What stands before n't."""

_APOSTROPHE = "['’‘ʼ`´＇]"
_CONTRACTED = rf"(?:{'|'.join(AUXILIARIES)}) ?n ?{_APOSTROPHE} ?t"  # does n't, doesn 't, don ' t
_NEGATION = re.compile(rf"(?<!\w)(?:{'|'.join(WORDS)}|{_CONTRACTED})(?!\w)", re.IGNORECASE)


def find(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end, in characters, of each negation word; of a contraction as a whole."""
    return (match.span() for match in _NEGATION.finditer(text))


class NegationAnnotator:
    """Negation words, found by themselves."""

    source = "negation"

    def identity(self) -> str:
        """Return the words."""
        return f"negation {WORDS} {AUXILIARIES}"

    def annotate(self, texts: pl.DataFrame, progress: Progress) -> Annotation:
        """Add one span for each negation word of either text."""
        annotation = Annotation()
        for example, *both in texts.select("example", "text", "text_pair").iter_rows():
            for segment, text in enumerate(both):
                for start, end in find(text or ""):
                    annotation.span(example, segment, start, end, negation=text[start:end].lower())
        progress(len(texts), len(texts))
        return annotation


KIND = Kind(
    "negation",
    ("negation",),
    "negation words, by a list",
    lambda *_: NegationAnnotator(),
)
