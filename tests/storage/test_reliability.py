"""Rules of a store under kill -9, damage, a full disk, and several processes: nothing is lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny
from helpers import Child, contents, flip, shrink, write_texts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import attnstore
from attnstore.errors import BusyError, StoreError, UnknownNameError
from attnstore.storage import arrays, files, fragments, index, location

KILLS = int(os.environ.get("ATTNSTORE_KILLS", "20"))
INPUTS = 200
SAME = (
    "bert",
    "zarr.json",
    "inputs",
    "blocks",
    "map_stats",
    "offsets",
    "examples",
    "models",
    "datasets",
)
"""What two ingestions of one run write alike, byte by byte: all but the times in runs and ingests."""


@dataclass(frozen=True)
class Work:
    """A model, texts, and what an undisturbed ingestion of them leaves; seconds: how long it took."""

    model: Path
    texts: Path
    root: Path
    seconds: float

    def child(self, root: Path, **settings: Any) -> Child:
        return Child(root, self.model, self.texts, **settings)

    def ingest(self, root: Path) -> Any:
        (summary,) = attnstore.ingest(root, str(self.model), str(self.texts), max_length=64)
        return summary


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("work")
    model = tiny.make(folder / "bert", "bert")
    texts = write_texts(folder / "t.jsonl", INPUTS, longest=24)
    child = Child(folder / "store", model, texts)
    began = time.monotonic()
    assert child.error() is None
    return Work(model, texts, folder / "store", time.monotonic() - began)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


@pytest.fixture
def root(work: Work, tmp_path: Path) -> Path:
    """A copy of the finished store, to damage."""
    return Path(shutil.copytree(work.root, tmp_path / "store"))


def same(root: Path) -> dict[str, str]:
    """Digest of what must be equal; leavings of killed writers (hidden, or locks) aside."""
    found = contents(root, tables=SAME)
    return {
        p: d for p, d in found.items() if not Path(p).name.startswith(".") and "__lock" not in p
    }


def stored(root: Path) -> int:
    """Inputs that the store holds, after checking that whatever it shows is whole."""
    if not (root / "attnstore.json").exists():
        return 0  # killed before there was a store
    for fragment in fragments.listing(location.locate(root)):
        assert files.file_crc32c(root / fragment.path) == fragment.crc32c, fragment.path
    with attnstore.open(root) as store:
        assert store.behind is None
        blocks = store.sql("FROM blocks")
        for block in blocks.iter_rows(named=True):
            assert arrays.damage(location.locate(root), block["run"], block) == []
        shown = store.sql("SELECT block, count(*) AS n FROM inputs GROUP BY block ORDER BY block")
        assert shown.rows() == blocks.select("block", "examples").sort("block").rows()
        assert store.sql("SELECT count(*) FROM map_stats").item() == 8 * blocks["examples"].sum()
        sums = store.sql("SELECT list_sum(weights) / length AS s FROM maps WHERE layer = 1")
        assert np.allclose(sums["s"].to_numpy(), 1, atol=1e-3)
        return int(blocks["examples"].sum())


def assert_as_undisturbed(root: Path, work: Work) -> None:
    """Exactly the planned examples, none twice, and every byte as if nothing had happened."""
    assert stored(root) == INPUTS
    with attnstore.open(root) as store:
        examples = store.sql("SELECT example FROM inputs ORDER BY example")["example"].to_list()
        assert examples == list(range(INPUTS))
        assert store.runs()["state"].to_list() == ["complete"]
    assert same(root) == same(work.root)


# kill -9


@pytest.mark.slow
def test_kill_nine_at_any_instant_loses_nothing_and_leaves_nothing_half(
    work: Work, tmp_path: Path
) -> None:
    """After every kill the store is sound; going on ends with the bytes of an undisturbed run.

    Killed again and again until it is complete, then another one from the start.
    """
    draw, kills, finished, middle = random.Random(KILLS), 0, 0, 0
    seconds = work.seconds
    while kills < KILLS:
        root, held = tmp_path / str(finished), 0
        while held < INPUTS and kills < KILLS:
            child = work.child(root)
            time.sleep(draw.uniform(0, seconds * (1.1 - held / INPUTS)))
            if child.process.is_alive():
                kills += 1
            else:  # it is quicker than the first one was: sooner next time
                seconds *= 0.8
            child.kill()
            now = stored(root)
            assert now >= held, "what was committed stays"
            middle += 0 < now < INPUTS
            held = now
        assert work.child(root).error() is None
        assert_as_undisturbed(root, work)
        finished += 1
    assert middle, "some instants lay between two blocks"


# Damage


def first(pattern: str) -> Callable[[Path], Path]:
    return lambda root: sorted(root.glob(pattern))[0]


FILES = {
    "shard of maps": first("attention.zarr/bert/t/maps/c/0/0/7"),
    "shard of received": first("attention.zarr/bert/t/received/c/0/0/3"),
    "description of maps": first("attention.zarr/bert/t/maps/zarr.json"),
    "description of the run": first("attention.zarr/bert/t/zarr.json"),
    "description of all": first("attention.zarr/zarr.json"),
    "coordinate": first("attention.zarr/bert/t/head/c/0"),
    "map_stats": first("fragments/map_stats/bert/t/000005.*"),
    "blocks": first("fragments/blocks/bert/t/000004.*"),
    "inputs": first("fragments/inputs/bert/t/*"),
    "runs": first("fragments/runs/bert/t/*"),
    "models": first("fragments/models/bert/*"),
    "datasets": first("fragments/datasets/t/*"),
    "examples": first("fragments/examples/t/*"),
}


@pytest.mark.parametrize("harm", ["flipped", "deleted"])
@pytest.mark.parametrize("file", FILES)
def test_ingesting_again_mends_any_file(work: Work, root: Path, file: str, harm: str) -> None:
    """One flipped byte, or the whole file gone: afterwards every byte is as it was."""
    path = FILES[file](root)
    flip(path) if harm == "flipped" else path.unlink()
    assert work.ingest(root).run == "bert/t"
    assert_as_undisturbed(root, work)


@pytest.mark.parametrize("file", ["map_stats", "blocks", "inputs", "runs", "models", "examples"])
def test_an_index_made_anew_leaves_damaged_fragments_out_and_says_so(
    work: Work, root: Path, file: str
) -> None:
    """The store opens, names the first of them, and is whole again once it is mended."""
    path = FILES[file](root)
    flip(path)
    (root / index.FILE).unlink()
    with attnstore.open(root) as store:
        assert "1 damaged fragment" in store.behind
        assert str(path.relative_to(root)) in store.behind
        store.runs()
    work.ingest(root)
    assert_as_undisturbed(root, work)


def test_only_the_damaged_block_is_computed_again(work: Work, root: Path) -> None:
    """One shard with a flipped byte: its inputs, and no other file is written."""
    path = FILES["shard of maps"](root)
    before = {p: p.stat().st_mtime_ns for p in path.parent.iterdir()}
    flip(path, 0.1)
    with attnstore.open(root) as store:
        (block,) = store.sql(
            "FROM blocks WHERE 7 BETWEEN first_shard AND first_shard + n_shards - 1"
        ).iter_rows(named=True)
    assert work.ingest(root).stored == block["examples"]
    written = {p.name for p, when in before.items() if p.stat().st_mtime_ns != when}
    assert written == {str(block["first_shard"] + i) for i in range(block["n_shards"])}


@settings(
    deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lost=st.sets(st.tuples(st.sampled_from(["blocks", "map_stats", "shard"]), st.integers(0, 30)))
)
def test_an_ingestion_goes_on_with_exactly_what_is_missing(
    work: Work, tmp_path_factory: pytest.TempPathFactory, lost: set[tuple[str, int]]
) -> None:
    """Whichever blocks lack their mark, their statistics or a shard: those, and no other."""
    root = Path(shutil.copytree(work.root, tmp_path_factory.mktemp("resume") / "store"))
    blocks = fragments.read_one(location.locate(root), "blocks", "bert/t")
    for table, block in lost:
        shard = root / arrays.shard_path("bert/t", "maps", blocks["first_shard"][block])
        fragment = root / "fragments" / table / "bert" / "t"
        (shard if table == "shard" else first(f"{block:06d}.*")(fragment)).unlink()
    missing = blocks.filter(pl.col("block").is_in({block for _, block in lost}))
    assert work.ingest(root).stored == missing["examples"].sum()
    assert_as_undisturbed(root, work)


# Disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small disk of its own, or mounts it again with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        again = "remount," if folder.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this user cannot mount a disk of its own")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_no_loss(
    work: Work, tmp_path: Path, disk: Callable[[str], Path]
) -> None:
    """What was finished can be asked; with more room the same command ends as if undisturbed."""
    root = disk("size=14m") / "store"
    texts = write_texts(tmp_path / "few.jsonl", 10)
    attnstore.ingest(root, str(work.model), str(texts), max_length=64)
    filler = root.parent / "filler"
    filler.write_bytes(b"x" * (shutil.disk_usage(root).free - (1 << 20)))  # room for a part of it
    with pytest.raises(StoreError) as caught:
        work.ingest(root)
    assert "\n" not in str(caught.value)
    assert "make room" in str(caught.value)
    with attnstore.open(root) as store:
        assert store.sql("SELECT count(*) FROM maps WHERE run = 'bert/few'").item() == 80
    filler.unlink()
    disk("size=40m")
    work.ingest(root)
    with attnstore.open(root) as store:
        assert store.behind is None
        assert store.runs()["state"].to_list() == ["complete", "complete"]
        examples = store.sql("SELECT example FROM inputs WHERE run = 'bert/t' ORDER BY example")
        assert examples["example"].to_list() == list(range(INPUTS))
    ours, theirs = same(root), same(work.root)
    assert {p for p in theirs if ours.get(p) != theirs[p]} == set()


def test_a_read_only_folder_can_be_read_and_says_so_to_writers(
    work: Work, disk: Callable[[str], Path]
) -> None:
    """Every question is answered; ingesting, new or the same again, dropping: one sentence each."""
    root = disk("size=40m") / "store"
    shutil.copytree(work.root, root)
    disk("ro")
    with attnstore.open(root) as store:
        assert store.sql("SELECT count(*) FROM maps").item() == 8 * INPUTS
        assert store.maps("bert/t", 3).shape[0] == 2
        for write in (
            lambda: attnstore.ingest(root, str(work.model), str(work.texts), max_length=20),
            lambda: work.ingest(root),
            lambda: store.drop("bert/t"),
            store.reindex,
        ):
            with pytest.raises(StoreError) as caught:
                write()
            assert "\n" not in str(caught.value)
            assert str(root) in str(caught.value)
    disk("rw")
    (root / index.FILE).unlink()
    disk("ro")
    with pytest.raises(StoreError, match="Cannot write"):
        attnstore.open(root)


# Several processes


def wait_for(found: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_run_is_ingested_by_one_process_at_a_time(work: Work, tmp_path: Path) -> None:
    """The second is told which process has it, writes nothing, and the first ends undisturbed."""
    root = tmp_path / "store"
    child = work.child(root)
    wait_for(lambda: fragments.listing(location.locate(root), "blocks"))
    os.kill(child.process.pid, signal.SIGSTOP)  # it holds the run for as long as we look
    try:
        with pytest.raises(BusyError, match=f"Run bert/t is in use by process {child.process.pid}"):
            work.ingest(root)
        with attnstore.open(root) as store, pytest.raises(BusyError, match="in use by process"):
            store.drop("bert/t")
        assert 0 < stored(root) < INPUTS, "and readers see whole blocks meanwhile"
    finally:
        os.kill(child.process.pid, signal.SIGCONT)
    assert child.error() is None
    assert_as_undisturbed(root, work)


def test_different_runs_are_ingested_at_the_same_time(work: Work, tmp_path: Path) -> None:
    """Two precisions into one store at once: two runs, each with all of its inputs."""
    root = tmp_path / "store"
    children = [work.child(root, precision=p) for p in ("float16", "compact")]
    assert [c.error() for c in children] == [None, None]
    with attnstore.open(root) as store:
        runs = store.runs()
        assert runs["run"].to_list() == ["bert/t", "bert/t@2"]
        assert set(runs["precision"]) == {"float16", "compact"}
        assert runs["stored"].to_list() == [INPUTS, INPUTS]
        assert store.sql("SELECT count(*) FROM models").item() == 1
        blocks = store.sql("FROM blocks")
        assert all(
            arrays.damage(location.locate(root), b["run"], b) == []
            for b in blocks.iter_rows(named=True)
        )


def test_a_dropped_run_is_gone_for_every_session(work: Work, root: Path) -> None:
    """Also for one that had it open; what it shared with nobody is gone from the disk."""
    with attnstore.open(root) as reader, attnstore.open(root) as other:
        assert reader.maps("bert/t", 0).ndim == 4
        other.drop("bert/t")
        with pytest.raises(UnknownNameError, match="no run 'bert/t'"):
            reader.maps("bert/t", 0)
        assert reader.sql("SELECT count(*) FROM maps").item() == 0
    assert not list((root / "attention.zarr").glob("bert/t/**/*"))
    assert {f.table for f in fragments.listing(location.locate(root))} == {
        "models",
        "layer_norms",
        "datasets",
        "examples",
    }
    work.ingest(root)
    assert_as_undisturbed(root, work)


@pytest.mark.slow  # 5 s of waiting for the reader
def test_a_run_can_be_dropped_under_a_connection(root: Path) -> None:
    """The reader keeps its index, and its next question for the weights is one clear error."""
    with attnstore.open(root) as store:
        with store.connect() as con:
            assert con.sql("SELECT count(*) FROM map_stats").fetchall() == [(8 * INPUTS,)]
            attnstore.Store(location.locate(root)).drop("bert/t")
            assert con.sql("SELECT count(*) FROM map_stats").fetchall() == [(8 * INPUTS,)]
            with pytest.raises(Exception, match=r"Run bert/t was dropped while it was read"):
                con.sql("SELECT sum(list_sum(weights)) FROM maps").fetchall()
        assert attnstore.Store(location.locate(root)).runs().is_empty()
