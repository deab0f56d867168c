"""Each thing that people add has one home: these tests add one of each to a copy of the library.

They are the worked examples of docs/contributing.md. A copy is used in a process of its own, so that
nothing but the named files differs from the library.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from helpers import write_texts

ROOT = Path(__file__).parents[2]
RUN = "tiny/sample"


class Library:
    """A copy of the library, with files added or changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "src", folder / "src", ignore=skipped)
        shutil.copytree(ROOT / "sql", folder / "sql")

    def add(self, path: str, text: str) -> None:
        """Add a file."""
        file = self.folder / path
        assert not file.exists()
        file.write_text(textwrap.dedent(text), "utf-8")

    def change(self, path: str, before: str, after: str) -> None:
        """Replace the one place of a text in a file."""
        file = self.folder / path
        text = file.read_text("utf-8")
        assert text.count(before) == 1
        file.write_text(text.replace(before, after), "utf-8")

    def run(self, code: str, *arguments: object) -> Any:
        """Run Python with this library; returns what it prints, as JSON."""
        command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
        return json.loads(self._output(command).splitlines()[-1])

    def attnstore(self, *arguments: object) -> str:
        """Run the command line; returns what it prints."""
        return self._output([sys.executable, "-m", "attnstore", *map(str, arguments)])

    def _output(self, command: list[str]) -> str:
        path = f"{self.folder / 'src'}"
        env = {"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        result = subprocess.run(
            command, env=env | {"PYTHONPATH": path, "HOME": str(self.folder)}, capture_output=True,
            encoding="utf-8", cwd=self.folder, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "library")


@pytest.fixture
def store(sample_store: Path, tmp_path: Path) -> Path:
    """A copy of a store that the library as it is has made."""
    return shutil.copytree(sample_store, tmp_path / "store")


def test_a_codec_is_one_entry_of_one_file(
    library: Library, tiny_bert: Path, tmp_path: Path
) -> None:
    """`storage/precision.py`: it is captured, described for zarr, read, verified and offered."""
    library.change(
        "src/attnstore/storage/precision.py",
        ")  # fmt: skip\nPRECISIONS = ",
        """    Precision(
        "linear", "8 bits, off by at most 1/510", np.dtype(np.uint8), 6.0,
        lambda weights: 1 / 510,
        to_code=lambda weights: (weights * 255).round(), from_code=lambda codes: codes / 255.0,
        scale="weight = q / 255",
    ),
)  # fmt: skip
PRECISIONS = """,
    )
    texts = write_texts(tmp_path / "texts.jsonl", 8)
    found = library.run(
        """
        import json, sys, attnstore, numpy as np, zarr
        for precision in ("linear", "float32"):
            attnstore.ingest("store", sys.argv[1], sys.argv[2], precision=precision, max_length=64)
        with attnstore.open("store") as store:
            runs = store.runs()
            exact, kept = (store.maps(run, 3) for run in runs.sort("precision")["run"])
            linear = runs.sort("precision")["run"][1]
            scale = zarr.open("store/attention.zarr")[f"{linear}/maps"].attrs["scale"]
            print(json.dumps([
                runs["precision"].to_list(), float(np.abs(exact - kept).max()), scale,
                [str(finding) for finding in store.verify().findings],
            ]))
        """,
        tiny_bert, texts,
    )  # fmt: skip
    assert sorted(found[0]) == ["float32", "linear"]
    assert 0 < found[1] <= 1 / 510 + 1e-6
    assert found[2:] == ["weight = q / 255", []]
    assert "linear" in library.attnstore("ingest", "--help")


def test_a_statistic_is_one_entry_of_one_file(library: Library, store: Path) -> None:
    """`statistics.py`: NULL for the runs of before, until `recompute` fills it from the arrays."""
    library.change(
        "src/attnstore/statistics.py",
        ')  # fmt: skip\n"""In the order of the columns."""',
        """    Statistic("sharpness", "Mean over from-tokens of the sum of squared weights",
              per_row=lambda weights, marks: weights.square().sum(-1)),
)  # fmt: skip
\"\"\"In the order of the columns.\"\"\"""",
    )
    asked = """
        import json, sys, attnstore, numpy as np
        with attnstore.open(sys.argv[1]) as store:
            example = store.sql("SELECT min(example) FROM inputs").item()
            values = store.sql(
                "FROM map_stats WHERE example = $e AND layer = 1 AND head = 2", e=example
            )["sharpness"]
            weights = store.map("tiny/sample", example, 1, 2).weights.astype(float)
            weights = weights / weights.sum(1, keepdims=True)
            print(json.dumps([
                values[0], float((weights**2).sum(1).mean()), store.columns("map_stats")["sharpness"],
                [str(finding) for finding in store.verify().findings],
            ]))
    """
    stored, _, comment, findings = library.run(asked, store)
    assert stored is None
    assert comment == "Mean over from-tokens of the sum of squared weights"
    assert not findings
    assert f"{RUN}: sharpness of" in library.attnstore("--store", store, "recompute", "sharpness")
    stored, expected, _, findings = library.run(asked, store)
    assert stored == pytest.approx(expected, rel=1e-4)
    assert not findings


def test_an_annotator_is_one_file(library: Library, store: Path) -> None:
    """A file of `annotation/annotators`: it annotates, and `--help` names it."""
    library.add(
        "src/attnstore/annotation/annotators/capitals.py",
        '''
        """Words that begin with a capital letter."""

        import re

        from attnstore.annotation.annotators.interface import Kind
        from attnstore.datasets.annotations import Annotation


        class Capitals:
            source = "capitals"

            def identity(self):
                return "capitals 1"

            def annotate(self, texts, progress):
                found = Annotation()
                for example, text in texts.select("example", "text").iter_rows():
                    for word in re.finditer("[A-Z][a-z]+", text):
                        found.span(example, 0, word.start(), word.end(), capital=word.group())
                return found


        KIND = Kind("capitals", ("capitals",), "words with a capital letter", lambda *_: Capitals())
        ''',
    )
    library.attnstore("--store", store, "annotate", "--dataset", "sample", "--with", "capitals")
    spans = library.attnstore(
        "--store", store, "sql", "SELECT DISTINCT kind, source FROM spans", "--format", "json"
    )
    assert json.loads(spans) == [{"kind": "capital", "source": "capitals"}]
    assert "capitals" in library.attnstore("annotate", "--help")


def test_a_table_is_one_file(library: Library, store: Path) -> None:
    """A file of `sql/schema/index`: loaded, verified, copied, and dropped with its run."""
    library.add(
        "sql/schema/index/8-notes.sql",
        """
        -- Remarks about a run.

        -- of: run
        -- copy: notes of
        -- repair: write the note again
        CREATE TABLE core.notes (
            fragment INTEGER, run_key UBIGINT, note VARCHAR NOT NULL
        );

        CREATE VIEW notes AS SELECT r.run, n.note FROM core.notes n JOIN core.runs r USING (run_key);
        COMMENT ON VIEW notes IS 'One row per remark.';
        COMMENT ON COLUMN notes.run IS 'Run';
        COMMENT ON COLUMN notes.note IS 'What somebody remarked';
        """,
    )
    found = library.run(
        """
        import json, sys, attnstore, polars as pl
        from pathlib import Path
        from attnstore.storage import fragments, location
        rows = pl.DataFrame({"note": ["odd heads"]})
        fragments.write(location.find(sys.argv[1]), "notes", "tiny/sample", "first", rows)
        with attnstore.open(sys.argv[1]) as store:
            rows = store.sql("FROM notes").rows()
            sound = not store.verify().findings
            store.copy("copy")
        with attnstore.open("copy") as copy:
            copied = copy.sql("FROM notes").rows()
            (file,) = Path("copy").glob("fragments/notes/**/*.parquet")
            whole = file.read_bytes()
            file.write_bytes(whole[:-1] + b"?")
            damaged = [str(finding) for finding in copy.verify().findings]
            file.write_bytes(whole)
            copy.drop("tiny/sample")
        left = [str(path) for path in Path("copy").glob("fragments/notes/**/*.parquet")]
        print(json.dumps([rows, sound, copied, damaged, left]))
        """,
        store,
    )
    assert found[:3] == [[[RUN, "odd heads"]], True, [[RUN, "odd heads"]]]
    assert "write the note again" in found[3][0]
    assert found[4] == []


def test_a_command_is_one_file(library: Library, store: Path) -> None:
    """A file of `cli`: listed by `--help`, with `--store` before or after the verb."""
    library.add(
        "src/attnstore/cli/heaviest.py",
        '''
        """The command `heaviest`."""

        import click

        from attnstore import store as stores


        @click.command()
        @click.pass_obj
        def heaviest(store):
            """Name the run with most bytes."""
            with stores.open(store) as opened:
                click.echo(opened.runs().sort("bytes")["run"][-1])
        ''',
    )
    assert "Name the run with most bytes." in library.attnstore("--help")
    assert library.attnstore("--store", store, "heaviest") == f"{RUN}\n"
    assert library.attnstore("heaviest", "--store", store) == f"{RUN}\n"


def test_an_analysis_is_one_file(library: Library, store: Path) -> None:
    """A file of `sql/analysis`: a verb's argument, a method's, and a function in SQL."""
    library.add(
        "sql/analysis/longest_input.sql",
        """\
        -- title: The longest input of each run
        -- source: docs/contributing.md
        -- reads: inputs
        -- param run VARCHAR: Run
        -- column length INTEGER: Its tokens
        SELECT max(length) AS length FROM inputs WHERE run = $run
        """,
    )
    found = library.run(
        """
        import json, sys, attnstore
        with attnstore.open(sys.argv[1]) as store:
            print(json.dumps([
                store.query("longest_input", run="tiny/sample").item(),
                store.sql("FROM longest_input(run := 'tiny/sample')").item(),
                store.sql("SELECT max(length) FROM inputs").item(),
            ]))
        """,
        store,
    )
    assert found[0] == found[1] == found[2]
    assert "longest_input" in library.attnstore("--store", store, "query")


def test_a_page_is_a_function_a_template_and_a_route(library: Library, store: Path) -> None:
    """Three files of `web`: the page is served, and the navigation leads there."""
    library.add(
        "src/attnstore/web/datasets_page.py",
        '''
        """The page of datasets."""


        def datasets_page(site, request):
            """List the datasets."""
            rows = site.store.ask("FROM datasets ORDER BY dataset").to_dicts()
            return site.render(request, "datasets.html", datasets=rows)
        ''',
    )
    library.add(
        "src/attnstore/web/templates/datasets.html",
        """\
        {% extends "base.html" %}
        {% block title %}Datasets{% endblock %}
        {% block main %}{% for row in datasets %}<p>{{ row.dataset }}: {{ row.n_rows }} rows</p>{% endfor %}{% endblock %}
        """,
    )
    library.change(
        "src/attnstore/web/routes.py", "ROUTES: tuple[Page | Action, ...] = (",
        "from attnstore.web.datasets_page import datasets_page\n\n"
        "ROUTES: tuple[Page | Action, ...] = (\n"
        '    Page("/datasets", datasets_page, "Datasets", "d"),',
    )  # fmt: skip
    found = library.run(
        """
        import json, sys
        from starlette.testclient import TestClient
        from attnstore.web.server import application
        client = TestClient(application(sys.argv[1]), base_url="http://localhost")
        pages = [client.get(path, headers={"Accept": "text/html"}) for path in ("/datasets", "/")]
        print(json.dumps([page.text for page in pages]))
        """,
        store,
    )
    assert "<p>sample: " in found[0]
    assert 'href="/datasets"' in found[1]
