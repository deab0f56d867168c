"""Positions of tokens and words in a text, without the white space around them.

Byte-level and SentencePiece tokens carry the space before a word (`Ġdog`, `▁dog`), and some
tokenizers call a whole text one word; here a word ends where the text has white space, and where
the tokenizer says so. All tokens of a batch at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attnstore.datasets.encodings import Bools, Encoded, Ints

_WHITE = np.array([c for c in range(0x3001) if chr(c).isspace()], np.uint32)


@dataclass(frozen=True)
class Texts:
    """Texts laid end to end.

    whole: all of them; base: (n, 2) where the first and the second text of an input begin in it.
    white: (characters + 1,) white space before each; solid: next character at or after each that is
    none; end: the end of the last such character before each.
    """

    whole: str
    base: Ints
    white: Ints
    solid: Ints
    end: Ints

    @classmethod
    def of(cls, texts: list[str | None], pairs: list[str | None]) -> Texts:
        """Return the texts of n inputs; None for a text that an input has not."""
        parts = [part or "" for both in zip(texts, pairs, strict=True) for part in both]
        lengths = np.fromiter(map(len, parts), np.int64, len(parts))
        whole = "".join(parts)
        characters = np.frombuffer(whole.encode("utf-32-le"), np.uint32)
        is_white = np.isin(characters, _WHITE)
        at, n = np.arange(len(characters)), len(characters)
        solid = np.minimum.accumulate(np.where(is_white, n, at)[::-1])[::-1]
        end = np.maximum.accumulate(np.where(is_white, 0, at + 1))
        return cls(
            whole,
            (np.cumsum(lengths) - lengths).reshape(-1, 2),
            np.concatenate(([0], np.cumsum(is_white))),
            np.append(solid, n),
            np.concatenate(([0], end)),
        )


@dataclass(frozen=True)
class Places:
    """Of each of N tokens: first and last + 1 character in `Texts.whole` without white space around
    (equal where it has none), whether it is known at all, and where its text begins there."""

    first: Ints
    last: Ints
    known: Bools
    base: Ints

    @classmethod
    def of(cls, encoded: Encoded, texts: Texts, blank: Bools) -> Places:
        """blank: tokens that stand for white space alone, whatever place the tokenizer gives them."""
        row = np.repeat(np.arange(len(encoded.length)), encoded.length)
        base = texts.base[row, np.maximum(encoded.sequence, 0)] if len(row) else row
        known = (encoded.sequence >= 0) & (encoded.spans[:, 0] >= 0)
        start = np.where(known, encoded.spans[:, 0] + base, 0)
        stop = np.where(known, encoded.spans[:, 1] + base, 0)
        first = np.minimum(texts.solid[start], stop)
        last = np.where(blank, first, np.maximum(texts.end[stop], first))
        return cls(first, last, known, base)


def numbers(
    encoded: Encoded, texts: Texts, places: Places, special: Bools, blank: Bools, space: Bools
) -> npt.NDArray[np.int32]:
    """Return the word number of each token, (N,): from 0 in each input, -1 for none.

    special: tokens that are no words; blank: tokens of white space alone, no words either unless
    they begin one (`▁` before a rare letter); space: those of them that can.
    """
    row = np.repeat(np.arange(len(encoded.length)), encoded.length)
    numbered = np.full(len(row), -1, np.int32)
    at = np.flatnonzero(~special)
    if not len(at):
        return numbered
    before, after = at[:-1], at[1:]
    gap = texts.white[places.first[after]] > texts.white[places.last[before]]
    begins = np.ones(len(at), bool)
    begins[1:] = (
        (after - before > 1)
        | (row[after] != row[before])
        | (encoded.sequence[after] != encoded.sequence[before])
        | (encoded.words[after] != encoded.words[before])
        | (gap & places.known[after] & places.known[before])
        | (blank & ~space)[before]
    )
    word = np.cumsum(begins) - 1
    solid = np.bincount(word, ~blank[at]) > 0
    rank = np.cumsum(solid)
    row_of_word = row[at[begins]]
    earlier = np.concatenate(([0], np.cumsum(np.bincount(row_of_word, solid))))
    number = rank[word] - 1 - earlier[row[at]].astype(np.int64)
    numbered[at] = np.where(solid[word], number, -1)
    return numbered
