"""A store held open for a server: many threads ask, and an answer is kept until the index changes.

The index is brought up to date in the background while pages are asked for, so that an ingestion
going on is seen. A folder that is replaced under the server is opened anew.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from attnstore import store
from attnstore.errors import DamageError, StoreError, UnknownNameError
from attnstore.naming import require_held
from attnstore.query import analyses
from attnstore.query.functions import unless_dropped
from attnstore.query.session import Session
from attnstore.storage import arrays, fragments, index, location, locks, s3
from attnstore.storage.array_shape import Shape
from attnstore.storage.arrays import RunArrays

FRESH_SECONDS = 2.0
"""How often the index catches up while pages are asked for."""
_SESSIONS = 4  # asked at once; a session answers one question at a time
_ANALYSES = 2  # of questions that may read every map, so that pages do not wait behind them
_KEPT = 2000
_KEPT_BYTES = 128 << 20

Stamp = str


class Reader:
    """One store. behind: why its index could not be brought up to date, or None."""

    def __init__(self, path: str | Path) -> None:
        self.root = location.find(path)
        self.behind: str | None = None
        self._mutex = threading.Lock()
        self._sessions = _Pool(self.root, _SESSIONS)
        self._slow = _Pool(self.root, _ANALYSES)
        self._answers: OrderedDict[Any, tuple[Future[pl.DataFrame], list[int]]] = OrderedDict()
        self._arrays: dict[tuple[Stamp | None, str], RunArrays] = {}
        self._identity = self._folder()
        self._refreshing = threading.Lock()
        self._seen: tuple[list[tuple[str, int]], Stamp | None] | None = None
        self._refreshed = 0.0
        self._pace: dict[str, list[tuple[float, int]]] = {}
        self.refresh(wait=True)

    def _folder(self) -> tuple[int, int, int]:
        if not s3.of(self.root).near:
            return 0, 0, 0
        mark = (self.root / location.MARK).stat()
        return self.root.stat().st_ino, mark.st_ino, mark.st_mtime_ns

    def check(self) -> None:
        """Open anew what was replaced; StoreError where the folder is no store any more."""
        if s3.of(self.root).near:  # in a bucket it would cost every page a request
            location.find(self.root)
        with self._mutex:
            if self._folder() == self._identity:
                return
            self._identity = self._folder()
            self._sessions.clear()
            self._slow.clear()
            self._answers.clear()
            self._arrays.clear()
            self._pace.clear()
        self.refresh(wait=True)

    def refresh(self, wait: bool = False, soon: bool = False) -> None:
        """Let the index catch up, in the background unless `wait`; at most every two seconds,
        unless `soon` says that there is something new."""
        if wait:
            self._catch_up()
            return
        if soon:
            self._refreshed = 0.0
        if time.monotonic() - self._refreshed > FRESH_SECONDS and not self._refreshing.locked():
            threading.Thread(target=self._catch_up, daemon=True).start()

    def _catch_up(self) -> None:
        with self._refreshing:
            seen = (self._listed(), self.stamp)
            if self.behind is None and seen == self._seen and seen[1] is not None:
                self._refreshed = time.monotonic()
                return
            try:
                opened = store.Store(self.root)
                self.behind = opened.behind
                opened.close()
            except StoreError as error:
                self.behind = str(error)
            self._seen = (seen[0], self.stamp)
            self._refreshed = time.monotonic()

    def _listed(self) -> list[tuple[str, int]]:
        """What there is to index, and since when."""
        return [(f.path, f.modified) for f in fragments.listing(self.root)]

    @property
    def stamp(self) -> Stamp | None:
        """What the index holds now, as its seal says; None while it is being written, or not as it was left."""
        return index.seal_of(self.root)

    def ask(self, sql: str, /, **params: Any) -> pl.DataFrame:
        """The answer to a question of a page; the same question is answered once per index."""
        return self._once((sql, _frozen(params)), lambda: self.sql(sql, **params))

    def sql(self, text: str, /, **params: Any) -> pl.DataFrame:
        """The answer to a question, asked anew."""
        return self._sessions.sql(text, **params)

    def analysis(self, name: str, /, **params: Any) -> pl.DataFrame:
        """The result of an analysis, computed once per index; it may take long."""

        def compute() -> pl.DataFrame:
            found = analyses.find(name)
            return self._slow.sql(found.sql, **analyses.arguments(found, params))

        return self._once((name, _frozen(params)), compute)

    def has_analysis(self, name: str, /, **params: Any) -> bool:
        """Whether the result of an analysis is at hand already."""
        with self._mutex:
            kept = self._answers.get((self.stamp, name, _frozen(params)))
            return kept is not None and kept[0].done()

    def _once(self, question: tuple[Any, ...], compute: Any) -> pl.DataFrame:
        stamp = self.stamp
        if stamp is None:
            answer: pl.DataFrame = compute()
            return answer
        key = (stamp, *question)
        with self._mutex:
            kept = self._answers.get(key)
            mine = kept is None
            if kept is None:
                kept = self._answers[key] = (Future(), [0])
            self._answers.move_to_end(key)
        future, size = kept
        if mine:
            try:
                future.set_result(found := compute())
                size[0] = int(found.estimated_size())
            except BaseException as error:
                future.set_exception(error)
                with self._mutex:
                    self._answers.pop(key, None)
            self._trim()
        return future.result()

    def _trim(self) -> None:
        with self._mutex:
            total = sum(size[0] for _, size in self._answers.values())
            while self._answers and (len(self._answers) > _KEPT or total > _KEPT_BYTES):
                _, (_, size) = self._answers.popitem(last=False)
                total -= size[0]

    def views(self) -> dict[str, str]:
        """The views that can be asked, with what a row of each is."""
        return dict(self._sessions.views().iter_rows())

    def columns(self) -> dict[str, list[tuple[str, str, str]]]:
        """Per view its columns: name, type, what it means."""
        found: dict[str, list[tuple[str, str, str]]] = {}
        for view, name, kind, comment in self._sessions.columns().iter_rows():
            found.setdefault(view, []).append((name, kind, comment or ""))
        return found

    def maps(
        self, run: str, example: int, layer: int | None = None, head: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Maps of one input, (layers, heads, L, L) float32; of one head if layer and head are given.

        Raises UnknownNameError for what the run does not hold, DamageError.
        """
        cell, length = self.place(run, example)
        with unless_dropped(self.root, run):
            opened = self._run(run)
            if layer is None or head is None:
                return opened.example(cell, length)
            require_held(run, "layer", layer, opened.layers)
            require_held(run, "head", head, opened.heads)
            row = opened.layers.index(layer) * len(opened.heads) + opened.heads.index(head)
            flat = opened.gather("maps", *(np.array([n]) for n in (row, cell, length * length)))
            return flat.reshape(1, 1, length, length)

    def place(self, run: str, example: int) -> tuple[int, int]:
        """Offset and length of an input in its run. Raises UnknownNameError."""
        found = self.ask(
            "SELECT cell, length FROM idx.core.inputs JOIN idx.core.runs USING (run_key) "
            "JOIN idx.core.blocks USING (run_key, block) WHERE run = $run AND example = $example",
            run=run, example=example,
        )  # fmt: skip
        if found.is_empty():
            raise UnknownNameError(f"Run {run} holds no example {example}; its page lists them.")
        cell, length = found.row(0)
        return int(cell), int(length)

    def _run(self, run: str) -> RunArrays:
        key = (self.stamp, run)
        if key not in self._arrays:
            if len(self._arrays) > 64:
                self._arrays.clear()
            self._arrays[key] = arrays.open_run(self.root, run, self._sessions.shape(run))
        return self._arrays[key]

    def pace(self, run: str, stored: int, planned: int) -> tuple[bool, float | None]:
        """Whether a run is being written now, and how many seconds are left where that shows."""
        if stored >= planned or not locks.held(location.run_lock(self.root, run)):
            self._pace.pop(run, None)
            return False, None
        seen = self._pace.setdefault(run, [])
        now = time.monotonic()
        if not seen or seen[-1][1] != stored:
            seen.append((now, stored))
        (began, before), (last, latest) = seen[0], seen[-1]
        if latest == before:
            return True, None
        left = (planned - latest) * (last - began) / (latest - before)
        return True, max(left - (now - last), 0.0)

    def close(self) -> None:
        """End every session."""
        self._sessions.clear()
        self._slow.clear()


class _Pool:
    """Sessions over one store, made when first needed; `sql` waits for a free one."""

    def __init__(self, root: Path, size: int) -> None:
        self._root, self._size, self._age = root, size, 0
        self._free: queue.LifoQueue[Session | None] = queue.LifoQueue()
        for _ in range(size):
            self._free.put(None)

    @contextlib.contextmanager
    def _session(self) -> Iterator[Session]:
        held, age = self._free.get(), self._age
        try:
            held = held or Session(self._root)
            yield held
        except DamageError:
            age = -1  # what is mended is opened anew
            raise
        finally:
            if held is not None and age != self._age:
                held.close()
                held = None
            self._free.put(held)

    def sql(self, text: str, /, **params: Any) -> pl.DataFrame:
        with self._session() as session:
            return session.sql(text, params)

    def shape(self, run: str) -> Shape:
        with self._session() as session:
            return session.shape(run)

    def views(self) -> pl.DataFrame:
        return self.sql(
            "SELECT view_name, max(comment) AS comment FROM duckdb_views() "
            "WHERE NOT internal AND schema_name = 'main' GROUP BY view_name ORDER BY view_name"
        )

    def columns(self) -> pl.DataFrame:
        return self.sql(
            "SELECT table_name, column_name, any_value(data_type), max(comment) "
            "FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal "
            "GROUP BY table_name, column_name ORDER BY table_name, min(column_index)"
        )

    def clear(self) -> None:
        """End every session: now those that are free, the others when they have answered."""
        self._age += 1
        held = [self._free.get_nowait() for _ in range(self._free.qsize())]
        for session in held:
            if session is not None:
                session.close()
            self._free.put(None)


def _frozen(params: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(params.items()))
