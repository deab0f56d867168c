"""Rules of `attnstore.maintenance.orphans`: what nothing refers to is moved aside, and nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import polars as pl
from helpers import contents

import attnstore
from attnstore.maintenance import orphans
from attnstore.maintenance.verify import verify
from attnstore.storage import arrays, fragments, index, location, locks

RUN = "tiny/texts"


def only(root: Path, table: str, part: str = "") -> Path:
    """The path of one fragment of the run."""
    (found,) = [
        f for f in fragments.listing(location.locate(root), table, RUN) if f.part.startswith(part)
    ]
    return root / found.path


def test_a_sound_store_has_no_orphans(root: Path) -> None:
    """Nothing is found, nothing is moved, no folder is made."""
    before = contents(root)
    found = orphans.collect(root)
    assert (found.files, found.notes, found.folder) == ([], [], None)
    assert contents(root) == before
    assert not (root / orphans.FOLDER).exists()


def test_a_dropped_run_leaves_no_orphans(root: Path) -> None:
    """`drop` takes everything of a run with it."""
    with attnstore.open(root) as store:
        store.drop(RUN)
    assert orphans.collect(root).files == []


def test_what_is_moved_is_told_with_the_reason_and_can_be_brought_back(root: Path) -> None:
    """Shards, statistics, plans and temporary files; copied back, every byte is as it was."""
    only(root, "blocks", "000001").unlink()
    leaving = root / "fragments" / "blocks" / RUN / ".000009.parquet.17.tmp"
    leaving.write_bytes(b"half")
    os.utime(leaving, (1, 1))
    foreign = root / arrays.shard_path("gone/run", "maps", 0)
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"maps")
    superseded = only(root, "inputs").with_name(
        f"{only(root, 'inputs').name[:16]}.00000000.parquet"
    )
    superseded.write_bytes(b"older")
    os.utime(superseded, (1, 1))
    lost = root / "fragments" / "patterns" / "lost" / "run" / "000000.x.00000000.parquet"
    lost.parent.mkdir(parents=True)
    lost.write_bytes(b"rows")
    before = contents(root)

    dry = orphans.collect(root, dry=True)
    assert contents(root) == before
    assert dry.folder is None
    found = orphans.collect(root)
    assert found.files == dry.files
    assert found.folder is not None
    why = {f.path: f.why for f in found.files}
    shards = [p for p in why if p.startswith(f"attention.zarr/{RUN}/")]
    assert len(shards) >= 2
    assert {why.pop(p) for p in shards} == {"it belongs to no committed block"}
    of_block = [p for p in why if p.split("/")[1] in ("map_stats", "offsets", "array_blocks")]
    assert len(of_block) == 4  # statistics, profile, value norms and mixing ratios
    assert {why.pop(p) for p in of_block} == {"its block was never committed"}
    assert why == {
        leaving.relative_to(root).as_posix(): "a process was stopped while it wrote it",
        foreign.relative_to(root).as_posix(): "there is no such run",
        superseded.relative_to(root).as_posix(): "a newer fragment has taken its place",
        lost.relative_to(root).as_posix(): "there is no such run",
    }
    reasons = pl.read_csv(root / found.folder / orphans.REASONS)
    assert dict(reasons.select("path", "why").iter_rows()) == {f.path: f.why for f in found.files}
    assert found.summary()["files"].sum() == len(found.files)
    assert not foreign.parent.exists()

    assert orphans.collect(root).files == []
    shutil.copytree(root / found.folder, root, dirs_exist_ok=True)
    (root / orphans.REASONS).unlink()
    assert contents(root) == before


def test_what_is_moved_was_not_used(root: Path) -> None:
    """The same rows before and after, and `verify` has nothing left to tell about it."""
    only(root, "blocks", "000001").unlink()
    with attnstore.open(root) as store:
        rows = store.sql("SELECT * FROM map_stats ORDER BY ALL")
    orphans.collect(root)
    (root / index.FILE).unlink()
    with attnstore.open(root) as store:
        assert store.sql("SELECT * FROM map_stats ORDER BY ALL").equals(rows)
    report = verify(root)
    assert not report.findings
    assert not any("no committed block" in note for note in report.notes)


def test_a_run_in_use_and_fresh_temporary_files_are_left_alone(root: Path) -> None:
    """Its ingestion may be about to commit them."""
    only(root, "blocks", "000001").unlink()
    fresh = root / "fragments" / ".something.tmp"
    fresh.write_bytes(b"half")
    with locks.hold(location.run_lock(location.locate(root), RUN)):
        found = orphans.collect(root)
    assert found.files == []
    assert f"{RUN} is left alone" in found.notes[0]
    assert fresh.exists()


def test_a_damaged_run_is_left_alone(root: Path) -> None:
    """Which shards it owns cannot be told; `verify` is named."""
    block = only(root, "blocks", "000001")
    block.write_bytes(block.read_bytes()[:-1] + b"x")
    found = orphans.collect(root)
    assert found.files == []
    assert "attnstore verify" in found.notes[0]


def test_tables_of_another_version_are_left_alone(root: Path) -> None:
    """A fragment of a table that is not known may be of a newer attnstore."""
    newer = root / "fragments" / "dreams" / "x" / "0.00000000.parquet"
    newer.parent.mkdir(parents=True)
    newer.write_bytes(b"rows")
    found = orphans.collect(root)
    assert found.files == []
    assert "1 files in fragments are not attnstore's" in found.notes[0]
    assert newer.exists()


def test_a_run_behind_a_link_is_no_orphan(root: Path, tmp_path: Path) -> None:
    """A model's arrays may lie on another disk."""
    arrays = root / "attention.zarr" / RUN.split("/")[0]
    arrays.rename(tmp_path / "disk")
    arrays.symlink_to(tmp_path / "disk")
    assert orphans.collect(root).files == []
    with attnstore.open(root) as store:
        assert store.sql("SELECT count(*) FROM maps WHERE len(weights) > 0").item() > 0
