"""Pieces of a tokenizer that gives no offsets: their words, and their places where these follow.

A piece's place follows if all pieces before it, or all after it, are the text's own characters one
after the other, white space between them: then it cannot be elsewhere. Where a tokenizer has
changed the text (BERTweet writes @USER for a name), the words in between have no place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

Marker = Literal["##", "@@", "</w>", "▁", ""]
"""How pieces show where words begin or end; '': not at all, each is a word."""

NOWHERE = (-1, -1)


def marker(vocabulary: Iterable[str]) -> Marker:
    """Return the marker of a vocabulary: ##ing, ing@@, ing</w> or ▁ing; of several, the commonest."""
    count: dict[Marker, int] = {"##": 0, "@@": 0, "</w>": 0, "▁": 0}
    for piece in vocabulary:
        if len(piece) > 2 and piece.startswith("##"):
            count["##"] += 1
        elif len(piece) > 2 and piece.endswith("@@"):
            count["@@"] += 1
        elif piece.endswith("</w>"):
            count["</w>"] += 1
        elif piece.startswith("▁"):
            count["▁"] += 1
    most = max(count, key=lambda m: count[m])
    return most if count[most] else ""


def bare(piece: str, by: Marker) -> str:
    """Return a piece without its marker."""
    if by in ("##", "▁"):
        return piece.removeprefix(by) if by == "##" else piece.replace("▁", "")
    return piece.removesuffix(by) if by else piece


def words(split: Sequence[Sequence[str]], by: Marker) -> list[int]:
    """Return the word number of each piece of the texts of an input, from 0."""
    number, numbers = -1, []
    for pieces in split:
        begins = True
        for piece in pieces:
            if by == "##":
                begins = begins or not piece.startswith("##")
            elif by == "▁":
                begins = begins or piece.startswith("▁")
            number += begins or not by
            numbers.append(number)
            begins = {"@@": not piece.endswith("@@"), "</w>": piece.endswith("</w>")}.get(by, False)
    return numbers


def spans(
    text: str, pieces: Sequence[str], by: Marker, unknown: str | None
) -> list[tuple[int, int]]:
    """Return first and last + 1 character of each piece in `text`, NOWHERE where that does not follow.

    unknown: the piece that stands for characters outside the vocabulary; one alone between two
    pieces that have their places takes what lies between them.
    """
    plain = [None if piece == unknown else bare(piece, by) for piece in pieces]
    front = _forward(text, plain)
    if len(front) == len(plain) and not text[front[-1][1] if front else 0 :].strip():
        return front
    back = _backward(text, plain)
    n, m = len(front), len(back)
    if n + m > len(plain):  # they contradict each other: a letter may have been left out
        return [NOWHERE] * len(plain)
    first = front[-1][1] if front else 0
    gap = text[first : back[0][0] if back else len(text)]
    if n + m + 1 == len(plain) and plain[n] is None and len(gap.split()) == 1:
        start = first + len(gap) - len(gap.lstrip())
        return [*front, (start, start + len(gap.strip())), *back]
    # What fits a changed word's beginning or end may do so by chance: its whole words have no place.
    word = words([pieces], by)
    while n and n < len(word) and word[n - 1] == word[n]:
        n -= 1
    while m and m < len(word) and word[-m] == word[-m - 1]:
        m -= 1
    return [*front[:n], *[NOWHERE] * (len(plain) - n - m), *back[len(back) - m :]]


def _forward(text: str, plain: Sequence[str | None]) -> list[tuple[int, int]]:
    """Return places from the front, up to the first piece that is not what comes next in the text."""
    at, places = 0, []
    for piece in plain:
        while at < len(text) and text[at].isspace():
            at += 1
        if not piece or not _same(text[at : at + len(piece)], piece):
            break
        places.append((at, at + len(piece)))
        at += len(piece)
    return places


def _backward(text: str, plain: Sequence[str | None]) -> list[tuple[int, int]]:
    """Return the same from the end of the text; in the order of the text."""
    at, places = len(text), []
    for piece in reversed(plain):
        while at and text[at - 1].isspace():
            at -= 1
        if not piece or at < len(piece) or not _same(text[at - len(piece) : at], piece):
            break
        places.append((at - len(piece), at))
        at -= len(piece)
    return places[::-1]


def _same(part: str, piece: str) -> bool:
    """Check whether a piece is these characters, some of them perhaps made small."""
    return part == piece or (len(part.lower()) == len(part) and part.lower() == piece)
