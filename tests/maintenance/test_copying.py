"""Rules of `attnstore.maintenance.copying`: a copy is whole, or goes on where it stopped."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from helpers import contents, flip, shrink, write_texts

import attnstore
from attnstore.errors import BusyError, DamageError, StoreError, UnknownNameError, UsageError
from attnstore.maintenance import copying
from attnstore.maintenance.verify import verify
from attnstore.storage import arrays, files, fragments, location, locks
from attnstore.storage.folder import Folder

RUNS = ["tiny/more", "tiny/texts"]


@pytest.fixture(scope="module")
def root(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with two runs of several blocks, to read only."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        folder = tmp_path_factory.mktemp("copying")
        texts = [
            str(write_texts(folder / f"{name}.jsonl", 24, seed, longest=16))
            for seed, name in enumerate(("texts", "more"))
        ]
        attnstore.ingest(folder / "store", str(tiny_bert), texts, max_length=48)
        yield folder / "store"


@contextlib.contextmanager
def stopped() -> Iterator[None]:
    """Folders whose disk stops after one write of a copied file."""
    write, written = Folder.write, []

    def once(place: Folder, path: str, data: bytes) -> None:
        if path != location.MARK:
            written.append(path)
        if len(written) > 1:
            raise StoreError("stopped")
        write(place, path, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folder, "write", once)
        yield


def test_a_copy_has_the_same_bytes_and_answers(root: Path, tmp_path: Path) -> None:
    """Every committed file, the same rows, and `verify` finds nothing."""
    calls: list[tuple[int, int]] = []
    done = copying.copy(root, tmp_path / "copy", progress=lambda *call: calls.append(call))
    assert contents(tmp_path / "copy") == contents(root)
    assert done.runs == RUNS
    assert done.files == done.written_files == len(contents(root))
    assert calls[-1] == (done.bytes, done.bytes)
    assert verify(tmp_path / "copy").findings == []
    with attnstore.open(root) as one, attnstore.open(tmp_path / "copy") as other:
        for question in ("FROM runs ORDER BY run", "SELECT sum(list_sum(weights)) FROM maps"):
            assert other.sql(question).equals(one.sql(question))


def test_orphans_are_not_copied(root: Path, tmp_path: Path) -> None:
    """What nothing refers to stays behind."""
    source = Path(shutil.copytree(root, tmp_path / "source"))
    (block,) = [
        f
        for f in fragments.listing(location.locate(source), "blocks", RUNS[0])
        if f.part == "000001"
    ]
    (source / block.path).unlink()
    copying.copy(source, tmp_path / "copy")
    missing = contents(source).keys() - contents(tmp_path / "copy").keys()
    assert {p.split("/")[1] for p in missing} == {"tiny", "map_stats", "offsets", "array_blocks"}


def test_a_stopped_copy_is_sound_at_every_point_and_goes_on(root: Path, tmp_path: Path) -> None:
    """Stopped after each write: what is there counts only when it is whole; nothing is done twice."""
    total, place = len(contents(root)), tmp_path / "copy"
    for n in range(total - 1):
        before = len(contents(place))
        with stopped(), pytest.raises(StoreError, match="stopped"):
            copying.copy(root, place)
        assert len(contents(place)) == before + 1
        if n % 8 == 0:
            assert verify(place).findings == []
    assert copying.copy(root, place).written_files == 1
    assert contents(place) == contents(root)
    assert copying.copy(root, place).written_files == 0


def test_named_runs_come_alone_and_others_later(root: Path, tmp_path: Path) -> None:
    """A place that holds a run takes another one beside it."""
    copying.copy(root, tmp_path, [RUNS[1]])
    with attnstore.open(tmp_path) as store:
        assert store.runs()["run"].to_list() == [RUNS[1]]
        assert store.sql("FROM datasets")["dataset"].to_list() == ["texts"]
    assert copying.copy(root, tmp_path).written_files < len(contents(root))
    assert contents(tmp_path) == contents(root)


def test_a_damaged_file_at_the_target_is_mended(root: Path, tmp_path: Path) -> None:
    """The same command compares every byte."""
    copying.copy(root, tmp_path)
    flip(tmp_path / arrays.shard_path(RUNS[0], "maps", 1))
    flip(next((tmp_path / "fragments" / "map_stats" / RUNS[1]).iterdir()))
    assert copying.copy(root, tmp_path).written_files == 2
    assert contents(tmp_path) == contents(root)


def test_a_damaged_file_of_the_source_is_not_copied(root: Path, tmp_path: Path) -> None:
    """The error names it, and the target has no run for it."""
    source = Path(shutil.copytree(root, tmp_path / "source"))
    flip(source / arrays.shard_path(RUNS[0], "maps", 1))
    with pytest.raises(DamageError, match=r"tiny/more/maps/c/0/0/1 .* is not what was committed"):
        copying.copy(source, tmp_path / "copy")
    assert not fragments.listing(location.locate(tmp_path / "copy"), "runs")


def test_what_the_source_lacks_is_told(root: Path, tmp_path: Path) -> None:
    """A copy of a store that has lost a fragment holds what is left, and says what is missing."""
    source = Path(shutil.copytree(root, tmp_path / "source"))
    (source / fragments.listing(location.locate(source), "map_stats")[0].path).unlink()
    done = copying.copy(source, tmp_path / "copy")
    assert "lacks 1 fragments that others refer to" in " ".join(done.notes)
    assert copying.copy(root, tmp_path / "whole").notes == []


def test_a_damaged_record_of_the_source_is_what_is_named(root: Path, tmp_path: Path) -> None:
    """Not the description of its arrays, which is compared with it."""
    source = Path(shutil.copytree(root, tmp_path / "source"))
    flip(source / fragments.listing(location.locate(source), "runs")[0].path, 0.5)
    with pytest.raises(DamageError, match="damaged runs of tiny/more"):
        copying.copy(source, tmp_path / "copy")


def test_what_is_written_is_read_back(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that keeps other bytes than it was given is noticed."""
    location.create(tmp_path / "copy")
    write = Folder.write
    monkeypatch.setattr(Folder, "write", lambda p, path, data: write(p, path, data[:-1] + b"?"))
    with pytest.raises(StoreError, match="reads back differently"):
        copying.copy(root, tmp_path / "copy")


def test_other_content_under_the_same_name_is_refused(
    root: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    """Nothing is mixed, and nothing is written."""
    texts = write_texts(tmp_path / "texts.jsonl", 3, seed=7)
    attnstore.ingest(tmp_path / "store", str(tiny_bert), str(texts), max_length=48)
    before = contents(tmp_path / "store")
    with pytest.raises(UsageError, match="other content under the name texts"):
        copying.copy(root, tmp_path / "store")
    assert contents(tmp_path / "store") == before
    copying.copy(root, tmp_path / "store", [RUNS[0]])
    with attnstore.open(tmp_path / "store") as store:
        assert store.runs()["run"].to_list() == RUNS


def test_blocks_that_were_computed_elsewhere_stay(root: Path, tmp_path: Path) -> None:
    """The target's committed block keeps its shards, statistics and mark, whatever their bytes."""
    copying.copy(root, tmp_path)
    (mark,) = [
        f
        for f in fragments.listing(location.locate(tmp_path), "blocks", RUNS[0])
        if f.part == "000000"
    ]
    row = fragments.read(location.locate(tmp_path), mark)
    fragments.write(
        location.locate(tmp_path),
        "blocks",
        RUNS[0],
        "000000",
        row.with_columns(pl.col("n_cells") + 0),
    )
    shard = tmp_path / arrays.shard_path(RUNS[0], "maps", 0)
    flip(shard)
    theirs = row.with_columns(maps_crc32c=pl.Series([[files.file_crc32c(shard)]], dtype=pl.List(pl.Int64)))  # fmt: skip
    fragments.write(location.locate(tmp_path), "blocks", RUNS[0], "000000", theirs)
    before = contents(tmp_path)
    copying.copy(root, tmp_path)
    assert contents(tmp_path) == before


def test_mistakes_are_one_sentence(root: Path, tmp_path: Path) -> None:
    """Onto itself, no store, an unknown run, a target in use."""
    with pytest.raises(UsageError, match="onto itself"):
        copying.copy(root, root)
    with pytest.raises(StoreError, match="There is no attention store"):
        copying.copy(tmp_path / "nothing", tmp_path / "copy")
    with pytest.raises(UnknownNameError, match="did you mean tiny/more"):
        copying.copy(root, tmp_path / "copy", ["tiny/mroe"])
    location.create(tmp_path / "copy")
    with (
        locks.hold(location.copy_lock(location.locate(tmp_path / "copy"))),
        pytest.raises(BusyError, match="in use by this process"),
    ):
        copying.copy(root, tmp_path / "copy")
