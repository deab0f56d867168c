"""Parquet files: their schema first, then the columns that are asked for, in pieces.

Texts are read as they are packed (each different text once), so that a small file of a great many
equal texts is noticed before it fills the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from attnstore.datasets import columns, size_limits
from attnstore.datasets.columns import Kind, Table
from attnstore.errors import DatasetError

_MARK, _SECRET = b"PAR1", b"PARE"
_AT_ONCE = 1 << 16
"""Rows in a piece."""
_FAILURES = (pa.ArrowException, OSError, ValueError, KeyError, NotImplementedError, MemoryError)


def open_file(path: Path) -> Table:
    """Return a Parquet file. Raises DatasetError where it is cut, encrypted or damaged."""
    with path.open("rb") as file:  # OSError is for `readers` to say
        start = file.read(4)
        size = file.seek(0, 2)
        file.seek(max(size - 4, 0))
        end = file.read(4)
    if _SECRET in (start, end):
        raise DatasetError(f"{path} is encrypted; give a copy that is not")
    if size < 12 or start != _MARK or end != _MARK:
        raise DatasetError(f"{path} is not a whole Parquet file; copy or download it again")
    try:
        file_ = pq.ParquetFile(path)
        schema = file_.schema_arrow
        n_rows = file_.metadata.num_rows
    except _FAILURES as error:
        raise _damaged(path, error) from error
    names = tuple(columns.printable(name) for name in schema.names)
    size_limits.refuse(str(path), n_rows * size_limits.ROW_BYTES, f"its {n_rows:,} rows take")

    def kind(name: str) -> Kind:
        return columns.arrow_kind(schema.field(names.index(name)).type)

    def load(chosen: Sequence[str]) -> pl.DataFrame:
        return _load(path, [(name, schema.names[names.index(name)]) for name in chosen])

    return Table(str(path), names, kind, load)


def _damaged(path: Path, error: BaseException) -> DatasetError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return DatasetError(
        f"{path} is a Parquet file that cannot be read ({reason}); copy or download it again, or "
        "write it again with another library"
    )


def _load(path: Path, chosen: list[tuple[str, str]]) -> pl.DataFrame:
    """Return columns by their names here and in the file."""
    names = [in_file for _, in_file in chosen]
    try:
        with pq.ParquetFile(path, read_dictionary=_texts(path, names)) as file:
            size_limits.refuse(str(path), _unpacked(file, names))
            pieces: list[list[pl.Series]] = [[] for _ in chosen]
            total = row = 0
            for batch in file.iter_batches(batch_size=_AT_ONCE, columns=names):
                for at, (name, in_file) in enumerate(chosen):
                    column = batch.column(batch.schema.get_field_index(in_file))
                    total += columns.text_bytes(column)
                    size_limits.refuse(str(path), total, "its texts take more than")
                    pieces[at].append(columns.from_arrow(column, str(path), name, row))
                row += batch.num_rows
            empty = [_empty(file.schema_arrow.field(in_file).type) for in_file in names]
    except DatasetError:
        raise
    except (*_FAILURES, pl.exceptions.PolarsError) as error:
        raise _damaged(path, error) from error
    series = [
        pl.concat(parts) if parts else none for parts, none in zip(pieces, empty, strict=True)
    ]
    return pl.DataFrame([s.alias(name) for s, (name, _) in zip(series, chosen, strict=True)])


def _empty(type_: Any) -> pl.Series:
    kind = columns.arrow_kind(type_)
    typed = not isinstance(kind, str) and not columns.textual(kind)
    return pl.Series([], dtype=kind if typed else pl.String)  # type: ignore[arg-type]


def _texts(path: Path, names: list[str]) -> list[str]:
    """Return the columns to read packed."""
    schema = pq.read_schema(path)
    return [n for n in names if columns.textual(columns.arrow_kind(schema.field(n).type))]


def _unpacked(file: pq.ParquetFile, names: list[str]) -> int:
    """Return bytes of some columns after decompression, as the file announces them."""
    file.scan_contents(names)  # a damaged description raises here; asked below it ends the process
    about = file.metadata
    places = [n for n in range(about.num_columns) if file.schema.column(n).path in names]
    groups = (about.row_group(group) for group in range(about.num_row_groups))
    return sum(group.column(n).total_uncompressed_size for group in groups for n in places)
