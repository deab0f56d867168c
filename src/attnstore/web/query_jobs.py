"""Queries that people ask: started, followed, cancelled; each runs in a `worker` of its own.

A result stays as a file as long as the query is among the last ones, so that its table, its
pictures and its downloads all come from one computation.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnstore.errors import QueryError, UnknownNameError, UsageError
from attnstore.query import process_memory
from attnstore.storage.backend import Backend
from attnstore.web.served_store import ServedStore

_KEPT = 16
_AT_ONCE = 2
_LONGEST = 100_000  # characters of a query


@dataclass(frozen=True)
class Limits:
    """What one query may take. seconds: wall time; memory: bytes; rows: of its result; file: bytes
    of its result on disk, where the last ones are kept."""

    seconds: float = 60.0
    memory: int = process_memory.MEMORY
    rows: int = 1_000_000
    file: int = 256 << 20


@dataclass
class Question:
    """One query. state: waiting, running, done, failed or cancelled; percent: where it says so;
    sentence: why it failed; result: columns, rows and counts of what is shown."""

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

    @property
    def over(self) -> bool:
        """Whether it will not change any more."""
        return self.state in ("done", "failed", "cancelled")

    def told(self) -> dict[str, Any]:
        """How it stands, for the page."""
        seconds = self.seconds if self.over else time.monotonic() - self.began
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
        self._known: OrderedDict[str, Question] = OrderedDict()
        self._mutex = threading.Lock()
        self._turn = threading.Semaphore(_AT_ONCE)
        self._idle: list[_Worker] = []

    def ask(self, text: str, params: Mapping[str, str]) -> Question:
        """Start a query, or find the same one if the store has not changed since.

        Raises UsageError for an empty or an endless text.
        """
        if not text.strip():
            raise UsageError("The query is empty; write one, such as FROM runs.")
        if len(text) > _LONGEST:
            raise UsageError(f"The query has {len(text):,} characters; at most {_LONGEST:,}.")
        about = json.dumps([self._store.stamp, text, sorted(params.items())])
        name = hashlib.sha256(about.encode()).hexdigest()[:20]
        with self._mutex:
            known = self._known.get(name)
            if known is not None and known.state in ("waiting", "running", "done"):
                self._known.move_to_end(name)
                return known
            file = Path(self._folder.name) / f"{name}.parquet"
            question = self._known[name] = Question(name, text, dict(params), file)
            self._known.move_to_end(name)
            self._forget()
        threading.Thread(target=self._run, args=(question,), daemon=True).start()
        return question

    def _forget(self) -> None:
        over = [q for q in self._known.values() if q.over]
        for question in over[: max(len(self._known) - _KEPT, 0)]:
            del self._known[question.id]
            question.file.unlink(missing_ok=True)
            question.file.with_suffix(".csv").unlink(missing_ok=True)

    def find(self, name: str) -> Question:
        """A query by its id. Raises UnknownNameError."""
        with self._mutex:
            if name not in self._known:
                raise UnknownNameError("This result is no longer kept; run the query again.")
            return self._known[name]

    def cancel(self, name: str) -> Question:
        """Stop a query."""
        question = self.find(name)
        self._end(question, "cancelled", "The query was cancelled.")
        return question

    def _end(self, question: Question, state: str, sentence: str) -> None:
        with self._mutex:
            if question.over:
                return
            question.state, question.sentence = state, sentence
            question.seconds = time.monotonic() - question.began
            worker = question.worker
        if worker is not None:
            worker.kill()

    def _run(self, question: Question) -> None:
        with self._turn:
            if question.over:
                return
            worker = self._take()
            question.worker = worker
            question.state = "running"
            question.began = time.monotonic()
            late = f"It took longer than {self.limits.seconds:.0f} s, the limit here; ask for less, or use `attnstore sql`."
            timer = threading.Timer(self.limits.seconds, self._end, (question, "failed", late))
            timer.start()
            job = {"sql": question.text, "params": question.params, "rows": self.limits.rows, "file": str(question.file)}  # fmt: skip
            told = worker.do(job, question)
            timer.cancel()
            question.worker = None
            if "done" in told:
                question.result = told["done"]
                self._end(question, "done", "")
            else:
                self._end(question, "failed", told.get("failed") or self._broken())
            self._give(worker)

    def _broken(self) -> str:
        return f"The query needed more than {self.limits.memory >> 20} MiB of memory, the limit here; ask for less."

    def csv(self, question: Question) -> Path:
        """The result as a CSV file, made when first asked for. Raises QueryError."""
        file = question.file.with_suffix(".csv")
        if not file.exists():
            worker = self._take()
            part = file.with_suffix(".part")
            told = worker.do({"file": str(question.file), "csv": str(part)}, None)
            self._give(worker)
            if "done" not in told:
                raise QueryError(told.get("failed") or self._broken())
            part.rename(file)
        return file

    def _take(self) -> _Worker:
        with self._mutex:
            while self._idle:
                worker = self._idle.pop()
                if worker.alive:
                    return worker
        return _Worker(self._store.backend, self.limits, self._store.current.named_analyses.folder)

    def _give(self, worker: _Worker) -> None:
        with self._mutex:
            if worker.alive and len(self._idle) < _AT_ONCE:
                self._idle.append(worker)
                return
        worker.kill()

    def warm(self) -> None:
        """Start a worker, so that the first query does not wait for one."""
        threading.Thread(target=lambda: self._give(self._take()), daemon=True).start()

    def close(self) -> None:
        """Stop everything and forget the results."""
        for question in list(self._known.values()):
            self._end(question, "cancelled", "The server has ended.")
        for worker in self._idle:
            worker.kill()
        self._folder.cleanup()


class _Worker:
    """A worker process, asked through its pipes."""

    def __init__(self, backend: Backend, limits: Limits, analyses: Path | None) -> None:
        about = [str(backend.root), str(limits.memory), str(limits.file)]
        about += [] if analyses is None else [str(analyses)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "attnstore.web.query_worker", *about],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, encoding="utf-8",
        )  # fmt: skip

    @property
    def alive(self) -> bool:
        """Whether it can take a job."""
        return self._process.poll() is None

    def do(self, job: dict[str, Any], question: Question | None) -> dict[str, Any]:
        """Its answer to a job; nothing where it ended on the way."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with contextlib.suppress(OSError, ValueError):
            stdin.write(json.dumps(job) + "\n")
            stdin.flush()
            for line in stdout:
                told: dict[str, Any] = json.loads(line)
                if "progress" not in told:
                    return told
                if question is not None:
                    question.percent = told["progress"]
        self.kill()
        return {}

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
