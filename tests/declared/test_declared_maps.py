"""Kinds of maps that a declaration asks for beside the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from helpers import contents, write_texts

from attnstore.declared import planning
from attnstore.declared import refresh as making
from attnstore.declared.config import read
from attnstore.errors import UsageError

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
    """A declaration of one model, which has no head, and one dataset."""
    tiny.make(tmp_path / "base", "bert", seed=0)
    write_texts(tmp_path / "d.jsonl", 8)
    (tmp_path / "attnstore.toml").write_text(FILE)
    return tmp_path / "attnstore.toml"


def plan(file: Path) -> list[tuple[str, str]]:
    return list(planning.plan(read(file)).table().select("name", "state").iter_rows())


def test_a_refresh_adds_a_declared_kind_once(file: Path) -> None:
    """Also to a run that is stored: the plan names it, the weights stay, and then nothing is left to do."""
    making.refresh(file)
    before = contents(file.parent / "storage", "fragments", tables=["blocks", "map_stats"])
    file.write_text(FILE + 'maps = ["weights", "value_zeroing"]\n')
    assert plan(file) == [("base/d, value_zeroing", "missing")]
    assert making.refresh(file).updated == ["base/d"]
    assert contents(file.parent / "storage", "fragments", tables=["blocks", "map_stats"]) == before
    assert plan(file) == []
    assert not making.refresh(file).changed


def test_a_kind_that_a_model_lacks_leaves_the_others_alone(file: Path) -> None:
    """The weights and other kinds are stored all the same, and the refresh says why the gradients are not."""
    file.write_text(FILE + 'maps = ["gradient_attention", "value_zeroing"]\n')
    outcome = making.refresh(file)
    assert [summary.run for summary in outcome.ingested] == ["base/d"]
    assert outcome.updated == ["base/d"]
    assert len(outcome.problems) == 1
    assert "no head" in outcome.problems[0]


def test_an_unknown_kind_is_a_mistake_of_the_file(file: Path) -> None:
    """The sentence names the file, the key and what was meant."""
    file.write_text(FILE + 'maps = ["value_zeroin"]\n')
    with pytest.raises(UsageError, match=r"attnstore\.toml.*maps.*value_zeroing"):
        read(file)
