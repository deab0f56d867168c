"""Rules of deleting: it says what it did, and what it leaves when it is stopped counts for nothing."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers import contents, write_texts

import attnstore
from attnstore import store as stores
from attnstore.capture import registration
from attnstore.capture.runs import Run
from attnstore.cli.main import main
from attnstore.errors import BusyError, StoreError
from attnstore.maintenance import orphans
from attnstore.maintenance.verify import verify
from attnstore.storage import fragments, location, locks
from attnstore.storage.folder import Folder

RUN = "tiny/texts"

pytestmark = pytest.mark.usefixtures("small")


def refuse_deleting(patch: pytest.MonkeyPatch, inside: str) -> None:
    """Let the system refuse to delete any file whose path has `inside`."""
    unlink = os.unlink

    def refused(path: Any, *arguments: Any, **options: Any) -> None:
        folder = options.get("dir_fd")
        whole = f"{os.readlink(f'/proc/self/fd/{folder}')}/{path}" if folder else str(path)
        if inside in whole:
            raise PermissionError(errno.EACCES, "Permission denied", whole)
        unlink(path, *arguments, **options)

    patch.setattr(os, "unlink", refused)


def test_a_drop_that_the_system_refuses_is_an_error_and_the_run_stays(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "Deleted" is said of what is gone."""
    before = contents(root)
    with monkeypatch.context() as patch:
        refuse_deleting(patch, "/fragments/")
        result = CliRunner().invoke(main, ["--store", str(root), "drop", RUN, "--yes"])
    assert result.exit_code == 2
    assert "Deleted" not in result.output
    assert f"Nothing of run {RUN} was deleted" in result.stderr
    assert "Permission denied" in result.stderr
    assert contents(root) == before
    with attnstore.open(root) as store:
        assert store.runs()["state"].to_list() == ["complete"]


def test_a_drop_that_is_refused_halfway_says_what_is_left(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is gone, its shards are not; gc moves them aside."""
    with monkeypatch.context() as patch:
        refuse_deleting(patch, "/maps/c/")
        with attnstore.open(root) as store, pytest.raises(StoreError) as caught:
            store.drop(RUN)
    assert f"Run {RUN} is no longer in the store, but some of its files are left" in str(
        caught.value
    )
    assert "attnstore gc" in str(caught.value)
    with attnstore.open(root) as store:
        assert store.runs().is_empty()
    assert orphans.collect(root).files
    assert not list((root / "attention.zarr" / RUN).rglob("c"))


@pytest.mark.parametrize("other", [True, False], ids=["other content", "the same content"])
def test_what_a_killed_drop_leaves_never_counts(
    made: Path, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: bool
) -> None:
    """After a kill at any deletion, the name holds what is ingested under it next, all of it."""
    n = 7 if other else 12
    texts = write_texts(tmp_path / "texts.jsonl", n, seed=5 if other else 0, longest=16)
    for stop in (1, 2, 3, 5, 7):
        root = Path(shutil.copytree(made, tmp_path / str(stop)))
        with monkeypatch.context() as patch:
            _kill_after(patch, stop)
            with pytest.raises(KeyboardInterrupt):
                stores.Store(location.locate(root)).drop(RUN)
        if other:  # the dataset of the name is the new one's
            for table in ("datasets", "examples"):
                for fragment in fragments.listing(location.locate(root), table):
                    fragments.discard(location.locate(root), fragment)
        (summary,) = attnstore.ingest(root, str(tiny_bert), str(texts), max_length=48)
        assert summary.run == RUN
        with attnstore.open(root) as store:
            found = store.runs().select("run", "state", "stored").rows()
            assert found == [(RUN, "complete", n)]
            assert store.sql("SELECT count(*) FROM maps WHERE len(weights) > 0").item() == n * 8
        assert [str(f) for f in verify(root).findings] == []


def _kill_after(patch: pytest.MonkeyPatch, stop: int) -> None:
    """End the process, as a signal would, at a deletion."""
    done = 0

    def counted(delete: Any) -> Any:
        def once(*arguments: Any) -> None:
            nonlocal done
            done += 1
            if done > stop:
                raise KeyboardInterrupt
            delete(*arguments)

        return once

    for name in ("remove", "remove_below"):
        patch.setattr(Folder, name, counted(getattr(Folder, name)))


def test_a_run_that_is_dropped_between_planning_and_holding_is_not_ingested(
    root: Path, made: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks are only written to a run that has a record."""
    register = registration.register

    def dropped(*arguments: Any) -> Run:
        run = register(*arguments)
        stores.Store(location.locate(root)).drop(run.run)
        return run

    monkeypatch.setattr(registration, "register", dropped)
    with pytest.raises(BusyError, match="has just been dropped; run the same command again"):
        attnstore.ingest(root, str(tiny_bert), str(made.parent / "texts.jsonl"), max_length=48)
    assert not fragments.listing(location.locate(root), "blocks")


def test_a_lock_whose_file_its_holder_deletes_still_guards(tmp_path: Path) -> None:
    """Who waited for the deleted file holds the one that others find."""
    lock = locks.path_of(location.locate(tmp_path), "x")
    waiting, taken, ended = threading.Event(), threading.Event(), threading.Event()

    def wait() -> None:
        waiting.set()
        with locks.hold(lock, wait=30):
            taken.set()
            ended.wait(30)

    thread = threading.Thread(target=wait)
    with locks.hold(lock):
        thread.start()
        assert waiting.wait(30)
        while not _waits_for(lock.file):  # the other has opened the file that is deleted now
            pass
        lock.file.unlink()
    assert taken.wait(30)
    try:
        with pytest.raises(BusyError), locks.hold(lock):
            pass
    finally:
        ended.set()
        thread.join()


def _waits_for(path: Path) -> bool:
    """Whether this process has the file open twice: its holder and one that waits."""
    links = []
    for handle in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(handle))
        except OSError:
            continue
    return links.count(str(path)) >= 2


def test_a_dropped_run_leaves_no_lock_file(root: Path) -> None:
    """It is deleted while it is held."""
    lock = location.run_lock(location.locate(root), RUN)
    assert lock.file.exists()
    stores.Store(location.locate(root)).drop(RUN)
    assert not lock.file.exists()


@pytest.mark.parametrize("kind", ["linked", "dangling", "unreadable"])
def test_gc_moves_no_data_of_a_run_whose_records_lie_elsewhere(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Records behind a link, or in a folder that cannot be listed, may need what looks useless."""
    folder = root / "fragments" / "runs" / "tiny"
    if kind == "unreadable":
        scan = os.scandir

        def refused(path: Any = ".") -> Any:
            if str(path) == str(folder):
                raise PermissionError(errno.EACCES, "Permission denied")
            return scan(path)

        monkeypatch.setattr(os, "scandir", refused)
    else:
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / ("elsewhere" if kind == "linked" else "nothing"))
    before = contents(root)
    if kind == "linked":  # what lies behind the link is seen
        assert orphans.collect(root).files == []
    else:
        with pytest.raises(StoreError, match="tiny"):
            orphans.collect(root)
    assert contents(root) == before
