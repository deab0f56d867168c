"""Answers of named analyses, kept for the session and, if they took a while, beside the index.

    answers/<seal>/<question>.<crc32c>.parquet

A run never changes, so a question asked again has the same answer as long as the index is the same:
its seal is part of the place. What stands there is a cache: it is bounded, what is damaged or of an
older index is forgotten, and where nothing can be written the question is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import polars as pl

from attnstore import resources
from attnstore.disk import files, index
from attnstore.errors import StoreError

FOLDER = "answers"
MOST, MOST_BYTES = 64, 4 << 20
"""How many answers are kept, and the largest that is."""
WORTH = 0.02
"""Seconds that an answer must have taken to get a file."""


class Answers:
    """The answers that are known of one store."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._held: dict[tuple[int, str], pl.DataFrame] = {}

    def of(
        self, text: str, params: Mapping[str, Any], compute: Callable[[], pl.DataFrame]
    ) -> pl.DataFrame:
        """The answer to an SQL text: the one that is kept, or what `compute` gives."""
        seal = index.seal_of(self._root)
        if seal is None:  # the index is being written
            return compute()
        key = seal, _question(text, params)
        found = self._held.pop(key, None)
        if found is None:
            found = self._read(*key)
        if found is None:
            began = perf_counter()
            found = compute()
            if found.estimated_size() > MOST_BYTES or index.seal_of(self._root) != seal:
                return found
            if perf_counter() - began > WORTH:
                with contextlib.suppress(StoreError):
                    self._write(*key, found)
        self._held[key] = found  # the last in line
        for oldest in list(self._held)[:-MOST]:
            del self._held[oldest]
        return found.clone()

    def forget(self) -> None:
        """Compute everything anew from here on."""
        self._held.clear()
        shutil.rmtree(self._root / FOLDER, ignore_errors=True)

    def _folder(self, seal: int) -> Path:
        return self._root / FOLDER / f"{seal:08x}"

    def _read(self, seal: int, question: str) -> pl.DataFrame | None:
        for file in self._folder(seal).glob(f"{question}.*.parquet"):
            with contextlib.suppress(OSError):
                data = file.read_bytes()
                if f"{files.crc32c(data):08x}" == file.name.split(".")[1]:
                    return pl.read_parquet(io.BytesIO(data))
        return None

    def _write(self, seal: int, question: str, answer: pl.DataFrame) -> None:
        buffer = io.BytesIO()
        answer.write_parquet(buffer, compression="zstd")
        data, folder = buffer.getvalue(), self._folder(seal)
        files.write_file(folder / f"{question}.{files.crc32c(data):08x}.parquet", data)
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process may be at it
            for oldest in sorted(folder.glob("*.parquet"), key=lambda f: f.stat().st_mtime)[:-MOST]:
                oldest.unlink()


def _question(text: str, params: Mapping[str, Any]) -> str:
    asked = json.dumps([_asker(), text, dict(params)], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()[:32]


@cache
def _asker() -> list[str]:
    """What beside the index decides an answer: this version, and its views over the weights."""
    views = [path.read_text("utf-8") for path in resources.sql_files("schema/session").values()]
    return [version("attnstore"), *views]
