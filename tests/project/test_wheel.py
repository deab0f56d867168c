"""The wheel alone reaches every job: built, installed, and used from an empty folder."""

from __future__ import annotations

import email
import re
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import wheel

RUN = "tiny/sample"
VERBS = (
    "ingest",
    "annotate",
    "classify",
    "finetune",
    "ablate",
    "probe",
    "prune",
    "attribute",
    "report",
    "refresh",
)
pytestmark = pytest.mark.slow
Run = Callable[..., str]


@pytest.fixture(scope="module")
def run(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a command of an environment that has the wheel, and the packages it needs from this one."""
    made = wheel.environment(tmp_path_factory.mktemp("wheel"))
    empty = tmp_path_factory.mktemp("empty")
    variables = {**made.variables(), "COLUMNS": "200"}

    def call(*command: str) -> str:
        done = subprocess.run(
            command, cwd=empty, env=variables, capture_output=True, text=True, encoding="utf-8",
            check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    options = ("--max-length", "64", "--limit", "8")
    call("attnstore", "ingest", "--model", f"{tiny_bert}=tiny", "--dataset", "sample", *options)
    return call


def test_verbs_work_from_an_empty_folder(run: Run) -> None:
    """Annotating, classifying, asking and reporting need nothing of the source tree."""
    assert "negation: 8 examples" in run("attnstore", "annotate", "--dataset", "sample", "--with", "negation")  # fmt: skip
    assert f"{RUN}: 64 maps" in run("attnstore", "classify", "--run", RUN)
    assert run("attnstore", "query", "head_entropy", "--param", f"run={RUN}").count("\n") > 8
    assert "figures: " in run("attnstore", "report", "--out", "page")
    assert "<h1>Attention" in run("cat", "page/index.html")


def test_a_flow_works_from_an_empty_folder(run: Run, tiny_bert: Path) -> None:
    """`python -m attnstore.flows.VERB`, which is `--prefect`, runs a job as a flow of the wheel."""
    options = ("--model", f"{tiny_bert}=other", "--dataset", "sample", "--max-length", "64")
    said = run("python", "-m", "attnstore.flows.ingest", *options, "--limit", "3")
    assert "other/sample" in said
    assert "3, of them 3 stored now" in said


def test_every_flow_is_in_the_wheel(run: Run) -> None:
    """Each verb that is a job has a module of its name below `attnstore.flows` with its flow."""
    code = (
        "import importlib\n"
        f"for verb in {VERBS}:\n"
        "    module = importlib.import_module(f'attnstore.flows.{verb}')\n"
        "    print(getattr(module, verb).name)\n"
    )
    assert run("python", "-c", code).split() == list(VERBS)
    assert "--with" in run("python", "-m", "attnstore.flows.annotate", "--help")


def test_python_has_the_jobs_as_methods(run: Run) -> None:
    """A store opened in Python annotates under the verb's name, and the wheel ships its types."""
    code = (
        "import attnstore, pathlib\n"
        "store = attnstore.open()\n"
        "(summary,) = store.annotate('sample', 'negation')\n"
        "print(summary.examples, (pathlib.Path(attnstore.__file__).parent / 'py.typed').exists())\n"
    )
    assert run("python", "-c", code).split() == ["8", "True"]


def test_its_description_has_absolute_links_alone(tmp_path: Path) -> None:
    """PyPI shows the README: its pictures and pages are named by whole addresses, each a file of the repository."""
    made = wheel.environment(tmp_path)
    with zipfile.ZipFile(made.wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
    text = metadata.get_payload(decode=True).decode("utf-8")  # type: ignore[union-attr]
    assert metadata["Description-Content-Type"] == "text/markdown"
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", prose)
    assert len(links) > 15
    own = r"https://(?:raw\.githubusercontent\.com/attnstore/attnstore/main|github\.com/attnstore/attnstore/blob/main)/([^#]+)"
    for link in links:
        assert link.startswith(("https://", "#")), link
        if file := re.match(own, link):
            assert (wheel.ROOT / file[1]).exists(), link
    pictures = re.findall(r"!\[.*\]\((\S+)\)$", prose, flags=re.MULTILINE)
    assert len(pictures) >= 4
    assert all(picture.startswith("https://raw.") for picture in pictures)
    assert {url.split(",")[0] for url in metadata.get_all("Project-URL")} >= {"Homepage", "Issues"}
