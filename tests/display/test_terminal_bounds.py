"""Rules of memory in the terminal: a question that asks for too much ends in a sentence."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from attnstore.query import process_memory


def asked(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, whose memory is its own."""
    return subprocess.run(
        [sys.executable, "-m", "attnstore", "--store", str(root), *arguments],
        capture_output=True, text=True, encoding="utf-8", check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "SELECT range(2000000000)",
        "SELECT list(range) FROM range(3000000000)",
        "SELECT list_resize([1], 3000000000)",
        "SELECT array_to_string(range(400000000), ',')",
        "SELECT weights FROM maps, range(300000)",
    ],
)
def test_an_absurd_question_is_a_sentence(sample_store: Path, text: str) -> None:
    """What lists, texts and weights would take beyond the bound is refused, and the bound named."""
    done = asked(sample_store, "sql", text, "--memory", "512")
    assert done.returncode == 2, done.stderr
    assert "needs more than 512 MiB of memory" in done.stderr
    assert "--memory 1024" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_bound_can_be_raised(sample_store: Path) -> None:
    """The same question runs with more memory, and a named analysis has the option too."""
    text = "SELECT len(list_transform(range(40000000), lambda x: x + 1)) AS n"
    assert asked(sample_store, "sql", text, "--memory", "200").returncode == 2
    done = asked(sample_store, "sql", text, "--memory", "6000", "--format", "csv")
    assert done.stdout == "n\n40000000\n", done.stderr
    named = ("query", "special_tokens", "--param", "run=tiny/sample")
    assert asked(sample_store, *named, "--memory", "1000").returncode == 0
    assert "--memory" in asked(sample_store, *named, "--memory", "0").stderr


def test_the_bound_ends_with_the_question() -> None:
    """What the process may take afterwards is what it could take before."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with process_memory.bound(1 << 30):
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] != before[0]
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
