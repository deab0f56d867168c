"""GAP (Webster et al. 2018): passages with a pronoun and two names that it may stand for.

Reads the TSV as distributed: a text, and the pronoun and the names by their first character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from attnstore.annotation.annotators.dataset_file import FileAnnotator
from attnstore.annotation.annotators.interface import Kind, Progress
from attnstore.datasets import readers
from attnstore.datasets.annotations import Annotation
from attnstore.errors import DatasetError

COLUMNS = ("Text", "Pronoun", "Pronoun-offset", "A", "A-offset", "A-coref", "B", "B-offset", "B-coref")  # fmt: skip
Span = tuple[int, int]
_OFFSET = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Passage:
    """A text; pronoun, names: characters start to end; meant: True for a name that the pronoun means."""

    text: str
    pronoun: Span
    names: tuple[Span, ...]
    meant: tuple[bool, ...]


def passages(path: Path) -> list[Passage]:
    """Return the rows of a GAP file. Raises DatasetError for another kind of file or an offset that is off."""
    table = readers.open_file(path)
    if absent := [column for column in COLUMNS if column not in table.columns]:
        raise DatasetError(
            f"{path} has no column {absent[0]!r}, so it is no GAP file; give gap-development.tsv or another of its parts."
        )
    rows = table.read(COLUMNS)
    return [_passage(path, number, row) for number, row in enumerate(rows.iter_rows(named=True))]


def _passage(path: Path, number: int, row: dict[str, str]) -> Passage:
    text = row["Text"] or ""

    def span(what: str) -> Span:
        word, start = str(row[what]), str(row[f"{what}-offset"])
        if not _OFFSET.fullmatch(start) or text[int(start) :][: len(word)] != word:
            raise DatasetError(
                f"Row {number} of {path} says that {word!r} begins at character {start}, where it "
                "does not; download the file again."
            )
        return int(start), int(start) + len(word)

    meant = tuple(str(row[f"{name}-coref"]).upper() == "TRUE" for name in "AB")
    return Passage(text, span("Pronoun"), (span("A"), span("B")), meant)


class GapAnnotator(FileAnnotator):
    """The pronoun and the two names of each passage of GAP, and which name the pronoun means."""

    source, suffix = "gap", ".tsv"

    def annotate(self, texts: pl.DataFrame, progress: Progress) -> Annotation:
        """Annotate mentions: pronoun, antecedent, candidate (a name not meant); link the pronoun to
        its antecedent, where it has one."""
        rows = passages(self._file)
        self.refuse_others(texts, [passage.text for passage in rows])
        annotation = Annotation()
        for example, passage in zip(texts["example"], rows, strict=True):
            pronoun = annotation.span(example, 0, *passage.pronoun, mention="pronoun")
            for name, meant in zip(passage.names, passage.meant, strict=True):
                kind = "antecedent" if meant else "candidate"
                span = annotation.span(example, 0, *name, mention=kind)
                if meant:
                    annotation.link(example, "coreference", "antecedent", pronoun, span)
        progress(len(texts), len(texts))
        return annotation


KIND = Kind(
    "gap",
    ("gap", "gap:FILE"),
    "the pronoun and the names of each passage of GAP, and which name is meant",
    GapAnnotator,
)
