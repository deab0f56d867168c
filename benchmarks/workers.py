"""One ingestion by one process, and by one and two workers of Dask, one thread each."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import attnstore
from attnstore.storage import fragments, location
from benchmarks.common import MODEL, Group, Place, Row, fresh, source
from benchmarks.report import cores

INPUTS = 1200
TARGETS = {"one": 0.95, "two": 1.9}
_HERE = Path(__file__).parents[1]
_WAIT = 120.0


@dataclass(frozen=True)
class Pace:
    """One ingestion. rate: blocks a second once every worker has committed one; seconds: from the
    plan to the end, loading the model included."""

    rate: float
    seconds: float


def measure(place: Place) -> Group:
    """One process, then one worker, then two."""
    inputs = 200 if place.quick else INPUTS
    folder = place.folder / "workers"
    with _server(place.folder / "prefect") as environment:
        fresh(
            "ingesting:ingest",
            str(folder),
            source("rte"),
            inputs,
            environment={"OMP_NUM_THREADS": "1"},
        )
        alone = _pace(folder, 1)
        one, two = (_spread(folder, workers, inputs, environment) for workers in (1, 2))
    what = f"ingesting {inputs} RTE inputs, torch with one thread each, {cores()} cores"
    return Group([
        Row(f"{what}: blocks a second, 2 Dask workers / 1", f"≥ {TARGETS['two']}×",
            f"{two.rate / one.rate:.2f}× ({two.rate:.2f} / {one.rate:.2f}; in all {two.seconds:.0f} / {one.seconds:.0f} s)",
            two.rate / one.rate >= TARGETS["two"]),
        Row(f"{what}: blocks a second, 1 Dask worker / one process without Prefect", f"≥ {TARGETS['one']}×",
            f"{one.rate / alone.rate:.2f}× ({one.rate:.2f} / {alone.rate:.2f}; in all {one.seconds:.0f} / {alone.seconds:.0f} s)",
            one.rate / alone.rate >= TARGETS["one"]),
    ], (
        "*Workers* are processes of a Dask cluster on this machine that `attnstore ingest --runner` finds, with a "
        "Prefect server. Blocks a second are counted once every worker has committed one; seconds in all "
        "begin with the plan, and each worker imports torch and loads the model in them. Each is measured once, a "
        "minute apart, so that other programs of the machine move the ratios by up to a third."
    ))  # fmt: skip


def _pace(store: Path, workers: int) -> Pace:
    """How fast the blocks of a store's run were committed; the store is deleted."""
    commits = sorted(f.modified / 1e9 for f in fragments.listing(location.locate(store), "blocks"))[
        workers - 1 :
    ]
    with attnstore.open(store) as opened:
        seconds = float(opened.sql("SELECT sum(seconds) FROM ingests").item())
    shutil.rmtree(store)
    return Pace((len(commits) - 1) / (commits[-1] - commits[0]), seconds)


def _spread(store: Path, workers: int, inputs: int, environment: dict[str, str]) -> Pace:
    """Ingest over so many workers."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address=None, env=environment
    ) as cluster:
        options = ["--model", MODEL, "--dataset", source("rte"), "--limit", str(inputs)]
        command = ["-m", "flows.ingest", "--store", str(store), *options, "--device", "cpu"]
        subprocess.run(
            [sys.executable, *command, "--runner", f"dask:{cluster.scheduler_address}"],
            cwd=_HERE, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    return _pace(store, workers)


@contextlib.contextmanager
def _server(home: Path) -> Iterator[dict[str, str]]:
    """A Prefect server on loopback; gives the environment that finds it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {
        "PREFECT_HOME": str(home), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port],
        cwd=_HERE, env=os.environ | environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait(f"{environment['PREFECT_API_URL']}/health")
        yield environment
    finally:
        process.terminate()
        process.wait(60)


def _wait(address: str) -> None:
    """Until something answers at the address."""
    until = time.monotonic() + _WAIT
    while True:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.3)
