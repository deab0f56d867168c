"""The sentences of a CoNLL-U file (Universal Dependencies): their texts and their words.

The format: https://universaldependencies.org/format.html. Enhanced dependencies are left out.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from attnstore.datasets.annotations import Word
from attnstore.errors import DatasetError

_TEXT = re.compile(r"#\s*text\s*=")
_ID = re.compile(r"(\d{1,9})(?:-(\d{1,9})|(\.\d{1,9}))?", re.ASCII)
"""The number of a word, of a multiword token 3-4 or of an empty node 8.1."""
_FIELDS = 10


@dataclass(frozen=True)
class Tree:
    """A sentence: its `# text =` comment, else its surface forms joined, and its words."""

    text: str
    words: tuple[Word, ...]


@dataclass(frozen=True)
class _Block:
    """The lines of a sentence; where: file and line after its last token, for errors."""

    comment: str | None
    tokens: list[list[str]]
    where: str

    @property
    def text(self) -> str:
        return self.comment or _surface(self.tokens)


def sentences(lines: Iterable[str], source: str) -> list[str]:
    """Return one text per sentence.

    `source` names the file in errors. Raises DatasetError, with the line, for anything that is
    neither a comment, a blank line nor a token of ten fields.
    """
    return [block.text for block in _blocks(lines, source)]


def trees(lines: Iterable[str], source: str) -> list[Tree]:
    """Return one tree per sentence, in the order of `sentences`.

    Raises DatasetError also where a form is not in the text or a head is not in the sentence.
    """
    return [Tree(block.text, tuple(_words(block))) for block in _blocks(lines, source)]


def _blocks(lines: Iterable[str], source: str) -> Iterator[_Block]:
    comment: str | None = None
    tokens: list[list[str]] = []
    last = covered = 0  # number of the last word; end of the last multiword token
    for number, line in enumerate(itertools.chain(lines, [""]), start=1):
        where = f"{source}, line {number}"
        if not line.strip():
            if covered > last:
                raise DatasetError(
                    f"{where}: a multiword token of the sentence before it ends with word {covered}, "
                    f"and its last word is {last}; fix the file"
                )
            if tokens:  # comments alone, as at the top of a file, are no sentence
                yield _Block(comment, tokens, where)
            comment, tokens, last, covered = None, [], 0, 0
        elif line.startswith("#"):
            match = _TEXT.match(line)
            comment = line[match.end() :].strip() if match else comment
        else:
            fields, first, end = _token(line, where)
            if first is not None and (first != last + 1 or (end is not None and first <= covered)):
                raise DatasetError(
                    f"{where}: token {fields[0]} comes after word {last}; number the words of a "
                    "sentence from 1, a multiword token before its words"
                )
            last = first if first is not None and end is None else last
            covered = end or covered
            tokens.append(fields)


def _token(line: str, where: str) -> tuple[list[str], int | None, int | None]:
    """Return the fields of a token, the word that it is or begins with (an empty node: None), and the word
    that it ends with if it is a multiword token."""
    fields = line.split("\t", _FIELDS)
    number = _ID.fullmatch(fields[0]) if len(fields) == _FIELDS else None
    if number is None:
        raise DatasetError(
            f"{where}: {line[:40]!r} is not a CoNLL-U token ({_FIELDS} fields between tabs, the "
            "first a number); fix the line, or give the texts as a .txt file"
        )
    if number[2] and int(number[2]) <= int(number[1]):
        raise DatasetError(
            f"{where}: the multiword token {fields[0]} does not go from a word to a later one; fix "
            "its number"
        )
    first = None if number[3] else int(number[1])
    return fields, first, int(number[2]) if number[2] else None


def _surface(tokens: Iterable[list[str]]) -> str:
    """Return the sentence as written: a multiword token replaces its words, empty nodes have no form."""
    parts = [
        form if "SpaceAfter=No" in misc.split("|") else f"{form} "
        for _, form, misc in _written(tokens)
    ]
    return "".join(parts).strip()


def _written(tokens: Iterable[list[str]]) -> Iterator[tuple[range, str, str]]:
    """Yield the tokens as written: the numbers of the words each stands for, its form, its MISC."""
    covered = 0  # the last word that a multiword token has written already
    for number, form, *_, misc in tokens:
        first, _, last = number.partition("-")
        if "." in first or (not last and int(first) <= covered):
            continue
        covered = int(last or first)
        yield range(int(first), covered + 1), form, misc


def _words(block: _Block) -> Iterator[Word]:
    """Yield the words of a sentence; those of a multiword token have their own part of its characters
    if their forms spell it (don't: do, n't), else all of them (zum: zu, dem)."""
    rows = [fields for fields in block.tokens if fields[0].isdecimal()]
    ranges = _ranges(block, {int(fields[0]): fields[1] for fields in rows})
    numbers = {str(int(fields[0])): n for n, fields in enumerate(rows)}
    for number, _, _, upos, xpos, _, head, relation, _, _ in rows:
        if head not in ("0", "_") and head not in numbers:
            raise DatasetError(
                f"{block.where}: the sentence before it has no word {head}, the head of its word "
                f"{number}; fix the file"
            )
        start, end = ranges[int(number)]
        tag, universal, name = ("" if label == "_" else label for label in (xpos, upos, relation))
        yield Word(start, end, tag, universal, name, numbers.get(head))


def _ranges(block: _Block, forms: dict[int, str]) -> dict[int, tuple[int, int]]:
    """Find the characters of each word in the text, from left to right.

    Args:
        block: The sentence.
        forms: The form of each word, by its number.
    """
    ranges: dict[int, tuple[int, int]] = {}
    at, text = 0, block.text
    for words, form, _ in _written(block.tokens):
        start = text.find(form, at)
        if start < 0:
            raise DatasetError(
                f"{block.where}: the form {form!r} of the sentence before it is not in its text "
                f"after {text[:at][-20:]!r}; fix the `# text =` comment"
            )
        at = start + len(form)
        parts = [forms[number] for number in words]
        ends = list(itertools.accumulate(map(len, parts), initial=start))
        if _spell(parts, form):
            ranges |= zip(words, itertools.pairwise(ends), strict=True)
        else:
            ranges |= dict.fromkeys(words, (start, at))
    return ranges


def _spell(parts: list[str], form: str) -> bool:
    """True if words spell the multiword token they stand for, one after the other without spaces.

    Case does not count: treebanks write words small inside a token with a capital, which moves no
    character. Anything else (zu + dem, zum) leaves open which characters are whose.
    """
    joined = "".join(parts)
    return len(joined) == len(form) and all(
        a == b or a.lower() == b.lower() for a, b in zip(joined, form, strict=True)
    )
