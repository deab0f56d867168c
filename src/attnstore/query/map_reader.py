"""Slices of the arrays of any number of runs, read as the SQL functions ask for them: a batch at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from attnstore import map_kinds
from attnstore.errors import DamageError, QueryError, StoreError, UnknownNameError
from attnstore.query import kernels, kind_runs
from attnstore.query.open_run import OpenRun
from attnstore.query.run_inputs import Ask
from attnstore.query.run_keys import RunKeys
from attnstore.storage import arrays, fragments
from attnstore.storage.arrays import Floats
from attnstore.storage.backend import Backend
from attnstore.storage.reads import Ints

MAX_CELLS = 1 << 28
"""Largest number of weights for one batch of rows (up to 2048): 1 GiB of float32."""
PIECE_CELLS = 1 << 22
"""Weights in memory at once, per run, for functions that reduce maps to numbers: 16 MiB."""

Keys = npt.NDArray[np.uint64]
Maps = tuple[Keys, Ints, Ints, Ints]
"""Run keys, layers, heads and cells of maps."""


class MapReader:
    """The runs that a session has open, by their keys.

    Args:
        backend: The files of the store.
        keys: Its runs by key and kind of maps.
        ask: Answers questions over the index while a query runs.
        cores: Cores that decode weights; None for all.

    Attributes:
        keys: The runs of the store by key and kind of maps.
        read: The runs whose arrays were read since it was last cleared.
    """

    def __init__(self, backend: Backend, keys: RunKeys, ask: Ask, cores: int | None = None) -> None:
        self._backend, self._ask, self._cores = backend, ask, cores
        self.keys = keys
        self._open: dict[int, OpenRun] = {}
        self.read: set[str] = set()

    def forget(self) -> None:
        """Close every run; the next read opens the files again."""
        self._open.clear()

    def maps(
        self, run_key: Keys, layer: Ints, head: Ints, cell: Ints, length: Ints
    ) -> Iterator[tuple[slice, Floats]]:
        """Yield the maps of a batch in pieces: a slice of its rows, and their weights end to end.

        Raises:
            QueryError: No input of the run has such a length; nothing of that size was allocated.
        """
        self.require_lengths(run_key, length)
        for rows in kernels.pieces(length**2, PIECE_CELLS):
            at = (run_key[rows], layer[rows], head[rows], cell[rows])
            yield rows, self.slices("maps", *at, length[rows] ** 2)

    def pairs(
        self, maps: Maps, others: Maps, length: Ints
    ) -> Iterator[tuple[Ints, Floats, Ints, Ints]]:
        """Read pairs of maps, each map once for all pairs of an input that it stands in.

        Args:
            maps, others: Run keys, layers, heads and cells of the two maps of each pair.
            length: Tokens of each pair's maps, which have the same.

        Yields:
            Rows of the batch, distinct maps of one length (n, L, L), and for each of the rows which
            of them are its two maps.

        Raises:
            QueryError: No input of the run has such a length.
        """
        self.require_lengths(maps[0], length)
        self.require_lengths(others[0], length)
        inputs = np.stack(
            (maps[0].view(np.int64), maps[3], others[0].view(np.int64), others[3], length)
        )
        for rows in grouped(inputs):
            n = int(length[rows[0]])
            at_once = max(1, PIECE_CELLS // (2 * n * n))  # rows whose maps fit if all are distinct
            for start in range(0, len(rows), at_once):
                part = rows[start : start + at_once]
                yield part, *self._distinct(maps, others, part, n)

    def _distinct(self, maps: Maps, others: Maps, rows: Ints, n: int) -> tuple[Floats, Ints, Ints]:
        """Read the distinct maps of some pairs, n tokens each, and number the two of each pair."""
        one, other = (
            np.stack([c[rows].astype(np.int64) for c in columns]) for columns in (maps, others)
        )
        places, numbers = np.unique(
            np.concatenate((one, other), axis=1), axis=1, return_inverse=True
        )
        key, layer, head, cell = places
        count = np.full(len(key), n * n)
        values = self.slices("maps", key.view(np.uint64), layer, head, cell, count)
        return values.reshape(-1, n, n), numbers[: len(rows)], numbers[len(rows) :]

    def layer_means(
        self, run_key: int, cell: int, n: int, through: int
    ) -> Iterator[npt.NDArray[np.float64]]:
        """Yield the map of each layer of an input, (n, n), from layer 0 on: the mean over its heads.

        Of another kind than the weights, rows are divided by their sums.

        Args:
            run_key: Key of the run.
            cell: Where the input's maps lie.
            n: Its tokens.
            through: The last layer.

        Raises:
            QueryError: The input has another length.
            UnknownNameError: The run does not hold one of the layers.
        """
        run = self._run(run_key)
        heads = np.array(run.heads)
        key, cells, count = (np.full(len(heads), x) for x in (run_key, cell, n * n))
        for layer in range(through + 1):
            layers, total = np.full(len(heads), layer), np.zeros((n, n))
            for rows in kernels.pieces(count, PIECE_CELLS):
                at = (key[rows].astype(np.uint64), layers[rows], heads[rows], cells[rows])
                values = self.slices("moved", *at, count[rows])
                total += values.reshape(-1, n, n).sum(axis=0, dtype=np.float64)
            yield run.layer_map(total / len(heads))

    def stripes(
        self, one: tuple[int, int], other: tuple[int, int], n: int
    ) -> Iterator[tuple[Floats, Floats]]:
        """Yield the maps of all heads of two inputs of n tokens, some rows at a time, (heads, rows, n).

        Args:
            one, other: Run key and first cell of each; the same twice is read once.
            n: Tokens of both.
        """
        n_maps = max(len(self.heads(key)[0]) for key, _ in (one, other))
        step = max(1, PIECE_CELLS // (2 * n_maps * n))
        for start in range(0, n, step):
            rows = min(step, n - start)
            first = self._rows(*one, n, start, rows)
            yield first, first if one == other else self._rows(*other, n, start, rows)

    def _rows(self, run_key: int, cell: int, n: int, start: int, rows: int) -> Floats:
        """Read rows from `start` on of the maps of all heads of an input, (heads, rows, n)."""
        layers, heads = self.heads(run_key)
        key, cells, count = (np.full(len(layers), x) for x in (run_key, cell + start * n, rows * n))
        flat = self.slices("maps", key.astype(np.uint64), layers, heads, cells, count)
        return flat.reshape(len(layers), rows, n)

    def heads(self, run_key: int) -> tuple[Ints, Ints]:
        """Return the layer and the head of each map that a run holds of an input, in order."""
        stored = self._run(run_key)
        layers, heads = np.meshgrid(stored.layers, stored.heads, indexing="ij")
        return layers.ravel().astype(np.int64), heads.ravel().astype(np.int64)

    def distributions(self, run_key: Keys) -> npt.NDArray[np.bool_]:
        """Return True for each key of a kind of maps whose rows sum to 1."""
        keys, which = np.unique(run_key, return_inverse=True)
        return np.array([self._run(key).kind.rows_sum for key in keys.tolist()], bool)[which]

    def require_lengths(self, run_key: Keys, length: Ints) -> None:
        """Raise QueryError for a length that no input of the run has."""
        refuse_less(length, 1, "length")
        for key in np.unique(run_key).tolist():
            self._run(key).require_lengths(length[run_key == key])

    def slices(
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

    def in_disk_order(
        self, run_key: Keys, layer: Ints, head: Ints, start: Ints, count: Ints
    ) -> tuple[Floats, Ints]:
        """Read slices of 'maps' in the order of the disk: their weights, and where each slice begins."""
        order = np.lexsort((start, head, layer, run_key))
        places = (layer[order], head[order], start[order], count[order])
        weights = self.slices("maps", run_key[order], *places)
        begins = np.empty(len(order), np.int64)
        begins[order] = np.cumsum(count[order]) - count[order]
        return weights, begins

    def per_token(
        self, array: str, run_key: Keys, layer: Ints, row: Ints, start: Ints, count: Ints
    ) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Read slices of an array with numbers per token, one after another.

        Args:
            array: 'value_norm' or 'mixing'.
            run_key: Keys of runs, of any kind of maps.
            layer: The layer of each slice.
            row: Its head, or the number of its ratio.
            start, count: Its first token and how many.

        Returns:
            The numbers, NaN where there is none; True for each slice that a run of an earlier capture,
            or a model without such numbers, does not have.
        """
        values = np.full(int(count.sum()), np.nan, np.float32)
        lacking = np.empty(len(count), bool)
        for key in np.unique(run_key).tolist():
            of_run = np.flatnonzero(run_key == key)
            named = self.keys.find(key)
            with self._reading(named.key if named else key) as run:
                at = start[of_run], count[of_run]
                run.require_inside(array, *at)
                numbers = run.token_rows(array, layer[of_run], row[of_run])
                lacking[of_run] = run.held(array).lacking(*at, run.shape.shard_tokens)
                kept = ~lacking[of_run]
                there = np.zeros(len(count), bool)
                there[of_run[kept]] = True
                if there.any():
                    part = run.arrays.gather(array, numbers[kept], at[0][kept], at[1][kept])
                    values[np.repeat(there, count)] = part
        return values, lacking

    def _gather(
        self, array: str, run_key: int, layer: Ints, head: Ints, start: Ints, count: Ints
    ) -> Floats:
        with self._reading(run_key) as run:
            rows = run.rows(layer, head)
            run.require_inside(array, start, count)
            return run.gather(array, rows, start, count)

    @contextlib.contextmanager
    def _reading(self, run_key: int) -> Iterator[OpenRun]:
        """Open a run to read from it, and note that it was read."""
        named = self.keys.find(run_key)
        with unless_dropped(self._backend, named and named.run):
            run = self._run(run_key)
            self.read.add(run.arrays.run)
            yield run

    def _run(self, run_key: int) -> OpenRun:
        """Return the arrays of a run, opened if they are not."""
        if run_key not in self._open:
            named = self.keys.find(run_key)
            if named is None:
                raise UnknownNameError(
                    f"No run has the key {run_key}; map_places gives the key of each run, and map_kinds those of its kinds of maps."
                )
            if named.shape is None:
                raise DamageError(
                    f"The inputs of run {named.run} are missing, so its maps cannot be located; ingest the run "
                    "again, which writes them again."
                )
            if named.kind.name == map_kinds.WEIGHTS:
                opened = arrays.open_run(self._backend, named.run, named.shape, self._cores)
            else:
                opened = self._run(named.key).arrays
            self._open[run_key] = kind_runs.opened(
                opened, named.shape, named.kind, named.key, self._ask
            )
        return self._open[run_key]


def grouped(columns: Ints) -> list[Ints]:
    """Group rows that are equal in every column; columns: (c, n); returns the rows of each group."""
    order = np.lexsort(columns)
    changes = np.any(np.diff(columns[:, order], axis=1), axis=0)
    return np.split(order, np.flatnonzero(changes) + 1)


def refuse_less(count: Ints, least: int, what: str) -> None:
    """Raise QueryError for an argument of a function below its least value."""
    if (wrong := np.flatnonzero(count < least)).size:
        raise QueryError(f"A function was given {what} = {count[wrong[0]]}; give {least} or more.")


def require_pairs(
    name: str, length: Ints, sending: tuple[Ints, Ints], receiving: tuple[Ints, Ints]
) -> None:
    """Refuse positions that are no pairs, or that an input does not have.

    Args:
        name: The function that was given them.
        length: Tokens of each input.
        sending, receiving: Positions end to end, and how many each input has.

    Raises:
        QueryError: The sentence says what was given.
    """
    (_, counts), (_, others) = sending, receiving
    if (counts != others).any():
        raise QueryError(
            f"{name} takes pairs: give as many from-positions as to-positions "
            f"({counts[counts != others][0]} and {others[counts != others][0]} were given)."
        )
    limit = np.repeat(length, counts)
    for positions, _ in (sending, receiving):
        if (wrong := np.flatnonzero((positions < 0) | (positions >= limit))).size:
            raise QueryError(
                f"{name} was asked for position {positions[wrong[0]]} of an input of "
                f"{limit[wrong[0]]} tokens; positions count from 0."
            )


def require_room(count: Ints) -> None:
    """Refuse a batch that asks for more weights than a list of lists may hold."""
    ends = np.cumsum(np.minimum(count, MAX_CELLS + 1))  # a sum that no count can turn over
    if ends[-1] > MAX_CELLS:
        raise QueryError(
            f"This query asks for {len(count)} maps at once, {ends[-1] * 4 / 2**30:.1f} GiB of "
            f"weights or more, and the limit is {MAX_CELLS * 4 / 2**30:.0f} GiB: select fewer examples "
            "(WHERE example IN …) or use the view attention, which streams."
        )


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
