"""SQL functions over the Zarr store, vectorised: DuckDB hands a batch of rows, tensorstore reads.

attention_weights and attention_received give slices of the arrays as lists. The others read whole maps,
a few million weights at a time (`map_reader`), and give numbers (`kernels`), so that a batch of long inputs
needs no more memory. Those at the level of words are in `word_functions`, those over pairs in `pair_functions`.

sql/schema/session/1-weights.sql describes their arguments and results.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType

from attnstore.errors import AttnstoreError, QueryError
from attnstore.query import arrow, kernels, map_reader, through_layers
from attnstore.query.distance_functions import DistanceFunctions
from attnstore.query.ensemble_functions import EnsembleFunctions
from attnstore.query.kind_functions import KindFunctions
from attnstore.query.map_reader import Keys, MapReader
from attnstore.query.pair_functions import PairFunctions
from attnstore.query.row_functions import WITHIN, RowFunctions, even_within
from attnstore.query.strip_functions import StripFunctions
from attnstore.query.tree_functions import TreeFunctions
from attnstore.query.word_functions import WordFunctions, word_units
from attnstore.storage.reads import Ints

_MAP: list[Any] = ["UBIGINT", "SMALLINT", "SMALLINT", "BIGINT", "BIGINT"]


class Functions:
    """The functions of one session.

    Attributes:
        failure: The last error raised inside a function; DuckDB wraps it in one of its own.
    """

    def __init__(self, reader: MapReader) -> None:
        self._reader = reader
        self._words, self._kinds = WordFunctions(reader), KindFunctions(reader)
        self._trees, self._ensembles = TreeFunctions(reader), EnsembleFunctions(reader)
        self._pairs = PairFunctions(reader)
        self._rows, self._strips = RowFunctions(reader), StripFunctions(reader)
        self._distances = DistanceFunctions(reader)
        self.failure: AttnstoreError | None = None

    def register(self, con: duckdb.DuckDBPyConnection) -> None:
        """Register the functions on a connection."""
        con.create_function(
            "word_units", word_units, ["BIGINT[]"], "INTEGER[]", type=PythonUDFType.ARROW
        )
        con.create_function(
            "even_within", even_within, ["TINYINT[]", "TINYINT[]", "BOOLEAN"], WITHIN,
            type=PythonUDFType.ARROW,
        )  # fmt: skip
        for name, call, parameters, result, nulls in self._kinds.functions():
            con.create_function(
                name, self._keeping_error(call), parameters, result, type=PythonUDFType.ARROW,
                null_handling=FunctionNullHandling.SPECIAL if nulls else FunctionNullHandling.DEFAULT,
            )  # fmt: skip
        for name, call, parameters, result in self._ensembles.functions():
            con.create_function(
                name, self._keeping_error(call), parameters, result, type=PythonUDFType.ARROW
            )
        input_of_a_layer: list[Any] = ["UBIGINT", "SMALLINT", "BIGINT", "BIGINT"]
        for function, more in ((self._rollout, []), (self._flow, ["BIGINT"])):
            con.create_function(
                f"attention{function.__name__}", self._keeping_error(function),
                [*input_of_a_layer, *more], "FLOAT[]", type=PythonUDFType.ARROW,
            )  # fmt: skip
        for name, call, parameters, result in self._distances.functions():
            con.create_function(
                name, self._keeping_error(call), parameters, result, type=PythonUDFType.ARROW
            )
        for call, more, result in (
            (self._weights, [], "FLOAT[]"),
            (self._received, [], "FLOAT[]"),
            (self._at, ["INTEGER[]", "INTEGER[]"], "FLOAT[]"),
            (self._between, ["FLOAT[]", "FLOAT[]"], "FLOAT"),
            (self._row_max, [], "FLOAT[]"),
            (self._row_argmax, [], "INTEGER[]"),
            (self._top_k, ["INTEGER"], "STRUCT(from_pos INTEGER, to_pos INTEGER, weight FLOAT)[]"),
            (self._count_above, ["DOUBLE"], "INTEGER"),
            (self._columns, ["BIGINT", "BOOLEAN"], "FLOAT[]"),
            (self._compare, ["UBIGINT", "BIGINT"], "STRUCT(cosine FLOAT, js FLOAT)"),
            (
                self._compare_heads,
                ["UBIGINT", "SMALLINT", "SMALLINT", "BIGINT"],
                "STRUCT(cosine FLOAT, js FLOAT, pearson FLOAT)",
            ),
        ):
            name, parameters = f"attention{call.__name__}", [*_MAP, *more]
            con.create_function(
                name, self._guarded(call), parameters, result, type=PythonUDFType.ARROW
            )
        for name, call, parameters, numbers in self._trees.functions():
            con.create_function(
                name,
                self._guarded(call, numbers),
                parameters,
                "INTEGER[]",
                type=PythonUDFType.ARROW,
            )
        for call, more, result in (
            *self._words.over_maps(),
            *self._rows.over_maps(),
            *self._pairs.over_maps(),
            *self._strips.over_maps(),
        ):
            con.create_function(
                f"attention{call.__name__}", self._guarded(call), [*_MAP, *more], result,
                type=PythonUDFType.ARROW,
            )  # fmt: skip

    def _guarded(
        self, function: Callable[..., pa.Array], numbers: int = len(_MAP)
    ) -> Callable[..., pa.Array]:
        """Wrap a function: its first columns become numbers, and its error is kept."""

        @wraps(function)  # DuckDB reads the number of parameters off the signature
        def call(*columns: Any) -> pa.Array:
            keys = arrow.keys(columns[0])
            return function(keys, *map(arrow.integers, columns[1:numbers]), *columns[numbers:])

        return self._keeping_error(call)

    def _keeping_error(self, function: Callable[..., pa.Array]) -> Callable[..., pa.Array]:
        """Wrap a function: its error is kept, as DuckDB gives only a text of it."""

        @wraps(function)
        def call(*columns: Any) -> pa.Array:
            try:
                return function(*columns)
            except AttnstoreError as error:
                self.failure = error
                raise

        return call

    def _weights(
        self, run_key: Keys, layer: Ints, head: Ints, start: Ints, count: Ints
    ) -> pa.Array:
        map_reader.refuse_less(count, 0, "n")
        map_reader.require_room(count)
        weights, begins = self._reader.in_disk_order(run_key, layer, head, start, count)
        return arrow.list_views(weights, begins, count)

    def _received(
        self, run_key: Keys, layer: Ints, head: Ints, start: Ints, count: Ints
    ) -> pa.ListArray:
        map_reader.refuse_less(count, 0, "n")
        map_reader.require_room(count)
        weights = self._reader.slices("received", run_key, layer, head, start, count)
        return arrow.lists(weights, count)

    def _at(
        self,
        run_key: Keys,
        layer: Ints,
        head: Ints,
        cell: Ints,
        length: Ints,
        from_positions: Any,
        to_positions: Any,
    ) -> pa.ListArray:
        self._reader.require_lengths(run_key, length)
        (from_pos, counts), (to_pos, other_counts) = _items(from_positions), _items(to_positions)
        map_reader.require_pairs("attention_at", length, (from_pos, counts), (to_pos, other_counts))
        ends, picked = np.concatenate(([0], np.cumsum(counts))), np.empty(len(from_pos), np.float32)
        for rows, values in self._reader.maps(run_key, layer, head, cell, length):
            at = slice(ends[rows.start], ends[rows.stop])
            picked[at] = kernels.pick(values, length[rows], counts[rows], from_pos[at], to_pos[at])
        return arrow.lists(picked, counts)

    def _between(
        self,
        run_key: Keys,
        layer: Ints,
        head: Ints,
        cell: Ints,
        length: Ints,
        from_shares: Any,
        to_shares: Any,
    ) -> pa.Array:
        self._reader.require_lengths(run_key, length)
        (from_share, from_counts), (to_share, to_counts) = _items(from_shares), _items(to_shares)
        for counts in (from_counts, to_counts):
            if (wrong := np.flatnonzero(counts != length)).size:
                raise QueryError(
                    f"attention_between was given {counts[wrong[0]]} shares for an input of "
                    f"{length[wrong[0]]} tokens; give one per token."
                )
        ends, sums = np.concatenate(([0], np.cumsum(length))), np.empty(len(length), np.float32)
        for rows, values in self._reader.maps(run_key, layer, head, cell, length):
            at = slice(ends[rows.start], ends[rows.stop])
            sums[rows] = kernels.between(values, length[rows], from_share[at], to_share[at])
        return arrow.column(sums)

    def _row_max(
        self, run_key: Keys, layer: Ints, head: Ints, cell: Ints, length: Ints
    ) -> pa.ListArray:
        maps = self._reader.maps(run_key, layer, head, cell, length)
        largest = [kernels.row_max(values, length[rows]) for rows, values in maps]
        return arrow.lists(np.concatenate(largest), length)

    def _row_argmax(
        self, run_key: Keys, layer: Ints, head: Ints, cell: Ints, length: Ints
    ) -> pa.ListArray:
        maps = self._reader.maps(run_key, layer, head, cell, length)
        positions = np.concatenate(
            [kernels.row_argmax(values, length[rows]) for rows, values in maps]
        )
        return arrow.lists(positions, length, positions < 0)

    def _top_k(
        self, run_key: Keys, layer: Ints, head: Ints, cell: Ints, length: Ints, k: Any
    ) -> pa.ListArray:
        wanted = arrow.integers(k)
        map_reader.refuse_less(wanted, 0, "k")
        maps = self._reader.maps(run_key, layer, head, cell, length)
        parts = [kernels.top_k(values, length[rows], wanted[rows]) for rows, values in maps]
        cells, weights, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
        from_pos, to_pos = np.divmod(cells, np.repeat(length, counts))
        places = {"from_pos": from_pos.astype(np.int32), "to_pos": to_pos.astype(np.int32)}
        return arrow.lists(arrow.structs({**places, "weight": weights}), counts)

    def _count_above(
        self, run_key: Keys, layer: Ints, head: Ints, cell: Ints, length: Ints, threshold: Any
    ) -> pa.Array:
        least, counts = arrow.numbers(threshold).astype(np.float32), np.empty(len(length), np.int32)
        for rows, values in self._reader.maps(run_key, layer, head, cell, length):
            counts[rows] = kernels.count_above(values, length[rows], least[rows])
        return arrow.column(counts)

    def _columns(
        self,
        run_key: Keys,
        layer: Ints,
        head: Ints,
        cell: Ints,
        length: Ints,
        first: Any,
        below: Any,
    ) -> pa.ListArray:
        counts, rows_below = arrow.integers(first), arrow.flags(below)
        map_reader.refuse_less(counts, 1, "first")
        counts = np.minimum(counts, length)
        means = [
            kernels.columns(values, length[rows], counts[rows], rows_below[rows])
            for rows, values in self._reader.maps(run_key, layer, head, cell, length)
        ]
        return arrow.lists(np.concatenate(means), counts)

    def _rollout(self, run_key: Any, layer: Any, cell: Any, length: Any) -> pa.ListArray:
        keys = arrow.keys(run_key)
        layers, cells, lengths = map(arrow.integers, (layer, cell, length))
        self._reader.require_lengths(keys, lengths)
        map_reader.require_room(lengths**2)
        products = through_layers.rollout(self._reader, keys, layers, cells, lengths)
        return arrow.lists(products, lengths**2)

    def _flow(
        self, run_key: Any, layer: Any, cell: Any, length: Any, from_pos: Any
    ) -> pa.ListArray:
        keys = arrow.keys(run_key)
        layers, cells, lengths, positions = map(arrow.integers, (layer, cell, length, from_pos))
        flows = through_layers.flow(self._reader, keys, layers, cells, lengths, positions)
        return arrow.lists(flows, lengths)

    def _of_distributions(self, js: npt.NDArray[Any], run_key: Keys, other: Keys) -> Any:
        """Keep the distances of maps whose rows sum to 1; others have none, NaN."""
        both = self._reader.distributions(run_key) & self._reader.distributions(other)
        return np.where(both, js, np.float32(np.nan))

    def _compare(
        self,
        run_key: Keys,
        layer: Ints,
        head: Ints,
        cell: Ints,
        length: Ints,
        other_run_key: Any,
        other_cell: Any,
    ) -> pa.StructArray:
        keys, cells = arrow.keys(other_run_key), arrow.integers(other_cell)
        results = np.empty((2, len(length)), np.float32)
        for rows, values in self._reader.maps(run_key, layer, head, cell, length):
            at = (keys[rows], layer[rows], head[rows], cells[rows])
            others = self._reader.slices("maps", *at, length[rows] ** 2)
            results[0, rows] = kernels.cosine(values, others, length[rows])
            results[1, rows] = kernels.jensen_shannon(values, others, length[rows])
        results[1] = self._of_distributions(results[1], run_key, keys)
        return arrow.structs(dict(zip(("cosine", "js"), results, strict=True)))

    def _compare_heads(
        self,
        run_key: Keys,
        layer: Ints,
        head: Ints,
        cell: Ints,
        length: Ints,
        other_run_key: Any,
        other_layer: Any,
        other_head: Any,
        other_cell: Any,
    ) -> pa.StructArray:
        keys = arrow.keys(other_run_key)
        others = (
            keys,
            arrow.integers(other_layer),
            arrow.integers(other_head),
            arrow.integers(other_cell),
        )
        results = np.empty((3, len(length)), np.float32)
        for rows, maps, one, other in self._reader.pairs(
            (run_key, layer, head, cell), others, length
        ):
            results[:, rows] = kernels.compare_pairs(maps, one, other)
        results[1] = self._of_distributions(results[1], run_key, keys)
        return arrow.structs(dict(zip(("cosine", "js", "pearson"), results, strict=True)))


def _items(column: Any) -> tuple[npt.NDArray[Any], Ints]:
    """Return the items of an Arrow column of lists, end to end, and the length of each list."""
    values, counts, nulls = arrow.items(column)
    if nulls:
        raise QueryError("A list of positions or shares holds NULL; leave such items out.")
    return values, counts
