"""Rules of how often a store is listed: in a bucket each listing is a request, in a folder a walk."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from bucket import S3, running

import attnstore
from attnstore.errors import BusyError
from attnstore.maintenance import copying
from attnstore.storage import fragments, index, local_side, location, locks
from attnstore.storage.backend import File
from attnstore.storage.folder import Folder
from attnstore.storage.snapshot import Snapshot

MOST = 3
"""Listings that asking again for a finished run may take."""
RUN = "tiny/sample"


class Listing(Folder):
    """A folder that notes which folders in it are listed."""

    def files(self, folder: str) -> list[File]:
        """List it, and note it."""
        listed.append(folder)
        return super().files(folder)

    def starting(self, start: str) -> list[str]:
        """List it, and note it."""
        listed.append(start)
        return super().starting(start)


listed: list[str] = []


@pytest.fixture
def store(sample_store: Path, tmp_path: Path) -> Path:
    """A store with one finished run."""
    return Path(shutil.copytree(sample_store, tmp_path / "store"))


def again(where: location.Location, model: Path) -> int:
    """Ask for the run of the sample store again; returns how many examples were stored."""
    (summary,) = attnstore.ingest(
        where, str(model), "sample", limit=8, max_length=64, precision="float32"
    )
    assert summary.run == RUN
    return summary.stored


def test_a_finished_run_is_found_with_few_listings(store: Path, tiny_bert: Path) -> None:
    """One listing of the fragments serves looking for the run, its blocks and the index."""
    attnstore.open(store).close()
    listed.clear()
    assert again(Listing(store), tiny_bert) == 0
    assert 1 <= len(listed) <= MOST, listed


def test_a_finished_run_in_a_bucket_is_found_with_few_listings(
    store: Path, tiny_bert: Path, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where each is a request."""
    for name, value in {**s3.environment, local_side.CACHE: str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    copying.copy(store, s3.address("again"))
    attnstore.open(s3.address("again")).close()
    with s3.requests() as requests:
        assert again(s3.address("again"), tiny_bert) == 0
    assert 1 <= requests["LIST"] <= MOST, requests


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3]:
    """A server."""
    (tmp_path / "s3").mkdir()
    with running(tmp_path / "s3") as server:
        yield server


class Losing(Folder):
    """A folder that loses fragments of a table just before a lock in it is taken."""

    def leased(self, path: str, wait: float, what: str) -> contextlib.nullcontext[None]:
        """Lose them."""
        for table in lost:
            fragments.remove(self, table, RUN)
        return super().leased(path, wait, what)


lost: list[str] = []


def test_a_run_that_is_dropped_while_it_is_planned_is_not_found(
    store: Path, tiny_bert: Path
) -> None:
    """A listing from before the lock was taken does not count for more than what is there."""
    lost[:] = ["runs"]
    with pytest.raises(BusyError, match="has just been dropped"):
        again(Losing(store), tiny_bert)


def test_a_block_that_is_lost_while_a_run_is_planned_is_stored_again(
    store: Path, tiny_bert: Path
) -> None:
    """Though the listing still shows it."""
    lost[:] = ["blocks"]
    assert again(Losing(store), tiny_bert) == 8
    assert fragments.listing(location.locate(store), "blocks", RUN)


def test_a_snapshot_shows_one_moment_until_something_is_written(store: Path) -> None:
    """What another process writes meanwhile shows after this one wrote, and on a fresh look."""
    backend = location.locate(store)
    snapshot = Snapshot(backend)
    rows = pl.DataFrame([{"run": RUN, "example": 0, "layer": 0, "head": 1, "label": "block"}])
    before = fragments.listing(snapshot)
    assert before == fragments.listing(backend)
    theirs = fragments.write(backend, "labels", "anna", "a", rows)
    assert fragments.listing(snapshot) == before
    assert [f.path for f in fragments.listing(Snapshot(snapshot), "labels")] == [theirs]
    fragments.write(snapshot, "labels", "ben", "b", rows)
    assert len(fragments.listing(snapshot, "labels")) == 2
    assert fragments.listing(snapshot) == fragments.listing(backend)


def test_whoever_gives_names_sees_those_of_others(store: Path, tiny_bert: Path) -> None:
    """A run that another process registers after the listing keeps its name to itself."""
    backend = location.locate(store)
    snapshot = Snapshot(backend)
    before = fragments.listing(snapshot, "runs")
    attnstore.ingest(store, str(tiny_bert), "sample", limit=8, max_length=16)
    assert fragments.listing(snapshot, "runs") == before
    with locks.registry(snapshot):
        assert {f.owner for f in fragments.listing(snapshot, "runs")} == {
            "tiny/sample",
            "tiny/sample@2",
        }


def test_an_old_listing_takes_nothing_out_of_the_index(store: Path) -> None:
    """What another process committed and indexed since then stays in it."""
    backend = location.locate(store)
    snapshot = Snapshot(backend)
    fragments.listing(snapshot)
    rows = pl.DataFrame([{"run": RUN, "example": 0, "layer": 0, "head": 1, "label": "block"}])
    fragments.write(backend, "labels", "anna", "a", rows)
    loaded = index.catch_up(backend).loaded
    assert index.catch_up(snapshot).dropped == 0
    assert index.n_loaded(backend) >= loaded
    assert not index.catch_up(backend).loaded
