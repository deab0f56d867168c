"""SQL functions over lists whose items belong to groups, such as the token pairs of a mention and a candidate.

sql/schema/session/7-coreference.sql describes their arguments and results.
"""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from duckdb.func import PythonUDFType

from attnstore.errors import QueryError
from attnstore.query import arrow
from attnstore.storage.reads import Ints


def register(con: duckdb.DuckDBPyConnection) -> None:
    """Register the functions on a connection."""
    functions: list[tuple[Any, list[Any], str]] = [
        (list_group_sum, ["FLOAT[]", "DOUBLE[]", "BIGINT[]"], "DOUBLE[]"),
        (list_group_argmax, ["DOUBLE[]", "BIGINT[]"], "INTEGER[]"),
    ]
    for call, parameters, result in functions:
        con.create_function(call.__name__, call, parameters, result, type=PythonUDFType.ARROW)


def list_group_sum(values: Any, shares: Any, groups: Any) -> pa.ListArray:
    """Sum value times share over the items of each group: one number per group, NULL for no number."""
    (numbers, counts, _), (weights, *_) = arrow.items(values), arrow.items(shares)
    _require_one_length("list_group_sum", counts, arrow.items(shares)[1])
    group, sizes = _numbered("list_group_sum", counts, groups)
    sums = np.bincount(group, numbers * weights, int(sizes.sum()))
    return arrow.lists(sums, sizes, np.isnan(sums))


def list_group_argmax(values: Any, groups: Any) -> pa.ListArray:
    """Find in each group the first item with the largest value: its place in the list, from 1.

    NULL where the group holds NULL or NaN, which no item can be compared with.
    """
    numbers, counts, _ = arrow.items(values)
    group, sizes = _numbered("list_group_argmax", counts, groups)
    owner = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(numbers)) - (np.cumsum(counts) - counts)[owner]
    order = np.lexsort((place, -numbers, group))  # NaN comes last
    _, first = np.unique(group[order], return_index=True)
    broken = np.bincount(group, np.isnan(numbers), int(sizes.sum())) > 0
    best = place[order][first] + 1
    return arrow.lists(best.astype(np.int32), sizes, broken)


def _numbered(name: str, counts: Ints, groups: Any) -> tuple[Ints, Ints]:
    """Number the groups of all lists through.

    Returns:
        The group of each item, and how many groups each list has.

    Raises:
        QueryError: Lists of unequal length, or groups that do not count from 0 without a gap.
    """
    numbers, others, nulls = arrow.items(groups)
    _require_one_length(name, counts, others)
    filled = np.flatnonzero(counts)
    sizes = np.zeros(len(counts), np.int64)
    if len(filled):
        sizes[filled] = np.maximum.reduceat(numbers, (np.cumsum(counts) - counts)[filled]) + 1
    group = numbers + np.repeat(np.cumsum(sizes) - sizes, counts)
    known = not nulls and not (numbers < 0).any()
    if not known or len(np.unique(group)) != sizes.sum():
        raise QueryError(f"{name} was given groups with a gap; number them from 0 in each list.")
    return group, sizes


def _require_one_length(name: str, counts: Ints, others: Ints) -> None:
    if (wrong := np.flatnonzero(counts != others)).size:
        raise QueryError(
            f"{name} was given lists of {counts[wrong[0]]} and {others[wrong[0]]} items; give lists of "
            "one length."
        )
