"""A view as frames of Polars, read batch by batch, for `store.scan`.

Polars may take frames in one thread and drop the rest in another, or keep them until the process
ends. So each reader has one owner and one lock: it is interrupted, waited for, and only then its
connection is closed; at the end of the process too, while threads can still answer. Readers of
dropped frames are closed by a thread of their own, where no Ctrl-C can interrupt the closing.
"""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import duckdb
import polars as pl

from attnstore.query import pushdown
from attnstore.query.session import Session
from attnstore.storage.backend import Backend

_ROWS = 100_000  # of a frame, where nobody says how many
_LOOK = 0.1  # seconds between two looks for frames that Polars has given up


class Frames(Iterator[pl.DataFrame]):
    """The rows of a view, in frames. Once it is dropped, its connection is closed.

    table: a view's name in quotes, or the call of a table macro, in SQL.
    columns, predicate, n_rows: as Polars gives them to a source; the limit comes before the filter.
    """

    def __init__(
        self,
        backend: Backend,
        table: str,
        columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        size: int | None,
    ) -> None:
        self._reading = _Reading(backend, table, columns, predicate, n_rows, size or _ROWS)
        _keep(self, self._reading)

    def __next__(self) -> pl.DataFrame:
        frame = self._reading.following()
        if frame is None:
            raise StopIteration
        return frame


class _Reading:
    """A reader: a session of its own, opened with the first frame, and the rows of a relation."""

    def __init__(
        self,
        backend: Backend,
        table: str,
        columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        size: int,
    ) -> None:
        self._backend, self._table, self._columns = backend, table, columns
        self._pushed = None if predicate is None else pushdown.pushed(predicate)
        self._filter = None if predicate is None else pushdown.applied(predicate)
        self._n_rows, self._size = n_rows, size
        self._turn = threading.Lock()
        self._closed = False
        self._session: Session | None = None
        self._reader: Any = None
        self._held = contextlib.ExitStack()

    def following(self) -> pl.DataFrame | None:
        """Read the next frame; None after the last one, and once it is closed."""
        with self._turn:
            if self._closed:
                return None
            try:
                frame = self._read()
            except BaseException:
                self._end()
                raise
            if frame is None:
                self._end()
            return frame

    def _read(self) -> pl.DataFrame | None:
        session = self._session or self._begin()
        with session.explained():
            if self._reader is None:
                self._reader = self._relation(session.con).fetch_record_batch(self._size)
                self._held.callback(self._reader.close)
            batch = next(self._reader, None)
        if batch is None:
            return None
        frame = pl.DataFrame(pl.from_arrow(batch))
        return frame if self._filter is None else frame.filter(self._filter)

    def _begin(self) -> Session:
        self._session = session = Session(self._backend)
        self._held.callback(session.close)
        self._held.enter_context(session.attached(self._table))
        return session

    def _relation(self, con: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
        relation = con.sql(f"FROM {self._table}")
        if self._columns is not None:
            relation = relation.select(*map(duckdb.ColumnExpression, self._columns))
        if self._n_rows is not None:
            relation = relation.limit(self._n_rows)
        return relation if self._pushed is None else relation.filter(self._pushed)

    def close(self) -> None:
        """Stop the reader, wait for it, close the connection. Does nothing the second time."""
        session = self._session
        if session is not None:
            with contextlib.suppress(duckdb.Error):
                session.con.interrupt()
        with self._turn:
            self._end()

    def _end(self) -> None:
        self._closed = True
        self._held.close()
        self._session = self._reader = None


_open: dict[weakref.ref[Frames], _Reading] = {}
_given_up: queue.SimpleQueue[weakref.ref[Frames]] = queue.SimpleQueue()
_mutex = threading.Lock()
_closer: threading.Thread | None = None


def _keep(frames: Frames, reading: _Reading) -> None:
    """Close the reader once its frames are dropped."""
    global _closer
    with _mutex:
        # The queue's put is written in C: no Ctrl-C comes between the last reference and the queue.
        _open[weakref.ref(frames, _given_up.put)] = reading
        if _closer is None or not _closer.is_alive():  # after a fork, it is not
            _closer = threading.Thread(target=_close_given_up, name="attnstore-scans", daemon=True)
            _closer.start()


def _close_given_up() -> None:
    """Close the readers of dropped frames, until none is open."""
    global _closer
    while True:
        with _mutex:
            if not _open:
                _closer = None
                return
        try:
            _close(_given_up.get(timeout=_LOOK))
        except queue.Empty:  # what Polars drops in a thread of its own goes with its next call
            pl.thread_pool_size()


def _close(frames: weakref.ref[Frames]) -> None:
    reading = _open.pop(frames, None)
    if reading is not None:
        with contextlib.suppress(duckdb.Error):
            reading.close()


@atexit.register
def _close_all() -> None:
    closer = _closer
    for frames in list(_open):
        _close(frames)
    if closer is not None:
        closer.join()
