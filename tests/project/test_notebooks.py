"""The notebooks of examples/ run with the wheel alone, and show what they show today."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wheel
from pages import assert_same

nbformat = pytest.importorskip("nbformat", reason="nbclient and ipykernel are not installed")
ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
LARGEST = 300_000
"""Bytes of a notebook with its outputs, so that a page of a code host shows it at once."""
pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a kernel of Jupyter in a new user's environment, into which the wheel is installed."""
    installed = wheel.environment(tmp_path_factory.mktemp("wheel"))
    folder = installed.home / "jupyter" / "kernels" / "wheel"
    folder.mkdir(parents=True)
    argv = [str(installed.bin / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    empty = {"PYTHONPATH": "", **installed.variables()}
    spec = {"argv": argv, "display_name": "wheel", "language": "python", "env": empty}
    (folder / "kernel.json").write_text(json.dumps(spec))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(installed.home / "jupyter"))
        yield "wheel"


@pytest.mark.slow
def test_a_notebook_runs_and_shows_what_it_showed(
    path: Path, kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every cell succeeds in an empty folder; tables are the ones that are kept, to the last digit shown."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    from execute import execute

    made = execute(path, tmp_path, kernel)
    kept = nbformat.read(path, as_version=4)
    for new, old in zip(made.cells, kept.cells, strict=True):
        assert len(_tables(new)) == len(_tables(old)), new.source
        for table, before in zip(_tables(new), _tables(old), strict=True):
            assert_same(table, before)


def test_a_notebook_is_kept_with_its_outputs_and_small(path: Path) -> None:
    """Executed from top to bottom by one command, without an error, with no folder of a machine in it."""
    text = path.read_text("utf-8")
    assert len(text) < LARGEST
    assert "/home/" not in text
    assert "/tmp/" not in text
    code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    run = [cell for cell in code if "install" not in cell["metadata"].get("tags", ())]
    assert [cell["execution_count"] for cell in run] == list(range(1, len(run) + 1))
    outputs = [output for cell in run for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}  # fmt: skip
    assert any("attnstore.ingest(" in "".join(cell["source"]) for cell in run[:3])


def _tables(cell: Any) -> list[str]:
    """The tables that a cell shows, as text."""
    found = [out.get("data", {}).get("text/plain", "") for out in cell.get("outputs", [])]
    return [text for text in found if text.startswith("shape:")]
