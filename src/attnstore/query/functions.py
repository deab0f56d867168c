"""SQL functions over the Zarr store, vectorised: DuckDB hands a batch of rows, tensorstore reads.

attention_weights(run_key, layer, head, cell, n)         FLOAT[]: n weights from offset `cell` on
attention_received(run_key, layer, head, token_cell, n)  FLOAT[]: mean weight each token receives
attention_at, attention_between, attention_compare       numbers of a map: `kernels` computes them,
a few million weights at a time, so that a batch of long inputs needs no more memory

sql/schema/session/1-weights.sql describes their arguments and results.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from duckdb.func import PythonUDFType

from attnstore.errors import AttnstoreError, DamageError, QueryError, StoreError, UnknownNameError
from attnstore.query import arrow, kernels
from attnstore.query.open_run import OpenRun
from attnstore.storage import arrays, fragments
from attnstore.storage.array_shape import Shape
from attnstore.storage.arrays import Floats
from attnstore.storage.backend import Backend
from attnstore.storage.reads import Ints

MAX_CELLS = 1 << 28
"""Largest number of weights for one batch of rows (up to 2048): 1 GiB of float32."""
PIECE_CELLS = 1 << 22
"""Weights in memory at once, per run, for functions that reduce maps to numbers: 16 MiB."""

Keys = npt.NDArray[np.uint64]

_MAP: list[Any] = ["UBIGINT", "SMALLINT", "SMALLINT", "BIGINT", "BIGINT"]


class Functions:
    """The functions of one session, with the runs that they have open.

    Attributes:
        failure: The last error raised inside a function; DuckDB wraps it in one of its own.
        read: The runs whose arrays were read since it was last cleared.
    """

    def __init__(
        self, backend: Backend, run_of: Callable[[int], tuple[str, Shape | None] | None]
    ) -> None:
        self._backend = backend
        self._run_of = run_of
        self._open: dict[int, OpenRun] = {}
        self.failure: AttnstoreError | None = None
        self.read: set[str] = set()

    def register(self, con: duckdb.DuckDBPyConnection) -> None:
        """Register the functions on a connection."""
        for call, more, result in (
            (self._weights, [], "FLOAT[]"),
            (self._received, [], "FLOAT[]"),
            (self._at, ["INTEGER[]", "INTEGER[]"], "FLOAT[]"),
            (self._between, ["FLOAT[]", "FLOAT[]"], "FLOAT"),
            (self._compare, ["UBIGINT", "BIGINT"], "STRUCT(cosine FLOAT, js FLOAT)"),
        ):
            name, parameters = f"attention{call.__name__}", [*_MAP, *more]
            con.create_function(
                name, self._guarded(call), parameters, result, type=PythonUDFType.ARROW
            )

    def forget(self) -> None:
        """Close every run; the next call opens the files again."""
        self._open.clear()

    def _guarded(self, function: Callable[..., pa.Array]) -> Callable[..., pa.Array]:
        """Wrap a function: its first five columns become numbers, and its error is kept."""

        @wraps(function)  # DuckDB reads the number of parameters off the signature
        def call(*columns: Any) -> pa.Array:
            try:
                keys = arrow.numbers(columns[0]).astype(np.uint64)
                return function(keys, *map(_numbers, columns[1:5]), *columns[5:])
            except AttnstoreError as error:
                self.failure = error
                raise

        return call

    def _weights(
        self, run_key: Keys, layer: Ints, head: Ints, start: Ints, count: Ints
    ) -> pa.ListArray:
        return self._slices("maps", run_key, layer, head, start, count)

    def _received(
        self, run_key: Keys, layer: Ints, head: Ints, start: Ints, count: Ints
    ) -> pa.ListArray:
        return self._slices("received", run_key, layer, head, start, count)

    def _slices(
        self, array: str, run_key: Keys, layer: Ints, head: Ints, start: Ints, count: Ints
    ) -> pa.ListArray:
        _refuse_less(count, 0, "n")
        ends = np.cumsum(np.minimum(count, MAX_CELLS + 1))  # a sum that no count can turn over
        if ends[-1] > MAX_CELLS:
            raise QueryError(
                f"This query asks for {len(count)} maps at once, {ends[-1] * 4 / 2**30:.1f} GiB of "
                f"weights or more, and the limit is {MAX_CELLS * 4 / 2**30:.0f} GiB: select fewer examples "
                "(WHERE example IN …) or use the view attention, which streams."
            )
        return arrow.lists(self._read(array, run_key, layer, head, start, count), count)

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
        self._require_lengths(run_key, length)
        (from_pos, counts), (to_pos, other_counts) = _items(from_positions), _items(to_positions)
        _check_pairs(length, from_pos, counts, to_pos, other_counts)
        ends, picked = np.concatenate(([0], np.cumsum(counts))), np.empty(len(from_pos), np.float32)
        for rows, values in self._maps(run_key, layer, head, cell, length):
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
        self._require_lengths(run_key, length)
        (from_share, from_counts), (to_share, to_counts) = _items(from_shares), _items(to_shares)
        for counts in (from_counts, to_counts):
            if (wrong := np.flatnonzero(counts != length)).size:
                raise QueryError(
                    f"attention_between was given {counts[wrong[0]]} shares for an input of "
                    f"{length[wrong[0]]} tokens; give one per token."
                )
        ends, sums = np.concatenate(([0], np.cumsum(length))), np.empty(len(length), np.float32)
        for rows, values in self._maps(run_key, layer, head, cell, length):
            at = slice(ends[rows.start], ends[rows.stop])
            sums[rows] = kernels.between(values, length[rows], from_share[at], to_share[at])
        return arrow.column(sums)

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
        self._require_lengths(run_key, length)
        keys, cells = arrow.numbers(other_run_key).astype(np.uint64), _numbers(other_cell)
        results = np.empty((2, len(length)), np.float32)
        for rows, values in self._maps(run_key, layer, head, cell, length):
            at = (keys[rows], layer[rows], head[rows], cells[rows])
            others = self._read("maps", *at, length[rows] ** 2)
            results[0, rows] = kernels.cosine(values, others, length[rows])
            results[1, rows] = kernels.jensen_shannon(values, others, length[rows])
        columns = [arrow.column(numbers) for numbers in results]
        return pa.StructArray.from_arrays(columns, ["cosine", "js"])

    def _maps(
        self, run_key: Keys, layer: Ints, head: Ints, cell: Ints, length: Ints
    ) -> Iterator[tuple[slice, Floats]]:
        """Yield the maps of a batch in pieces: a slice of its rows, and their weights end to end."""
        for rows in kernels.pieces(length**2, PIECE_CELLS):
            at = (run_key[rows], layer[rows], head[rows], cell[rows])
            yield rows, self._read("maps", *at, length[rows] ** 2)

    def _require_lengths(self, run_key: Keys, length: Ints) -> None:
        """Refuse lengths that no input of the run has, before anything of that size is allocated."""
        _refuse_less(length, 1, "length")
        for key in np.unique(run_key).tolist():
            self._run(key).require_lengths(length[run_key == key])

    def _read(
        self, array: str, run_key: Keys, layer: Ints, head: Ints, start: Ints, count: Ints
    ) -> Floats:
        """Read slices of 'maps' or 'received', one after another."""
        if (run_key == run_key[0]).all():
            return self._gather(array, int(run_key[0]), layer, head, start, count)
        values = np.empty(int(count.sum()), np.float32)
        for key in np.unique(run_key).tolist():
            of_run = run_key == key
            part = self._gather(array, key, *(x[of_run] for x in (layer, head, start, count)))
            values[np.repeat(of_run, count)] = part
        return values

    def _gather(
        self, array: str, run_key: int, layer: Ints, head: Ints, start: Ints, count: Ints
    ) -> Floats:
        with unless_dropped(self._backend, (self._run_of(run_key) or (None,))[0]):
            run = self._run(run_key)
            rows = run.rows(layer, head)
            run.require_inside(array, start, count)
            self.read.add(run.arrays.run)
            return run.arrays.gather(array, rows, start, count)

    def _run(self, run_key: int) -> OpenRun:
        """Return the arrays of a run, opened if they are not."""
        if run_key not in self._open:
            name, shape = self._run_of(run_key) or (None, None)
            if name is None:
                raise UnknownNameError(
                    f"No run has the key {run_key}; map_places gives the key of each run."
                )
            if shape is None:
                raise DamageError(
                    f"The inputs of run {name} are missing, so its maps cannot be located; ingest the run "
                    "again, which writes them again."
                )
            self._open[run_key] = OpenRun(arrays.open_run(self._backend, name, shape), shape)
        return self._open[run_key]


def _refuse_less(count: Ints, least: int, what: str) -> None:
    if (wrong := np.flatnonzero(count < least)).size:
        raise QueryError(f"A function was given {what} = {count[wrong[0]]}; give {least} or more.")


@contextlib.contextmanager
def unless_dropped(backend: Backend, run: str | None) -> Iterator[None]:
    """Raise UnknownNameError for a failed read if the run was dropped in the meantime."""
    try:
        yield
    except StoreError as error:
        if run is None or fragments.listing(backend, "runs", run):
            raise
        raise UnknownNameError(
            f"Run {run} was dropped while it was read; `attnstore runs` lists those that are left."
        ) from error


def _check_pairs(length: Ints, from_pos: Ints, counts: Ints, to_pos: Ints, others: Ints) -> None:
    """Refuse lists of unequal length, and positions that an input does not have."""
    if (counts != others).any():
        raise QueryError(
            "attention_at takes pairs: give as many from-positions as to-positions "
            f"({counts[counts != others][0]} and {others[counts != others][0]} were given)."
        )
    limit = np.repeat(length, counts)
    for positions in (from_pos, to_pos):
        if (wrong := np.flatnonzero((positions < 0) | (positions >= limit))).size:
            raise QueryError(
                f"attention_at was asked for position {positions[wrong[0]]} of an input of "
                f"{limit[wrong[0]]} tokens; positions count from 0."
            )


def _numbers(column: Any) -> Ints:
    """Convert an Arrow column to int64."""
    return arrow.numbers(column).astype(np.int64)


def _items(column: Any) -> tuple[npt.NDArray[Any], Ints]:
    """Return the items of an Arrow column of lists, end to end, and the length of each list."""
    values, counts, nulls = arrow.items(column)
    if nulls:
        raise QueryError("A list of positions or shares holds NULL; leave such items out.")
    return values, counts
