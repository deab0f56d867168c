"""Rules of docs/analyses.md: it says what the headers say, and its rows are of the analyses as they are."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from attnstore.apps import analysis_reference
from attnstore.cli.main import main
from attnstore.query import analyses

ROOT = Path(__file__).parents[2]
EXAMPLES = json.loads((ROOT / analysis_reference.ROWS).read_text("utf-8"))


def test_the_page_is_what_the_generator_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change of a header: python -m attnstore.apps.analysis_reference"""
    monkeypatch.chdir(ROOT)
    page = (ROOT / analysis_reference.FILE).read_text("utf-8")
    assert page == analysis_reference.generate(), "run python -m attnstore.apps.analysis_reference"


def test_every_analysis_has_a_question() -> None:
    """The page leads with it."""
    assert [name for name, a in analyses.listing().items() if not a.question] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_of_the_analysis_as_it_is(name: str) -> None:
    """Its columns are among those declared, and its command is that of the header."""
    analysis, example = analyses.find(name), EXAMPLES[name]
    assert set(example["columns"]) <= {column.name for column in analysis.columns}
    assert all(len(row) == len(example["columns"]) for row in example["rows"])
    options = shlex.split(" ".join(example["command"][2:]))
    assert options == shlex.split(analysis.example or "--top 3")


@pytest.mark.parametrize("name", [n for n, a in analyses.listing().items() if a.example])
def test_the_command_of_an_example_is_understood(name: str, sample_store: Path) -> None:
    """On a store without its run, the answer is about the run or model, not about an option."""
    options = shlex.split(analyses.find(name).example)
    result = CliRunner().invoke(main, ["--store", str(sample_store), "query", name, *options])
    assert result.exit_code == 0 or "no run" in result.output or "no model" in result.output, (
        result.output
    )


def test_needs_follow_from_what_an_analysis_reads() -> None:
    """Unless its header says them."""
    assert analysis_reference.needs(analyses.find("pattern_shares")) == (
        "a run, pattern classes (`attnstore classify`)"
    )
    trees = analyses.find("trees")
    assert "attnstore annotate" in analysis_reference.needs(trees)
    assert "value norms for `by=norm`" in analysis_reference.needs(trees)
    rollout = analyses.find("rollout")
    assert analysis_reference.needs(rollout) == rollout.needs
