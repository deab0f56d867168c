"""`[notify]`: who is told of failures and alerts, once; and `plan --exit-code`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from click.testing import CliRunner
from helpers import write_texts

from attnstore.cli.main import main
from attnstore.declared import notification, staleness
from attnstore.declared import refresh as refreshing
from attnstore.declared.refresh import refresh
from attnstore.errors import StoreError
from attnstore.storage import index, location

FILE = """\
store = "storage"
settle = 0.0
[[models]]
name = "base"
folder = "base"
[[models]]
name = "ft"
glob = "training/checkpoint-*"
base = "base"
[[datasets]]
name = "d"
source = "d.jsonl"
[[ingest]]
max_length = 40
[drift]
alert_below_base = {below}
[notify]
command = '''{command}'''
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a declared base model, a checkpoint that differs from it, and texts."""
    tiny.make(tmp_path / "base", "bert")
    _checkpoint(tmp_path, 1)
    write_texts(tmp_path / "d.jsonl", 4)
    return tmp_path


def _checkpoint(folder: Path, step: int) -> Path:
    made = tiny.make(folder / "training" / f"checkpoint-{step}", "bert", seed=step)
    (made / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return made


def _declare(folder: Path, command: str = "cat >> told.jsonl", below: float = 0.0) -> Path:
    (folder / "attnstore.toml").write_text(FILE.format(command=command, below=below))
    return folder / "attnstore.toml"


def _told(folder: Path) -> list[dict[str, object]]:
    file = folder / "told.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _break(folder: Path) -> None:
    """Take the base model away."""
    (folder / "base").rename(folder / "elsewhere")


def _mend(folder: Path) -> None:
    (folder / "elsewhere").rename(folder / "base")


def test_nothing_to_tell_is_not_told(folder: Path) -> None:
    """A refresh that makes everything runs no command."""
    assert refresh(_declare(folder)).problems == []
    assert _told(folder) == []


def test_heads_below_a_threshold_are_told_with_their_numbers(folder: Path) -> None:
    """Each alert is a row with run, layer, head and cosine, when the checkpoint is new."""
    outcome = refresh(_declare(folder, below=1.0))
    (message,) = _told(folder)
    assert message["problems"] == []
    assert message["store"] == str(folder / "storage")
    alerts = message["alerts"]
    assert isinstance(alerts, list)
    assert [(a["run"], a["layer"], a["head"]) for a in alerts] == outcome.alerts.select(
        "run", "layer", "head"
    ).rows()
    assert all(a["cosine"] < 1 for a in alerts)
    refresh(folder / "attnstore.toml")
    assert len(_told(folder)) == 1


def test_a_failure_is_told_once_as_long_as_it_lasts(folder: Path) -> None:
    """Again after it was mended and came back, and not on every turn of a schedule."""
    file = _declare(folder)
    refresh(file)
    _break(folder)
    problems = refresh(file).problems
    assert len(problems) == 1
    assert [m["problems"] for m in _told(folder)] == [problems]
    assert refresh(file).problems == problems
    assert len(_told(folder)) == 1
    _mend(folder)
    assert refresh(file).problems == []
    _break(folder)
    refresh(file)
    assert [m["problems"] for m in _told(folder)] == [problems, problems]


def test_a_command_that_fails_is_a_problem_and_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exit code and last words stand in the outcome; what it should have told is told later."""
    file = _declare(folder, "echo no mailbox >&2; exit 3")
    refresh(file)
    _break(folder)
    failed, said = refresh(file).problems
    assert said == "The command of [notify] failed with exit code 3 (no mailbox); nobody was told."
    monkeypatch.setattr(notification, "SECONDS", 1)
    assert "was ended after 1 seconds" in refresh(_declare(folder, "sleep 60")).problems[-1]
    assert refresh(_declare(folder)).problems == [failed]
    assert [m["problems"] for m in _told(folder)] == [[failed]]


def test_plan_says_with_its_exit_code_whether_something_is_missing(folder: Path) -> None:
    """1 before a refresh and when a checkpoint comes, 0 after it; always 0 without --exit-code."""
    file = str(_declare(folder))
    plan = ["plan", file, "--exit-code"]
    assert CliRunner().invoke(main, plan).exit_code == 1
    assert CliRunner().invoke(main, plan[:2]).exit_code == 0
    refresh(file)
    assert CliRunner().invoke(main, plan).exit_code == 0
    _checkpoint(folder, 3)
    assert CliRunner().invoke(main, [*plan, "--format", "json"]).exit_code == 1


def test_alerts_that_nobody_was_told_are_told_by_the_next(folder: Path) -> None:
    """Their run is new once; a command that fails then does not lose them."""
    alerts = refresh(_declare(folder, "exit 3", below=1.0)).alerts
    assert len(alerts) > 0
    assert refresh(_declare(folder, below=1.0)).alerts.is_empty()
    (message,) = _told(folder)
    told = message["alerts"]
    assert isinstance(told, list)
    keys = ("run", "layer", "head", "cosine")
    assert [tuple(row[k] for k in keys) for row in told] == alerts.select(keys).rows()
    refresh(folder / "attnstore.toml")
    assert len(_told(folder)) == 1


def test_nothing_is_asked_of_an_index_that_cannot_catch_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question holds it: drift of the old index would count as current; the next refresh finds it."""
    file = _declare(folder)
    refresh(file)
    _checkpoint(folder, 2)
    monkeypatch.setattr(refreshing, "_PATIENCE", 0.2)
    with index.reading(location.find(folder / "storage")):
        outcome = refresh(file)
    assert [summary.run for summary in outcome.ingested] == ["ft-2/d"]
    assert outcome.moved.is_empty()
    (problem,) = outcome.problems
    assert problem.startswith("Drift, analyses and report, left to the next refresh: The index of ")
    assert set(refresh(file).moved["run"]) == {"ft-2/d"}


def test_an_error_between_the_steps_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not take the other problems and the report along."""

    def broken(*_: object) -> None:
        raise StoreError("no results")

    monkeypatch.setattr(staleness, "results", broken)
    outcome = refresh(_declare(folder, below=1.0))
    assert outcome.problems == ["Analyses: no results"]
    (message,) = _told(folder)
    assert message["problems"] == outcome.problems
    assert message["alerts"]
