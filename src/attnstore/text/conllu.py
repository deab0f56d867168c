"""The sentences of a CoNLL-U file (Universal Dependencies): their texts and their words.

The format: https://universaldependencies.org/format.html. Enhanced dependencies are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from attnstore.errors import DatasetError
from attnstore.text.annotations import Word

_TEXT = re.compile(r"#\s*text\s*=\s*(.*?)\s*")
_ID = re.compile(r"\d+(-\d+|\.\d+)?")  # a word, a multiword token 3-4, an empty node 8.1
_FIELDS = 10


@dataclass(frozen=True)
class Tree:
    """A sentence: its `# text =` comment, else its surface forms joined, and its words."""

    text: str
    words: tuple[Word, ...]


@dataclass(frozen=True)
class _Block:
    """The lines of a sentence; where: file and line of its last token, for errors."""

    comment: str | None
    tokens: list[list[str]]
    where: str

    @property
    def text(self) -> str:
        return self.comment or _surface(self.tokens)


def sentences(lines: Iterable[str], source: str) -> list[str]:
    """One text per sentence.

    `source` names the file in errors. Raises DatasetError, with the line, for anything that is
    neither a comment, a blank line nor a token of ten fields.
    """
    return [block.text for block in _blocks(lines, source)]


def trees(lines: Iterable[str], source: str) -> list[Tree]:
    """One tree per sentence, in the order of `sentences`.

    Raises DatasetError also where a form is not in the text or a head is not in the sentence.
    """
    return [Tree(block.text, tuple(_words(block))) for block in _blocks(lines, source)]


def _blocks(lines: Iterable[str], source: str) -> Iterator[_Block]:
    comment: str | None = None
    tokens: list[list[str]] = []
    for number, line in enumerate([*lines, ""], start=1):
        where = f"{source}, line {number}"
        if not line.strip():
            if tokens:  # comments alone, as at the top of a file, are no sentence
                yield _Block(comment, tokens, where)
            comment, tokens = None, []
        elif line.startswith("#"):
            found = _TEXT.fullmatch(line)
            comment = found[1] if found else comment
        else:
            tokens.append(_token(line, where))


def _token(line: str, where: str) -> list[str]:
    fields = line.split("\t")
    if len(fields) != _FIELDS or not _ID.fullmatch(fields[0]):
        raise DatasetError(
            f"{where}: {line[:40]!r} is not a CoNLL-U token ({_FIELDS} fields between tabs, the "
            "first a number); mend the line, or give the texts as a .txt file"
        )
    return fields


def _surface(tokens: Iterable[list[str]]) -> str:
    """The sentence as written: a multiword token replaces its words, empty nodes have no form."""
    parts = [
        form if "SpaceAfter=No" in misc.split("|") else f"{form} "
        for _, form, misc in _written(tokens)
    ]
    return "".join(parts).strip()


def _written(tokens: Iterable[list[str]]) -> Iterator[tuple[range, str, str]]:
    """The tokens as written: the numbers of the words each stands for, its form, its MISC."""
    covered = 0  # the last word that a multiword token has written already
    for number, form, *_, misc in tokens:
        first, _, last = number.partition("-")
        if "." in first or (not last and int(first) <= covered):
            continue
        covered = int(last or first)
        yield range(int(first), covered + 1), form, misc


def _words(block: _Block) -> Iterator[Word]:
    """The words of a sentence; those of a multiword token share its characters."""
    ranges = _ranges(block)
    rows = [fields for fields in block.tokens if fields[0].isdecimal()]
    place = {fields[0]: n for n, fields in enumerate(rows)}
    for number, _, _, upos, xpos, _, head, relation, _, _ in rows:
        if head not in ("0", "_") and head not in place:
            raise DatasetError(
                f"{block.where}: the sentence before it has no word {head}, the head of its word "
                f"{number}; mend the file"
            )
        start, end = ranges[int(number)]
        tag, universal, name = ("" if label == "_" else label for label in (xpos, upos, relation))
        yield Word(start, end, tag, universal, name, place.get(head))


def _ranges(block: _Block) -> dict[int, tuple[int, int]]:
    """Where each word stands in the text: its forms are found from left to right."""
    found: dict[int, tuple[int, int]] = {}
    at, text = 0, block.text
    for words, form, _ in _written(block.tokens):
        start = text.find(form, at)
        if start < 0:
            raise DatasetError(
                f"{block.where}: the form {form!r} of the sentence before it is not in its text "
                f"after {text[:at][-20:]!r}; mend the `# text =` comment"
            )
        at = start + len(form)
        found |= dict.fromkeys(words, (start, at))
    return found
