"""The studies run end to end: what is divided, trained and asked, on a few sentences."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from attnstore.errors import DatasetError
from studies.languages import __main__ as languages
from studies.languages import small_bert, texts

UD = Path(__file__).parents[3] / "shared" / "data" / "ud"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data() -> Path:
    """The folder of the treebanks."""
    if not UD.is_dir():
        pytest.skip("the treebanks are not beside the project")
    return UD


def _divided(data: Path, place: Path, limit: int | None) -> dict[str, dict[str, list[str]]]:
    files = texts.divide(data, place, limit)
    return {
        name: {part: texts.sentences(file) for part, file in parts.items()}
        for name, parts in files.items()
    }


def test_no_text_is_held_out_and_trained_on(data: Path, tmp_path: Path) -> None:
    """A quarter of each treebank is held out, and only repeated texts are in neither part."""
    divided = _divided(data, tmp_path, None)
    assert sorted(divided) == ["en_ewt-ud", "fi_tdt-ud", "ja_gsd-ud", "ru_gsd-ud"]
    for parts in divided.values():
        held, trained = set(parts["held_out"]), set(parts["trained"])
        assert not held & trained
        assert held | trained == set(parts["all"])
        assert 0.15 < len(parts["held_out"]) / len(parts["all"]) < 0.3


def test_a_folder_without_treebanks_is_refused(tmp_path: Path) -> None:
    """In a sentence that says which files are needed."""
    with pytest.raises(DatasetError, match=r"has no treebank of Universal Dependencies \(xx_name"):
        texts.divide(tmp_path, tmp_path / "out")


def test_the_study_runs_on_every_treebank(data: Path, tmp_path: Path) -> None:
    """A small model is trained, the store filled, and the table has both parts of each language."""
    (tmp_path / "data").mkdir()
    for name in ("ja_gsd-ud-dev.conllu", "ru_gsd-ud-dev.conllu"):
        (tmp_path / "data" / name).symlink_to(data / name)
    arguments = argparse.Namespace(
        data=tmp_path / "data", out=tmp_path, model=None, tokens=1, limit=5, twins=1, quick=True
    )
    languages.study(arguments)
    rows = pl.read_csv(tmp_path / "small-bert.csv")
    assert set(rows.select("language", "word_order").iter_rows()) == {
        ("ja", "SOV"), ("ru", "SVO"),
    }  # fmt: skip
    assert rows["run"].n_unique() == 4
    assert {"order", "patterns", "dependencies", "trees"} == set(rows["part"])
    assert rows["random_low"].null_count() == 0
    table = (tmp_path / "small-bert.md").read_text("utf-8").splitlines()
    assert len(table) == 4 + 2
    assert len({line.count("|") for line in table}) == 1
    assert (tmp_path / "small-bert.png").stat().st_size > 10_000
    record = json.loads((tmp_path / "small-bert" / "training.json").read_text("utf-8"))
    for parts in record["languages"].values():
        for scores in parts.values():
            assert scores["before"]["masked"] == scores["after"]["masked"] > 0


def test_a_stopped_training_continues(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its last checkpoint, to the same number of steps; asked again, it returns what was measured."""
    parts = _divided(data, tmp_path / "texts", 100)
    size = small_bert.Size(layers=2, heads=2, width=16, vocabulary=3000, tokens=9000)
    step = small_bert._Trainer.training_step
    steps = []

    def stopping(self: Any, *arguments: Any, **options: Any) -> Any:
        steps.append(self.state.global_step)
        if len(steps) == 12:
            raise KeyboardInterrupt
        return step(self, *arguments, **options)

    monkeypatch.setattr(small_bert._Trainer, "training_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        small_bert.train(parts, tmp_path / "bert", size)
    made = small_bert.train(parts, tmp_path / "bert", size)
    assert made["resumed"]
    assert 0 < steps[12] <= 11
    assert steps[-1] + 1 == made["steps"] > 12
    assert small_bert.train(parts, tmp_path / "bert", size) == made
    assert steps[-1] + 1 == made["steps"]
