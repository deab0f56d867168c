"""Queries of the SQL page: started, followed, cancelled; each runs in a worker process.

The results of the last queries stay as files, so that a table, its pictures and its downloads all come
from one computation.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from attnstore.errors import AttnstoreError, QueryError, UnknownNameError, UsageError
from attnstore.query import process_memory
from attnstore.storage.backend import Backend
from attnstore.web.served_store import ServedStore

_MAX_RESULTS = 16
_CANCELLED = "The query was cancelled."
_NOT_STARTED = "The query could not be started ({}): end other programs or queries, and ask again."
_AT_ONCE = 2
_MAX_TEXT = 100_000  # characters of a query


@dataclass(frozen=True)
class Limits:
    """Limits of one query. seconds: wall time; memory: bytes that its process may hold; rows: of its
    result; file: bytes of its result on disk."""

    seconds: float = 60.0
    memory: int = process_memory.MEMORY
    rows: int = 1_000_000
    file: int = 256 << 20


@dataclass
class Question:
    """One query. state: waiting, running, done, failed or cancelled; percent: where it says so;
    sentence: why it failed; result: columns, rows and counts of what is shown; askers: the pages that
    wait for it."""

    id: str
    text: str
    params: dict[str, str]
    file: Path
    state: str = "waiting"
    percent: float | None = None
    sentence: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    worker: _Worker | None = None
    askers: set[str] = field(default_factory=set)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def is_over(self) -> bool:
        """True if the query has ended."""
        return self.state in ("done", "failed", "cancelled")

    def frame(self, first: int | None = None) -> pl.DataFrame:
        """Return the rows of an ended query. first: only so many of them.

        Raises:
            QueryError: It failed, was cancelled or took too long; the sentence says which.
        """
        if self.state != "done":
            raise QueryError(self.sentence)
        return pl.read_parquet(self.file, glob=False, hive_partitioning=False, n_rows=first)

    def status(self) -> dict[str, Any]:
        """Return the status of the query, for the page."""
        seconds = self.seconds if self.is_over else time.monotonic() - self.began
        return {
            "id": self.id, "state": self.state, "percent": self.percent,
            "sentence": self.sentence, "seconds": round(seconds, 2),
        }  # fmt: skip


class Questions:
    """The queries of a server, over a store."""

    def __init__(self, store: ServedStore, limits: Limits | None = None) -> None:
        self._store = store
        self.limits = limits or Limits()
        self._folder = tempfile.TemporaryDirectory(prefix="attnstore-results-")
        self._questions: OrderedDict[str, Question] = OrderedDict()
        self._mutex = threading.Lock()
        self._turn = threading.Semaphore(_AT_ONCE)
        self._idle: list[_Worker] = []

    def ask(self, text: str, params: Mapping[str, str], asker: str = "") -> Question:
        """Start a query, or return the same one if the store has not changed since.

        Args:
            text: The query.
            params: Values of its parameters.
            asker: Names the page that asks, for `cancel`.

        Raises:
            UsageError: The text is empty or too long.
        """
        if not text.strip():
            raise UsageError("The query is empty; write one, such as FROM runs.")
        if len(text) > _MAX_TEXT:
            raise UsageError(f"The query has {len(text):,} characters; at most {_MAX_TEXT:,}.")
        stamp = self._store.stamp or secrets.token_hex(8)  # no stamp: the index is being written
        about = json.dumps([stamp, self._own_analyses(text), text, sorted(params.items())])
        name = hashlib.sha256(about.encode()).hexdigest()[:20]
        with self._mutex:
            known = self._questions.get(name)
            if known is not None and known.state in ("waiting", "running", "done"):
                self._questions.move_to_end(name)
                known.askers.add(asker)
                return known
            file = Path(self._folder.name) / f"{name}.parquet"
            question = self._questions[name] = Question(name, text, dict(params), file)
            question.askers.add(asker)
            self._questions.move_to_end(name)
            self._forget()
        try:
            threading.Thread(target=self._run, args=(question,), daemon=True).start()
        except RuntimeError as error:  # the system gives no further thread
            self._end(question, "failed", _NOT_STARTED.format(error))
        return question

    def _own_analyses(self, text: str) -> list[str]:
        """Return the texts of all own analyses if a query may call one: they can be edited at any time."""
        named = self._store.current.named_analyses
        with contextlib.suppress(AttnstoreError):  # the query says it in its own words
            known = [named.find(name) for name in named.names() if name.lower() in text.lower()]
            if not all(analysis.shipped for analysis in known):
                return [a.sql for a in named.listing().values() if not a.shipped]
        return []

    def _forget(self) -> None:
        over = [q for q in self._questions.values() if q.is_over]
        for question in over[: max(len(self._questions) - _MAX_RESULTS, 0)]:
            del self._questions[question.id]
            question.file.unlink(missing_ok=True)
            question.file.with_suffix(".csv").unlink(missing_ok=True)

    def find(self, name: str) -> Question:
        """Return a query by its id.

        Raises:
            UnknownNameError: Its result is no longer kept.
        """
        with self._mutex:
            if name not in self._questions:
                raise UnknownNameError("This result is no longer kept; run the query again.")
            return self._questions[name]

    def cancel(self, name: str, asker: str = "") -> dict[str, Any]:
        """Stop a query for one asker, altogether if nobody else waits for it; return its status for the page."""
        question = self.find(name)
        with self._mutex:
            question.askers.discard(asker)
            wanted = bool(question.askers)
        if not wanted:
            self._end(question, "cancelled", _CANCELLED)
        status = question.status()
        return status | {"state": "cancelled", "sentence": _CANCELLED} if wanted else status

    def _end(self, question: Question, state: str, sentence: str) -> None:
        with self._mutex:
            if question.is_over:
                return
            question.state, question.sentence = state, sentence
            question.seconds = time.monotonic() - question.began
            worker = question.worker
            question.ended.set()
        if worker is not None:
            worker.kill()

    def answer(self, text: str, params: Mapping[str, str]) -> pl.DataFrame:
        """Ask a query, wait for its end and return its rows.

        Raises:
            QueryError: It failed, was cancelled or took too long; the sentence says which.
        """
        question = self.ask(text, params, "the server")
        question.ended.wait()
        return question.frame()

    def _run(self, question: Question) -> None:
        with self._turn:
            if question.is_over:
                return
            try:
                self._answer(question)
            except QueryError as error:
                self._end(question, "failed", str(error))
            except RuntimeError as error:  # the system gives no further thread
                self._end(question, "failed", _NOT_STARTED.format(error))

    def _answer(self, question: Question) -> None:
        """Let a worker answer a query, unless the query was cancelled meanwhile.

        Raises:
            QueryError: No worker can be started.
        """
        worker = self._take()
        with self._mutex:
            if is_wanted := not question.is_over:
                question.worker, question.state = worker, "running"
                question.began = time.monotonic()
        if not is_wanted:
            self._give(worker, {"done": {}})
            return
        late = f"The query took longer than {self.limits.seconds:.0f} s, the limit here; ask for less, or use `attnstore sql`."
        timer = threading.Timer(self.limits.seconds, self._end, (question, "failed", late))
        timer.start()
        job = {"sql": question.text, "params": question.params, "rows": self.limits.rows, "file": str(question.file)}  # fmt: skip
        short = self._shortage(question.text)
        over = partial(self._end, question, "failed", short)
        with process_memory.watched(worker.pid, self.limits.memory, over):
            reply = worker.do(job, question)
        timer.cancel()
        question.worker = None
        if "done" in reply:
            question.result = reply["done"]
            self._end(question, "done", "")
        else:
            self._end(question, "failed", reply.get("failed") or short)
        self._give(worker, reply)

    def _shortage(self, text: str) -> str:
        memory = self.limits.memory >> 20
        advice = process_memory.advice(text)
        return f"The query needs more than {memory:,} MiB of memory, the limit here; {advice}."

    def csv(self, question: Question) -> Path:
        """Return the result as a CSV file, written when first asked for.

        Raises:
            QueryError: It cannot be written.
        """
        file = question.file.with_suffix(".csv")
        if not file.exists():
            worker = self._take()
            part = file.with_suffix(f".{worker.pid}.part")  # two may ask for it at once
            job = {"file": str(question.file), "csv": str(part)}
            with process_memory.watched(worker.pid, self.limits.memory, worker.kill):
                reply = worker.do(job, None)
            self._give(worker, reply)
            if "done" not in reply:
                raise QueryError(reply.get("failed") or self._shortage(""))
            part.rename(file)
        return file

    def chart(
        self, question: Question, kind: str, asked: Mapping[str, Sequence[str]]
    ) -> dict[str, Any]:
        """Return a chart of the result: see `charts.of_file` and `Chart.data`.

        Raises:
            QueryError: It cannot be drawn so; the sentence says why.
        """
        about = {"kind": kind, "asked": asked}
        job = {"file": str(question.file), "sql": question.text, "chart": about}
        worker = self._take()
        with process_memory.watched(worker.pid, self.limits.memory, worker.kill):
            reply = worker.do(job, None)
        self._give(worker, reply)
        if "done" not in reply:
            raise QueryError(reply.get("failed") or self._shortage(""))
        done: dict[str, Any] = reply["done"]
        return done

    def _take(self) -> _Worker:
        """Return a worker that waits, or a new one. Raises QueryError if none can be started."""
        with self._mutex:
            while self._idle:
                worker = self._idle.pop()
                if worker.alive:
                    return worker
        analyses = self._store.current.named_analyses.folder
        try:
            return _Worker(self._store.backend, self.limits, analyses)
        except OSError as error:  # too many processes or open files, or no memory
            raise QueryError(_NOT_STARTED.format(error.strerror or error)) from error

    def _give(self, worker: _Worker, reply: Mapping[str, Any]) -> None:
        """Keep a worker for the next query, unless its last one exhausted it: see `query_worker`."""
        with self._mutex:
            fit = reply and "short" not in reply and worker.alive
            fit = fit and process_memory.held(worker.pid) < self.limits.memory / 2
            if fit and len(self._idle) < _AT_ONCE:
                self._idle.append(worker)
                return
        worker.kill()

    def warm(self) -> None:
        """Start a worker, so that the first query does not wait for one."""

        def start() -> None:
            with contextlib.suppress(QueryError):  # the first query says it
                self._give(self._take(), {"done": {}})

        threading.Thread(target=start, daemon=True).start()

    def close(self) -> None:
        """Stop everything and forget the results."""
        for question in list(self._questions.values()):
            self._end(question, "cancelled", "The server has ended.")
        for worker in self._idle:
            worker.kill()
        self._folder.cleanup()


class _Worker:
    """A worker process, asked through its pipes: see `query_worker`."""

    def __init__(self, backend: Backend, limits: Limits, analyses: Path | None) -> None:
        about = [str(backend.root), str(limits.memory), str(limits.file)]
        about += [] if analyses is None else [str(analyses)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "attnstore.web.query_worker", *about],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, encoding="utf-8",
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """True if the worker can take a job."""
        return self._process.poll() is None

    def do(self, job: dict[str, Any], question: Question | None) -> dict[str, Any]:
        """Return the reply to a job; {} if the process ended before."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with contextlib.suppress(OSError, ValueError):
            stdin.write(json.dumps(job) + "\n")
            stdin.flush()
            for line in stdout:
                reply: dict[str, Any] = json.loads(line)
                if "progress" not in reply:
                    return reply
                if question is not None:
                    question.percent = reply["progress"]
        self.kill()
        return {}

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()
