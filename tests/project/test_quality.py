"""ruff and strict mypy pass on what is shipped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "src", "flows", "tests", "benchmarks", "studies"],
        ["ruff", "format", "--check", "src", "flows", "tests", "benchmarks", "studies"],
        ["mypy"],
    ],
    ids=["lint", "format", "types"],
)
def test_checker_finds_nothing(command: list[str]) -> None:
    """The checker exits with 0."""
    run = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
