"""Blocks on workers in processes of their own: each commits whole blocks, a kill costs one of them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from helpers import contents, write_texts
from server import Server, children, kill_all, running, wait_for

import attnstore
from attnstore.capture import ingestion
from attnstore.capture.runs import Settings
from attnstore.datasets import corpora
from attnstore.errors import ModelError, UsageError
from attnstore.flows import runners
from attnstore.maintenance.verify import verify
from attnstore.models import checkpoints
from attnstore.storage import fragments, location

TEXTS = 4000
TABLES = ("inputs", "blocks", "map_stats")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As workers of Dask and Ray have: the last digit of a mean hangs on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("runners") / "prefect") as made:
        yield made


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model, and texts for a good many blocks."""
    folder = tmp_path_factory.mktemp("work")
    tiny.make(folder / "bert", "bert")
    return folder / "bert", write_texts(folder / "t.jsonl", TEXTS, longest=60)


def ingesting(
    server: Server, work: tuple[Path, Path], root: Path, runner: str
) -> subprocess.Popen[bytes]:
    model, texts = map(str, work)
    options = ["--store", str(root), "--model", model, "--dataset", texts, "--max-length", "64"]
    return server.start("-m", "flows.ingest", *options, "--runner", runner)


def look(root: Path, commits: dict[str, int]) -> int:
    """How many blocks are committed; none may be committed twice."""
    found = fragments.listing(location.locate(root), "blocks")
    for f in found:
        inode = (root / f.path).stat().st_ino
        assert commits.setdefault(f.path, inode) == inode, f"{f.path} is written twice"
    return len(found)


def killed_in_the_middle(
    server: Server, work: tuple[Path, Path], root: Path, runner: str, worker: Any
) -> None:
    """Ingest, kill one worker between two blocks, and see that it costs nothing that was committed."""
    process, commits = ingesting(server, work, root, runner), {}
    try:
        wait_for(lambda: look(root, commits) >= 3 or process.poll() is not None, 240)
        assert process.poll() is None, server.log.read_text()[-3000:]
        os.kill(worker(), signal.SIGKILL)
        wait_for(lambda: look(root, commits) >= 0 and process.poll() is not None, 240)
    finally:
        kill_all(process)
    assert process.returncode == 0, server.log.read_text()[-3000:]
    look(root, commits)
    with attnstore.open(root) as store:
        assert store.sql("SELECT state, stored FROM runs").rows() == [("complete", TEXTS)]
        assert store.sql("SELECT examples, device FROM ingests").rows() == [(TEXTS, "cpu")]
    assert verify(root).findings == []


@contextmanager
def dask_workers(server: Server) -> Iterator[tuple[str, Any]]:
    """Two Dask workers that know the server: their address as --runner takes it, and a client."""
    distributed = pytest.importorskip("distributed", reason="dask is not installed")
    pytest.importorskip("prefect_dask", reason="prefect-dask is not installed")
    with pytest.MonkeyPatch.context() as environment:
        for key in ("PREFECT_HOME", "PREFECT_API_URL", "PYTHONPATH"):
            environment.setenv(key, server.environment[key])
        with (
            distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            distributed.Client(cluster) as client,
        ):  # fmt: skip
            yield f"dask:{cluster.scheduler_address}", client


def stored_by_this_worker() -> tuple[int, list[str]]:
    """This process, and the identity of the run that it stored blocks of last."""
    from attnstore.job import kernel

    return os.getpid(), list(kernel._shared)


@pytest.mark.slow
def test_two_dask_workers_share_a_run_and_one_is_killed(
    server: Server, work: tuple[Path, Path], tmp_path: Path
) -> None:
    """The other one goes on; the store is as one process would have left it."""
    with dask_workers(server) as (address, client):

        def busy() -> int:
            def both() -> list[int]:
                found = client.run(stored_by_this_worker).values()
                return [pid for pid, stored in found] if all(s for _, s in found) else []

            return int(min(wait_for(both, 60)))

        killed_in_the_middle(server, work, tmp_path / "store", address, busy)
    attnstore.ingest(tmp_path / "alone", *map(str, work), max_length=64)
    alone, shared = (contents(tmp_path / name, "fragments", tables=TABLES) for name in ("alone", "store"))  # fmt: skip
    assert {p for p in shared if "/inputs/" in p} == {p for p in alone if "/inputs/" in p}
    assert shared == alone


@pytest.mark.slow
def test_a_refresh_spreads_its_ingestions_over_dask_workers(
    server: Server, work: tuple[Path, Path], tmp_path: Path
) -> None:
    """Once, then served on a schedule: a checkpoint that comes in is the workers' too."""
    model, texts = work
    file, root = tmp_path / "attnstore.toml", tmp_path / "store"
    file.write_text(
        f'store = "store"\nsettle = 0.0\n[[models]]\nname = "base"\nfolder = "{model}"\n'
        '[[models]]\nname = "ft"\nglob = "training/checkpoint-*"\n'
        f'[[datasets]]\nname = "t"\nsource = "{texts}"\n'
        "[[ingest]]\nmax_length = 64\nlimit = 900\n"
    )
    with dask_workers(server) as (address, client):

        def last(run: str) -> bool:
            """Whether the run that a worker stored last is this one."""
            record = fragments.read_one(location.locate(root), "runs", run)
            assert record is not None
            return any(
                record["identity"].item() in held
                for _, held in client.run(stored_by_this_worker).values()
            )

        refreshing = ["-m", "flows.refresh", "--file", str(file), "--runner", address]
        assert server.start(*refreshing).wait(240) == 0, server.log.read_text()[-3000:]
        assert last("base/t")
        checkpoint = tiny.make(tmp_path / "training" / "checkpoint-1", "bert", seed=1)
        (checkpoint / "trainer_state.json").write_text('{"global_step": 1}')
        process = server.start(*refreshing, "--every", "3s")
        try:
            wait_for(lambda: fragments.listing(location.locate(root), "ingests", "ft-1/t"), 240)
        finally:
            kill_all(process)
        assert last("ft-1/t")
    with attnstore.open(root) as store:
        assert store.sql("SELECT run, state, stored FROM runs ORDER BY run").rows() == [
            ("base/t", "complete", 900), ("ft-1/t", "complete", 900),
        ]  # fmt: skip
        assert store.sql("SELECT count(*) FROM ingests").item() == 2
    assert verify(root).findings == []


@pytest.mark.slow
def test_two_ray_workers_share_a_run_and_one_is_killed(
    server: Server, work: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same on a cluster of Ray with two processors, which asks for this user's token."""
    pytest.importorskip("ray", reason="ray is not installed")
    pytest.importorskip("prefect_ray", reason="prefect-ray is not installed")
    (tmp_path / "token").write_text("0123456789abcdef" * 4)
    monkeypatch.setitem(server.environment, "RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    server.environment.pop("RAY_AUTH_MODE", None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    head = ["start", "--head", f"--port={address.split(':')[1]}", "--num-cpus=2", "--block"]
    options = ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir=/tmp/ray-{os.getpid()}"]  # fmt: skip
    cluster = server.start("-m", "ray.scripts.scripts", *head, *options)

    def busy() -> list[int]:
        """Processes that run a task; the cluster's own have other titles."""
        titles = {p: _command(p) for p in children(cluster.pid)}
        others = (b"IDLE", b"Agent")
        return [p for p, t in titles.items() if t.startswith(b"ray::") and not any(o in t for o in others)]  # fmt: skip

    try:
        wait_for(lambda: _open(address), 120)
        killed_in_the_middle(
            server, work, tmp_path / "store", f"ray:{address}", lambda: min(wait_for(busy, 60))
        )
    finally:
        kill_all(cluster)
        shutil.rmtree(f"/tmp/ray-{os.getpid()}", ignore_errors=True)


@pytest.mark.parametrize("spec", ["ray:127.0.0.1:{}", "dask:tcp://127.0.0.1:{}"])
def test_a_cluster_that_does_not_answer_is_a_sentence(
    spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a flow begins: Ray alone would wait for a minute and end the process."""
    kind = spec.partition(":")[0]
    pytest.importorskip(f"prefect_{kind}", reason=f"prefect-{kind} is not installed")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        spec = spec.format(closed.getsockname()[1])
        with pytest.raises(UsageError, match=f"Nobody answers at .*{spec}.*start the cluster"):
            runners.find(spec)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _open(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as attempt:
        return attempt.connect_ex((host, int(port))) == 0


def test_a_share_of_a_model_that_has_changed_stores_nothing(
    work: tuple[Path, Path], tmp_path: Path
) -> None:
    """Another process loads the weights later than they were looked at."""
    folder = tiny.make(tmp_path / "bert", "bert")
    checkpoint, dataset = checkpoints.resolve(str(folder)), corpora.load(str(work[1]))
    root = location.create(tmp_path / "store")
    with ingestion.planned(root, checkpoint, dataset, Settings(limit=5, max_length=64)) as planned:
        tiny.make(folder, "bert", seed=1)
        for _ in range(2):
            with pytest.raises(ModelError, match="has changed since it was planned"):
                planned.share().store(planned.missing()[0])
    assert not fragments.listing(root, "blocks")


def test_mistakes_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown kind, and no server."""
    pytest.importorskip("prefect", reason="prefect is not installed")
    from attnstore.flows import runners

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(UsageError, match="did you mean dask"):
        runners.find("dsk")
    with pytest.raises(UsageError, match="prefect server start"):
        runners.find("dask:tcp://127.0.0.1:8786")
