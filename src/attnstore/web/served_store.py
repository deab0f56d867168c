"""A store as a server uses it: many threads, an index that follows an ingestion, a folder that may be replaced."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import polars as pl

from attnstore.errors import StoreError
from attnstore.storage import fragments, index, location
from attnstore.storage.location import Location
from attnstore.store import Store

REFRESH_SECONDS = 2.0
"""Interval at which the index catches up while pages are asked for."""
_SESSIONS = 6
_ANALYSES = 2  # of the sessions; analyses may read every map, and pages do not wait behind them


class ServedStore:
    """The store of a server. current: the store that lies in the folder now, open.

    Args:
        path: The store.
        analyses: A folder of one's own analyses.
    """

    def __init__(self, path: Location, analyses: str | None = None) -> None:
        self._own_analyses = analyses
        self.backend = location.find(path)
        self._mutex = threading.Lock()
        self._catching_up = threading.Lock()
        self._analyses = threading.Semaphore(_ANALYSES)
        self._open()

    def _open(self) -> None:
        identity = self._folder()
        self.current = Store(self.backend, _SESSIONS, self._own_analyses)
        self._identity = identity
        self._indexed: tuple[Any, ...] = ()
        self._refreshed = time.monotonic()

    def _folder(self) -> tuple[int, int, int]:
        """Return what identifies the folder; always the same in a bucket, where a look costs requests."""
        if not self.backend.is_local:
            return 0, 0, 0
        location.find(self.backend)
        mark = (self.backend.root / location.MARK).stat()
        return self.backend.root.stat().st_ino, mark.st_ino, mark.st_mtime_ns

    def check(self) -> None:
        """Open the store again if its folder was replaced, and let the index catch up.

        Raises:
            StoreError: The folder is no store any more.
        """
        with self._mutex:
            if self._folder() != self._identity:
                self.current.close()
                self._open()
        if time.monotonic() - self._refreshed > REFRESH_SECONDS and not self._catching_up.locked():
            threading.Thread(target=self.catch_up, daemon=True).start()

    def expire(self) -> None:
        """Let the index catch up with the next page, whenever it last did."""
        self._refreshed = 0.0

    def catch_up(self) -> None:
        """Bring the index up to date, unless nothing has changed since it last was."""
        with self._catching_up:
            listing = [(f.path, f.modified) for f in fragments.listing(self.backend)]
            if (
                self.behind is not None
                or self.stamp is None
                or (listing, self.stamp) != self._indexed
            ):
                try:
                    self.current.catch_up()
                except StoreError as error:
                    self.current.behind = str(error)
                self._indexed = listing, self.stamp
            self._refreshed = time.monotonic()

    @property
    def behind(self) -> str | None:
        """Why the index is not up to date, or None."""
        return self.current.behind

    @property
    def stamp(self) -> str | None:
        """The content of the index as its seal says; None while it is being written."""
        return index.seal_of(self.backend)

    def ask(self, sql: str, /, **params: Any) -> pl.DataFrame:
        """Answer a question of a page, once as long as the index is the same."""
        return self.current.cached(sql, **params)

    def of_head(
        self, sql: Callable[[str], str], run: str, of: tuple[int, int] | None
    ) -> pl.DataFrame:
        """Answer a question about the heads of a run, or about one of them, which is asked alone takes a fraction of the time.

        Where all heads have been asked before, the answer about one is a part of theirs.

        Args:
            sql: Returns the text of the question, given what its WHERE has beside `run = $run`; its rows have layer and head.
            run: The run.
            of: Layer and head of the only one that is wanted; None for all.
        """
        if of is None:
            return self.ask(sql(""), run=run)
        layer, head = of
        if self.current.answers.has(sql(""), {"run": run}):
            return self.ask(sql(""), run=run).filter(layer=layer, head=head)
        only = " AND layer = $layer AND head = $head"
        return self.ask(sql(only), run=run, layer=layer, head=head)

    def sql(self, text: str, /, **params: Any) -> pl.DataFrame:
        """Answer a question as `ask` does, under the name that `display.inputs` calls."""
        return self.ask(text, **params)

    def analysis(self, name: str, /, **params: Any) -> pl.DataFrame:
        """Return the result of a named analysis, once as long as the index is the same; few at a time.

        Results of single heads stay in memory: as files they would take the places of those of whole runs.
        """
        store = self.current
        key, analysis, values = store.question(name, params)

        def compute() -> tuple[pl.DataFrame, set[str]]:
            with self._analyses:
                return store.asked(analysis, values)

        return store.answers.get(key, values, compute, on_disk=values.get("head") is None)

    def has_analysis(self, name: str, /, **params: Any) -> bool:
        """Return True if the result of an analysis needs no computation."""
        key, _, values = self.current.question(name, params)
        return self.current.answers.has(key, values)

    def close(self) -> None:
        """End every session."""
        self.current.close()
