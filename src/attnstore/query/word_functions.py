"""SQL functions at the level of words, over maps that `map_reader` reads; `word_kernels` computes.

sql/schema/session/6-words.sql describes their arguments and results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from attnstore.errors import QueryError
from attnstore.query import arrow, map_reader, word_kernels
from attnstore.query.kernels import Floats
from attnstore.query.map_reader import Keys, MapReader
from attnstore.storage.reads import Ints

PIECES = ("mean", "first")
"""From which pieces of a word it attends: the mean over all, or the first."""


class WordFunctions:
    """The functions at the level of words of one session. reader: its arrays."""

    def __init__(self, reader: MapReader) -> None:
        self._reader = reader

    def over_maps(self) -> list[tuple[Callable[..., pa.Array], list[Any], str]]:
        """List the functions over maps: each with its arguments after those of a map, and its result."""
        return [
            (self._word_argmax, ["BIGINT[]", "VARCHAR", "BOOLEAN"], "INTEGER[]"),
            (self._words, ["BIGINT[]", "VARCHAR"], "FLOAT[]"),
            (self._word_row, ["BIGINT[]", "BIGINT", "VARCHAR"], "FLOAT[]"),
        ]

    def _word_argmax(
        self,
        run_key: Keys,
        layer: Ints,
        head: Ints,
        cell: Ints,
        length: Ints,
        words: Any,
        pieces: Any,
        to_itself: Any,
    ) -> pa.ListArray:
        numbers = numbers_of(length, words)
        senders = senders_of(length, numbers, pieces)
        itself = arrow.numbers(to_itself.cast(pa.uint8())).astype(bool)
        best, missing = [], []
        for rows, at, values in of_maps(self._reader, run_key, layer, head, cell, length):
            part = word_kernels.argmax(values, length[rows], numbers[at], senders[at], itself[rows])
            best.append(part[0])
            missing.append(part[1])
        counts = word_kernels.sizes(length, numbers)
        return arrow.lists(np.concatenate(best), counts, np.concatenate(missing))

    def _words(
        self,
        run_key: Keys,
        layer: Ints,
        head: Ints,
        cell: Ints,
        length: Ints,
        words: Any,
        pieces: Any,
    ) -> pa.ListArray:
        numbers = numbers_of(length, words)
        senders = senders_of(length, numbers, pieces)
        counts = word_kernels.sizes(length, numbers)
        map_reader.require_room(counts**2)
        maps = [
            word_kernels.maps(values, length[rows], numbers[at], senders[at])
            for rows, at, values in of_maps(self._reader, run_key, layer, head, cell, length)
        ]
        return arrow.lists(np.concatenate(maps), counts**2)

    def _word_row(
        self,
        run_key: Keys,
        layer: Ints,
        head: Ints,
        cell: Ints,
        length: Ints,
        words: Any,
        word: Any,
        pieces: Any,
    ) -> pa.ListArray:
        numbers = numbers_of(length, words)
        senders = senders_of(length, numbers, pieces)
        self._reader.require_lengths(run_key, length)
        wanted = arrow.integers(word)
        owner, position = _tokens_of(length, senders, wanted)
        at = (run_key[owner], layer[owner], head[owner], cell[owner] + position * length[owner])
        map_reader.require_room(length[owner])
        values = self._reader.slices("maps", *at, length[owner])
        count = np.bincount(owner, minlength=len(length))
        weights = word_kernels.rows(values, length, count, numbers)
        return arrow.lists(weights, word_kernels.sizes(length, numbers))


def word_units(words: Any) -> pa.ListArray:
    """Number the words of each input anew, from 0: each token of no word (-1) becomes one of its own."""
    numbers, counts, _ = arrow.items(words)
    return arrow.lists(word_kernels.units(counts, numbers).astype(np.int32), counts)


def of_maps(
    reader: MapReader, run_key: Keys, layer: Ints, head: Ints, cell: Ints, length: Ints
) -> Iterator[tuple[slice, slice, Floats]]:
    """Yield the maps of a batch in pieces: slices of its rows and of their tokens, and the weights."""
    ends = np.concatenate(([0], np.cumsum(length)))
    for rows, values in reader.maps(run_key, layer, head, cell, length):
        yield rows, slice(ends[rows.start], ends[rows.stop]), values


def numbers_of(length: Ints, words: Any) -> Ints:
    """Return the word of each token, all inputs' end to end.

    Raises:
        QueryError: There is not one number per token, or one is no word's.
    """
    values, counts, nulls = arrow.items(words)
    if (wrong := np.flatnonzero(counts != length)).size:
        raise QueryError(
            f"A function was given the words of {counts[wrong[0]]} tokens for an input of "
            f"{length[wrong[0]]}; give one number per token, -1 for tokens to leave out."
        )
    limit = np.repeat(length, counts)
    if nulls or (wrong := np.flatnonzero((values < -1) | (values >= limit))).size:
        found = "NULL" if nulls else f"{values[wrong[0]]} in an input of {limit[wrong[0]]} tokens"
        raise QueryError(
            f"A function was given the word {found}; number the words of each input from 0, "
            "and give -1 for tokens to leave out."
        )
    return values.astype(np.int64)


def senders_of(length: Ints, words: Ints, pieces: Any) -> Ints:
    """Return the words that rows count for, token by token.

    Raises:
        QueryError: `pieces` is neither of PIECES.
    """
    ways = np.array(pieces.to_pylist())
    if unknown := set(ways.tolist()) - set(PIECES):
        raise QueryError(f"pieces is {min(unknown)}; give {' or '.join(PIECES)}.")
    first = np.repeat(ways == "first", length)
    return (
        np.where(first, word_kernels.first_pieces(length, words), words) if first.any() else words
    )


def _tokens_of(length: Ints, senders: Ints, wanted: Ints) -> tuple[Ints, Ints]:
    """Find the tokens of one word of each input: which input, and the position in it.

    Raises:
        QueryError: No token of an input has its word.
    """
    found = np.flatnonzero(senders == np.repeat(wanted, length))
    owner = np.repeat(np.arange(len(length)), length)[found]
    missing = (wanted < 0) | (np.bincount(owner, minlength=len(length)) == 0)
    if missing.any():
        raise QueryError(
            f"attention_word_row was asked for word {wanted[missing][0]}, which no token of its input "
            "has; words count from 0."
        )
    return owner, found - (np.cumsum(length) - length)[owner]
