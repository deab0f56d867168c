"""Translate filters of Polars into filters of DuckDB, as far as both mean the same by them.

DuckDB's filter keeps every row that the filter of Polars keeps, and maybe more: the reader applies
the filter of Polars to the result. Comparisons of a column with a value of its own type are
translated, joined by AND and OR; nothing else is.
"""

from __future__ import annotations

import io
import json
import operator
from collections.abc import Callable
from typing import Any

import duckdb
import polars as pl

Tree = dict[str, Any]
_COMPARISONS: dict[str, Callable[[Any, Any], duckdb.Expression]] = {
    "Eq": operator.eq, "NotEq": operator.ne, "Lt": operator.lt, "LtEq": operator.le,
    "Gt": operator.gt, "GtEq": operator.ge,
}  # fmt: skip
_MIRRORED = {"Lt": "Gt", "LtEq": "GtEq", "Gt": "Lt", "GtEq": "LtEq"}
_TYPES = {
    "Int8": "TINYINT", "Int16": "SMALLINT", "Int32": "INTEGER", "Int64": "BIGINT",
    "UInt8": "UTINYINT", "UInt16": "USMALLINT", "UInt32": "UINTEGER", "UInt64": "UBIGINT",
    "Float32": "FLOAT", "Float64": "DOUBLE", "String": "VARCHAR",
}  # fmt: skip
"""Types of Polars whose values compare in DuckDB as they do in Polars."""


def pushed(predicate: pl.Expr) -> duckdb.Expression | None:
    """Return a filter for DuckDB that keeps every row that `predicate` keeps; None for all rows."""
    tree = _tree(predicate)
    return None if tree is None else _expression(tree)


def applied(predicate: pl.Expr) -> pl.Expr | None:
    """Return the part of a predicate to apply to rows: all but hints for early pruning, which
    `DataFrame.filter` cannot take and which change no result; None for nothing."""
    tree = _tree(predicate)
    hinted = tree is not None and "dynamic_pred" in json.dumps(tree)
    return _without_hints(tree) if tree is not None and hinted else predicate


def _without_hints(tree: Tree) -> pl.Expr | None:
    parts = [part for part in _conjuncts(tree) if "Display" not in part]
    kept = [pl.Expr.deserialize(io.StringIO(json.dumps(part)), format="json") for part in parts]
    return pl.all_horizontal(kept) if kept else None


def _tree(predicate: pl.Expr) -> Tree | None:
    """Serialize a predicate as Polars does; None if it cannot (a Python function in it)."""
    try:
        tree = json.loads(predicate.meta.serialize(format="json"))
    except (pl.exceptions.PolarsError, ValueError):
        return None
    return tree if isinstance(tree, dict) else None


def _conjuncts(tree: Tree) -> list[Tree]:
    parts = tree.get("BinaryExpr", {})
    if parts.get("op") != "And":
        return [tree]
    return [*_conjuncts(parts["left"]), *_conjuncts(parts["right"])]


def _expression(tree: Tree) -> duckdb.Expression | None:
    parts = tree.get("BinaryExpr")
    if not isinstance(parts, dict):
        return _between(tree)
    left, op, right = parts["left"], parts["op"], parts["right"]
    if op not in ("And", "Or"):
        return _comparison(left, op, right)
    sides = [side for side in (_expression(left), _expression(right)) if side is not None]
    if len(sides) == 2:
        return sides[0] & sides[1] if op == "And" else sides[0] | sides[1]
    return sides[0] if sides and op == "And" else None


def _comparison(left: Tree, op: str, right: Tree) -> duckdb.Expression | None:
    if "Literal" in left:
        left, op, right = right, _MIRRORED.get(op, op), left
    value = _value(right)
    if op not in _COMPARISONS or not isinstance(left.get("Column"), str) or value is None:
        return None
    return _COMPARISONS[op](duckdb.ColumnExpression(left["Column"]), value)


def _between(tree: Tree) -> duckdb.Expression | None:
    """Translate `is_between` with its ends, which keeps more rows if an end is excluded."""
    call = tree.get("Function")
    if not isinstance(call, dict) or not _is_between(call.get("function")):
        return None
    column, low, high = call["input"]
    ends = _comparison(column, "GtEq", low), _comparison(column, "LtEq", high)
    return None if ends[0] is None or ends[1] is None else ends[0] & ends[1]


def _is_between(function: Any) -> bool:
    kind = function.get("Boolean") if isinstance(function, dict) else None
    return isinstance(kind, dict) and "IsBetween" in kind


def _value(tree: Tree) -> duckdb.Expression | None:
    """Translate a literal of one of `_TYPES`; None for others, null and what JSON cannot hold."""
    literal = tree.get("Literal")
    scalar = literal.get("Scalar") if isinstance(literal, dict) else None
    if not isinstance(scalar, dict) or len(scalar) != 1:
        return None
    (kind, value), *_ = scalar.items()
    if kind not in _TYPES or not isinstance(value, str | int | float) or isinstance(value, bool):
        return None
    return duckdb.ConstantExpression(value).cast(_TYPES[kind])
