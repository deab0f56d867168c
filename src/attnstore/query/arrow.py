"""Columns of Arrow as numpy arrays and back, for the SQL functions.

pyarrow's own to_numpy() and array() import pandas where it is installed: 150 ms and 42 MiB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]

_TYPES = {
    "f4": pa.float32(), "f8": pa.float64(), "i2": pa.int16(), "i4": pa.int32(), "i8": pa.int64(),
}  # fmt: skip


def numbers(column: Any) -> npt.NDArray[Any]:
    """Convert an Arrow column without nulls to numpy."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [np.from_dlpack(chunk) for chunk in chunks if len(chunk)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0, np.int64)])


def integers(column: Any) -> Ints:
    """Convert an Arrow column without nulls to numbers of 64 bits."""
    return numbers(column).astype(np.int64)


def keys(column: Any) -> npt.NDArray[np.uint64]:
    """Convert an Arrow column of keys of runs, without nulls, to numpy."""
    return numbers(column).astype(np.uint64)


def flags(column: Any) -> npt.NDArray[np.bool_]:
    """Convert an Arrow column of truth values without nulls to numpy, which takes no bits from Arrow."""
    return numbers(column.cast(pa.uint8())).astype(bool)


def items(column: Any) -> tuple[npt.NDArray[Any], Ints, int]:
    """Split an Arrow column of lists.

    Returns:
        Its items end to end, with NaN or 0 for NULL; the length of each list; the number of NULLs.
    """
    lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values, counts = lists.flatten(), np.diff(numbers(lists.offsets)).astype(np.int64)
    if nulls := values.null_count:
        values = values.fill_null(float("nan") if pa.types.is_floating(values.type) else 0)
    return numbers(values), counts, nulls


def column(values: npt.NDArray[Any], null: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Convert a numpy array to Arrow without a copy.

    Args:
        values: Numbers of a type in `_TYPES`.
        null: True where the value is NULL.
    """
    valid = None
    if null is not None and null.any():
        valid = pa.py_buffer(np.packbits(~null, bitorder="little"))
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(_TYPES[values.dtype.str[1:]], len(values), [valid, data])


def without_nan(values: npt.NDArray[Any]) -> pa.Array:
    """Convert a numpy array to Arrow, NaN to NULL."""
    return column(values, np.isnan(values) if values.dtype.kind == "f" else None)


def texts(values: Sequence[str | None]) -> pa.Array:
    """Convert strings to Arrow, None to NULL."""
    parts = [(value or "").encode() for value in values]
    ends = np.cumsum([0, *map(len, parts)]).astype(np.int32)
    valid = np.packbits([value is not None for value in values], bitorder="little")
    buffers = [pa.py_buffer(valid), pa.py_buffer(ends), pa.py_buffer(b"".join(parts))]
    return pa.Array.from_buffers(pa.string(), len(parts), buffers)


def structs(columns: Mapping[str, npt.NDArray[Any] | pa.Array]) -> pa.StructArray:
    """Combine columns of numpy, whose NaN become NULL, and of Arrow."""
    fields = [without_nan(x) if isinstance(x, np.ndarray) else x for x in columns.values()]
    return pa.StructArray.from_arrays(fields, list(columns))


def lists(
    values: npt.NDArray[Any] | pa.Array,
    counts: Ints,
    null: npt.NDArray[np.bool_] | None = None,
    missing: npt.NDArray[np.bool_] | None = None,
) -> pa.ListArray:
    """Cut values that lie end to end into lists; `null` as in `column`, `missing`: lists that are NULL."""
    ends = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    cut = column(values, null) if isinstance(values, np.ndarray) else values
    if missing is None or not missing.any():
        return pa.ListArray.from_arrays(column(ends), cut)
    valid = pa.py_buffer(np.packbits(~missing, bitorder="little"))
    kind = pa.list_(cut.type)
    return pa.Array.from_buffers(kind, len(counts), [valid, pa.py_buffer(ends)], children=[cut])


def list_views(values: npt.NDArray[Any], starts: Ints, counts: Ints) -> pa.Array:
    """Show parts of an array as lists, which may overlap, without a copy: first items and lengths."""
    items = column(values)
    buffers = [None, *(pa.py_buffer(x.astype(np.int32)) for x in (starts, counts))]
    return pa.Array.from_buffers(pa.list_view(items.type), len(counts), buffers, children=[items])
