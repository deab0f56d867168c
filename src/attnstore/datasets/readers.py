"""Text from local files: one reader per format, and folders whose files are named after splits.

A file gives its own columns, and which of them hold text is for `corpora` to say.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import polars as pl

from attnstore.datasets import columns, conllu, json_records, parquet, size_limits
from attnstore.datasets.columns import Table
from attnstore.errors import DatasetError, SplitError
from attnstore.naming import near

SPLITS = ("validation", "validation_matched")
"""The splits taken when none is named; a source with one split only gives that one."""

_COPIES = 2
"""How much more than the file the table of its texts may take while it is read."""
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})")


def open_file(path: Path) -> Table:
    """Return the columns of one file, its rows where they are asked for.

    Raises DatasetError, with the place, for what is malformed.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DatasetError(
            f"{path} has the extension {path.suffix!r}, and what can be read is "
            f"{' '.join(READERS)}; save it as one of these"
        )
    try:
        if path.suffix.lower() != ".parquet":  # its texts are packed, so it counts them itself
            size_limits.refuse(str(path), path.stat().st_size * _COPIES, "read as a table it takes")
        return reader(path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror}); check the file") from error
    except MemoryError as error:
        raise DatasetError(
            f"{path} does not fit into the memory; write a part of its rows to another file"
        ) from error


def open_folder(folder: Path, split: str | None) -> tuple[Table, str]:
    """Return a split of a folder whose files are named after splits (also in data/), and its name."""
    splits: dict[str, list[Path]] = {}
    for path in sorted([*folder.glob("*"), *folder.glob("data/*")]):
        if path.suffix.lower() in READERS and path.is_file():
            shard = _SHARD.fullmatch(path.stem)
            splits.setdefault(shard[1] if shard else path.stem, []).append(path)
    if not splits:
        entries = ", ".join(sorted(p.name for p in folder.glob("*"))[:20]) or "nothing"
        raise DatasetError(
            f"folder {folder} holds no file of {' '.join(READERS)}; it holds {entries}: name the "
            "folder or file with the texts"
        )
    chosen = choose(splits, split, f"folder {folder}")
    return _joined(splits[chosen], f"split {chosen!r} of folder {folder}"), chosen


def _joined(files: list[Path], source: str) -> Table:
    """Return the shards of a split as one table; its columns are the first one's."""
    shard = _SHARD.fullmatch(files[0].stem)
    if len(files) != (int(shard[2]) if shard else 1):
        raise DatasetError(
            f"{source} must be one file or all of its shards, and it is "
            f"{', '.join(f.name for f in files)}; name one file, or add what is missing"
        )
    tables = [open_file(f) for f in files]
    if len(tables) == 1:
        return tables[0]

    def load(names: Sequence[str]) -> pl.DataFrame:
        for table in tables:
            if absent := [name for name in names if name not in table.columns]:
                raise _unlike(source, f"{table.source} has no column {absent[0]!r}")
        try:
            return pl.concat([table.read(names) for table in tables], how="vertical_relaxed")
        except pl.exceptions.PolarsError as error:
            raise _unlike(source, brief(error)) from error

    return Table(source, tables[0].columns, tables[0].kind, load)


def _unlike(source: str, reason: str) -> DatasetError:
    return DatasetError(
        f"the shards of {source} differ in their columns ({reason}); copy or download them again"
    )


def choose(splits: Iterable[str], wanted: str | None, source: str) -> str:
    """Return the wanted split, or the one taken when none is named. Raises SplitError."""
    known = sorted(splits)
    for split in SPLITS if wanted is None else (wanted,):
        if split in known:
            return split
    if wanted is None and len(known) == 1:
        return known[0]
    wanted = wanted or SPLITS[0]
    raise SplitError(
        f"{source} has no split {wanted!r}; choose one of {', '.join(known)} with --split"
        f"{near(wanted, known)}"
    )


def brief(error: Exception) -> str:
    """Return the message of another library on one line."""
    return " ".join(str(error).split())[:300]


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error.start, error.object[error.start]) from None


def _not_utf8(path: Path, at: int, byte: int) -> DatasetError:
    return DatasetError(
        f"{path} is not UTF-8 (byte {at} is 0x{byte:02x}); convert it, for instance with iconv -t utf-8"
    )


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file: they end at \\n or \\r\\n only: a lone \\r or U+2028 may be part of a
    text."""
    at = 0
    with path.open("rb") as file:
        for number, line in enumerate(file):
            whole = line.endswith(b"\n")
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, at + error.start, line[error.start]) from None
            at += len(line)
            text = text if number else text.removeprefix("\ufeff")
            yield text.removesuffix("\n").removesuffix("\r") if whole else text


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    # Python's reader, not Polars': it knows the line, and short rows do not pass as nulls.
    csv.field_size_limit(sys.maxsize)  # a text may be longer than its default of 128 KiB
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    line = 1
    try:
        for row in reader:
            yield line, row or [""]
            line = reader.line_num + 1
    except csv.Error as error:
        raise DatasetError(
            f"{path}: the row that begins on line {line} is malformed ({error}); "
            'inside a quoted field a quote is written ""'
        ) from None


def _tsv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """As GLUE distributes it: quotes are characters, a field holds neither tab nor newline."""
    return ((number, line.split("\t")) for number, line in enumerate(lines(path), start=1))


def _delimited(path: Path, rows: Callable[[Path], Iterator[tuple[int, list[str]]]]) -> Table:
    """Return rows of cells with their line, the header first; cells stay text: a label 007 is no 7."""
    _, header = next(rows(path), (1, []))

    def load(names: Sequence[str]) -> pl.DataFrame:
        places = [header.index(name) for name in names]
        cells: list[list[str]] = [[] for _ in names]
        for line, row in itertools.islice(rows(path), 1, None):
            if row == [""] and len(header) > 1:
                continue
            if len(row) != len(header):
                raise DatasetError(
                    f"{path}: the row on line {line} has {len(row)} fields and the header "
                    f"{len(header)}; fix the row, or give the table as Parquet"
                )
            for column, place in zip(cells, places, strict=True):
                column.append(row[place])
        return pl.DataFrame(
            dict(zip(names, cells, strict=True)), schema=dict.fromkeys(names, pl.String)
        )

    return Table(str(path), tuple(header), lambda _: pl.String(), load)


def _single(path: Path, texts: Iterable[str]) -> Table:
    frame = pl.DataFrame({"text": list(texts)}, schema={"text": pl.String})
    return columns.of_frame(str(path), frame)


READERS: dict[str, Callable[[Path], Table]] = {
    ".parquet": parquet.open_file,
    ".csv": lambda path: _delimited(path, _csv_rows),
    ".tsv": lambda path: _delimited(path, _tsv_rows),
    ".jsonl": lambda path: json_records.lines_table(path, lines(path)),
    ".ndjson": lambda path: json_records.lines_table(path, lines(path)),
    ".json": lambda path: json_records.whole_table(path, _text(path)),
    ".txt": lambda path: _single(path, lines(path)),
    ".conllu": lambda path: _single(path, conllu.sentences(lines(path), str(path))),
}
