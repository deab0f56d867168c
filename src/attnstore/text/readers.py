"""Text from local files: one reader per format, and folders whose files are named after splits.

A file gives its own columns, and which of them hold text is for `corpora` to say.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from attnstore.errors import DatasetError, SplitError
from attnstore.names import near
from attnstore.text import conllu

SPLITS = ("validation", "validation_matched")
"""The splits taken when none is named; a source with one split only gives that one."""

_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})")


def read_file(path: Path) -> pl.DataFrame:
    """The rows of one file. Raises DatasetError, with the place, for what is malformed."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DatasetError(
            f"{path} has the extension {path.suffix!r}, and what can be read is "
            f"{' '.join(READERS)}; save it as one of these"
        )
    try:
        return reader(path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror}); check the file") from error


def read_folder(folder: Path, split: str | None) -> tuple[pl.DataFrame, str]:
    """A split of a folder whose files are named after splits (also in data/), and its name."""
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


def _joined(files: list[Path], source: str) -> pl.DataFrame:
    shard = _SHARD.fullmatch(files[0].stem)
    if len(files) != (int(shard[2]) if shard else 1):
        raise DatasetError(
            f"{source} must be one file or all of its shards, and it is "
            f"{', '.join(f.name for f in files)}; name one file, or add what is missing"
        )
    try:
        return pl.concat([read_file(f) for f in files], how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        raise DatasetError(
            f"the shards of {source} differ in their columns ({brief(error)}); copy or download "
            "them again"
        ) from error


def choose(splits: Iterable[str], wanted: str | None, source: str) -> str:
    """The wanted split, or the one taken when none is named. Raises SplitError."""
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
    """The message of another library on one line."""
    return " ".join(str(error).split())[:300]


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path} is not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x}); "
            "convert it, for instance with iconv -t utf-8"
        ) from None


def lines(path: Path) -> list[str]:
    """The lines of a file: they end at \\n or \\r\\n only: a lone \\r or U+2028 may be part of a text."""
    found = _text(path).replace("\r\n", "\n").split("\n")
    return found if found[-1] else found[:-1]


def _parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, glob=False, hive_partitioning=False)
    except pl.exceptions.PolarsError as error:
        raise DatasetError(
            f"{path} is not a whole Parquet file ({brief(error)}); copy or download it again"
        ) from error


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


def _table(path: Path, rows: Iterator[tuple[int, list[str]]]) -> pl.DataFrame:
    """Rows of cells with their line, the header first; cells stay text: a label 007 is no 7."""
    _, header = next(rows, (1, []))
    twice = {c for c in header if header.count(c) > 1}
    if twice:
        raise DatasetError(f"{path} has two columns named {min(twice)!r}; rename one")
    cells: list[list[str]] = []
    for line, row in rows:
        if row == [""] and len(header) > 1:
            continue
        if len(row) != len(header):
            raise DatasetError(
                f"{path}: the row on line {line} has {len(row)} fields and the header "
                f"{len(header)}; mend the row, or give the table as Parquet"
            )
        cells.append(row)
    return pl.DataFrame(cells, schema=dict.fromkeys(header, pl.String), orient="row")


def _jsonl(path: Path) -> pl.DataFrame:
    records = [
        _parsed(line, path, number)
        for number, line in enumerate(lines(path), start=1)
        if line.strip()
    ]
    return _records(path, records)


def _json(path: Path) -> pl.DataFrame:
    return _records(path, _parsed(_text(path), path, 1))


def _parsed(text: str, path: Path, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise DatasetError(
            f"{path}, line {line}: not valid JSON ({error.msg}); mend the line"
        ) from None


def _records(path: Path, records: Any) -> pl.DataFrame:
    if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
        raise DatasetError(f"{path} must hold records, one {{…}} per row, and holds something else")
    try:
        return pl.DataFrame(records, infer_schema_length=None)
    except (pl.exceptions.PolarsError, ValueError, TypeError, OverflowError) as error:
        raise DatasetError(
            f"the records of {path} do not make a table ({brief(error)}); give each field one type"
        ) from error


def _single(texts: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"text": texts}, schema={"text": pl.String})


READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".parquet": _parquet,
    ".csv": lambda path: _table(path, _csv_rows(path)),
    ".tsv": lambda path: _table(path, _tsv_rows(path)),
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".txt": lambda path: _single(lines(path)),
    ".conllu": lambda path: _single(conllu.sentences(lines(path), str(path))),
}
