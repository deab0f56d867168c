"""Rules of `index.listing`: an index that is current is not opened to find that out, and no change is missed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import polars as pl
import pytest

from attnstore.storage import fragments, index, index_listing, location
from attnstore.storage.folder import Folder

ROWS = pl.DataFrame([{"run": "tiny/sample", "example": 0, "layer": 0, "head": 1, "label": "block"}])
CURRENT = index.Change(0, 0, [])


@pytest.fixture
def backend(sample_store: Path, tmp_path: Path) -> Folder:
    """A copy of the sample store whose index is current."""
    shutil.copytree(sample_store, tmp_path / "store")
    backend = Folder(tmp_path / "store")
    index.catch_up(backend)
    assert index.catch_up(backend) == CURRENT
    return backend


def forbid_opening(patch: pytest.MonkeyPatch) -> None:
    """Make it fail to open the index."""
    patch.setattr(index, "_opened", lambda *_: pytest.fail("the index is opened"))


def test_an_index_that_is_current_is_not_opened(
    backend: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither after a look, nor after a rebuild, nor after rows were loaded."""
    with monkeypatch.context() as patch:
        forbid_opening(patch)
        assert index.catch_up(backend) == CURRENT
    index.rebuild(backend)
    with monkeypatch.context() as patch:
        forbid_opening(patch)
        assert index.catch_up(backend) == CURRENT
    fragments.write(backend, "labels", "tiny/sample", "anna", ROWS)
    assert index.catch_up(backend) == index.Change(1, 0, [])
    forbid_opening(monkeypatch)
    assert index.catch_up(backend) == CURRENT


def test_every_change_of_the_fragments_is_seen(backend: Folder) -> None:
    """One more, one fewer, one whose file has another time or another size."""
    path = fragments.write(backend, "labels", "tiny/sample", "anna", ROWS)
    assert index.catch_up(backend).loaded == 1
    kept = (backend.root / index_listing.FILE).read_text()
    (backend.root / path).unlink()
    assert index.catch_up(backend).dropped == 1
    for change in (lambda file: os.utime(file, ns=(1, 1)), lambda file: file.write_bytes(b"")):
        stamp = index.seal_of(backend)
        assert stamp is not None
        before = index_listing.fingerprint(backend, stamp)
        change(next((backend.root / "fragments" / "examples").rglob("*.parquet")))
        assert index_listing.fingerprint(backend, stamp) != before
    assert (backend.root / index_listing.FILE).read_text() != kept


def test_what_is_damaged_or_missing_is_told_every_time(backend: Folder) -> None:
    """Nothing is kept then, so that every opening says it."""
    file = next((backend.root / "fragments" / "examples").rglob("*.parquet"))
    file.unlink()
    first = index.catch_up(backend)
    assert first.missing
    assert index.catch_up(backend).missing == first.missing


def test_the_listing_of_another_index_counts_for_nothing(backend: Folder, tmp_path: Path) -> None:
    """A copied store is looked at, and rebuilt, whatever file came with it."""
    shutil.copytree(backend.root, tmp_path / "copy")
    copy = location.find(tmp_path / "copy")
    assert index.seal_of(copy) is None
    assert index.catch_up(copy).loaded > 0
