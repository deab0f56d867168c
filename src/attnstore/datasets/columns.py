"""A source of text as a table whose columns are known before any is read.

Only the columns that somebody asks for are read: what the others hold, however strange, does no
harm. `arrow_kind` and `from_arrow` are for the sources that Arrow opens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pyarrow as pa

from attnstore.datasets import size_limits
from attnstore.datasets.label_names import Names
from attnstore.errors import DatasetError

_MOST, _LONGEST = 50, 80
"""Names in a sentence, and characters of each."""

Kind = pl.DataType | str
"""What a column holds: a type of Polars, or the name of one that Polars lacks."""


@dataclass(frozen=True)
class Table:
    """A source whose columns are known. source: what errors call it; columns: names in its order;
    kind: of one column; load: the rows of some columns, in the order asked for; classes: by column,
    the names of its classes in the order of their numbers, where the source keeps them."""

    source: str
    columns: tuple[str, ...]
    kind: Callable[[str], Kind]
    load: Callable[[Sequence[str]], pl.DataFrame]
    classes: Names = field(default_factory=dict)

    def read(self, names: Sequence[str]) -> pl.DataFrame:
        """Return some columns, each once. Raises DatasetError, also for a name that two columns have."""
        count = Counter(self.columns)
        for name in names:
            if count[name] > 1:
                raise DatasetError(f"{self.source} has two columns named {name!r}; rename one")
        try:
            return self.load(list(dict.fromkeys(names)))
        except OSError as error:
            raise DatasetError(
                f"{self.source} cannot be read ({error.strerror or error}); check the file"
            ) from error
        except MemoryError as error:
            raise DatasetError(
                f"{self.source} does not fit into the memory; write a part of its rows to another "
                "file"
            ) from error


def of_frame(source: str, frame: pl.DataFrame) -> Table:
    """Return a table that was read already."""
    return Table(source, tuple(frame.columns), lambda name: frame[name].dtype, frame.select)


def plain(kind: Kind) -> bool:
    """Check whether labels may be of this kind: single values that can be written down."""
    return not isinstance(kind, str) and not kind.is_nested() and kind not in (pl.Binary, pl.Object)


def textual(kind: Kind) -> bool:
    """Check whether texts may be of this kind."""
    return not isinstance(kind, str) and kind in (pl.String, pl.Categorical, pl.Enum, pl.Null)


def printable(name: str) -> str:
    """Return a column's name without lone surrogates, which can be neither compared nor printed."""
    return name.encode("utf-8", "backslashreplace").decode()


def listed(names: Sequence[str]) -> str:
    """Return the names of columns on one line, the first of many."""
    short = [" ".join(name[:_LONGEST].splitlines()) for name in names[:_MOST]]
    return ", ".join(short) + (", …" if len(names) > _MOST else "")


def arrow_kind(type_: Any) -> Kind:
    """Return the kind of an Arrow type. Polars panics on some, so it is only asked about a known few."""
    type_ = _storage(type_)
    if pa.types.is_dictionary(type_):
        values = arrow_kind(type_.value_type)
        return pl.Categorical() if textual(values) else values
    if _is_text(type_):
        return pl.String()
    single = (
        pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating,
        pa.types.is_date, pa.types.is_time, pa.types.is_decimal128,
    )  # fmt: skip
    untimed = pa.types.is_timestamp(type_) and type_.tz is None
    if not (untimed or _is_binary(type_) or any(known(type_) for known in single)):
        return _kind_of_lists(type_)
    frame = pl.from_arrow(pa.schema([pa.field("x", type_)]).empty_table())
    assert isinstance(frame, pl.DataFrame)
    return frame.schema["x"]


def _kind_of_lists(type_: Any) -> Kind:
    """As Polars calls a list where it can hold its items; else as Arrow calls the type."""
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        inner = arrow_kind(type_.value_type)
        return str(type_) if isinstance(inner, str) else pl.List(inner)
    return str(type_)


def _storage(type_: Any) -> Any:
    return type_.storage_type if isinstance(type_, pa.BaseExtensionType) else type_


def _is_text(type_: Any) -> bool:
    return bool(
        pa.types.is_string(type_)
        or pa.types.is_large_string(type_)
        or pa.types.is_string_view(type_)
    )


def _is_binary(type_: Any) -> bool:
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


def from_arrow(column: Any, source: str, name: str, first_row: int = 0) -> pl.Series:
    """Return an Arrow column (an Array) as a Series; texts as String. Raises DatasetError for text that is
    not UTF-8, which Polars would take unseen.

    first_row: number of its first row in the source, from 0, for the error.
    """
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    values = column.dictionary if pa.types.is_dictionary(column.type) else column
    if _is_text(values.type):
        _refuse_broken_text(column, values, source, name, first_row)
    series = pl.from_arrow(column)
    assert isinstance(series, pl.Series)
    return series.cast(pl.String) if textual(series.dtype) else series


def of_arrow(source: str, schema: Any, chunks: Callable[[Sequence[str]], Any]) -> Table:
    """Return a table that Arrow holds. chunks: some of its columns, as a pyarrow Table."""

    def load(names: Sequence[str]) -> pl.DataFrame:
        try:
            rows = chunks(names)
        except (pa.ArrowException, OverflowError, NotImplementedError) as error:
            reason = " ".join(str(error).split())[:300]
            raise DatasetError(
                f"{source} is damaged in {listed(names)} ({reason}); write it again from its source"
            ) from error
        return pl.DataFrame([_series(rows.column(name), source, name) for name in names])

    return Table(
        source, tuple(schema.names), lambda name: arrow_kind(schema.field(name).type), load
    )


def _series(column: Any, source: str, name: str) -> pl.Series:
    """Return a column of several chunks."""
    row, parts = 0, []
    for chunk in column.chunks or [pa.nulls(0).cast(_storage(column.type))]:
        parts.append(from_arrow(chunk, source, name, row))
        row += len(chunk)
    return pl.concat(parts).alias(name)


def _refuse_broken_text(column: Any, values: Any, source: str, name: str, first_row: int) -> None:
    try:
        values.validate(full=True)
        return
    except pa.ArrowInvalid:
        pass
    for number, item in enumerate(column):
        try:
            item.as_py()
        except UnicodeDecodeError:
            raise DatasetError(
                f"row {first_row + number} of {source} is not UTF-8 in column {name!r}; write the "
                "file again from its source"
            ) from None
    raise DatasetError(f"column {name!r} of {source} is damaged; write the file again")


def text_bytes(column: Any) -> int:
    """Return bytes that the texts of an Arrow column will take; each row counts, a repeated text too."""
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes) + len(column) * size_limits.ROW_BYTES
    total = len(column) * size_limits.ROW_BYTES
    if _is_text(column.type.value_type) and len(column.dictionary):
        from pyarrow import compute

        lengths = compute.cast(compute.binary_length(column.dictionary), pa.int64())
        counts = compute.value_counts(column.indices.drop_null())
        each = lengths.take(counts.field("values"))
        total += compute.sum(compute.multiply(each, counts.field("counts"))).as_py() or 0
    return total
