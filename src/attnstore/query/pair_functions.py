"""SQL functions over pairs of tokens and of spans, over maps that `map_reader` reads; `pair_kernels` computes.

sql/schema/session/7-relations.sql describes their arguments and results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from attnstore.errors import QueryError
from attnstore.query import (
    arrow,
    kernels,
    map_reader,
    pair_kernels,
    word_functions,
    word_kernels,
)
from attnstore.query.map_reader import Keys, MapReader
from attnstore.query.pair_kernels import Spans
from attnstore.storage.reads import Ints


class PairFunctions:
    """The functions over pairs of one session. reader: its arrays."""

    def __init__(self, reader: MapReader) -> None:
        self._reader = reader

    def over_maps(self) -> list[tuple[Callable[..., pa.Array], list[Any], str]]:
        """List the functions over maps: each with its arguments after those of a map, and its result."""
        return [
            (
                self._reaching,
                ["DOUBLE", "BOOLEAN[]", "BOOLEAN", "INTEGER[]", "INTEGER[]"],
                "STRUCT(n INTEGER, weight DOUBLE, weights FLOAT[])",
            ),
            (
                self._span_hits,
                ["BIGINT[]", "VARCHAR", "INTEGER[][]", "INTEGER[][]", "BOOLEAN"],
                "INTEGER[]",
            ),
        ]

    def _reaching(
        self, run_key: Keys, layer: Ints, head: Ints, cell: Ints, length: Ints, least: Any,
        kept: Any, to_itself: Any, from_positions: Any, to_positions: Any,
    ) -> pa.StructArray:  # fmt: skip
        limit = arrow.numbers(least).astype(np.float32)
        flags, counts, _ = arrow.items(kept.cast(pa.list_(pa.uint8())))
        if (wrong := np.flatnonzero(counts != length)).size:
            raise QueryError(
                f"attention_reaching was told of {counts[wrong[0]]} tokens whether they count, and "
                f"the input has {length[wrong[0]]}; give one value per token."
            )
        itself = arrow.flags(to_itself)
        (from_pos, pairs, _), (to_pos, others, _) = (
            arrow.items(x) for x in (from_positions, to_positions)
        )
        map_reader.require_pairs("attention_reaching", length, (from_pos, pairs), (to_pos, others))
        ends = np.concatenate(([0], np.cumsum(pairs)))
        number, sums = np.empty(len(length), np.int32), np.empty(len(length))
        picked = np.empty(len(from_pos), np.float32)
        maps = word_functions.of_maps(self._reader, run_key, layer, head, cell, length)
        for rows, tokens, values in maps:
            number[rows], sums[rows] = pair_kernels.reaching(
                values, length[rows], limit[rows], flags[tokens].astype(bool), itself[rows]
            )
            at = slice(ends[rows.start], ends[rows.stop])
            weights = kernels.pick(values, length[rows], pairs[rows], from_pos[at], to_pos[at])
            enough = weights >= np.repeat(limit[rows], pairs[rows])
            picked[at] = np.where(enough, weights, 0)
        parts = {"n": arrow.column(number), "weight": arrow.column(sums)}
        return arrow.structs({**parts, "weights": arrow.lists(picked, pairs)})

    def _span_hits(
        self, run_key: Keys, layer: Ints, head: Ints, cell: Ints, length: Ints, words: Any,
        pieces: Any, attending: Any, attended: Any, summed: Any,
    ) -> pa.ListArray:  # fmt: skip
        numbers = word_functions.numbers_of(length, words)
        senders = word_functions.senders_of(length, numbers, pieces)
        (from_spans, pairs), (to_spans, others) = _spans(attending), _spans(attended)
        if (pairs != others).any():
            raise QueryError(
                "attention_span_hits takes pairs of spans: give as many attending as attended ones "
                f"({pairs[pairs != others][0]} and {others[pairs != others][0]} were given)."
            )
        for spans in (from_spans, to_spans):
            _require_words(length, numbers, pairs, spans)
        together, found = arrow.flags(summed), []
        ends = np.concatenate(([0], np.cumsum(pairs)))
        maps = word_functions.of_maps(self._reader, run_key, layer, head, cell, length)
        for rows, at, values in maps:
            of_pairs = slice(ends[rows.start], ends[rows.stop])
            found.append(
                pair_kernels.hits(
                    values, length[rows], (numbers[at], senders[at]), pairs[rows],
                    (from_spans[of_pairs], to_spans[of_pairs]), together[rows],
                )
            )  # fmt: skip
        return arrow.lists(np.concatenate(found), pairs)


def _spans(column: Any) -> tuple[Spans, Ints]:
    """Return the spans of a column of lists of lists, and how many each row has."""
    lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    words, counts, nulls = arrow.items(lists.flatten())
    if nulls or (counts < 1).any():
        raise QueryError(
            "attention_span_hits was given a span without words, or NULL for a word; give each span "
            "one word or more."
        )
    pairs = np.diff(arrow.numbers(lists.offsets)).astype(np.int64)
    return Spans(words.astype(np.int64), counts), pairs


def _require_words(length: Ints, words: Ints, pairs: Ints, spans: Spans) -> None:
    """Raise QueryError for a word of a span that its input does not have."""
    counts = np.repeat(np.repeat(word_kernels.sizes(length, words), pairs), spans.counts)
    if (wrong := np.flatnonzero((spans.words < 0) | (spans.words >= counts))).size:
        raise QueryError(
            f"attention_span_hits was given word {spans.words[wrong[0]]} of an input of "
            f"{counts[wrong[0]]} words; words count from 0."
        )
