"""The flows as a user starts them: real Prefect runs, one of them in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from flow_runs import flow

import attnstore

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
