"""Rules of Python's side of the verbs: the same names as on the command line."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import commands
import pytest

import attnstore
from attnstore import verbs
from attnstore.errors import UnknownNameError

ONLY_COMMANDS = {"init", "mcp", "serve", "show"}
"""They write a file to edit, serve pages or an assistant, and draw in a terminal; `Store.map` is Python's `show`."""


@pytest.mark.parametrize("verb", sorted(set(commands.every()) - ONLY_COMMANDS))
def test_every_verb_has_its_name_in_python(verb: str) -> None:
    """As a method of a store, or as a function where there is no store."""
    function = getattr(attnstore.Store, verb, None) or getattr(attnstore, verb)
    assert inspect.getdoc(function)


@pytest.mark.parametrize("verb", verbs.JOBS)
def test_a_job_is_a_verb_a_function_and_a_method(verb: str) -> None:
    """Under one name, and the command can run it as a flow."""
    assert getattr(attnstore, verb) is verbs.JOBS[verb]
    assert callable(getattr(attnstore.Store, verb))
    options = {name for p in commands.every()[verb].params for name in p.opts}
    assert {"--prefect", "--runner", "--store"} <= options


def test_a_job_of_a_store_writes_to_that_store(tiny_bert: Path, tmp_path: Path) -> None:
    """What its methods add is there at once; a mistake in one of several names stops all of them."""
    options = {"limit": 4, "max_length": 64}
    (ingested,) = attnstore.ingest(tmp_path / "s", str(tiny_bert), "sample", **options)
    with attnstore.open(tmp_path / "s") as store:
        classified = store.classify(ingested.run)
        annotated = store.annotate(["sample"], ["negation"])
        assert [s.maps for s in classified] == [store.sql("SELECT count(*) FROM patterns").item()]
        assert [s.examples for s in annotated] == [4]
        assert store.figure("head_entropy").figure.axes
        assert store.verify().findings == []
        with pytest.raises(UnknownNameError, match="did you mean sample"):
            store.annotate(["sample", "samplee"], "negation")


def test_importing_the_api_imports_no_job() -> None:
    """`import attnstore` leaves torch, Prefect, matplotlib and every job for their first use."""
    code = (
        "import sys, attnstore\n"
        "names = ('torch', 'transformers', 'prefect', 'matplotlib', 'attnstore.capture.ingestion')\n"
        "print([name for name in names if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
