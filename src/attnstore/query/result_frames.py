"""Convert the rows of a query to a Polars frame: a value for every type, or one sentence.

DuckDB has types that Polars lacks, or silently takes for others (an INTERVAL, a UNION; a UHUGEINT
above 2¹²⁷ would be negative, a TIMETZ would lose its zone). Those come as their text in SQL, inside
of lists, structs and maps too. Dates that no calendar of Python has are refused by name.
"""

from __future__ import annotations

from typing import Any

import duckdb
import polars as pl

from attnstore.errors import QueryError
from attnstore.query import sql_text

_AS_TEXT = (
    "interval", "union", "bit", "bignum", "varint", "uhugeint", "time with time zone", "timetz",
    "variant", "geometry",
)  # fmt: skip
"""Names of DuckDB's types that come as text."""
_DATES = ("date", "timestamp", "timestamp_s", "timestamp_ms", "timestamp with time zone")
_CALENDAR = (-719162, 2932896)
"""First and last day of Python's dates, counted from 1970-01-01: the years 1 to 9999."""
_UNITS = {"ms": 86_400_000, "us": 86_400_000_000}
"""Units of a time in a day; nanoseconds do not reach the ends of the calendar."""


def frame(relation: duckdb.DuckDBPyRelation) -> pl.DataFrame:
    """Compute a relation. Raises QueryError for values that a frame cannot hold or show."""
    names, types = relation.columns, relation.types
    wanted = [_shown(kind) for kind in types]
    try:
        rows: pl.DataFrame = _cast(relation, names, wanted).pl()
    except pl.exceptions.PolarsError as error:
        raise _no_frame(names, types, error) from error
    except BaseException as error:  # a panic of Polars is no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise _no_frame(names, types, error) from None
    for name in rows.columns:
        _require_calendar(name, rows[name])
    return rows


def _cast(
    relation: duckdb.DuckDBPyRelation, names: list[str], wanted: list[str | None]
) -> duckdb.DuckDBPyRelation:
    """Cast some columns of a relation to the wanted types; names may occur twice."""
    if not any(wanted):
        return relation
    columns = ", ".join(
        (f"c{i}::{kind}" if kind else f"c{i}") + f" AS {sql_text.identifier(name)}"
        for i, (name, kind) in enumerate(zip(names, wanted, strict=True))
    )
    aliases = ", ".join(f"c{i}" for i in range(len(names)))
    converted = relation.query("answer", f"SELECT {columns} FROM answer AS t({aliases})")
    assert converted is not None  # a SELECT has rows
    return converted


def _shown(kind: Any) -> str | None:
    """Return the type that a type of DuckDB is cast to, None if it is kept."""
    if kind.id in _AS_TEXT:
        return "VARCHAR"
    if kind.id not in ("list", "array", "struct", "tuple", "map"):
        return None
    children = [(name, child, _shown(child)) for name, child in kind.children if name != "size"]
    if kind.id == "map":  # its dates cannot be looked at
        children = [(n, c, "VARCHAR" if c.id in _DATES else shown) for n, c, shown in children]
    if not any(shown for _, _, shown in children):
        return None
    inner = [(name, shown or str(child)) for name, child, shown in children]
    if kind.id == "list":
        return f"{inner[0][1]}[]"
    if kind.id == "array":
        return f"{inner[0][1]}[{dict(kind.children)['size']}]"
    if kind.id == "struct":
        return (
            f"STRUCT({', '.join(f'{sql_text.identifier(name)} {shown}' for name, shown in inner)})"
        )
    return f"{kind.id.upper()}({', '.join(shown for _, shown in inner)})"


def _require_calendar(name: str, column: pl.Series) -> None:
    """Raise QueryError for a date or time, also in lists and structs, that Python cannot hold."""
    kind = column.dtype
    if isinstance(kind, pl.Struct):
        for part in kind.fields:
            _require_calendar(name, column.struct.field(part.name))
    elif isinstance(kind, pl.List | pl.Array):
        if "Date" in str(kind):
            _require_calendar(name, column.explode())
    elif isinstance(kind, pl.Date | pl.Datetime):
        unit = getattr(kind, "time_unit", None)
        in_day = 1 if unit is None else _UNITS.get(unit)
        low, high = column.to_physical().min(), column.to_physical().max()
        if in_day is None or low is None:
            return
        if low < _CALENDAR[0] * in_day or high >= (_CALENDAR[1] + 1) * in_day:  # type: ignore[operator]
            raise QueryError(
                f"Column {name} holds dates outside of the years 1 to 9999 (infinity is one), which "
                f"cannot be shown; cast it to text, as in {sql_text.identifier(name)}::VARCHAR."
            )


def _no_frame(names: list[str], types: list[Any], error: BaseException) -> QueryError:
    nested = [i for i, kind in enumerate(types) if kind.id in ("list", "array", "struct", "map")]
    place = nested[0] if nested else 0
    return QueryError(
        f"The answer holds a type that Polars cannot take ({str(error).splitlines()[0][:160]}); cast "
        f"its column to text, as in {sql_text.identifier(names[place])}::VARCHAR ({types[place]} here)."
    )
