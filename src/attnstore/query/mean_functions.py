"""SQL functions for intervals and tests, which `uncertainty` computes; batches of lists at a time.

sql/schema/session/4-uncertainty.sql makes aggregates of them and describes those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType

from attnstore.query import arrow
from attnstore.uncertainty import means, permutations, shared_texts, significance

_INTERVAL = "mean DOUBLE, low DOUBLE, high DOUBLE, interval VARCHAR"
_SUMS = ("draws", "inputs", "h", "n", "hh", "hn", "nn", "hhh", "hhn", "hnn", "nnn")
_CORRELATION = "STRUCT(r DOUBLE, low DOUBLE, high DOUBLE, p DOUBLE)"


def register(con: duckdb.DuckDBPyConnection) -> None:
    """Register the functions on a connection."""
    lists, pairs = ["DOUBLE[]", "UBIGINT[]", "DOUBLE", "DOUBLE"], ["DOUBLE[]", "DOUBLE[]"]
    functions: list[tuple[Callable[..., pa.Array], list[Any], str]] = [
        (interval_of, lists, f"STRUCT({_INTERVAL})"),
        (test_of, lists, f"STRUCT({_INTERVAL}, p DOUBLE)"),
        (
            share_of,
            ["DOUBLE[]", "DOUBLE", "DOUBLE"],
            f"STRUCT({_INTERVAL}, p DOUBLE)",
        ),
        (q_value, ["DOUBLE", "DOUBLE[]"], "DOUBLE"),
        (mcnemar, ["BIGINT", "BIGINT"], "DOUBLE"),
        (correlation_of, pairs, _CORRELATION),
        (rank_correlation_of, pairs, _CORRELATION),
        (sources_of, ["UBIGINT[]", "UBIGINT[]"], "BIGINT[]"),
    ]
    for call, parameters, result in functions:
        con.create_function(call.__name__, call, parameters, result, type=PythonUDFType.ARROW)
    con.create_function(
        "permutation_of", permutation_of, ["DOUBLE[][]"], "DOUBLE", type=PythonUDFType.ARROW,
        null_handling=FunctionNullHandling.SPECIAL,  # it is given none, and may give one
    )  # fmt: skip


def interval_of(values: Any, sources: Any, least: Any, most: Any) -> pa.Array:
    """Mean and interval of each list: values, keys of their sources (0: none), ends of the range."""
    mean, low, high, interval, _ = _tests(values, sources, least, most)
    ends = {"mean": mean, "low": low, "high": high}
    return arrow.structs({**ends, "interval": arrow.texts(interval)})


def test_of(values: Any, sources: Any, least: Any, most: Any) -> pa.Array:
    """The same, with the p-value of a mean of 0."""
    return _as_structs(_tests(values, sources, least, most))


def share_of(sums: Any, least: Any, most: Any) -> pa.Array:
    """Share of hits, interval and test of each row: its sums over sources, in the order of _SUMS."""
    table = arrow.items(sums)[0].reshape(-1, len(_SUMS)).astype(np.float64)
    named = dict(zip(_SUMS, table.T.copy(), strict=True))
    return _as_structs(means.share_tests(named, arrow.numbers(least), arrow.numbers(most)))


def _as_structs(tests: means.MeanTests) -> pa.Array:
    ends = {"mean": tests.mean, "low": tests.low, "high": tests.high}
    return arrow.structs({**ends, "interval": arrow.texts(tests.interval), "p": tests.p})


def q_value(p: Any, all_p: Any) -> pa.Array:
    """The q-value of each p among the list of all; the list is the same in most rows."""
    values, (items, counts, _) = arrow.numbers(p), arrow.items(all_p)
    q, corrected = np.full(len(values), np.nan), (np.empty(0), np.empty(0))
    ends = np.cumsum(counts)
    for row, (start, end) in enumerate(zip(ends - counts, ends, strict=True)):
        tests = items[start:end]
        if not np.array_equal(tests, corrected[0]):
            corrected = tests, significance.q_values(tests)
        at = np.flatnonzero(tests == values[row])
        q[row] = corrected[1][at[0]] if len(at) else np.nan
    return arrow.without_nan(q)


def mcnemar(to_right: Any, to_wrong: Any) -> pa.Array:
    """The exact p-value of each pair of counts."""
    return arrow.without_nan(significance.mcnemar(arrow.numbers(to_right), arrow.numbers(to_wrong)))


def correlation_of(x: Any, y: Any) -> pa.Array:
    """Pearson's correlation of each two lists."""
    return _correlations(significance.correlation, x, y)


def rank_correlation_of(x: Any, y: Any) -> pa.Array:
    """Spearman's correlation of each two lists."""
    return _correlations(significance.rank_correlation, x, y)


def permutation_of(scores: Any) -> pa.Array:
    """The permutation p-value of each list: per input, its score and those of its replacements."""
    lists = scores.combine_chunks() if isinstance(scores, pa.ChunkedArray) else scores
    inputs = np.diff(arrow.numbers(lists.offsets))
    values, sizes, _ = arrow.items(lists.flatten())
    ends, offsets = np.cumsum(inputs), np.concatenate(([0], np.cumsum(sizes)))
    alike: dict[tuple[int, ...], list[int]] = {}  # lists of the same inputs share their exchanges
    for row, (start, end) in enumerate(zip(ends - inputs, ends, strict=True)):
        alike.setdefault(tuple(sizes[start:end].tolist()), []).append(row)
    p = np.full(len(inputs), np.nan)
    for counts, rows in alike.items():
        starts = offsets[ends[rows] - inputs[rows]]
        table = values[starts[:, None] + np.arange(sum(counts))]
        p[rows] = permutations.permutation_p_values(counts, table)
    return arrow.without_nan(p)


def sources_of(texts: Any, pairs: Any) -> pa.Array:
    """For each list of inputs: the first input that shares a text with each, NULL where none does."""
    (first, counts, _), (second, *_) = arrow.items(texts), arrow.items(pairs)
    ends = np.cumsum(counts)
    groups = [
        shared_texts.sources(first[start:end], second[start:end])
        for start, end in zip(ends - counts, ends, strict=True)
    ]
    flat = np.concatenate(groups).astype(np.int64) if groups else np.empty(0, np.int64)
    return arrow.lists(flat, counts, flat < 0)


def _tests(values: Any, sources: Any, least: Any, most: Any) -> means.MeanTests:
    (numbers, counts, _), (keys, *_) = arrow.items(values), arrow.items(sources)
    return means.mean_tests(numbers, keys, counts, arrow.numbers(least), arrow.numbers(most))


def _correlations(
    measure: Callable[[Any, Any], significance.Correlation], x: Any, y: Any
) -> pa.Array:
    (first, counts, _), (second, *_) = arrow.items(x), arrow.items(y)
    ends = np.cumsum(counts)
    rows: Sequence[Sequence[float | None]] = [
        measure(first[start:end], second[start:end])
        for start, end in zip(ends - counts, ends, strict=True)
    ]
    table: npt.NDArray[np.float64] = np.array(rows, np.float64).reshape(-1, 4)
    return arrow.structs(dict(zip(("r", "low", "high", "p"), table.T, strict=True)))
