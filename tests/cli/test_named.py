"""Rules of `query NAME` and `figure NAME`: their options are those of what they name."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from attnstore.cli.main import main
from attnstore.paper import gallery, parts
from attnstore.query import analyses

RUN = "tiny/sample"
OWN = (
    "-- title: Mine\n-- source: this test\n-- reads: runs\n-- param name_like VARCHAR = %: Pattern\n"
    "-- param store BIGINT = 1: Clashes\n-- column run VARCHAR: Run\n-- column n BIGINT: Count (runs)\n"
    "SELECT run, $store AS n FROM runs WHERE run LIKE $name_like ORDER BY run"
)


def run(store: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--store", str(store), *arguments], terminal_width=200)


def rows(store: Path, *arguments: str) -> list[dict[str, object]]:
    result = run(store, *arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, object]] = json.loads(result.stdout)
    return found


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("name", sorted(analyses.listing()))
def test_help_shows_the_analysis(tmp_path: Path, name: str) -> None:
    """Title, source, parameters with types and defaults, columns with units; no store is needed."""
    analysis = analyses.find(name)
    result = run(tmp_path / "none", "query", name, "--help")
    assert result.exit_code == 0, result.output
    text = squeezed(result.stdout)
    assert squeezed(analysis.title) in text
    assert squeezed(analysis.source) in text
    for p in analysis.parameters:
        default = "[required]" if p.required else f"[default: {p.default_text}]"
        assert squeezed(f"--{p.name.replace('_', '-')} {p.type} {p.text}. {default}") in text
    for c in analysis.columns:
        unit = f" ({c.unit})" if c.unit else ""
        assert squeezed(f"{c.name} {c.type} {c.text}{unit}") in text


@pytest.mark.parametrize("name", sorted(analyses.listing()))
def test_the_example_of_the_help_is_understood(sample_store: Path, name: str) -> None:
    """Every required parameter is there, so that only the store's runs are another matter."""
    text = squeezed(run(sample_store, "query", name, "--help").stdout)
    (example,) = re.findall(r"Example: attnstore (.*?) (?:Parameters|Columns):", text)
    result = run(sample_store, *shlex.split(example))
    assert result.exit_code == 0 or "holds no run" in result.stderr, result.output


@pytest.mark.parametrize("name", sorted(parts.BUILDERS))
def test_help_shows_the_figure(tmp_path: Path, name: str) -> None:
    """Title and parameters."""
    text = squeezed(run(tmp_path / "none", "figure", name, "--help").stdout)
    assert squeezed(gallery.title(name)) in text
    for p in gallery.parameters(name):
        assert f"--{p.name.replace('_', '-')} {p.type}" in text


def test_parameters_are_options(sample_store: Path) -> None:
    """Before or after the name, with - or _, and the same as --param."""
    wanted = rows(
        sample_store, "query", "head_types", "--param", f"run={RUN}", "--param", "special=0.1"
    )
    assert rows(sample_store, "query", "head_types", "--run", RUN, "--special", "0.1") == wanted
    assert rows(sample_store, "query", "--run", RUN, "head_types", "--special=0.1") == wanted


def test_a_truth_value_may_be_left_out(sample_store: Path) -> None:
    """For true."""
    example = str(rows(sample_store, "sql", "SELECT min(example) AS n FROM inputs")[0]["n"])
    call = ["query", "top_links", "--run", RUN, "--example", example]
    wanted = rows(sample_store, *call, "--param", "special=true")
    assert rows(sample_store, *call, "--special") == wanted
    assert rows(sample_store, *call, "--special", "false") == rows(sample_store, *call)


def test_an_analysis_with_a_top_of_its_own_gets_it(sample_store: Path) -> None:
    """It stands for the one of rows, of which it is the better."""
    example = str(rows(sample_store, "sql", "SELECT min(example) AS n FROM inputs")[0]["n"])
    call = ["query", "top_links", "--run", RUN, "--example", example, "--special"]
    assert len(rows(sample_store, *call, "--top", "25")) == 25


def test_own_analyses_have_options_too(sample_store: Path, tmp_path: Path) -> None:
    """Of the store and of --analyses; an option of the verb keeps its meaning."""
    root = Path(shutil.copytree(sample_store, tmp_path / "store"))
    for folder in (root / "analysis", tmp_path / "mine"):
        folder.mkdir()
        (folder / f"of_{folder.name}.sql").write_text(OWN)
    for more in (["of_analysis"], ["of_mine", "--analyses", str(tmp_path / "mine")]):
        assert rows(root, "query", *more, "--name-like", "tiny%") == [{"run": RUN, "n": 1}]
        assert rows(root, "query", *more, "--name_like", "x%") == []
        assert rows(root, "query", *more, "--store", str(root), "--param", "store=2")[0]["n"] == 2
        text = squeezed(run(root, "query", *more, "--help").stdout)
        assert "Mine. Source: this test." in text
        assert "n BIGINT Count (runs)" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["query", "head_entropie", "--run", RUN], "did you mean head_entropy"),
     (["query", "head_entropy", "--rum", RUN], "--run"),
     (["query", "head_entropy", "--run", RUN, "--param", f"run={RUN}"], "given twice"),
     (["query", "head_entropy"], "needs run"),
     (["query", "cls_attention", "--run", RUN, "--layer", "x"], "give a whole number"),
     (["figure", "head_entropie", "--run", RUN], "did you mean head_entropy"),
     (["figure", "cls_attention", "--layer", "x"], "give a whole number")],
)  # fmt: skip
def test_a_mistake_is_a_sentence(sample_store: Path, arguments: list[str], sentence: str) -> None:
    """With exit code 2."""
    result = run(sample_store, *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_a_figure_takes_several_runs(sample_store: Path, tmp_path: Path) -> None:
    """--run, several times."""
    file = tmp_path / "f.svg"
    result = run(
        sample_store, "figure", "head_entropy", "--run", RUN, "--run", RUN, "--out", str(file)
    )
    assert result.exit_code == 0, result.output
    assert file.exists()
