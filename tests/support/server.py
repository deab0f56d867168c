"""A real Prefect server on loopback for tests, and processes that can be killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


class Server:
    """A Prefect server of its own, with its database in a folder."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/api"
        self.environment = {
            **os.environ, "PREFECT_HOME": str(folder), "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "HF_HUB_OFFLINE": "1",
            "PREFECT_RUNNER_POLL_FREQUENCY": "1", "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        }  # fmt: skip
        self.log = folder / "server.log"
        folder.mkdir()
        self.process = self.start("-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))  # fmt: skip
        wait_for(self._up, 240)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A Python process that knows the server, in a group of its own."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env=self.environment, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip

    def prefect(self, *arguments: str, cwd: Path = ROOT) -> None:
        """A command of Prefect's own, which must succeed."""
        self.run("-m", "prefect", "--no-prompt", *arguments, cwd=cwd)

    def run(self, *arguments: str, cwd: Path = ROOT) -> None:
        """A Python process that knows the server, which must succeed."""
        run = subprocess.run(
            [sys.executable, *arguments],
            cwd=cwd, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout + run.stderr

    def _up(self) -> bool:
        try:
            return bool(urllib.request.urlopen(f"{self.url}/health", timeout=2).status == 200)
        except OSError:
            return False

    def ask(self, what: str, **body: Any) -> list[dict[str, Any]]:
        """Rows of the server's API."""
        request = urllib.request.Request(
            f"{self.url}/{what}/filter", json.dumps({"limit": 200, **body}).encode(),
            {"content-type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=60) as answer:
            return list(json.load(answer))

    def scheduled(self, *states: str) -> set[str]:
        """Runs that a schedule made and that are in one of these states."""
        found = self.ask("flow_runs", flow_runs={"state": {"type": {"any_": states}}})
        return {run["id"] for run in found if run["auto_scheduled"]}


def wait_for(found: Callable[[], Any], seconds: float) -> Any:
    began = time.monotonic()
    while not (value := found()):
        assert time.monotonic() < began + seconds, found
        time.sleep(0.1)
    return value


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """kill -9 for a process and what it started."""
    for pid in [*children(process.pid), process.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def children(pid: int) -> list[int]:
    """The processes that a process started, and theirs."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            child = int(stat.parent.name)
            found += [*children(child), child]
    return found


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """A server until the end of the block."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("processes are found in /proc")
    made = Server(folder)
    try:
        yield made
    finally:
        kill_all(made.process)
