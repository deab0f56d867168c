"""SQL functions over the trees of maps of words, which `word_kernels` finds.

sql/schema/session/6-words.sql describes their arguments and results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from attnstore.errors import QueryError, UsageError
from attnstore.head_sets import parse_heads
from attnstore.query import arrow, kernels, map_reader, word_functions, word_kernels
from attnstore.query.kernels import Floats
from attnstore.query.map_reader import Keys, MapReader
from attnstore.storage.reads import Ints

Head = tuple[int, int]
"""Layer and head."""

_TREE: list[Any] = ["BIGINT[]", "VARCHAR", "BIGINT", "BOOLEAN"]


class TreeFunctions:
    """The functions over trees of one session. reader: its arrays."""

    def __init__(self, reader: MapReader) -> None:
        self._reader = reader

    def functions(self) -> list[tuple[str, Callable[..., pa.Array], list[Any], int]]:
        """List the functions: name, call, parameters, and how many of them are numbers."""
        run, place = ["UBIGINT"], ["BIGINT", "BIGINT"]
        return [
            (
                "attention_word_tree",
                self._word_tree,
                [*run, "SMALLINT", "SMALLINT", *place, *_TREE],
                5,
            ),
            (
                "attention_layer_word_tree",
                self._layer_word_tree,
                [*run, "SMALLINT", *place, *_TREE],
                4,
            ),
            (
                "attention_heads_word_tree",
                self._heads_word_tree,
                [*run, *place, "VARCHAR", *_TREE],
                3,
            ),
        ]

    def _word_tree(
        self,
        run_key: Keys,
        layer: Ints,
        head: Ints,
        cell: Ints,
        length: Ints,
        words: Any,
        pieces: Any,
        root: Any,
        heads_attend: Any,
    ) -> pa.ListArray:
        maps = word_functions.of_maps(self._reader, run_key, layer, head, cell, length)
        return self._trees(maps, length, words, pieces, root, heads_attend)

    def _layer_word_tree(
        self,
        run_key: Keys,
        layer: Ints,
        cell: Ints,
        length: Ints,
        words: Any,
        pieces: Any,
        root: Any,
        heads_attend: Any,
    ) -> pa.ListArray:
        """Find the tree of the mean map of each layer: `attention_layer_word_tree`."""
        named, group = np.unique(
            np.stack((run_key.view(np.int64), layer)), axis=1, return_inverse=True
        )
        keys = named[0].view(np.uint64).tolist()
        heads = [
            [(y, h) for h in np.unique(self._reader.heads(key)[1]).tolist()]
            for key, y in zip(keys, named[1].tolist(), strict=True)
        ]
        maps = self._of_means(run_key, cell, length, group, heads)
        return self._trees(maps, length, words, pieces, root, heads_attend)

    def _heads_word_tree(
        self,
        run_key: Keys,
        cell: Ints,
        length: Ints,
        heads: Any,
        words: Any,
        pieces: Any,
        root: Any,
        heads_attend: Any,
    ) -> pa.ListArray:
        """Find the tree of the mean map of some heads, as `3.9,5.2`: `attention_heads_word_tree`."""
        named = list(zip(run_key.tolist(), heads.to_pylist(), strict=True))
        numbers = {name: number for number, name in enumerate(dict.fromkeys(named))}
        group = np.array([numbers[name] for name in named], np.int64)
        maps = self._of_means(
            run_key, cell, length, group, [self._named(*name) for name in numbers]
        )
        return self._trees(maps, length, words, pieces, root, heads_attend)

    def _trees(
        self,
        maps: Iterator[tuple[slice, slice, Floats]],
        length: Ints,
        words: Any,
        pieces: Any,
        root: Any,
        heads_attend: Any,
    ) -> pa.ListArray:
        numbers = word_functions.numbers_of(length, words)
        senders = word_functions.senders_of(length, numbers, pieces)
        roots = _roots(length, numbers, root)
        from_heads = arrow.numbers(heads_attend.cast(pa.uint8())).astype(bool)
        parts = [
            word_kernels.trees(
                values, length[rows], numbers[at], senders[at], roots[rows], from_heads[rows]
            )
            for rows, at, values in maps
        ]
        heads, missing = (np.concatenate(column) for column in zip(*parts, strict=True))
        return arrow.lists(heads, word_kernels.sizes(length, numbers), missing)

    def _of_means(
        self, run_key: Keys, cell: Ints, length: Ints, group: Ints, heads: list[list[Head]]
    ) -> Iterator[tuple[slice, slice, Floats]]:
        """Yield the mean map of some heads of each row of a batch, as `of_maps` yields maps.

        Args:
            run_key, cell, length: Of the rows.
            group: Which of `heads` the map of each row is the mean of; rows of one group have one key.
            heads: Layers and heads.
        """
        self._reader.require_lengths(run_key, length)
        ends = np.concatenate(([0], np.cumsum(length)))
        cells = np.concatenate(([0], np.cumsum(length**2)))
        for rows in kernels.pieces(length**2, map_reader.PIECE_CELLS):
            means = np.empty(cells[rows.stop] - cells[rows.start], np.float32)
            for number in np.unique(group[rows]).tolist():
                own = group[rows] == number
                here = rows.start + np.flatnonzero(own)
                at, one = (cell[here], length[here] ** 2), np.ones(len(here), np.int64)
                total = sum(
                    self._reader.slices("maps", run_key[here], y * one, h * one, *at).astype(
                        np.float64
                    )
                    for y, h in heads[number]
                )
                means[np.repeat(own, length[rows] ** 2)] = total / len(heads[number])
            yield rows, slice(ends[rows.start], ends[rows.stop]), means

    def _named(self, run_key: int, text: str) -> list[Head]:
        """Return the heads that a text names, of those that a run stores.

        Raises:
            QueryError: It names none.
        """
        layers, heads = self._reader.heads(run_key)
        try:
            return sorted(parse_heads(text, int(layers.max()) + 1, int(heads.max()) + 1))
        except UsageError as error:
            raise QueryError(str(error)) from error


def _roots(length: Ints, words: Ints, root: Any) -> Ints:
    """Return the root of each input.

    Raises:
        QueryError: It is neither -1 nor the number of a word.
    """
    roots = arrow.integers(root)
    known = np.bincount(
        np.repeat(np.arange(len(length)), length)[words == np.repeat(roots, length)],
        minlength=len(length),
    )
    if (wrong := np.flatnonzero((roots != -1) & (known == 0))).size:
        raise QueryError(
            f"A function was given the root {roots[wrong[0]]}, which is no word of its input; give the number of "
            "a word, from 0, or -1 for none."
        )
    return roots
