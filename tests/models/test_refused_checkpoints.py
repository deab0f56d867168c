"""Rules of refreshes that meet a checkpoint which cannot be stored, and of what names its base."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tiny
from click.testing import CliRunner
from helpers import write_texts
from safetensors.torch import load_file, save_file

import attnstore
from attnstore.cli.main import main
from attnstore.declared import planning, readiness
from attnstore.declared import refresh as making
from attnstore.declared.config import read
from attnstore.declared.outcome import Outcome
from attnstore.models import checkpoints
from attnstore.storage import fragments, location

FILE = """\
store = "storage"
settle = 0
results = "results"

[[models]]
name = "base"
folder = "base"

[[models]]
name = "ft"
glob = "{glob}"
base = "base"
{more}
[[datasets]]
name = "d"
source = "d.jsonl"

[[ingest]]
max_length = 40
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tiny models: 0, 1 and 2."""
    folder = tmp_path_factory.mktemp("trained")
    for number in range(3):
        tiny.make(folder / str(number), "bert", seed=number)
    return folder


@dataclass(frozen=True)
class Work:
    """A folder with an attnstore.toml, a base model and texts."""

    folder: Path
    trained: Path

    def declare(self, glob: str = "training/*", more: str = "") -> None:
        (self.folder / "attnstore.toml").write_text(FILE.format(glob=glob, more=more))

    def put(self, place: str, number: int, broken: bool = False) -> Path:
        folder = self.folder / place
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.trained / str(number), folder)
        if broken:
            weights = load_file(folder / "model.safetensors")
            weights["embeddings.LayerNorm.weight"][:] = float("nan")
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    def refresh(self, **options: Any) -> Outcome:
        return making.refresh(self.folder / "attnstore.toml", **options)

    def plan(self) -> dict[str, str]:
        table = planning.plan(read(self.folder / "attnstore.toml")).table()
        return dict(table.select("name", "state").iter_rows())

    def store(self) -> attnstore.Store:
        return attnstore.open(self.folder / "storage")

    def ask(self, *arguments: str) -> Any:
        return CliRunner().invoke(main, ["--store", str(self.folder / "storage"), *arguments])


@pytest.fixture
def work(trained: Path, tmp_path: Path) -> Work:
    made = Work(tmp_path, trained)
    made.put("base", 0)
    write_texts(tmp_path / "d.jsonl", 8)
    made.declare()
    return made


def test_a_checkpoint_that_is_refused_fails_once(work: Work) -> None:
    """The others are stored; later refreshes leave it, the plan shows it, `--retry` tries it again,
    and other bytes are another checkpoint."""
    work.put("training/checkpoint-1", 1, broken=True)
    work.put("training/checkpoint-2", 2)
    for step in (1, 2):
        (work.folder / f"training/checkpoint-{step}/trainer_state.json").write_text(
            f'{{"global_step": {step}}}'
        )
    first = work.refresh()
    assert [s.run for s in first.ingested] == ["base/d", "ft-2/d"]
    (problem,) = first.problems
    assert problem.startswith("ft-1/d: ")
    assert work.plan() == {"ft-1/d": "refused"}
    second = work.refresh()
    assert second.problems == []
    assert not second.changed
    assert [sentence.split(":")[0] for sentence in second.refused] == ["ft-1/d"]
    assert len(work.refresh(retry=True).problems) == 1
    command = CliRunner().invoke(main, ["refresh", str(work.folder / "attnstore.toml")])
    assert command.exit_code == 0
    assert "refused before, not tried again (--retry does): ft-1/d" in command.output
    work.put("training/checkpoint-1", 1)
    (work.folder / "training/checkpoint-1/trainer_state.json").write_text('{"global_step": 1}')
    assert work.plan() == {"ft-1/d": "missing"}
    assert [s.run for s in work.refresh().ingested] == ["ft-1/d"]


def test_no_error_of_one_model_keeps_the_others(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is: it is a problem at the end."""
    work.put("training/one", 1)
    work.put("training/two", 2)
    resolve = readiness.checkpoints.readiness

    def fails(folder: Path, **options: Any) -> str | None:
        if folder.name == "one":
            raise RecursionError("maximum recursion depth exceeded")
        return resolve(folder, **options)

    monkeypatch.setattr(readiness.checkpoints, "readiness", fails)
    outcome = work.refresh()
    assert [s.run for s in outcome.ingested] == ["base/d", "ft-two/d"]
    (problem,) = outcome.problems
    assert "RecursionError: maximum recursion depth" in problem


def test_models_that_differ_in_their_tokenizer_are_two(work: Work) -> None:
    """A refresh stores both, as `ingest` does."""
    other = work.put("training/other", 0)
    settings = other / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace('"[MASK]"', '"[UNK]"', 1))
    outcome = work.refresh()
    assert outcome.problems == []
    with work.store() as store:
        assert store.sql("SELECT run FROM runs ORDER BY run")["run"].to_list() == [
            "base/d",
            "ft-other/d",
        ]
        models = store.sql("SELECT model, tokenizer_fingerprint AS f FROM models")
    assert models["f"].n_unique() == len(models) == 2


def test_a_name_means_one_tokenizer(work: Work) -> None:
    """Other content under the same name becomes its next revision, as for weights."""
    data = str(work.folder / "d.jsonl=d")
    other = work.put("other", 0)
    settings = other / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace('"[MASK]"', '"[UNK]"', 1))
    for folder in (work.folder / "base", other, work.folder / "base", other):
        done = work.ask("ingest", "--max-length", "40", "--dataset", data, "--model", f"{folder}=m")
        assert done.exit_code == 0, done.output
    with work.store() as store:
        assert store.sql("SELECT run, model FROM runs ORDER BY run").rows() == [
            ("m/d", "m"),
            ("m/d@2", "m@2"),
        ]
        assert store.sql("SELECT source FROM models ORDER BY model")["source"].to_list() == [
            str(work.folder / "base"),
            str(other),
        ]


def test_the_step_of_a_name_counts_where_no_trainer_says_one(work: Work) -> None:
    """Also in a folder called as the Trainer's, which is complete without its state then."""
    for name in ("checkpoint-1", "checkpoint-2"):
        work.put(f"training/{name}", int(name[-1]))
    (work.folder / "training/checkpoint-2/trainer_state.json").write_text('{"global_step": 20}')
    work.declare()
    assert work.plan() == {"base/d": "missing", "ft-1": "waiting", "ft-20/d": "missing"}
    work.declare(more=r"step = 'checkpoint-(\d+)'")
    assert work.plan() == {"base/d": "missing", "ft-1/d": "missing", "ft-20/d": "missing"}


@pytest.mark.parametrize(
    "state", ['{"global_step": 1e999}', "[" * 5000, "[]", '{"global_step": true}', "\xff"]
)
def test_a_damaged_state_of_a_trainer_keeps_no_refresh(work: Work, state: str) -> None:
    """The checkpoint waits, or goes by its name."""
    folder = work.put("training/checkpoint-7", 1)
    (folder / "trainer_state.json").write_text(state, "latin-1")
    assert set(work.plan()) <= {"base/d", "ft-7", "ft-7/d"}


def test_a_base_may_be_given_and_given_again(work: Work) -> None:
    """By `--base` for a folder of any name; the run is not stored twice, and drift finds its base."""
    tuned, data = work.put("tuned", 1), str(work.folder / "d.jsonl=d")
    work.ask(
        "ingest", "--max-length", "40", "--dataset", data, "--model", f"{work.folder / 'base'}=base"
    )
    arguments = ["ingest", "--max-length", "40", "--dataset", data, "--model", f"{tuned}=tuned"]
    for options, base in (
        ([], None),
        (["--base", "other"], "other"),
        (["--base", "base"], "base"),
        ([], "base"),
    ):
        done = work.ask(*arguments, *options)
        assert done.exit_code == 0, done.output
        with work.store() as store:
            assert store.sql("SELECT base FROM models WHERE model = 'tuned'").item() == base
            assert store.sql("SELECT count(*) FROM runs").item() == 2
    with work.store() as store:
        assert store.sql("SELECT run, base_run FROM base_runs").rows() == [("tuned/d", "base/d")]
    assert len(fragments.listing(location.locate(work.folder / "storage"), "models", "tuned")) == 1


def test_a_base_that_the_file_names_later_is_recorded(work: Work) -> None:
    """Of a model that is stored already."""
    work.put("training/one", 1)
    file = work.folder / "attnstore.toml"
    file.write_text(file.read_text().replace('base = "base"\n', ""))
    work.refresh()
    work.declare()
    work.refresh()
    with work.store() as store:
        assert store.sql("SELECT base FROM models WHERE model = 'ft-one'").item() == "base"
    assert (work.folder / "results/movement/ft-one--d.parquet").exists()


def test_the_configuration_names_the_base_of_any_folder(work: Work) -> None:
    """Unless it names itself."""
    for place, named in (("tuned", "some/base"), ("self", str(work.folder / "self"))):
        config = work.put(place, 1) / "config.json"
        config.write_text(
            config.read_text().replace("{", f'{{"base_model_name_or_path": "{named}",', 1)
        )
    assert checkpoints.resolve(str(work.folder / "tuned")).base == "some/base"
    assert checkpoints.resolve(str(work.folder / "self")).base is None


@pytest.mark.parametrize("name", ["run[12]", "lr=0.1*", "what?", "back\\slash", "{a,b}"])
def test_a_folder_of_any_name_is_watched(work: Work, name: str) -> None:
    """A glob whose part is a folder's name as written means that folder alone."""
    for place in (name, "run1", "lr=0.1x", "whatx"):
        work.put(f"{place}/checkpoint", 1)
    written = name.replace("\\", "\\\\")
    work.declare(f"{written}/*")
    found = [c.source for c in readiness.candidates(read(work.folder / "attnstore.toml"))]
    assert found == [str(work.folder / "base"), str(work.folder / name / "checkpoint")]


def test_the_folder_of_the_file_is_no_pattern(work: Work) -> None:
    """A declaration works below a folder with brackets; a run of a deleted checkpoint is kept there."""
    here = Work(work.folder / "a[1]", work.trained)
    here.put("base", 0)
    write_texts(here.folder / "d.jsonl", 8)
    here.put("training/one", 1)
    here.declare()
    assert [s.run for s in here.refresh().ingested] == ["base/d", "ft-one/d"]
    shutil.rmtree(here.folder / "training/one")
    assert here.plan() == {}
    assert isinstance(
        pl.read_parquet(here.folder / "results/movement/ft-one--d.parquet", glob=False),
        pl.DataFrame,
    )
