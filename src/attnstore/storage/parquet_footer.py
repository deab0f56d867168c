"""One Parquet footer for several Parquet files that lie one after another in one file.

A Parquet file ends with its footer: the schema, and where the pages of each group of rows lie, as
absolute positions (parquet.thrift of apache/parquet-format). So files of one schema that are put
behind one another become one Parquet file by a footer that lists the row groups of all, each position
moved by where its file begins. No page is decoded or written again.

The footer is a Thrift struct in the compact protocol; it is read as (field, type, value) triples,
which are written back as they came.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

MAGIC = b"PAR1"
_SCHEMA, _ROWS, _GROUPS, _KEY_VALUES = 2, 3, 4, 5
"""Fields of FileMetaData: schema, num_rows, row_groups, key_value_metadata."""
_COLUMNS, _GROUP_AT, _ORDINAL = 1, 5, 7
"""Fields of RowGroup: columns, file_offset; ordinal has 16 bits, is optional, and is left out."""
_CHUNK_AT, _META = (2, 4, 6), 3
"""Fields of ColumnChunk: file_offset, offset_index_offset, column_index_offset; meta_data."""
_PAGES_AT = (9, 10, 11, 14)
"""Fields of ColumnMetaData: offsets of the data, index and dictionary page, and the bloom filter."""

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS = (4, 5, 6)

Field = tuple[int, int, Any]
"""Number, type of the compact protocol, and value: an int, bytes, Fields, or (type, values) of a list."""


def schema(file: bytes) -> bytes:
    """Return the part of a Parquet file's footer that is equal in files under one footer.

    Raises ValueError for what is no Parquet file.
    """
    return _written([f for f in _footer(file) if f[0] in (_SCHEMA, _KEY_VALUES)])


def joined(files: Sequence[tuple[int, bytes]]) -> bytes:
    """Return the footer, its length and the magic, which end a file of several Parquet files.

    files: where each begins, and its bytes; all of one `schema`.
    """
    footers = [(begin, _footer(file)) for begin, file in files]
    groups = [_moved_group(g, begin) for begin, footer in footers for g in _groups(footer)]
    rows = sum(value for _, footer in footers for number, _, value in footer if number == _ROWS)
    replaced = {_ROWS: rows, _GROUPS: (_STRUCT, groups)}
    data = _written([(n, kind, replaced.get(n, value)) for n, kind, value in footers[0][1]])
    return data + struct.pack("<I", len(data)) + MAGIC


def _groups(footer: list[Field]) -> list[list[Field]]:
    return next((value[1] for n, _, value in footer if n == _GROUPS), [])


def _moved_group(group: list[Field], by: int) -> list[Field]:
    return [
        (n, kind, (value[0], [_moved_chunk(x, by) for x in value[1]]))
        if n == _COLUMNS
        else _moved((n, kind, value), (_GROUP_AT,), by)
        for n, kind, value in group
        if n != _ORDINAL
    ]


def _moved_chunk(chunk: list[Field], by: int) -> list[Field]:
    return [
        (n, kind, [_moved(f, _PAGES_AT, by) for f in value])
        if n == _META
        else _moved((n, kind, value), _CHUNK_AT, by)
        for n, kind, value in chunk
    ]


def _moved(field: Field, positions: tuple[int, ...], by: int) -> Field:
    """Move a field that holds a position; 0 stands for none."""
    number, kind, value = field
    return (number, kind, value + by) if number in positions and value else field


def _footer(file: bytes) -> list[Field]:
    whole = len(file) > 12 and file[-4:] == MAGIC == file[:4]
    begin = len(file) - 8 - struct.unpack("<I", file[-8:-4])[0] if whole else 0
    if begin < len(MAGIC):
        raise ValueError("This is no Parquet file.")
    try:
        return _Reader(file, begin).fields()
    except IndexError as error:
        raise ValueError("The footer of this Parquet file ends too early.") from error


class _Reader:
    """Reads values of the compact protocol from `at` on."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def fields(self) -> list[Field]:
        """Read a struct."""
        found: list[Field] = []
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._integer()
            found.append((number, kind, self._value(kind)))
        return found

    def _value(self, kind: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return None
        if kind in _INTEGERS:
            return self._integer()
        if kind == _BYTE:
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind in (_LIST, _SET):
            return self._list()
        if kind == _STRUCT:
            return self.fields()
        raise ValueError(f"The footer holds a value of type {kind}, which Parquet does not use.")

    def _list(self) -> tuple[int, list[Any]]:
        head = self._byte()
        size, kind = head >> 4, head & 15
        size = self._varint() if size == 15 else size
        one = self._byte if kind in (_TRUE, _FALSE) else lambda: self._value(kind)
        return kind, [one() for _ in range(size)]

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _bytes(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)


def _written(fields: list[Field]) -> bytes:
    out, before = bytearray(), 0
    for number, kind, value in fields:
        step = number - before
        if 0 < step < 16:
            out.append(step << 4 | kind)
        else:
            out.append(kind)
            out += _integer(number)
        out += _value(kind, value)
        before = number
    return bytes(out) + b"\0"


def _value(kind: int, value: Any) -> bytes:
    if kind in (_TRUE, _FALSE):
        return b""
    if kind in _INTEGERS:
        return _integer(value)
    if kind == _BYTE:
        return bytes([value])
    if kind == _DOUBLE:
        return bytes(value)
    if kind == _BINARY:
        return _varint(len(value)) + bytes(value)
    if kind == _STRUCT:
        return _written(value)
    inner, values = value
    n = len(values)
    head = bytes([min(n, 15) << 4 | inner]) + (_varint(n) if n >= 15 else b"")
    if inner in (_TRUE, _FALSE):
        return head + bytes(values)
    return head + b"".join(_value(inner, x) for x in values)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _integer(value: int) -> bytes:
    return _varint(value << 1 if value >= 0 else (-value << 1) - 1)
