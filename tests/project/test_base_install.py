"""The base reads and asks without any package of an extra; what needs one says so in a sentence."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import attnstore
from attnstore import extras
from attnstore.errors import AttnstoreError, MissingExtraError

ROOT = Path(__file__).parents[2]
BASE = [sys.executable, str(ROOT / "tests" / "support" / "base_only.py")]
RUN = "tiny/sample"
EXAMPLE = "EXAMPLE"
"""Stands for the first example of the run."""
EXPORT = ["export", RUN, "--example", EXAMPLE, "--out", "out", "--to"]
READING = {
    "runs": ["runs"],
    "sql": ["sql", "SELECT layer, avg(weight) FROM attention WHERE head = 0 GROUP BY layer"],
    "query": ["query"],
    "query of maps": ["query", "special_tokens", "--param", f"run={RUN}"],
    "show": ["show", RUN, EXAMPLE, "1", "2"],
    "export zarr": [*EXPORT, "zarr"],
    "export parquet": [*EXPORT, "parquet"],
    "export npz": [*EXPORT, "npz"],
    "export bertviz": [*EXPORT, "bertviz"],
    "verify": ["verify"],
    "reindex": ["reindex"],
    "gc": ["gc", "--dry-run"],
    "compact": ["compact", "--dry-run"],
    "init": ["init"],
}
NEEDING = {
    "show as a figure": (["show", RUN, EXAMPLE, "1", "2", "--out", "map.png"], "plots"),
    "figure": (["figure", "head_types", "--param", f"run={RUN}"], "plots"),
    "ingest": (["ingest", "--model", "nothing", "--dataset", "sample"], "models"),
    "doctor": (["doctor", "nothing"], "models"),
    "look": (["look", "nothing", "A sentence."], "models"),
    "classify": (["classify", "--run", RUN], "models"),
    "report": (["report"], "plots"),
    "a flow": (["annotate", "--dataset", "sample", "--with", "negation", "--prefect"], "flows"),
    "mcp": (["mcp"], "mcp"),
    "a bucket": (["--store", "s3://nobody/store", "runs"], "s3"),
}
"""Commands and the extra that brings what they lack."""


@pytest.fixture(scope="module")
def example(sample_store: Path) -> int:
    """The first example of the run."""
    return int(attnstore.open(sample_store).sql("SELECT min(example) FROM inputs").item())


@pytest.fixture(scope="module")
def ends(
    sample_store: Path, example: int, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """How each command ended in a process that has the base alone."""
    commands = READING | {name: arguments for name, (arguments, _) in NEEDING.items()}
    given = {
        name: [str(example) if word == EXAMPLE else word for word in arguments]
        for name, arguments in commands.items()
    }
    done = subprocess.run(
        [*BASE, "-"], cwd=tmp_path_factory.mktemp("base"), input=json.dumps(given),
        env={**os.environ, "ATTNSTORE_STORE": str(sample_store)}, capture_output=True, text=True,
        encoding="utf-8", check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("verb", READING)
def test_reading_needs_only_the_base(ends: dict[str, dict[str, Any]], verb: str) -> None:
    """Verbs that read, ask and keep a store in order work where no extra is installed."""
    assert ends[verb]["code"] == 0, ends[verb]["err"]
    assert ends[verb]["out"].strip()


@pytest.mark.parametrize("verb", NEEDING)
def test_a_missing_extra_is_one_sentence(ends: dict[str, dict[str, Any]], verb: str) -> None:
    """A verb whose packages are not installed names the extra, and leaves nothing behind."""
    end = ends[verb]
    assert end["code"] == 2, end
    assert re.fullmatch(
        rf"attnstore: The package \w+ is not installed; "
        rf"`pip install 'attnstore\[{NEEDING[verb][1]}\]'` brings it\.\n",
        end["err"],
    ), end["err"]
    assert not end["left"]


def test_the_explorer_needs_only_the_base(sample_store: Path, example: int, tmp_path: Path) -> None:
    """`attnstore serve` shows the store, a run and an input where no extra is installed."""
    serving = subprocess.Popen(
        [*BASE, "--store", str(sample_store), "serve", "--port", "0"], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
    )  # fmt: skip
    try:
        assert serving.stdout is not None
        line = serving.stdout.readline()
        address = re.search(r"http://\S+/", line)
        assert address, line + serving.stdout.read()
        for page in (
            "",
            f"run/{RUN}",
            f"run/{RUN}/example/{example}",
            f"maps/{RUN}/{example}/1/2.png",
        ):
            with urllib.request.urlopen(address[0] + page, timeout=60) as answer:
                assert answer.status == 200, page
    finally:
        serving.send_signal(signal.SIGINT)
        serving.communicate(timeout=60)


def test_every_analysis_needs_only_the_base(sample_store: Path, tmp_path: Path) -> None:
    """No analysis but one imports a package of an extra; one without its rows is another sentence.

    heads_alike says which extra brings the package that places heads in a plane.
    """
    script = (
        "import sys, base_only\n"
        "sys.meta_path.insert(0, base_only.Absent())\n"
        "import attnstore\n"
        "from attnstore.errors import MissingExtraError, QueryError, UnknownNameError, UsageError\n"
        "store = attnstore.open(sys.argv[1])\n"
        "run = 'tiny/sample'\n"
        "values = dict(run=run, base_run=run, example=0, model='tiny', dataset='sample', kind='phrase', layer=0, head=0)\n"
        "for analysis in store.analyses().iter_rows(named=True):\n"
        "    wanted = [p for p in analysis['parameters'].split(', ') if p and '=' not in p]\n"
        "    try:\n"
        "        answer = store.query(analysis['name'], **{p: values[p] for p in wanted})\n"
        "        print(analysis['name'], len(answer))\n"
        "    except (QueryError, UnknownNameError, UsageError) as error:\n"
        "        print(analysis['name'], error)\n"
        "    except MissingExtraError as error:\n"
        "        assert analysis['name'] == 'heads_alike', error\n"
        "        print('left out:', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(sample_store)], cwd=tmp_path, capture_output=True,
        text=True, encoding="utf-8", check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "support"), str(ROOT / "src")])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "special_tokens" in done.stdout
    assert (
        "left out: The package sklearn is not installed; `pip install 'attnstore[training]'`"
        in done.stdout
    )


def test_python_names_the_extra_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`attnstore.ingest` without torch raises an error that is of the library and an ImportError."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'attnstore\[models\]'") as caught:
        attnstore.ingest(tmp_path / "store", "nothing", "sample")
    assert isinstance(caught.value, AttnstoreError)
    assert isinstance(caught.value, ImportError)
    assert caught.value.name == "torch"


def test_every_extra_of_the_sentences_exists() -> None:
    """The extras that sentences name are those of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(extras.EXTRAS.values()) <= set(project["optional-dependencies"])
    assert not {re.split(r"\W", d, maxsplit=1)[0] for d in project["dependencies"]} & set(
        extras.EXTRAS
    )
