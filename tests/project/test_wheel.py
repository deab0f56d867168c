"""The wheel alone reaches every job: built, installed, and used from an empty folder."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder]
    subprocess.run([*pip, *build, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    environment, empty = folder / "environment", folder / "empty"
    venv.create(environment)
    python = environment / "bin" / "python"
    install = ["install", "--no-deps", "--no-index", wheel]
    subprocess.run([*pip, "--python", python, *install], check=True)
    (site,) = environment.glob("lib/*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
    empty.mkdir()
    variables = {
        "PATH": f"{environment / 'bin'}:/usr/bin:/bin", "HOME": str(folder),
        "PREFECT_HOME": str(folder / "prefect"), "HF_HUB_OFFLINE": "1", "COLUMNS": "200",
    }  # fmt: skip

    def call(*command: str) -> str:
        done = subprocess.run(
            command, cwd=empty, env=variables, capture_output=True, text=True, encoding="utf-8",
            check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = call("python", "-c", "import attnstore; print(attnstore.__file__)")
    assert where.startswith(str(environment)), "the installed package is used"
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
