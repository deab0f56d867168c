"""Stores in a bucket, against a real S3 server: the same store as in a folder, from any machine."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import polars as pl
import pytest
from bucket import NAME, S3, running
from helpers import contents, flip, shrink, write_texts
from older import make_older
from polars.testing import assert_frame_equal
from server import kill_all, wait_for
from webtools import Browser

import attnstore
from attnstore.declared import config, planning, refresh
from attnstore.errors import BusyError, DamageError, StoreError, UsageError
from attnstore.job import Job
from attnstore.maintenance import copying, orphans
from attnstore.maintenance.verify import verify
from attnstore.storage import (
    arrays,
    fragments,
    index,
    layout,
    local_side,
    location,
    locks,
    s3_lease,
    zarr_metadata,
)

ROOT = Path(__file__).parents[2]
RUN = "tiny/texts"
INPUTS = 120
SAME = ("tiny", "zarr.json", "inputs", "blocks", "map_stats", "offsets", "examples", "models")
"""What two ingestions of one run write alike, byte by byte; a dataset tells where it was read."""
CHILD = """
import sys, pytest, helpers, attnstore
helpers.shrink(pytest.MonkeyPatch())
attnstore.ingest(sys.argv[1], sys.argv[2], sys.argv[3], max_length=48, progress=lambda *_: print("block", flush=True))
"""


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with running(tmp_path_factory.mktemp("s3")) as made:
        yield made


@pytest.fixture(autouse=True)
def machine(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that knows the server and has an empty cache; shards are small."""
    shrink(monkeypatch)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    another(monkeypatch, tmp_path / "first")


def another(patch: pytest.MonkeyPatch, cache: Path) -> None:
    """Go on as another machine: with a cache of its own."""
    patch.setenv(local_side.CACHE, str(cache))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("texts") / "texts.jsonl", INPUTS, longest=16)


@pytest.fixture(scope="module")
def folder(tiny_bert: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run in a folder, to read only."""
    root = tmp_path_factory.mktemp("folder") / "store"
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        attnstore.ingest(root, str(tiny_bert), str(texts), max_length=48)
    return root


@pytest.fixture
def address(s3: S3, folder: Path, request: pytest.FixtureRequest) -> str:
    """A bucket's path with a copy of that store."""
    found = s3.address(request.node.name)
    copying.copy(folder, found)
    return found


def ingest(address: str, tiny_bert: Path, texts: Path) -> Any:
    (summary,) = attnstore.ingest(address, str(tiny_bert), str(texts), max_length=48)
    return summary


def answers(path: str | Path) -> list[Any]:
    """What a store says about every weight, its statistics and tokens."""
    with attnstore.open(path) as store:
        assert store.behind is None
        return [
            store.sql(text).rows()
            for text in (
                "SELECT layer, head, sum(list_sum(weights)) FROM maps GROUP BY ALL ORDER BY ALL",
                "SELECT layer, head, avg(cls), avg(entropy) FROM map_stats GROUP BY ALL ORDER BY ALL",
                "SELECT token, count(*) FROM tokens GROUP BY ALL ORDER BY ALL",
                "SELECT run, state, stored, bytes FROM runs",
            )
        ]


def test_an_ingestion_into_a_bucket_leaves_the_store_that_a_folder_gets(
    s3: S3,
    folder: Path,
    tiny_bert: Path,
    texts: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Byte by byte; asked again nothing is put; another machine reads the same from it."""
    address = s3.address("whole")
    assert ingest(address, tiny_bert, texts).stored == INPUTS
    there = s3.contents("whole")
    here = {p: (folder / p).read_bytes() for p in contents(folder, tables=SAME)}
    assert {p: data for p, data in there.items() if p in here} == here
    with s3.requests() as again:
        assert ingest(address, tiny_bert, texts).stored == 0
    assert not {kind for kind in again if kind.startswith("PUT")} - {"PUT locks"}
    assert not again["GET maps"]
    assert answers(address) == answers(folder)
    assert verify(address).findings == []
    another(monkeypatch, tmp_path / "second")
    assert answers(address) == answers(folder)
    assert s3.contents("whole") == there


def test_the_local_side_can_be_deleted_at_any_time(address: str, folder: Path) -> None:
    """Everything in it comes from the bucket."""
    before = answers(address)
    shutil.rmtree(location.find(address).root)
    assert answers(address) == before == answers(folder)


def test_one_head_over_all_examples_takes_two_requests_a_shard(
    address: str, s3: S3, folder: Path
) -> None:
    """The index of a shard, then the head's neighbouring chunks as one range; warm, nothing."""
    blocks = fragments.listing(location.find(address), "blocks", RUN)
    shards = sum(len(fragments.read(location.find(address), b)["maps_crc32c"][0]) for b in blocks)
    asked = "SELECT example, weights FROM maps WHERE layer = 1 AND head = 2 ORDER BY example"
    with attnstore.open(address) as store, attnstore.open(folder) as other:
        with s3.requests() as cold:
            found = store.sql(asked)
        assert found.equals(other.sql(asked))
        assert shards > 10
        assert cold["GET maps"] <= 2 * shards + 2
        with s3.requests() as warm:
            assert store.sql(asked).equals(found)
        assert warm["GET maps"] == 0


def test_one_request_opens_a_run(address: str, s3: S3) -> None:
    """The run's group describes its arrays, also those beside maps and received."""
    backend = location.find(address)
    shape = zarr_metadata.recorded(backend, RUN)
    with s3.requests() as asked:
        opened = arrays.open_run(backend, RUN, shape)
        opened.stretch("value_norm", 0, 1)
    assert asked["GET zarr.json"] == 1


def test_a_partition_is_read_where_only_the_address_is_known(
    address: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another machine, whose index is made from the bucket; the rows are those of the folder."""
    asked = "SELECT layer, head, sum(list_sum(weights)) AS total FROM rows GROUP BY ALL"
    with attnstore.open(address) as store:
        parts = pickle.dumps(store.partitions("maps", RUN))
    another(monkeypatch, tmp_path / "second")
    code = (
        "import pickle, sys, polars as pl\n"
        f"answers = [part.sql({asked!r}) for part in pickle.load(sys.stdin.buffer)]\n"
        "pl.concat(answers).write_parquet(sys.argv[1])"
    )
    out = tmp_path / "answers.parquet"
    subprocess.run([sys.executable, "-c", code, out], input=parts, check=True)
    sums = pl.read_parquet(out).group_by("layer", "head").sum()
    with attnstore.open(folder) as store:
        whole = store.sql(asked.replace("rows", "maps"))
    assert_frame_equal(sums, whole, check_row_order=False)


def test_two_machines_do_not_ingest_one_run_at_once(
    address: str,
    s3: S3,
    tiny_bert: Path,
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second gets a sentence with the holder's name; a dead holder is followed."""
    backend = location.find(address)
    with locks.hold(location.run_lock(backend, RUN), what="Run r"):
        assert locks.held(location.run_lock(backend, RUN))
        another(monkeypatch, tmp_path / "second")
        assert locks.held(location.run_lock(location.find(address), RUN))
        with pytest.raises(BusyError, match=f"Run {RUN} is in use by process {os.getpid()} on"):
            ingest(address, tiny_bert, texts)
        monkeypatch.setattr(s3_lease, "SECONDS", -1.0)  # as if it had been silent for long
        with locks.hold(location.run_lock(location.find(address), RUN)):
            pass
    assert not locks.held(location.run_lock(backend, RUN))


def test_who_has_lost_a_lock_writes_no_more(
    address: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holder notices at its next renewal that another one has followed it."""
    backend = location.find(address)
    monkeypatch.setattr(s3_lease, "SECONDS", 2.0)
    with locks.hold(location.run_lock(backend, RUN), what="Run r"):
        held = f"locks/{location.run_lock(backend, RUN).file.name}"
        obstore.put(s3.store(address.removeprefix(f"s3://{NAME}/")), held, b"{}")
        rows = pl.DataFrame([{"run": RUN, "example": 0, "layer": 0, "head": 1, "label": "block"}])
        with pytest.raises(BusyError, match="has lost its lock"):
            wait_for(lambda: fragments.write(backend, "labels", RUN, "anna", rows) and None, 20)


def test_kill_nine_in_the_middle_costs_a_block_and_the_next_one_goes_on(
    s3: S3, folder: Path, tiny_bert: Path, texts: Path
) -> None:
    """At once on the same machine: nobody waits for the dead one's lock."""
    address = s3.address("killed")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "support")]),
    }
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, address, str(tiny_bert), str(texts)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert child.stdout is not None
    for _ in range(4):
        assert child.stdout.readline() == b"block\n"
    kill_all(child)
    child.stdout.close()
    assert any("locks/" in path for path in s3.contents("killed"))
    before = ingest(address, tiny_bert, texts)
    assert 0 < before.stored < INPUTS
    assert answers(address) == answers(folder)
    assert verify(address).findings == []


@pytest.mark.parametrize("what", ["blocks", "map_stats", "maps/c", "received/c"])
def test_a_damaged_object_is_seen_and_ingesting_again_mends_it(
    address: str, s3: S3, folder: Path, tiny_bert: Path, texts: Path, what: str
) -> None:
    """A flipped bit in any kind of object."""
    path = address.removeprefix(f"s3://{NAME}/")
    answers(address)
    time.sleep(1.1)  # S3 tells times in seconds
    name = next(p for p in sorted(s3.contents(path)) if what in p)
    s3.flip(path, name)
    findings = verify(address).findings
    assert any(f"{name} does not match its checksum" in str(f) for f in findings)
    ingest(address, tiny_bert, texts)
    assert verify(address).findings == []
    assert answers(address) == answers(folder)
    with attnstore.open(address) as store:
        assert np.array_equal(store.maps(RUN, 3), attnstore.open(folder).maps(RUN, 3))


def test_a_damaged_shard_is_an_error_for_readers(address: str, s3: S3) -> None:
    """Never other numbers."""
    path = address.removeprefix(f"s3://{NAME}/")
    s3.flip(path, next(p for p in sorted(s3.contents(path)) if "maps/c" in p))
    with attnstore.open(address) as store, pytest.raises(DamageError, match="cannot be read"):
        store.sql("SELECT sum(list_sum(weights)) FROM maps")


def test_copies_go_between_buckets_and_folders(
    address: str, s3: S3, folder: Path, tmp_path: Path
) -> None:
    """There and back, resumed without writing anything twice, byte by byte the same."""
    assert copying.copy(folder, address).written_files == 0
    copying.copy(address, s3.address("second"))
    copying.copy(s3.address("second"), tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)
    with pytest.raises(UsageError, match="onto itself"):
        copying.copy(address, address)


def test_orphans_are_moved_inside_the_bucket_and_runs_dropped(address: str, s3: S3) -> None:
    """What was moved keeps its bytes; of a dropped run nothing is left."""
    path = address.removeprefix(f"s3://{NAME}/")
    lost = arrays.shard_path(RUN, "maps", 999)
    obstore.put(s3.store(path), lost, b"nobody's")
    assert [f.path for f in orphans.collect(address, dry=True).files] == [lost]
    found = orphans.collect(address)
    there = s3.contents(path)
    assert lost not in there
    assert there[f"{found.folder}/{lost}"] == b"nobody's"
    assert orphans.REASONS in {p.rpartition("/")[2] for p in there}
    with attnstore.open(address) as store:
        store.drop(RUN)
        assert store.runs().is_empty()
    assert not any(f"/{RUN}/" in p for p in s3.contents(path) if not p.startswith("orphans/"))


def test_workers_elsewhere_store_their_share(
    s3: S3,
    folder: Path,
    tiny_bert: Path,
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker needs the address alone: its machine has another cache."""
    address = s3.address("shared")

    def elsewhere(work: Job[Any, Any]) -> None:
        share = work.share()
        assert share is not None
        for unit in work.missing():
            another(monkeypatch, tmp_path / "worker")
            report = share.store(unit)
            another(monkeypatch, tmp_path / "first")
            work.take(report)

    attnstore.ingest(address, str(tiny_bert), str(texts), max_length=48, runner=elsewhere)
    assert answers(address) == answers(folder)


def test_a_declared_store_may_lie_in_a_bucket(
    s3: S3, tiny_bert: Path, texts: Path, tmp_path: Path
) -> None:
    """A refresh makes it what the file says; the next one has nothing to do."""
    file = tmp_path / "attnstore.toml"
    file.write_text(
        f'store = "{s3.address("declared")}"\nsettle = 0.1\n'
        f'[[models]]\nname = "tiny"\nfolder = "{tiny_bert}"\n'
        f'[[datasets]]\nname = "texts"\nsource = "{texts}"\n[[ingest]]\nmax_length = 48\n'
    )
    assert [done.run for done in refresh.refresh(file, wait=True).ingested] == [RUN]
    assert not refresh.refresh(file).changed
    assert planning.plan(config.read(file)).table().is_empty()
    with attnstore.open(s3.address("declared")) as store:
        assert store.runs()["state"].to_list() == ["complete"]


def test_the_explorer_reads_a_bucket(address: str, s3: S3) -> None:
    """Its pages show the same; no page but a map's asks the bucket for weights."""
    browser = Browser(location.find(address).root)
    with browser.client, s3.requests() as asked:
        assert RUN in browser.client.get("/").text
    assert not asked["GET maps"]


def attnstore_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("attnstore")), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_commands_take_an_address(address: str) -> None:
    """And say nothing else than with a folder."""
    run = attnstore_command("--store", address, "sql", "SELECT run, state FROM runs")
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[-2:] == [RUN, "complete"]
    assert run.stderr == ""
    run = attnstore_command("--store", address, "gc", "--dry-run")
    assert (run.returncode, run.stdout) == (0, "Nothing in the store is without use.\n"), run.stderr


@pytest.mark.parametrize(
    ("address", "environment", "sentence"),
    [
        ("s3://", {}, "names no bucket"),
        ("s3://nowhere/store", {}, "There is no bucket nowhere"),
        (f"s3://{NAME}/empty", {}, f"There is no attention store at s3://{NAME}/empty"),
        (f"s3://{NAME}/a//b", {}, "has an empty part"),
        (f"s3://{NAME}/a/../b", {}, "has an empty part, `.` or `..`"),
        (
            f"s3://{NAME}/x",
            {"AWS_ENDPOINT_URL": "127.0.0.1:9"},
            "AWS_ENDPOINT_URL is '127.0.0.1:9'; give a URL",
        ),
        (f"s3://{NAME}/x", {"AWS_ENDPOINT_URL": ""}, "AWS_ENDPOINT_URL is ''; give a URL"),
        (f"s3://{NAME}/x", {"AWS_SKIP_SIGNATURE": "maybe"}, "fix the environment"),
        ("gs://bucket/store", {}, "names no bucket; write s3://BUCKET/PATH"),
        (f"s3://{NAME}/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "cannot be used"),
    ],
)
def test_mistakes_are_one_sentence(
    address: str, environment: dict[str, str], sentence: str, machine: None
) -> None:
    """No bucket, nothing there, no server: exit 2 and no trace."""
    run = attnstore_command("--store", address, "runs", **environment)
    assert run.returncode == 2
    assert sentence in run.stderr
    assert "Traceback" not in run.stderr
    assert len(run.stderr.strip().splitlines()) <= 3


def test_objects_of_others_are_not_overrun(s3: S3) -> None:
    """A path that holds something else does not become a store."""
    obstore.put(s3.store("foreign"), "holiday.jpg", b"?")
    with pytest.raises(StoreError, match="holds other files"):
        location.create(s3.address("foreign"))


def test_a_commit_is_a_conditional_put(address: str, s3: S3) -> None:
    """The second of two writers of one content puts nothing; what is damaged there is replaced."""
    backend = location.find(address)
    path = "fragments/labels/x/part.00000000.parquet"
    with s3.requests() as first:
        backend.commit(path, b"rows")
    with s3.requests() as second:
        backend.commit(path, b"rows")
    assert (first["PUT labels"], first["GET labels"]) == (1, 0)
    assert (second["PUT labels"], second["GET labels"]) == (1, 1)
    backend.write(path, b"r0ws")
    backend.commit(path, b"rows")
    assert backend.read(path) == b"rows"


def test_many_threads_may_open_a_store_that_is_not_cached_yet(address: str) -> None:
    """They fetch the same fragments at once."""
    for _ in range(3):
        shutil.rmtree(location.find(address).root)
        location.find(address)
        with ThreadPoolExecutor(6) as pool:
            assert len(set(pool.map(lambda _: str(answers(address)), range(6)))) == 1


def test_a_process_goes_on_with_the_bucket_when_the_local_side_is_deleted(
    address: str, s3: S3
) -> None:
    """And does not take the folder for a store of its own."""
    backend = location.find(address)
    shutil.rmtree(backend.root)
    rows = pl.DataFrame([{"run": RUN, "example": 0, "layer": 0, "head": 1, "label": "block"}])
    path = fragments.write(backend, "labels", RUN, "anna", rows)
    assert path in s3.contents(address.removeprefix(f"s3://{NAME}/"))


def test_a_damaged_copy_on_this_machine_is_fetched_again(address: str, folder: Path) -> None:
    """A bit that flips here is no damage of the bucket."""
    backend = location.find(address)
    before = answers(address)
    (copy,) = (backend.root / "fragments" / "runs").rglob("*.parquet")
    flip(copy)
    (backend.root / index.FILE).unlink()
    assert answers(address) == before


def test_a_renewal_whose_answer_was_lost_keeps_the_lock(
    address: str, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object is still the holder's own, under another tag."""
    monkeypatch.setattr(s3_lease, "SECONDS", 2.0)
    backend = location.find(address)
    lock = location.run_lock(backend, RUN)
    with locks.hold(lock, what="Run r"):
        store, name = s3.store(address.removeprefix(f"s3://{NAME}/")), f"locks/{lock.file.name}"
        mine = json.loads(bytes(obstore.get(store, name).bytes()))
        obstore.put(store, name, json.dumps({**mine, "renewals": 99}).encode())
        time.sleep(3)
        backend.require_hold()
        assert locks.held(lock)


def test_weights_are_not_written_without_the_lock(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards go past obstore, and are held to the same rule."""
    backend = location.find(address)
    run = arrays.open_run(backend, RUN, zarr_metadata.recorded(backend, RUN))
    with locks.hold(location.run_lock(backend, RUN), what="Run r"):
        monkeypatch.setattr(s3_lease, "SECONDS", -1.0)
        maps = np.zeros((len(run.layers), len(run.heads), layout.SHARD_CELLS), np.float16)
        with pytest.raises(BusyError, match="has lost its lock"):
            run.write_block(0, maps, maps[:, :, : layout.SHARD_TOKENS].astype(np.float32))


def test_own_analyses_lie_in_the_bucket(
    s3: S3, address: str, request: pytest.FixtureRequest
) -> None:
    """They are asked by name, and called in SQL."""
    s3.store(request.node.name).put(
        "analysis/n_runs.sql",
        b"-- title: T\n-- source: S\n-- reads: runs\n-- column n BIGINT: Number of runs\n"
        b"SELECT count(*) AS n FROM runs ORDER BY n",
    )
    with attnstore.open(address) as store:
        assert store.query("n_runs").item() == store.sql("FROM n_runs()").item() == 1
        assert store.analyses()["file"].to_list()[-1] == "analysis/n_runs.sql"


def test_an_older_run_in_a_bucket_is_brought_up_to_date(
    s3: S3, folder: Path, tiny_bert: Path, texts: Path, tmp_path: Path
) -> None:
    """It gets the objects that a new ingestion writes, and asking again computes nothing."""
    old = Path(shutil.copytree(folder, tmp_path / "old"))
    make_older(old)
    address = s3.address("older")
    copying.copy(old, address)
    before = s3.contents("older")
    lines: list[str] = []
    for _ in range(2):
        attnstore.ingest(
            address, str(tiny_bert), str(texts), max_length=48, update=True,
            finished=lambda summary: lines.extend(summary.lines()),
        )  # fmt: skip
    assert f"{INPUTS} of them computed now" in "".join(lines)
    assert "all stored before" in lines[-1]
    after = s3.contents("older")
    assert {p for p in before if "/c/" in p} < {p for p in after if "/c/" in p}
    files = {p for p in contents(folder, "attention.zarr") if "/c/" in p}
    assert {p for p in after if p.startswith("attention.zarr") and "/c/" in p} == files
    assert all(after[p] == (folder / p).read_bytes() for p in files)
    assert verify(address).findings == []
