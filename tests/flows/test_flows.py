"""The flows as a user starts them: real Prefect runs, one of them in a process of its own."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import tiny
from flow_runs import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.sorting import FlowRunSort
from prefect.logging.handlers import APILogWorker
from prefect.states import State

import attnstore
from attnstore.capture.ingestion import Ingestion
from attnstore.errors import StoreError
from attnstore.flows import overdue, tasks

ROOT = Path(__file__).parents[2]


def _run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.make(tmp_path_factory.mktemp("model") / "tiny", "bert"))


@pytest.mark.slow
def test_ingest_flow_stores_every_example(model: str, tmp_path: Path) -> None:
    """`python -m flows.ingest` runs as a Prefect flow and says what it stored."""
    options = ["--store", str(tmp_path / "s"), "--model", model, "--dataset", "sample/sentences"]
    run = _run("flows.ingest", *options, "--max-length", "64", "--limit", "30")
    assert run.returncode == 0, run.stderr
    store = attnstore.open(tmp_path / "s")
    assert store.sql("SELECT state, planned, stored FROM runs").row(0) == ("complete", 30, 30)
    assert "tiny/sample-sentences" in run.stdout
    again = flow("ingest", *options, "--max-length", "64", "--limit", "30")
    assert again.exit_code == 0, again.stderr
    assert store.sql("SELECT count(*) FROM ingests").item() == 1


@pytest.mark.slow
def test_ingest_flow_answers_a_mistake_in_one_sentence(tmp_path: Path) -> None:
    """A user's mistake ends with code 2 and one sentence, before Prefect starts anything."""
    run = _run(
        "flows.ingest", "--store", str(tmp_path / "s"), "--model", "no/such", "--dataset", "sample"
    )
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    assert "no/such" in run.stderr
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_refresh_flow_makes_what_is_declared_once(model: str, tmp_path: Path) -> None:
    """It says what it made; the second time nothing was missing; a schedule needs a server."""
    (tmp_path / "a.toml").write_text(
        f'store = "s"\nsettle = 0.0\n[[models]]\nname = "tiny"\nfolder = "{model}"\n'
        '[[datasets]]\nname = "d"\nsource = "sample/sentences"\n'
        "[[ingest]]\nmax_length = 64\nlimit = 10\n[classify]\n"
    )
    first = flow("refresh", tmp_path / "a.toml")
    assert first.exit_code == 0, first.stderr
    assert first.stdout == (
        "tiny/d: 10 of 10 examples stored\npatterns of tiny/d: 80 of 80 maps classified\n"
    )
    again = flow("refresh", tmp_path / "a.toml")
    assert (again.exit_code, again.stdout) == (0, "Nothing was missing.\n")
    served = flow("refresh", tmp_path / "a.toml", "--every", "5m")
    assert served.exit_code == 2
    assert "prefect server start" in served.stderr


def _last(name: str) -> tuple[State[Any], list[str]]:
    """The state of the newest run of a flow in this process, and the lines of its log."""
    APILogWorker.drain_all()
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[name])), limit=1,
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        )  # fmt: skip
        logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])))
    assert run.state is not None
    return run.state, [log.message for log in logs]


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
def test_a_failed_unit_is_one_line_of_the_log_or_a_bug_with_its_traceback(
    known: bool, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A known error: its sentence once, in the log and in the state; a bug: tracebacks of task and flow."""
    sentence = f"The disk of {tmp_path.name} is full; free some space."
    error: type[Exception] = StoreError if known else ZeroDivisionError

    def fail(*_: object) -> None:
        raise error(sentence)

    monkeypatch.setattr(Ingestion, "store", fail)
    monkeypatch.setattr(tasks.store_unit, "retry_delay_seconds", 0)
    options = ("--store", tmp_path / "s", "--model", model, "--dataset", "sample/sentences")
    run = flow("ingest", *options, "--max-length", "64", "--limit", "10")
    state, log = _last("ingest")
    lines = [line for line in log if sentence in line]
    assert state.name == "Failed"
    assert sentence in str(state.message)
    if known:
        assert run.exit_code == 2
        assert [x for x in run.stderr.splitlines() if sentence in x] == [f"attnstore: {sentence}"]
        assert lines == [sentence]
    else:
        assert isinstance(run.exception, ZeroDivisionError)
        assert sum("Traceback" in line for line in lines) >= 2


@pytest.mark.slow
def test_what_a_refresh_could_not_make_is_one_line_each(model: str, tmp_path: Path) -> None:
    """A model that cannot be read: one sentence on the terminal, the same one in Prefect's log."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{")
    (tmp_path / "a.toml").write_text(
        f'store = "s"\nsettle = 0.0\n[[models]]\nname = "tiny"\nfolder = "{model}"\n'
        '[[models]]\nname = "none"\nfolder = "empty"\n'
        '[[datasets]]\nname = "d"\nsource = "sample/sentences"\n'
        "[[ingest]]\nmax_length = 64\nlimit = 4\n"
    )
    run = flow("refresh", tmp_path / "a.toml")
    assert run.exit_code == 1
    (said,) = [line for line in run.stderr.splitlines() if str(tmp_path / "empty") in line]
    lines = [line for line in _last("refresh")[1] if str(tmp_path / "empty") in line]
    assert len(lines) == 1
    assert lines[0] in said
    assert "Traceback" not in lines[0]


def test_overdue_runs_of_other_parameters_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment may have a schedule for each of two stores: what is due of the other is made."""
    ended = []

    class Client:
        def __enter__(self) -> Client:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read_flow_runs(self, flow_run_filter: object) -> list[SimpleNamespace]:
            due = [("a.toml", True), ("b.toml", True), ("a.toml", False)]
            return [
                SimpleNamespace(id=i, parameters={"file": file}, auto_scheduled=scheduled)
                for i, (file, scheduled) in enumerate(due)
            ]

        def set_flow_run_state(self, number: int, state: object) -> None:
            ended.append(number)

    run = SimpleNamespace(deployment_id=uuid4(), name="mine", parameters={"file": "a.toml"})
    monkeypatch.setattr(overdue.FlowRunContext, "get", lambda: SimpleNamespace(flow_run=run))
    monkeypatch.setattr(overdue, "get_client", lambda sync_client: Client())
    monkeypatch.setattr(overdue, "get_run_logger", lambda: logging.getLogger("test"))
    overdue.skip()
    assert ended == [0]
