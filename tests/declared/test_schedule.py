"""The refresh on a schedule, with a real Prefect server on loopback: each checkpoint exactly once."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import tiny
from helpers import write_texts
from server import ROOT, Server, children, kill_all, running, wait_for

import attnstore
from attnstore.maintenance.verify import verify
from attnstore.storage import fragments, location

TEXTS = 3000
"""Enough for blocks between whose commits a process can be killed."""
DEADLINE = 400
"""Seconds; a step takes some ten, most of them a process that starts."""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("schedule") / "prefect") as made:
        yield made


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for number in range(4):
        tiny.make(folder / str(number), "bert", seed=number)
    return folder


class Work:
    """A folder with attnstore.toml; `commits` keeps which file committed each block."""

    def __init__(self, folder: Path, trained: Path, texts: int) -> None:
        self.file, self.root, self._trained = folder / "attnstore.toml", folder / "storage", trained
        self._folder = folder
        shutil.copytree(trained / "0", folder / "base")
        write_texts(folder / "d.jsonl", texts, longest=60)
        self.file.write_text(
            'store = "storage"\nsettle = 0.2\nresults = "results"\nreport = "page"\n'
            '[[models]]\nname = "base"\nfolder = "base"\n'
            '[[models]]\nname = "ft"\nglob = "training/checkpoint-*"\nbase = "base"\n'
            '[[datasets]]\nname = "d"\nsource = "d.jsonl"\n[[ingest]]\nmax_length = 64\n'
            "[drift]\nalert_below_base = 0.999\n"
        )
        self.commits: dict[str, int] = {}

    def drop(self, step: int) -> None:
        """A checkpoint comes in, file by file."""
        folder = self._folder / "training" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        for path in sorted((self._trained / str(step)).iterdir()):
            shutil.copy(path, folder)
            time.sleep(0.02)
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))

    def look(self) -> dict[str, int]:
        """Committed blocks of each run; no block may be committed a second time."""
        count: dict[str, int] = {}
        for f in fragments.listing(location.locate(self.root), "blocks"):
            inode = (self.root / f.path).stat().st_ino
            assert self.commits.setdefault(f.path, inode) == inode, f"{f.path} is written twice"
            count[f.owner] = count.get(f.owner, 0) + 1
        return count

    def planned(self, run: str) -> int:
        """Blocks that a run is to have; -1 as long as it is not planned."""
        found = (
            fragments.read_one(location.locate(self.root), "runs", run)
            if self.root.exists()
            else None
        )
        return -1 if found is None or not len(found) else int(found["n_blocks"][0])

    def complete(self, run: str) -> bool:
        return self.look().get(run) == self.planned(run)

    def begun(self, run: str) -> bool:
        return 0 < self.look().get(run, 0) < self.planned(run) - 1


def test_each_checkpoint_is_ingested_once_whatever_is_killed(
    server: Server, trained: Path, tmp_path: Path
) -> None:
    """Served every few seconds: the flow is killed in the middle, then all that serves it."""
    work = Work(tmp_path, trained, TEXTS)
    serving = ["-m", "flows.refresh", "--file", str(work.file), "--every", "4s"]
    server_process = server.start(*serving)
    try:
        wait_for(lambda: work.begun("base/d"), DEADLINE)
        flow = children(server_process.pid)
        assert flow, "the flow runs in a process of its own"
        for pid in flow:
            os.kill(pid, signal.SIGKILL)
        assert not work.complete("base/d")
        work.drop(1)
        wait_for(lambda: work.begun("ft-1/d"), DEADLINE)  # the next scheduled run has gone on
        kill_all(server_process)
        assert work.complete("base/d")
        assert not work.complete("ft-1/d")
        work.drop(2)
        work.drop(3)
        server_process = server.start(*serving)
        page = tmp_path / "page" / "index.html"
        wait_for(lambda: page.exists() and "ft-3/d" in page.read_text(), DEADLINE)
        assert all(work.complete(f"ft-{step}/d") for step in (1, 2, 3))
        before = server.scheduled("RUNNING", "COMPLETED")
        wait_for(lambda: server.scheduled("COMPLETED") - before, DEADLINE)
        work.look()  # another run has written nothing twice
    finally:
        kill_all(server_process)
    with attnstore.open(work.root) as store:
        runs = dict(store.sql("SELECT run, state FROM runs").iter_rows())
        assert runs == {"base/d": "complete", **{f"ft-{s}/d": "complete" for s in (1, 2, 3)}}
        assert store.sql("SELECT count(*) FROM inputs").item() == 4 * TEXTS
    assert verify(work.root).findings == []
    tables = [json.loads(a["data"]) for a in server.ask("artifacts") if a["key"] == "drift"]
    moved = {(row["run"], row["against"]) for table in tables for row in table}
    assert ("ft-1/d", "base") in moved
    assert ("ft-3/d", "previous") in moved
    said = [line["message"] for line in server.ask("logs")]
    assert any(re.search(r"^ft-3/d against base/d \(base\): .* moved most.*ALERT", m) for m in said)


def test_work_pool_of_prefect_yaml_runs_the_same(
    server: Server, trained: Path, tmp_path: Path
) -> None:
    """`prefect deploy --all` as it stands; a worker takes the run that its schedule made."""
    work, before = Work(tmp_path, trained, 10), server.scheduled("RUNNING", "COMPLETED")
    deployed = tmp_path / "prefect.yaml"
    text = (ROOT / "prefect.yaml").read_text()
    shutil.copytree(ROOT / "flows", tmp_path / "flows")
    deployed.write_text(text.replace("interval: 300", "interval: 10"))
    server.prefect("work-pool", "create", "attnstore", "--type", "process", cwd=tmp_path)
    worker = server.start("-m", "prefect", "worker", "start", "--pool", "attnstore")
    try:
        server.prefect("deploy", "--all", "--prefect-file", str(deployed), cwd=tmp_path)
        wait_for(lambda: work.complete("base/d"), DEADLINE)
        wait_for(lambda: server.scheduled("COMPLETED") - before, DEADLINE)
    finally:
        kill_all(worker)
    with attnstore.open(work.root) as store:
        assert store.sql("SELECT sum(examples) FROM ingests").item() == 10


def test_overdue_runs_are_skipped(server: Server, trained: Path, tmp_path: Path) -> None:
    """Each run that is made was due after the one before began; what came due in between is skipped."""
    work, before = Work(tmp_path, trained, 4), _runs(server)
    serving = server.start("-m", "flows.refresh", "--file", str(work.file), "--every", "3s")
    try:
        wait_for(lambda: len(_runs(server, "COMPLETED").keys() - before.keys()) >= 2, DEADLINE)
    finally:
        kill_all(serving)
    found = [run for key, run in _runs(server).items() if key not in before]
    since = [
        run for run in found if run["parameters"]["file"] == str(work.file)
    ]  # not what is left of a test before
    skipped = [run for run in since if run["state_type"] == "CANCELLED"]
    assert skipped, "a run takes longer than three seconds"
    assert {run["state_name"] for run in skipped} == {"Skipped"}
    made = [run for run in since if run["state_type"] != "CANCELLED" and run["start_time"]]
    began = sorted((run["start_time"], run["expected_start_time"]) for run in made)
    for (start, _), (_, due) in itertools.pairwise(began):
        assert due > start, "it was overdue when the run before it began"


def test_a_failed_refresh_is_one_line_and_calls_the_webhook_of_the_automation(
    server: Server, trained: Path, tmp_path: Path
) -> None:
    """Its state is Failed with the sentence, which the log has once; the example of an automation tells it."""
    work = Work(tmp_path, trained, 4)
    (tmp_path / "base" / "config.json").write_text("{")
    code = "import sys; from attnstore.flows.declared import scheduled; scheduled(sys.argv[1])"
    with _listening() as (address, heard):
        server.run("-m", "flows.automation", address)
        assert server.start("-c", code, str(work.file)).wait() == 1
        wait_for(lambda: heard, DEADLINE)
    problem = f"{tmp_path / 'base' / 'config.json'} is not whole JSON"
    assert problem in heard[0]["text"]
    assert heard[0]["text"].split()[1] == "Failed:"
    failed = server.ask("flow_runs", flow_runs={"state": {"type": {"any_": ["FAILED"]}}})
    (run,) = [run for run in failed if problem in run["state"]["message"]]
    span = {"timestamp": {"after_": run["start_time"]}}
    lines = [line["message"] for line in server.ask("logs", logs=span)]
    assert len([line for line in lines if problem in line]) == 1, lines
    assert not [line for line in lines if "Traceback" in line]


def _runs(server: Server, *states: str) -> dict[str, dict[str, Any]]:
    """Runs that a schedule made and that are in one of these states, or in any but scheduled."""
    asked = states or ("RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED")
    found = server.ask("flow_runs", flow_runs={"state": {"type": {"any_": asked}}})
    return {run["id"]: run for run in found if run["auto_scheduled"]}


@contextmanager
def _listening() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address on loopback, and the JSON objects that it has been sent."""
    heard: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.server_address[1]}/hook", heard
        finally:
            listener.shutdown()
