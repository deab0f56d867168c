"""Load fragments into the tables of the index: declared columns only, each cast to its table's type.

DuckDB is handed rows, never a path: a folder's name is no pattern, and the connection that writes the
index reads no other file. A fragment whose checksum is right and whose content does not fit, because
a later version or another program wrote it, becomes a row of `core.unreadable`; the rest is loaded.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import duckdb
import polars as pl

from attnstore.errors import DamageError
from attnstore.storage import array_shape, fragments, layout, row_order
from attnstore.storage.backend import Backend
from attnstore.storage.fragments import Fragment
from attnstore.storage.run_record import RunRecord
from attnstore.storage.tables import OF_RUNS, TABLES, tables

_AT_ONCE, _ROWS_AT_ONCE = 256, 7_000_000
"""Fragments that are loaded, and sorted, together at most, and their rows: 0.7 GB of `map_stats`."""
_READ_AHEAD, _BYTES_AHEAD = 64, 128 << 20
"""Fragments that are read while earlier ones are sorted and inserted, at most, and their bytes: 0.2 GB of `map_stats`."""

Content = pl.DataFrame | DamageError
"""The rows of a fragment, or why they cannot be had."""


@dataclass(frozen=True)
class _Table:
    """A table of schema `core`: its columns that fragments fill, and those that they must hold."""

    name: str
    schema: pl.Schema
    needed: list[str]


def load(
    con: duckdb.DuckDBPyConnection,
    backend: Backend,
    name: str,
    new: list[Fragment],
    contents: Iterator[Content],
    first: int,
) -> None:
    """Insert the rows of one table's new fragments, within a transaction.

    Args:
        con: The index.
        backend: The files of the store.
        name: The table.
        new: Its new fragments.
        contents: What `read_ahead` gives for them, and for those of later tables.
        first: The number of the first fragment.
    """
    if not new:
        return
    table, keys = _table(con, name), _Keys(con)
    numbers: list[tuple[int, str, str]] = []
    frames: list[pl.DataFrame] = []
    for number, (fragment, content) in enumerate(zip(new, contents, strict=False), first):
        if name in OF_RUNS and fragment.owner not in keys.of:
            continue  # its run's record is unreadable
        try:
            frame = _rows(fragment, content, table, keys)
        except DamageError as error:
            if fragments.whole(backend, fragment):  # else it was replaced or damaged meanwhile
                problem = [fragment.path, str(error)]
                con.execute("INSERT INTO core.unreadable VALUES (?, ?)", problem)
            continue
        numbers.append((number, fragment.path, name))
        frames.append(frame.with_columns(pl.lit(number, pl.Int32).alias("fragment")))
        if len(frames) == _AT_ONCE or sum(map(len, frames)) > _ROWS_AT_ONCE:
            _insert(con, table, numbers, frames)
    if frames:
        _insert(con, table, numbers, frames)


def read_ahead(backend: Backend, wanted: Iterable[Fragment]) -> Generator[Content, None, None]:
    """Yield what fragments hold, in their order; two threads read the next ones in the meantime."""

    def read(fragment: Fragment) -> Content:
        try:
            return fragments.read(backend, fragment)
        except DamageError as error:
            return error

    pool = ThreadPoolExecutor(2)
    try:
        waiting, ahead, size = deque(wanted), deque[tuple[int, Future[Content]]](), 0
        while waiting or ahead:
            while (
                waiting
                and len(ahead) < _READ_AHEAD
                and (not ahead or size + waiting[0].bytes <= _BYTES_AHEAD)
            ):
                fragment = waiting.popleft()
                ahead.append((fragment.bytes, pool.submit(read, fragment)))
                size += fragment.bytes
            n_bytes, future = ahead.popleft()
            size -= n_bytes
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _insert(
    con: duckdb.DuckDBPyConnection,
    table: _Table,
    numbers: list[tuple[int, str, str]],
    frames: list[pl.DataFrame],
) -> None:
    """Insert the rows of fragments in the order of their table, and empty both lists."""
    rows = pl.concat(frames, rechunk=False)
    frames.clear()  # sorting frees the columns one by one
    listed = pl.DataFrame(numbers, ["fragment", "path", "table"], orient="row")
    if order := tables()[table.name].order:
        rows = row_order.sorted_rows(rows, order)
    for target, frame in (("fragments", listed), (table.name, rows)):
        con.register("new_rows", frame)
        con.execute(f"INSERT INTO core.{target} BY NAME SELECT * FROM new_rows")
        con.unregister("new_rows")
    numbers.clear()


def _table(con: duckdb.DuckDBPyConnection, name: str) -> _Table:
    schema = con.sql(f"FROM core.{name} LIMIT 0").pl().schema
    columns = {c: kind for c, kind in schema.items() if c not in ("fragment", "run_key")}
    return _Table(name, pl.Schema(columns), [c for c in tables()[name].needed if c in columns])


class _Keys:
    """The keys of the runs that the index holds."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self.of = dict(con.execute("SELECT run, run_key FROM core.runs").fetchall())
        self._taken = set(self.of.values())

    def give(self, run: str, identity: str) -> int:
        """Give a new run its key."""
        key = run_key(run, identity)
        while key in self._taken:
            key = (key + 1) % 2**64
        self.of[run] = key
        self._taken.add(key)
        return key


def _rows(fragment: Fragment, content: Content, table: _Table, keys: _Keys) -> pl.DataFrame:
    """Return the rows of a fragment in the types of its table. Raises DamageError."""
    if isinstance(content, DamageError):
        raise content
    frame = fitting(fragment, content, table.schema, table.needed)
    if table.name == "runs":
        key = _recorded(fragment, frame, keys)
    elif table.name in OF_RUNS:
        key = keys.of[fragment.owner]
    else:
        return frame
    return frame.with_columns(pl.lit(key, pl.UInt64).alias("run_key"))


def fitting(
    fragment: Fragment, frame: pl.DataFrame, schema: pl.Schema, needed: list[str]
) -> pl.DataFrame:
    """Cast the declared columns of a fragment, NULL where it lacks one. Raises DamageError."""
    advice = (
        "a later version or another program wrote it: upgrade attnstore, or move it away and make it "
        "again (`attnstore verify` says how)."
    )
    columns = []
    for column, kind in schema.items():
        if column in frame.columns:
            columns.append(pl.col(column).cast(kind, strict=True))
        else:
            columns.append(pl.lit(None, kind).alias(column))
    try:
        fitted = frame.select(columns)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0][:160]
        raise DamageError(
            f"{fragment.path} holds other types than {fragment.table} has ({reason}); {advice}"
        ) from error
    lacking = [c for c in needed if fitted[c].null_count()]
    if lacking:
        raise DamageError(f"{fragment.path} lacks {lacking[0]} in some of its rows; {advice}")
    return fitted


def _recorded(fragment: Fragment, record: pl.DataFrame, keys: _Keys) -> int:
    """Accept a run's record: one row about the folder's own run; returns the key it gets."""
    if len(record) != 1 or record["run"].item() != fragment.owner:
        raise DamageError(
            f"{fragment.path} is no record of run {fragment.owner}, in whose folder it lies; move it "
            "away and ingest the run again."
        )
    if fragment.owner in keys.of:
        raise DamageError(
            f"{fragment.path} is a second record of run {fragment.owner}; `attnstore drop` the run and "
            "ingest it again."
        )
    run_record = RunRecord.of_row(record.row(0, named=True))
    array_shape.of_record(
        fragment.owner, run_record, 1
    )  # of an earlier version: `complete` fills in the rest
    return keys.give(fragment.owner, run_record.identity)


def run_key(run: str, identity: str) -> int:
    """Compute the key of a run: the first 64 bits of a SHA-256 over its name and its identity.

    The index gives each key once: of two runs that had the same, the later one takes the next.
    """
    return int.from_bytes(hashlib.sha256(f"{run}\n{identity}".encode()).digest()[:8], "big")


def complete(con: duckdb.DuckDBPyConnection) -> None:
    """Fill in the layout of runs whose records are of a version that did not write it."""
    sizes = layout.SHARD_CELLS, layout.CHUNK_CELLS, layout.SHARD_TOKENS, layout.CHUNK_TOKENS
    con.execute(
        "UPDATE core.runs SET layout = list_concat([e.shards], $sizes::BIGINT[]) FROM ("
        "    SELECT run_key, ((max(cell + length::BIGINT * length) + $cells - 1) // $cells)::BIGINT AS shards"
        "    FROM core.inputs WHERE run_key IN (SELECT run_key FROM core.runs WHERE layout IS NULL)"
        "    GROUP BY run_key"
        ") e WHERE e.run_key = core.runs.run_key AND layout IS NULL",
        {"sizes": list(sizes), "cells": layout.SHARD_CELLS},
    )


def drop(con: duckdb.DuckDBPyConnection, gone: list[str]) -> None:
    """Delete the rows of fragments, and their entries in the lists of loaded and unreadable ones."""
    for table in TABLES if gone else ():
        con.execute(
            f"DELETE FROM core.{table} WHERE fragment IN "
            "(SELECT fragment FROM core.fragments WHERE list_contains($gone, path))",
            {"gone": gone},
        )
    for table in ("fragments", "unreadable") if gone else ():
        con.execute(f"DELETE FROM core.{table} WHERE list_contains($gone, path)", {"gone": gone})


def sum_inputs(con: duckdb.DuckDBPyConnection) -> None:
    """Sum up the inputs of runs that are new, by block; forget those of runs that are gone."""
    con.execute(
        "DELETE FROM core.input_sums WHERE inputs_fragment NOT IN (SELECT fragment FROM core.fragments)"
    )
    con.execute("INSERT INTO core.input_sums BY NAME FROM core.missing_input_sums")


def align(con: duckdb.DuckDBPyConnection) -> None:
    """Find the tokens of each span, for runs and annotations that are new; forget those gone."""
    for table in ("span_tokens", "aligned"):
        con.execute(
            f"DELETE FROM core.{table} WHERE inputs_fragment NOT IN (SELECT fragment FROM core.fragments) "
            "OR spans_fragment NOT IN (SELECT fragment FROM core.fragments)"
        )
    con.execute("INSERT INTO core.span_tokens BY NAME FROM core.missing_span_tokens")
    con.execute("INSERT INTO core.aligned FROM core.unaligned")
