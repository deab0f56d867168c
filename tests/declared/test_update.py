"""Runs of an earlier capture: the plan shows them, and a refresh touches them only when it is told to."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
import tiny
from click.testing import CliRunner
from helpers import contents, write_texts
from older import make_older

import attnstore
from attnstore.cli.main import main
from attnstore.declared import planning
from attnstore.declared import refresh as making
from attnstore.declared.config import read

FILE = """\
store = "storage"
settle = 0.0

[[models]]
name = "base"
folder = "base"

[[datasets]]
name = "d"
source = "d.jsonl"

[[ingest]]
max_length = 40
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A declaration whose only run is stored as an earlier capture left it."""
    tiny.make(tmp_path / "base", "bert", seed=0)
    write_texts(tmp_path / "d.jsonl", 8)
    declared = tmp_path / "attnstore.toml"
    declared.write_text(FILE)
    assert making.refresh(declared).problems == []
    make_older(tmp_path / "storage")
    return declared


def plan(file: Path) -> list[tuple[str, str]]:
    return list(planning.plan(read(file)).table().select("name", "state").iter_rows())


def arrays(file: Path) -> list[str]:
    with attnstore.open(file.parent / "storage") as store:
        held: list[str] = store.sql("SELECT arrays FROM runs").item().to_list()
    return held


def test_a_refresh_leaves_an_older_capture_alone(file: Path) -> None:
    """The plan names it, what is declared counts as stored, and nothing is computed unasked."""
    assert plan(file) == [("base/d", "older capture")]
    before = contents(file.parent / "storage", "attention.zarr")
    assert not making.refresh(file).changed
    assert contents(file.parent / "storage", "attention.zarr") == before
    assert plan(file) == [("base/d", "older capture")]


def test_an_update_adds_what_is_missing_once(file: Path) -> None:
    """Maps keep their bytes, the plan is empty then, and a second update finds nothing to do."""
    before = contents(file.parent / "storage", "attention.zarr")
    del before["attention.zarr/base/d/zarr.json"]  # it lists the arrays
    outcome = making.refresh(file, update=True)
    assert outcome.updated == ["base/d"]
    assert outcome.problems == []
    after = contents(file.parent / "storage", "attention.zarr")
    assert before.items() <= after.items()
    assert arrays(file) == ["mixing", "value_norm"]
    assert plan(file) == []
    assert not making.refresh(file, update=True).changed


def test_the_file_may_ask_for_updates(file: Path) -> None:
    file.write_text(FILE + "\n[refresh]\nupdate = true\n")
    assert making.refresh(file).updated == ["base/d"]


def test_the_commands_say_what_is_older_and_what_was_added(file: Path) -> None:
    """The plan's row has the command that adds it, and that command a line about the run."""
    shown = CliRunner().invoke(main, ["plan", str(file), "--format", "json"])
    (row,) = pl.read_json(shown.stdout.encode()).rows(named=True)
    assert "`attnstore refresh --update`" in row["why"]
    said = CliRunner().invoke(main, ["refresh", str(file), "--update"])
    assert said.exit_code == 0
    assert "value_norm and mixing of 8 examples" in said.output


def test_a_schedule_takes_updates_from_the_file(file: Path) -> None:
    said = CliRunner().invoke(main, ["refresh", str(file), "--update", "--every", "5m"])
    assert said.exit_code == 2
    assert "[refresh] update = true" in said.output


def test_an_update_keeps_the_layer_norms_of_the_model(file: Path) -> None:
    """The model is loaded for it, so what lies far out in its norms is kept then."""
    shutil.rmtree(file.parent / "storage" / "fragments" / "layer_norms")
    making.refresh(file, update=True)
    with attnstore.open(file.parent / "storage") as store:
        assert len(store.sql("FROM layer_norms"))
