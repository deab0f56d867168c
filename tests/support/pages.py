"""Blocks of code of a Markdown page: finding them, running them, comparing what they print."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_DECIMAL = re.compile(r"\d+\.\d+")
_BLOCK = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """(language, word after it, content) of each block, in order."""
    return [(m[1], m[2] or "", m[3]) for m in _BLOCK.finditer(page.read_text("utf-8"))]


def run_block(
    language: str, content: str, folder: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a block of `sh` or `python` in a folder, offline, with the commands of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "PATH": path, **environment}
    return run_block_in(settings, language, content, folder)


def run_block_in(
    variables: dict[str, str], language: str, content: str, folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run a block of `sh` or `python` in a folder, with these variables of the environment alone."""
    command = ["bash", "-e", "-c", content] if language == "sh" else ["python", "-c", content]
    command[0] = shutil.which(command[0], path=variables["PATH"]) or command[0]
    return subprocess.run(
        command, cwd=folder, env={"COLUMNS": "120", **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def words(output: str) -> list[list[str | float]]:
    """The words of each line of an output, decimals as numbers."""
    lines = [line.split() for line in output.splitlines()]
    return [[float(x) if _DECIMAL.fullmatch(x) else x for x in line] for line in lines]


def assert_same(said: str, page: str) -> None:
    """Word by word; a mean may differ in the last digit shown, from processor to processor."""
    assert len(words(said)) == len(words(page)), said
    for line, expected in zip(words(said), words(page), strict=True):
        near = [pytest.approx(x, abs=0.0101) if isinstance(x, float) else x for x in expected]
        assert line == near, said
