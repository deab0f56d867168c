"""JSON records, one {…} per row: of their fields, those that are asked for become columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from attnstore.datasets import columns
from attnstore.datasets.columns import Table
from attnstore.errors import DatasetError

Record = dict[str, Any]
_SURROGATES = "\ud800", "\udfff"


def lines_table(path: Path, lines: Iterable[str]) -> Table:
    """Of a file with a record per line; blank lines are left out."""
    records: list[Record] = []
    places: list[int] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            record = parsed(line, path, number)
            if not isinstance(record, dict):
                raise _no_records(path, f"line {number}", record)
            records.append(record)
            places.append(number)
    return _table(path, records, lambda row: f"line {places[row]}")


def whole_table(path: Path, text: str) -> Table:
    """Of a file that is one list of records."""
    records = parsed(text, path, 1)
    if not isinstance(records, list):
        raise _no_records(path, "the file", records)
    for row, record in enumerate(records):
        if not isinstance(record, dict):
            raise _no_records(path, f"record {row}", record)
    return _table(path, records, lambda row: f"record {row}")


def parsed(text: str, path: Path, first_line: int) -> Any:
    """Return a JSON value. Raises DatasetError with the line; first_line: number of the text's first."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line, reason = first_line + error.lineno - 1, f"not valid JSON ({error.msg})"
    except RecursionError:
        line, reason = first_line, "it is nested too deeply to be a record"
    except ValueError as error:  # of the length that Python turns into an integer
        line, reason = first_line, f"it holds an integer of too many digits ({error})"
    except MemoryError:
        line, reason = first_line, "it does not fit into the memory"
    raise DatasetError(f"{path}, line {line}: {reason}; fix the line")


def _no_records(path: Path, where: str, value: Any) -> DatasetError:
    return DatasetError(
        f"{path} must hold records, one {{…}} per row, and {where} holds {_called(value)} instead"
    )


def _called(value: Any) -> str:
    names = {
        dict: "a record", list: "a list", str: "text", bool: "true or false", int: "a number",
        float: "a number", type(None): "null",
    }  # fmt: skip
    return names.get(type(value), type(value).__name__)


def _table(path: Path, records: list[Record], where: Callable[[int], str]) -> Table:
    fields = dict.fromkeys(field for record in records for field in record)
    names = {columns.printable(field): field for field in fields}
    loaded: dict[str, pl.Series] = {}

    def column(name: str) -> pl.Series:
        if name not in loaded:
            values = [record.get(names[name]) for record in records]
            loaded[name] = _column(path, name, values, where)
        return loaded[name]

    def load(chosen: Sequence[str]) -> pl.DataFrame:
        return pl.DataFrame([column(name) for name in chosen])

    return Table(str(path), tuple(names), lambda name: column(name).dtype, load)


def _column(path: Path, name: str, values: list[Any], where: Callable[[int], str]) -> pl.Series:
    try:
        frame = pl.DataFrame([{name: value} for value in values], infer_schema_length=None)
    except (pl.exceptions.PolarsError, ValueError, TypeError, OverflowError) as error:
        raise DatasetError(f"{path}, {_fault(name, values, where, error)}") from error
    return frame[name]


def _fault(name: str, values: list[Any], where: Callable[[int], str], error: Exception) -> str:
    """Describe the value that keeps a field from being a column."""
    first = next((v for v in values if v is not None), None)
    for row, value in enumerate(values):
        if isinstance(value, str) and (half := next(filter(_is_half, value), None)) is not None:
            return (
                f"{where(row)}: the field {name!r} holds \\u{ord(half):04x} at character "
                f"{value.index(half)}, half of a character that was cut in two; write the text whole"
            )
        if value is not None and _called(value) != _called(first):
            return (
                f"{where(row)}: the field {name!r} holds {_called(value)}, and before it "
                f"{_called(first)}; give the field one type, or name another column"
            )
    reason = " ".join(str(error).split())[:200]
    return f"{where(0)} and after: the field {name!r} does not make a column ({reason}); give it one type"


def _is_half(character: str) -> bool:
    low, high = _SURROGATES
    return low <= character <= high
