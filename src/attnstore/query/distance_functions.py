"""SQL functions over every two heads of an input, and over how far every two heads are from each other.

sql/schema/session/1-weights.sql and 7-alike.sql describe their arguments and results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from attnstore.errors import QueryError
from attnstore.query import arrow, head_pairs, head_plane
from attnstore.query.kernels import Floats
from attnstore.query.map_reader import MapReader
from attnstore.storage.reads import Ints
from attnstore.uncertainty import label_shuffles

_AT_ONCE = 2
"""Inputs whose heads are compared at the same time."""
_INPUTS: list[Any] = ["UBIGINT", "BIGINT", "BIGINT", "UBIGINT", "BIGINT"]
_HEADS = "layer SMALLINT, head SMALLINT, other_layer SMALLINT, other_head SMALLINT"
_EXACT = 2.0**20
"""Distances are rounded to parts of this, so that their sums have the same digits in any order."""

Input = tuple[int, int]
"""Run key and first cell of an input."""
Columns = tuple[npt.NDArray[Any], ...]


class DistanceFunctions:
    """The functions of one session. reader: its arrays."""

    def __init__(self, reader: MapReader) -> None:
        self._reader = reader

    def functions(self) -> list[tuple[str, Callable[..., pa.Array], list[Any], str]]:
        """List the functions: name, call, parameters, result."""
        pairs = _HEADS.replace("SMALLINT", "INTEGER")
        return [
            ("attention_head_pairs", self._head_pairs, _INPUTS,
             f"STRUCT({pairs}, cosine FLOAT, js FLOAT, pearson FLOAT)[]"),
            ("attention_head_distances", self._head_distances, [*_INPUTS, "BIGINT[]", "VARCHAR"],
             f"STRUCT({_HEADS}, total DOUBLE, count INTEGER)[]"),
            ("heads_in_plane", heads_in_plane, ["DOUBLE[]"], "STRUCT(stress DOUBLE, x DOUBLE[], y DOUBLE[])"),
            ("heads_in_clusters", heads_in_clusters, ["DOUBLE[]", "BIGINT"],
             "STRUCT(cluster INTEGER, silhouette DOUBLE)[]"),
            ("label_tests", label_tests, ["DOUBLE[]", "BIGINT[]"],
             "STRUCT(within DOUBLE, between DOUBLE, p DOUBLE)[]"),
        ]  # fmt: skip

    def _head_pairs(
        self, run_key: Any, cell: Any, length: Any, other_run_key: Any, other_cell: Any
    ) -> pa.ListArray:
        inputs = self._inputs(run_key, cell, length, other_run_key, other_cell)
        parts = _at_once(self._pairs_of, inputs)
        names = ("layer", "head", "other_layer", "other_head", "cosine", "js", "pearson")
        return _lists(names, parts)

    def _pairs_of(self, one: Input, other: Input, length: int) -> Columns:
        """Compare every head of an input with every head of another; columns of the pairs."""
        same = one == other
        compared = head_pairs.compare_every(self._reader.stripes(one, other, length), same)
        if not self._of_distributions(one, other):
            compared[1][:] = np.nan
        places, at = self._places(one, other, np.int32)
        return *places, *(values[at].astype(np.float32) for values in compared)

    def _head_distances(
        self,
        run_key: Any,
        cell: Any,
        length: Any,
        other_run_key: Any,
        other_cell: Any,
        positions: Any,
        measure: Any,
    ) -> pa.ListArray:
        inputs = self._inputs(run_key, cell, length, other_run_key, other_cell)
        measures = measure.to_pylist()
        if unknown := set(measures) - set(head_pairs.MEASURES):
            raise QueryError(
                f"The measure is {min(unknown)}; give {' or '.join(head_pairs.MEASURES)}."
            )
        values, counts, _ = arrow.items(positions)
        kept = np.split(values.astype(np.int64), np.cumsum(counts)[:-1])
        for (_, _, n), chosen in zip(inputs, kept, strict=True):
            if not len(chosen) or chosen.min() < 0 or chosen.max() >= n:
                raise QueryError(
                    f"attention_head_distances was given {len(chosen)} positions that are not all of an "
                    f"input of {n} tokens; give one or more, from 0."
                )
        arguments = [(*i, k, m) for i, k, m in zip(inputs, kept, measures, strict=True)]
        names = ("layer", "head", "other_layer", "other_head", "total", "count")
        return _lists(names, _at_once(self._distances_of, arguments))

    def _distances_of(
        self, one: Input, other: Input, length: int, kept: Ints, measure: str
    ) -> Columns:
        """Measure how far every head of an input is from every head of another; columns of the pairs."""
        if measure.startswith("js_") and not self._of_distributions(one, other):
            raise QueryError(
                f"{measure} compares rows that sum to 1, which maps of this kind do not have; give "
                "cosine or pearson."
            )
        stripes = _shares(self._reader.stripes(one, other, length), kept)
        total, count = head_pairs.distances(stripes, one == other, measure)
        places, at = self._places(one, other, np.int16)
        exact = np.round(total[at] * _EXACT) / _EXACT
        return *places, exact, count[at].astype(np.int32)

    def _of_distributions(self, one: Input, other: Input) -> bool:
        """Return True if the rows of both inputs' maps sum to 1."""
        return bool(self._reader.distributions(np.array([one[0], other[0]], np.uint64)).all())

    def _inputs(
        self, run_key: Any, cell: Any, length: Any, other_run_key: Any, other_cell: Any
    ) -> list[tuple[Input, Input, int]]:
        """Convert the Arrow columns of pairs of inputs.

        Raises:
            QueryError: No input of a run has such a length.
        """
        keys, other_keys = (arrow.keys(x) for x in (run_key, other_run_key))
        cells, other_cells, lengths = (arrow.integers(x) for x in (cell, other_cell, length))
        for of_keys in (keys, other_keys):
            self._reader.require_lengths(of_keys, lengths)
        ones = zip(keys.tolist(), cells.tolist(), strict=True)
        others = zip(other_keys.tolist(), other_cells.tolist(), strict=True)
        return list(zip(ones, others, lengths.tolist(), strict=True))

    def _places(
        self, one: Input, other: Input, dtype: type
    ) -> tuple[list[npt.NDArray[Any]], tuple[Ints, ...]]:
        """Return layer and head of the two heads of each pair, and where the pairs are in a matrix."""
        numbers = [self._reader.heads(key) for key, _ in (one, other)]
        shape = len(numbers[0][0]), len(numbers[1][0])
        at: tuple[Ints, ...] = (
            np.triu_indices(shape[0], 1)
            if one == other
            else np.unravel_index(range(shape[0] * shape[1]), shape)
        )
        places: list[npt.NDArray[Any]] = [
            x[i].astype(dtype) for of_run, i in zip(numbers, at, strict=True) for x in of_run
        ]
        return places, at


def heads_in_plane(distances: Any) -> pa.StructArray:
    """Place the heads of each list of distances in a plane; NULL for a head without distances."""
    stress: list[float] = []
    parts: list[npt.NDArray[np.float64]] = []
    for values in _parts(distances):
        matrix = head_plane.square(values)
        kept = head_plane.compared(matrix)
        places, off = np.full((len(matrix), 2), np.nan), float("nan")
        if kept.sum() > 1:
            places[kept], off = head_plane.scaled(matrix[np.ix_(kept, kept)])
        stress.append(off)
        parts.append(places)
    counts = np.array([len(part) for part in parts], np.int64)
    x, y = np.ascontiguousarray(np.concatenate([np.empty((0, 2)), *parts]).T)
    columns = {"x": arrow.lists(x, counts, np.isnan(x)), "y": arrow.lists(y, counts, np.isnan(y))}
    return arrow.structs({"stress": np.array(stress, np.float64)} | columns)


def heads_in_clusters(distances: Any, count: Any) -> pa.ListArray:
    """Join the heads of each list of distances into clusters; NULL for a head without distances."""
    parts, counts = [], []
    for values, wanted in zip(_parts(distances), count.to_pylist(), strict=True):
        matrix = head_plane.square(values)
        kept = head_plane.compared(matrix)
        numbers, silhouettes = np.full(len(matrix), -1), np.full(len(matrix), np.nan)
        numbers[kept], silhouettes[kept] = head_plane.clusters(matrix[np.ix_(kept, kept)], wanted)
        parts.append((numbers, silhouettes))
        counts.append(len(matrix))
    numbers, silhouettes = np.concatenate([np.empty((2, 0)), *parts], axis=1)
    cluster = arrow.column(numbers.astype(np.int32), numbers < 0)
    structs = arrow.structs({"cluster": cluster, "silhouette": silhouettes})
    return arrow.lists(structs, np.array(counts, np.int64))


def label_tests(distances: Any, labels: Any) -> pa.ListArray:
    """Test whether things of one label lie together: one entry per label in order, and one over all."""
    results, counts = [], []
    for values, named in zip(_parts(distances), _parts(labels), strict=True):
        matrix = head_plane.square(values)
        if len(matrix) != len(named):
            raise QueryError(
                f"label_tests was given {len(named)} labels for {len(matrix)} things; give one for each."
            )
        kept = head_plane.compared(matrix)
        labels_of = named.astype(np.int64)
        every, there = np.unique(labels_of), np.unique(labels_of[kept])
        at = np.append(np.isin(every, there), True)  # a label may have no thing with distances
        tests = np.full((3, len(at)), np.nan)
        tests[:, at] = label_shuffles.label_tests(matrix[np.ix_(kept, kept)], labels_of[kept])
        results.append(tests)
        counts.append(len(at))
    columns = np.ascontiguousarray(np.concatenate([np.empty((3, 0)), *results], axis=1))
    structs = arrow.structs(dict(zip(("within", "between", "p"), columns, strict=True)))
    return arrow.lists(structs, np.array(counts, np.int64))


def _shares(
    stripes: Iterator[tuple[Floats, Floats]], kept: Ints
) -> Iterator[tuple[Floats, Floats]]:
    """Keep some positions, as rows and as columns; each row is divided by its sum, NaN if that is 0."""
    start = 0
    for maps, others in stripes:
        end = start + maps.shape[1]
        rows = kept[(kept >= start) & (kept < end)] - start
        start = end
        if not len(rows):
            continue
        one, *rest = (
            x[:, rows[:, None], kept] for x in ((maps,) if maps is others else (maps, others))
        )
        for part in (one, *rest):
            with np.errstate(invalid="ignore", divide="ignore"):
                part /= part.sum(axis=2, keepdims=True)
        yield one, rest[0] if rest else one


def _at_once(call: Callable[..., Columns], arguments: list[tuple[Any, ...]]) -> list[Columns]:
    """Call a function for each input, several at a time: numpy lets go of Python's lock."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(call, *zip(*arguments, strict=True)))


def _lists(names: tuple[str, ...], parts: list[Columns]) -> pa.ListArray:
    """Make a list of structs of the columns of each input."""
    counts = np.array([len(part[0]) for part in parts])
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return arrow.lists(arrow.structs(dict(zip(names, columns, strict=True))), counts)


def _parts(column: Any) -> list[npt.NDArray[Any]]:
    """Cut an Arrow column of lists into arrays, NULL to NaN."""
    values, counts, _ = arrow.items(column)
    return np.split(values, np.cumsum(counts)[:-1]) if len(counts) else []
