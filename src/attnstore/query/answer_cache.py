"""Answers of named analyses, kept for the session and, if they took a while, beside the index.

    answers/<seal>/<question>.<crc32c>.parquet

A run never changes, so a question asked again has the same answer as long as the index is the same,
on the machine that made it, and so are the files of the arrays that were read: the index's seal is part
of the place, and with an answer stands a checksum over the sizes and times of those files. What stands
there is a cache: it is bounded, what is damaged, of an older index, or came with a copy of the store is
forgotten, and where nothing can be written the question is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import polars as pl

from attnstore import resources
from attnstore.errors import StoreError
from attnstore.storage import arrays, files, index, s3

FOLDER = "answers"
MOST, MOST_BYTES = 64, 4 << 20
"""How many answers are kept, and the largest that is."""
WORTH = 0.02
"""Seconds that an answer must have taken to get a file."""
_STATES = "attnstore_arrays"
"""Key in a file's metadata of the states of the arrays that were read."""

States = dict[str, str]
"""By run, a checksum over the sizes and times of the files of its arrays."""


class Answers:
    """The answers that are known of one store."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._held: dict[tuple[str, str], tuple[pl.DataFrame, States]] = {}

    def of(
        self,
        text: str,
        params: Mapping[str, Any],
        compute: Callable[[], tuple[pl.DataFrame, set[str]]],
    ) -> pl.DataFrame:
        """The answer to an SQL text: the one that is kept, or what `compute` gives.

        compute: returns the answer and the runs whose arrays it read.
        """
        seal = index.seal_of(self._root)
        if seal is None:  # the index is being written, or is not as it was left
            return compute()[0]
        key = seal, _question(text, params)
        kept = self._held.pop(key, None) or self._read(*key)
        if kept is None or kept[1] != self._states(kept[1]):
            began = perf_counter()
            answer, read = compute()
            kept = answer, self._states(read)
            if answer.estimated_size() > MOST_BYTES or index.seal_of(self._root) != seal:
                return answer
            if perf_counter() - began > WORTH:
                with contextlib.suppress(StoreError):
                    self._write(*key, *kept)
        self._held[key] = kept  # the last in line
        for oldest in list(self._held)[:-MOST]:
            del self._held[oldest]
        return kept[0].clone()

    def forget(self) -> None:
        """Compute everything anew from here on."""
        self._held.clear()
        shutil.rmtree(self._root / FOLDER, ignore_errors=True)

    def _states(self, runs: Iterable[str]) -> States:
        return {run: _state(self._root, run) for run in sorted(runs)}

    def _folder(self, seal: str) -> Path:
        return self._root / FOLDER / seal

    def _read(self, seal: str, question: str) -> tuple[pl.DataFrame, States] | None:
        for file in self._folder(seal).glob(f"{question}.*.parquet"):
            with contextlib.suppress(OSError, ValueError, KeyError, pl.exceptions.PolarsError):
                data = file.read_bytes()
                if f"{files.crc32c(data):08x}" == file.name.split(".")[1]:
                    states = json.loads(pl.read_parquet_metadata(io.BytesIO(data))[_STATES])
                    return pl.read_parquet(io.BytesIO(data)), states
        return None

    def _write(self, seal: str, question: str, answer: pl.DataFrame, states: States) -> None:
        if not self._root.is_dir():  # the store was moved
            return
        buffer = io.BytesIO()
        answer.write_parquet(buffer, compression="zstd", metadata={_STATES: json.dumps(states)})
        data, folder = buffer.getvalue(), self._folder(seal)
        with contextlib.suppress(OSError):
            for older in folder.glob(f"{question}.*.parquet"):
                older.unlink(missing_ok=True)
        files.write_file(folder / f"{question}.{files.crc32c(data):08x}.parquet", data)
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process may be at it
            for oldest in sorted(folder.glob("*.parquet"), key=lambda f: f.stat().st_mtime)[:-MOST]:
                oldest.unlink()


def _state(root: Path, run: str) -> str:
    """A checksum over the files of a run's arrays by path, size and time; no byte of them is read.

    In a bucket, where listing them costs requests, it is the same always.
    """
    place = s3.of(root)
    if not place.near:
        return ""
    found = sorted((f.path, f.bytes, f.modified) for f in place.files(f"{arrays.FOLDER}/{run}"))
    return f"{files.crc32c(json.dumps(found).encode()):08x}"


def _question(text: str, params: Mapping[str, Any]) -> str:
    asked = json.dumps([_asker(), text, dict(params)], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()[:32]


@cache
def _asker() -> list[str]:
    """What beside the index decides an answer: this version, and its views over the weights."""
    views = [path.read_text("utf-8") for path in resources.sql_files("schema/session").values()]
    return [version("attnstore"), *views]
