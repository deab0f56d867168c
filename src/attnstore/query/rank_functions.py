"""SQL functions for rank correlations of two lists, which `uncertainty` computes; batches at a time."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType

from attnstore.errors import QueryError
from attnstore.query import arrow
from attnstore.uncertainty import rankings


def register(con: duckdb.DuckDBPyConnection) -> None:
    """Register the functions on a connection."""
    for call in (list_kendall, list_spearman):
        pair: list[Any] = ["DOUBLE[]", "DOUBLE[]"]
        con.create_function(
            call.__name__, call, pair, "DOUBLE", type=PythonUDFType.ARROW,
            null_handling=FunctionNullHandling.SPECIAL,  # a result may be NULL, and a NULL list is an empty one
        )  # fmt: skip


def list_kendall(x: Any, y: Any) -> pa.Array:
    """Kendall's τ-b of each two lists, NULL where it is undefined."""
    return arrow.without_nan(rankings.kendall(*_pairs(x, y, "list_kendall")))


def list_spearman(x: Any, y: Any) -> pa.Array:
    """Spearman's ρ of each two lists, NULL where it is undefined."""
    return arrow.without_nan(rankings.spearman(*_pairs(x, y, "list_spearman")))


def _pairs(x: Any, y: Any, name: str) -> tuple[Any, Any, Any]:
    (first, counts, _), (second, others, _) = arrow.items(x), arrow.items(y)
    if (wrong := np.flatnonzero(counts != others)).size:
        raise QueryError(
            f"{name} was given lists of {counts[wrong[0]]} and {others[wrong[0]]} items; give two of "
            "one length."
        )
    return first, second, counts
