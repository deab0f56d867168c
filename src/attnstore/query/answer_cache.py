"""Cache of answers, in memory and, for slow named analyses, in files beside the index.

    answers/<seal>/<question>.<crc32c>.parquet

A run never changes, so an answer stays right as long as the index and the files of the arrays that
were read are the same: the index's seal is part of the key, and a checksum over the sizes and times
of those files is kept with the answer. The files are a cache: their number and size are bounded;
those that are damaged, belong to an older index or came with a copy of the store are ignored; and
where nothing can be written, the question is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import polars as pl

from attnstore import resources
from attnstore.errors import StoreError
from attnstore.storage import arrays, files, index
from attnstore.storage.backend import Backend

FOLDER = "answers"
MAX_FILES, MAX_FILE_BYTES = 64, 4 << 20
"""Number of answers kept as files, and the largest answer that gets one."""
MAX_ANSWERS, MAX_BYTES = 2000, 128 << 20
"""Number and bytes of the answers kept in memory; the least recently used go first."""
WORTH = 0.02
"""Keep on disk only answers that took longer than this (seconds)."""
_STATES = "attnstore_arrays"
"""Key in a file's metadata of the states of the arrays that were read."""

States = dict[str, str]
"""By run, a checksum over the sizes and times of the files of its arrays."""
Key = tuple[str, str]
"""The index's seal and a question's hash."""


@dataclass(frozen=True)
class Answer:
    """An answer, and the states of the arrays that it was computed from."""

    rows: pl.DataFrame
    states: States


class AnswerCache:
    """Answers to questions about one store, for any number of threads.

    Threads that ask the same question at the same time share one computation.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._mutex = threading.Lock()
        self._answers: OrderedDict[Key, Answer] = OrderedDict()
        self._bytes = 0
        self._pending: dict[Key, Future[pl.DataFrame]] = {}

    def get(
        self,
        text: str,
        params: Mapping[str, Any],
        compute: Callable[[], tuple[pl.DataFrame, set[str]]],
        on_disk: bool = True,
        worth: float | None = None,
    ) -> pl.DataFrame:
        """Return the answer to an SQL text, from the cache or computed.

        Args:
            text: The SQL text.
            params: Values of its parameters.
            compute: Returns the answer and the runs whose arrays it read.
            on_disk: Keep the answer as a file too, if it is small and was slow.
            worth: Seconds above which it was slow; WORTH by default.
        """
        seal = index.seal_of(self._backend)
        if seal is None:  # the index is being written, or was changed by another program
            return compute()[0]
        key = seal, _question(text, params)
        with self._mutex:
            pending = self._pending.get(key)
            if pending is None:
                future = self._pending[key] = Future()
        if pending is not None:
            return pending.result().clone()
        try:
            answer = self._valid(key, on_disk)
            if answer is None:
                answer = self._computed(key, compute, on_disk, WORTH if worth is None else worth)
            future.set_result(answer)
        except BaseException as error:
            future.set_exception(error)
            raise
        finally:
            with self._mutex:
                del self._pending[key]
        return answer.clone()

    def has(self, text: str, params: Mapping[str, Any]) -> bool:
        """Return True if the answer to a question needs no computation."""
        seal = index.seal_of(self._backend)
        return seal is not None and self._valid((seal, _question(text, params)), True) is not None

    def forget(self) -> None:
        """Delete every answer, in memory and on disk."""
        with self._mutex:
            self._answers.clear()
            self._bytes = 0
        shutil.rmtree(self._backend.root / FOLDER, ignore_errors=True)

    def _valid(self, key: Key, on_disk: bool) -> pl.DataFrame | None:
        """Return the cached answer, unless the arrays behind it changed."""
        with self._mutex:
            answer = self._answers.get(key)
            if answer is not None:
                self._answers.move_to_end(key)
        if answer is None and on_disk and (answer := self._read(*key)) is not None:
            self._keep(key, answer)
        if answer is None or answer.states != self._states(answer.states):
            return None
        return answer.rows

    def _computed(
        self,
        key: Key,
        compute: Callable[[], tuple[pl.DataFrame, set[str]]],
        on_disk: bool,
        worth: float,
    ) -> pl.DataFrame:
        began = perf_counter()
        rows, runs = compute()
        seconds = perf_counter() - began
        if index.seal_of(self._backend) != key[0]:
            return rows
        answer = Answer(rows, self._states(runs))
        self._keep(key, answer)
        if on_disk and seconds > worth and rows.estimated_size() <= MAX_FILE_BYTES:
            with contextlib.suppress(StoreError):
                self._write(*key, answer)
        return rows

    def _keep(self, key: Key, answer: Answer) -> None:
        size = int(answer.rows.estimated_size())
        if size > MAX_BYTES:
            return
        with self._mutex:
            self._drop(key)
            self._answers[key] = answer
            self._bytes += size
            while len(self._answers) > MAX_ANSWERS or self._bytes > MAX_BYTES:
                self._drop(next(iter(self._answers)))

    def _drop(self, key: Key) -> None:
        if (answer := self._answers.pop(key, None)) is not None:
            self._bytes -= int(answer.rows.estimated_size())

    def _states(self, runs: Iterable[str]) -> States:
        return {run: _state(self._backend, run) for run in sorted(runs)}

    def _folder(self, seal: str) -> Path:
        return self._backend.root / FOLDER / seal

    def _read(self, seal: str, question: str) -> Answer | None:
        for file in self._folder(seal).glob(f"{question}.*.parquet"):
            with contextlib.suppress(OSError, ValueError, KeyError, pl.exceptions.PolarsError):
                data = file.read_bytes()
                if f"{files.crc32c(data):08x}" == file.name.split(".")[1]:
                    states = json.loads(pl.read_parquet_metadata(io.BytesIO(data))[_STATES])
                    return Answer(pl.read_parquet(io.BytesIO(data)), states)
        return None

    def _write(self, seal: str, question: str, answer: Answer) -> None:
        if not self._backend.root.is_dir():  # the store was moved
            return
        buffer = io.BytesIO()
        metadata = {_STATES: json.dumps(answer.states)}
        answer.rows.write_parquet(buffer, compression="zstd", metadata=metadata)
        data, folder = buffer.getvalue(), self._folder(seal)
        with contextlib.suppress(OSError):
            for older in folder.glob(f"{question}.*.parquet"):
                older.unlink(missing_ok=True)
        files.write_file(folder / f"{question}.{files.crc32c(data):08x}.parquet", data)
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process may be at it
            for oldest in sorted(folder.glob("*.parquet"), key=lambda f: f.stat().st_mtime)[
                :-MAX_FILES
            ]:
                oldest.unlink()


def _state(backend: Backend, run: str) -> str:
    """A checksum over the files of a run's arrays by path, size and time; no byte of them is read.

    In a bucket, where listing them costs requests, it is the same always.
    """
    if not backend.is_local:
        return ""
    states = sorted((f.path, f.bytes, f.modified) for f in backend.files(f"{arrays.FOLDER}/{run}"))
    return f"{files.crc32c(json.dumps(states).encode()):08x}"


def _question(text: str, params: Mapping[str, Any]) -> str:
    question = json.dumps([_versions(), text, dict(params)], sort_keys=True)
    return hashlib.sha256(question.encode()).hexdigest()[:32]


@cache
def _versions() -> str:
    """Return a hash of what decides an answer beside the index: version, views over the weights."""
    views = [path.read_text("utf-8") for path in resources.sql_files("schema/session").values()]
    return hashlib.sha256(json.dumps([version("attnstore"), *views]).encode()).hexdigest()
