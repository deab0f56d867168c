"""Parts of a view that other processes and machines read: the rows of one block of a run.

A partition is a description that goes through a pipe: the store's address, the view, the run and the
block. Whoever reads it needs attnstore and the store; the index of its machine catches up by itself.
One thread of DuckDB answers, so that a cluster counts a partition as the one core that it takes.
"""

from __future__ import annotations

import atexit
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import duckdb
import polars as pl

from attnstore.errors import (
    BusyError,
    DamageError,
    StoreError,
    UnknownNameError,
    UsageError,
)
from attnstore.naming import near
from attnstore.query import sql_text
from attnstore.query.session_pool import SessionPool
from attnstore.storage import index, location
from attnstore.storage.backend import Backend

ROWS = "rows"
"""Name of a partition's rows in the SQL that it is asked."""
_WAIT = 600.0
"""Seconds to wait for another process of this machine that brings the index up to date."""
_SESSIONS = 64
"""Threads of a process that read at the same time; further ones wait."""
_SETTINGS = {"threads": "1"}
_RUN = "SELECT identity, state, stored, planned FROM runs WHERE run = $run"
_KIND = "SELECT complete FROM map_kinds WHERE run = $run AND kind = $kind"
_BLOCKS = "SELECT block FROM blocks WHERE run = $run ORDER BY block"
_EXAMPLES = """
SELECT i.example, b.examples
FROM idx.core.inputs i JOIN idx.core.runs r USING (run_key) JOIN idx.core.blocks b USING (run_key, block)
WHERE r.run = $run AND r.identity = $identity AND i.block = $block
"""


@dataclass(frozen=True)
class Partition:
    """The rows of a view that belong to one block of a run.

    Attributes:
        store: Path or address of the store, as this machine and any reader know it.
        view: The view.
        run: The run.
        identity: Identity of the run, so that another one under its name is not taken for it.
        block: Number of the block.
        columns: The columns to read, None for all.
        where: A condition of SQL on the view's columns, None for all rows.
        kind: The kind of maps, None for the weights.
        asked: Stands for the call that made it; a process brings its index up to date once for each.
    """

    store: str
    view: str
    run: str
    identity: str
    block: int
    columns: tuple[str, ...] | None = None
    where: str | None = None
    kind: str | None = None
    asked: str = ""

    def read(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Read the rows, in any order.

        Args:
            columns: Columns to read instead of the partition's own.

        Raises:
            UnknownNameError: The store does not hold the run any more, or has no such column.
        """
        chosen = self if columns is None else replace(self, columns=tuple(columns))
        return chosen.sql(f"FROM {ROWS}")

    def sql(self, text: str, /, **params: Any) -> pl.DataFrame:
        """Ask one SQL question of the rows, which it names `rows`: `SELECT count(*) FROM rows`.

        Only the columns that the question names are read.

        Raises:
            QueryError: The question cannot be answered.
            UnknownNameError: The store does not hold the run any more.
        """
        _bring_up_to_date(self.store, self.asked)
        pool = _pool(self.store)
        rows = self._select(f"example IN ({', '.join(map(str, _examples(self, pool)))})")
        with pool.session() as session:
            return session.sql(
                f"WITH {ROWS} AS ({rows}) FROM ({text.rstrip().rstrip(';')}\n)", params
            )

    @property
    def empty(self) -> str:
        """The SQL that gives the columns and types of the rows, and no row."""
        return f"{self._select('true')} LIMIT 0"

    def _select(self, condition: str) -> str:
        table = (
            sql_text.identifier(self.view)
            if self.kind is None
            else sql_text.of_kind(self.view, self.kind)
        )
        columns = "*" if self.columns is None else ", ".join(map(sql_text.identifier, self.columns))
        where = "" if self.where is None else f" AND ({self.where})"
        run = sql_text.literal(self.run)
        return f"SELECT {columns} FROM {table} WHERE run = {run} AND {condition}{where}"


def of_run(
    address: str,
    ask: Callable[..., pl.DataFrame],
    view: str,
    known: Sequence[str],
    run: str,
    *,
    columns: Sequence[str] | None = None,
    where: str | None = None,
    kind: str | None = None,
) -> list[Partition]:
    """Describe the rows of a view that belong to a run, block by block.

    Args:
        address: Path or address of the store.
        ask: Answers a SQL text with parameters.
        view: The view.
        known: Its columns.
        run: The run.
        columns: Columns to read, None for all.
        where: A condition of SQL on the view's columns.
        kind: The kind of maps, None for the weights.

    Returns:
        One partition a block; together they are the rows of the run, each once.

    Raises:
        UnknownNameError: The store does not hold the run, the kind, or a column.
        UsageError: The rows of the view belong to no blocks, or `where` is no condition.
        StoreError: The run is not complete.
    """
    _require_examples(view, known)
    _require_columns(view, columns or (), known)
    (identity, state, stored, planned), *_ = ask(_RUN, run=run).rows()
    if state != "complete":
        raise StoreError(
            f"Run {run} holds {stored} of its {planned} inputs; ingest it again, which continues where it "
            "stopped, and make partitions of the whole run."
        )
    if kind is not None and not ask(_KIND, run=run, kind=kind)["complete"].any():
        raise UnknownNameError(
            f"Run {run} does not hold {kind!r} of all of its inputs; `attnstore ingest … --maps {kind}` adds "
            "it, and view map_kinds lists what each run holds."
        )
    first = Partition(
        address, view, run, identity, 0, None if columns is None else tuple(columns),
        None if where is None else _condition(where), kind, secrets.token_hex(8),
    )  # fmt: skip
    ask(first.empty)  # explains a condition that does not fit the view
    return [replace(first, block=block) for block in ask(_BLOCKS, run=run)["block"]]


def _condition(text: str) -> str:
    """Return one condition of SQL without comments. Raises UsageError for anything else."""
    try:
        return str(duckdb.SQLExpression(text))
    except duckdb.Error as error:
        raise UsageError(
            f"where = {text!r} is not one condition of SQL ({sql_text.sentence(str(error)).rstrip('.')}); "
            "write it as after WHERE: layer = 3 AND weight > 0.5."
        ) from None


def _require_columns(view: str, columns: Sequence[str], known: Sequence[str]) -> None:
    """Refuse columns that a view lacks. Raises UnknownNameError."""
    for name in columns:
        if name not in known:
            raise UnknownNameError(
                f"View {view} has no column {name!r}{near(name, known) or '; it has ' + ', '.join(known)}"
            )


def _require_examples(view: str, known: Sequence[str]) -> None:
    """Refuse a view whose rows belong to no input of a run. Raises UsageError."""
    if not {"run", "example"} <= set(known):
        lacking = " and ".join(name for name in ("run", "example") if name not in known)
        raise UsageError(
            f"The rows of {view} do not belong to blocks of a run (it has no column {lacking}); "
            f"ask it at once: store.sql('FROM {view}')."
        )


@lru_cache(maxsize=8)
def _pool(address: str) -> SessionPool:
    """Return this process's sessions over a store."""
    pool = SessionPool(location.find(address), _SESSIONS, _SETTINGS)
    atexit.register(pool.close)
    return pool


@lru_cache(maxsize=256)
def _bring_up_to_date(address: str, _asked: str) -> None:
    """Bring this machine's index to what the partitions of one call were made of, once."""
    _catch_up(location.find(address))


def _catch_up(backend: Backend) -> None:
    until = time.monotonic() + _WAIT
    while True:
        try:
            index.catch_up(backend)
            return
        except BusyError:  # another process of this machine does it, or reads
            if time.monotonic() > until:
                raise
            time.sleep(0.5)
        except StoreError:
            if not index.accept(backend):
                raise
            return


def _examples(partition: Partition, pool: SessionPool) -> list[int]:
    """Return the examples of the block.

    Raises:
        UnknownNameError: The store does not hold the block of this run.
        DamageError: Some of its inputs are missing.
    """
    rows = _listed(partition, pool)
    if rows.is_empty():  # ingested since this process opened the store
        _catch_up(location.find(partition.store))
        rows = _listed(partition, pool)
    if rows.is_empty():
        raise UnknownNameError(
            f"{partition.store} does not hold block {partition.block} of run {partition.run} any more, or "
            "holds another run under that name; make the partitions again."
        )
    if len(rows) != rows["examples"][0]:
        raise DamageError(
            f"{partition.store} holds {len(rows)} of {rows['examples'][0]} inputs of block {partition.block} of "
            f"run {partition.run}; `attnstore verify` names what is missing, and how to restore it."
        )
    return rows["example"].to_list()


def _listed(partition: Partition, pool: SessionPool) -> pl.DataFrame:
    values = {name: getattr(partition, name) for name in ("run", "identity", "block")}
    with pool.session() as session:
        try:
            return session.sql(_EXAMPLES, values)
        except UnknownNameError:
            return pl.DataFrame()
