"""Rules of `attnstore.maintenance.compaction`: fewer files, the same fragments, whatever stops it."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from click.testing import CliRunner
from helpers import contents, flip, shrink, write_texts

import attnstore
from attnstore.cli.main import main
from attnstore.errors import StoreError, UnknownNameError
from attnstore.maintenance import compaction, copying, orphans
from attnstore.maintenance.verify import verify
from attnstore.storage import bundles, folder, fragments, index, location
from attnstore.storage.folder import Folder
from attnstore.storage.fragments import Fragment
from attnstore.storage.tables import TABLES

RUNS = ("tiny/more", "tiny/texts")
STEPS = ("commit", "write", "remove")
"""The operations of a folder that compaction changes anything with."""
CHILD = """
import os, signal, sys
from attnstore.maintenance import compaction
from attnstore.storage.folder import Folder
left = [int(sys.argv[2])]
def counted(operation):
    def once(*arguments):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        operation(*arguments)
    return once
for name in ("commit", "write", "remove"):
    setattr(Folder, name, counted(getattr(Folder, name)))
compaction.compact(sys.argv[1])
"""


@pytest.fixture(scope="module")
def made(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two runs of several blocks each, with an annotation, to read only."""
    folder = tmp_path_factory.mktemp("compaction")
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        for seed, name in enumerate(("texts", "more")):
            texts = write_texts(folder / f"{name}.jsonl", 12, seed, longest=16)
            attnstore.ingest(folder / "store", str(tiny_bert), str(texts), max_length=48)
        attnstore.annotate(folder / "store", ["texts", "more"], "negation")
    return folder / "store"


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that store."""
    shrink(monkeypatch)
    return Path(shutil.copytree(made, tmp_path / "store"))


def listed(root: Path) -> list[Fragment]:
    return fragments.listing(location.locate(root))


def bytes_of(root: Path) -> dict[str, bytes]:
    """The content of every fragment, by path, wherever it lies."""
    backend = location.locate(root)
    return {f.path: fragments.data(backend, f) for f in listed(root)}


def files(root: Path) -> set[str]:
    """The files below fragments/ but hidden ones, relative to the store."""
    found = (root / "fragments").rglob("*.parquet")
    return {str(p.relative_to(root)) for p in found if not p.name.startswith(".")}


def rows(root: Path) -> dict[str, list[Any]]:
    """Every row of every table of an index that is made from scratch, without the fragments' numbers."""
    index.rebuild(location.locate(root))
    found = {}
    with duckdb.connect(str(root / index.FILE), read_only=True) as con:
        for table in TABLES:
            of_table = con.sql(f"SELECT * EXCLUDE fragment FROM core.{table}").fetchall()
            found[table] = sorted(of_table, key=repr)
    return found


@contextmanager
def stopping(after: int, error: BaseException) -> Iterator[None]:
    """Let the operation after some of STEPS fail."""
    left = after

    def counted(operation: Any) -> Any:
        def once(*arguments: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise error
            operation(*arguments)

        return once

    with pytest.MonkeyPatch.context() as patch:
        for name in STEPS:
            patch.setattr(Folder, name, counted(getattr(Folder, name)))
        yield


def test_the_same_fragments_lie_in_fewer_files(root: Path) -> None:
    """Each has its path and its bytes; what is said of it is what is there."""
    before, old = bytes_of(root), files(root)
    told = compaction.compact(root)
    new = files(root)
    assert bytes_of(root) == before
    assert old - new == {f.path for f in listed(root) if f.bundle}
    assert len(new - old) == told.bundles > 0
    assert told.fragments == len(old - new)
    assert told.tables == len({path.split("/")[1] for path in new - old})
    assert told.bytes == sum(len(before[path]) for path in old - new)
    assert told.kept == []
    empty = [p for p in (root / "fragments").rglob("*") if p.is_dir() and not any(p.iterdir())]
    assert empty == []


def test_the_index_has_the_same_rows_and_nothing_to_load(root: Path) -> None:
    """From scratch, and as it was before: its rows carry the paths that the fragments keep."""
    before = rows(root)
    seal = index.seal_of(location.locate(root))
    compaction.compact(root)
    change = index.catch_up(location.locate(root))
    assert (change.loaded, change.dropped, change.damaged, change.missing) == (0, 0, [], [])
    assert index.seal_of(location.locate(root)) == seal
    assert rows(root) == before
    assert verify(root).findings == []
    assert verify(root).notes == []


def test_a_second_call_finds_nothing_to_merge(root: Path) -> None:
    """And writes nothing."""
    compaction.compact(root)
    before = contents(root)
    assert compaction.compact(root).bundles == 0
    assert contents(root) == before


def test_another_program_reads_the_same_rows_of_a_table(root: Path) -> None:
    """A bundle is a Parquet file of all its rows, for DuckDB, Polars and pyarrow."""
    pattern = f"{root}/fragments/map_stats/**/*.parquet"
    order = ["run_key", "example", "layer", "head"]
    before = pl.read_parquet(pattern).sort(order)
    compaction.compact(root)
    (bundle,) = bundles.listing(location.locate(root), "map_stats")
    assert pl.read_parquet(pattern).sort(order).equals(before)
    assert duckdb.read_parquet(pattern).pl().sort(order).equals(before)
    whole = pl.read_parquet(root / bundle.path, use_pyarrow=True)
    assert whole.sort(order).equals(before)


def test_killed_at_any_step_each_fragment_counts_once(root: Path, tmp_path: Path) -> None:
    """After each kill the store has the same fragments; the next call leaves each in one place."""
    before, stop, stopped = bytes_of(root), 0, True
    while stopped:
        harmed = Path(shutil.copytree(root, tmp_path / str(stop)))
        try:
            with stopping(stop, KeyboardInterrupt()):
                compaction.compact(harmed)
            stopped = False
        except KeyboardInterrupt:
            stop += 1
        assert bytes_of(harmed) == before, stop
        compaction.compact(harmed)
        assert bytes_of(harmed) == before, stop
        backend = location.locate(harmed)
        members = [
            m.name
            for table in TABLES
            for bundle in bundles.listing(backend, table)
            for m in bundles.members(backend, bundle)
        ]
        alone = [f.path for f in listed(harmed) if not f.bundle]
        assert len(members) + len(alone) == len(before) == len({*members, *alone}), stop
        shutil.rmtree(harmed)
    assert stop > 20


@pytest.mark.parametrize("stop", [2, 7, 12])
def test_kill_nine_in_the_middle_loses_nothing(root: Path, stop: int) -> None:
    """In a process of its own: no lock stays, rows and bytes are the same, the next call finishes."""
    before, of_index = bytes_of(root), rows(root)
    child = subprocess.run([sys.executable, "-c", CHILD, str(root), str(stop)], check=False)
    assert child.returncode == -signal.SIGKILL
    assert bytes_of(root) == before
    assert rows(root) == of_index
    assert verify(root).findings == []
    assert compaction.compact(root).bundles > 0
    assert bytes_of(root) == before
    assert verify(root).notes == []


def test_a_full_disk_is_one_sentence_and_nothing_is_lost(root: Path) -> None:
    """What is merged already stays merged."""
    before = bytes_of(root)
    with stopping(9, StoreError("Cannot write x: No space left on device; make room.")):
        result = CliRunner().invoke(main, ["--store", str(root), "compact"])
    assert result.exit_code == 2
    assert "No space left" in result.stderr
    assert bytes_of(root) == before
    assert verify(root).findings == []


def test_who_has_listed_the_fragments_before_still_reads_them(root: Path) -> None:
    """Those that lay alone, and those of a bundle that was replaced since."""
    backend, before = location.locate(root), bytes_of(root)
    early = listed(root)
    compaction.compact(root)
    late = listed(root)
    fragments.remove(backend, "blocks", RUNS[0])  # writes the bundle anew
    for f in (*early, *late):
        if (f.table, f.owner) != ("blocks", RUNS[0]):
            assert fragments.whole(backend, f)
            assert fragments.read(backend, f).equals(pl.read_parquet(io.BytesIO(before[f.path])))


def test_what_is_deleted_while_it_is_merged_does_not_come_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who deletes waits for the merging, then takes it out of the bundle."""
    backend = location.locate(root)
    gone = next(f for f in listed(root) if f.table == "blocks")
    write, threads = bundles.write, []

    def interrupted(*arguments: Any) -> str:
        if arguments[1] == "blocks" and not threads:
            threads.append(threading.Thread(target=fragments.discard, args=(backend, gone)))
            threads[0].start()
            while (root / gone.path).exists():
                os.sched_yield()
        return write(*arguments)

    monkeypatch.setattr(bundles, "write", interrupted)
    compaction.compact(root)
    threads[0].join()
    assert gone.path not in {f.path for f in listed(root)}


def test_a_fragment_that_is_written_again_takes_the_place_of_the_bundled_one(root: Path) -> None:
    """At once; and once it is merged, too."""
    backend = location.locate(root)
    compaction.compact(root)
    old = next(f for f in listed(root) if f.table == "map_stats")
    changed = fragments.read(backend, old).with_columns(entropy=pl.lit(0.5, pl.Float32))
    path = fragments.write(backend, "map_stats", old.owner, old.part, changed)
    for merged in (False, True):
        assert [f.path for f in listed(root) if (f.table, f.owner, f.part) == (old.table, old.owner, old.part)] == [path]  # fmt: skip
        with attnstore.open(root) as store:
            found = store.sql("SELECT count(*) FROM map_stats WHERE entropy = 0.5").item()
        assert found == len(changed)
        assert verify(root).findings == []
        if not merged:
            other = next(f for f in listed(root) if f.table == "map_stats" and f.path != path)
            touched = fragments.read(backend, other).with_columns(max=pl.lit(1, pl.Float32))
            fragments.write(backend, "map_stats", other.owner, other.part, touched)
            compaction.compact(root)
    assert all(f.bundle for f in listed(root) if f.table == "map_stats")
    fragments.discard(backend, next(f for f in listed(root) if f.path == path))
    parts = {(f.owner, f.part) for f in listed(root) if f.table == "map_stats"}
    assert (old.owner, old.part) not in parts


def test_an_incomplete_run_goes_on(root: Path, tiny_bert: Path, made: Path) -> None:
    """Only committed blocks are merged; ingesting adds the rest, with the bytes of an undisturbed run."""
    backend, before = location.locate(root), bytes_of(root)
    last = [f for f in listed(root) if f.table == "blocks" and f.owner == RUNS[1]][-1]
    (root / last.path).unlink()
    compaction.compact(root)
    alone = {(f.table, f.part) for f in listed(root) if f.owner == RUNS[1] and not f.bundle}
    assert ("map_stats", last.part) in alone
    (summary,) = attnstore.ingest(
        root, str(tiny_bert), str(made.parent / "texts.jsonl"), max_length=48
    )
    assert summary.run == RUNS[1]
    compaction.compact(root)
    after = bytes_of(root)
    assert {p for p in after if "/ingests/" not in p} == {p for p in before if "/ingests/" not in p}
    assert verify(root).findings == []
    assert [f for f in fragments.listing(backend, "blocks") if not f.bundle] == []


def test_a_run_is_dropped_out_of_its_bundles(root: Path) -> None:
    """All of it and nothing else; it can be ingested again."""
    before = bytes_of(root)
    compaction.compact(root)
    with attnstore.open(root) as store:
        store.drop(RUNS[0])
        assert store.runs()["run"].to_list() == [RUNS[1]]
        assert set(store.sql("SELECT DISTINCT run FROM map_stats")["run"]) == {RUNS[1]}
    assert bytes_of(root) == {p: d for p, d in before.items() if f"/{RUNS[0]}/" not in p}
    assert verify(root).findings == []
    assert orphans.collect(root).files == []


def test_a_copy_of_a_compacted_store_holds_the_fragments_one_by_one(
    root: Path, tmp_path: Path
) -> None:
    """The same bytes as a copy of the store before; onto a compacted one it writes nothing twice."""
    copying.copy(root, tmp_path / "before")
    compaction.compact(root)
    copying.copy(root, tmp_path / "after")
    assert contents(tmp_path / "after") == contents(tmp_path / "before")
    assert location.version(location.locate(tmp_path / "after")) == 1
    compaction.compact(tmp_path / "before")
    before = contents(tmp_path / "before")
    again = copying.copy(root, tmp_path / "before")
    assert (again.written_files, contents(tmp_path / "before")) == (0, before)


def test_an_annotation_over_bundles(root: Path) -> None:
    """What is there is not made again; what is made anew takes the place of what is bundled."""
    compaction.compact(root)
    backend = location.locate(root)
    with attnstore.open(root) as store:
        assert [s.stored for s in store.annotate(["texts", "more"], "negation")] == [0, 0]
        spans = store.sql("SELECT count(*) FROM spans").item()
        for table in ("spans", "links"):
            fragments.remove(backend, table, "texts")
        store.catch_up()
        assert store.sql("SELECT count(*) FROM spans WHERE dataset = 'texts'").item() == 0
        store.annotate("texts", "negation")
        assert store.sql("SELECT count(*) FROM spans").item() == spans
    assert verify(root).findings == []


def test_a_statistic_is_recomputed_over_bundles(root: Path) -> None:
    """Of the blocks whose bundled fragments lack it; the numbers are those of the capture."""
    backend, question = location.locate(root), "SELECT run, example, layer, head, entropy FROM map_stats ORDER BY ALL"  # fmt: skip
    with attnstore.open(root) as store:
        captured = store.sql(question)
    for f in fragments.listing(backend, "map_stats"):
        lacking = fragments.read(backend, f).drop("entropy")
        fragments.write(backend, "map_stats", f.owner, f.part, lacking)
    compaction.compact(root)
    with attnstore.open(root) as store:
        assert store.sql("SELECT count(entropy) FROM map_stats").item() == 0
        assert sum(s.stored for s in store.recompute("entropy")) == len(captured)
        assert [s.stored for s in store.recompute("entropy")] == [0, 0]
        again = store.sql(question)
    assert again.drop("entropy").equals(captured.drop("entropy"))
    assert (again["entropy"] - captured["entropy"]).abs().max() < 2e-3  # type: ignore[operator]
    compaction.compact(root)
    with attnstore.open(root) as store:
        assert store.sql(question).equals(again)
    assert verify(root).findings == []


def test_orphans_leave_their_bundles_and_can_be_brought_back(root: Path) -> None:
    """`gc` writes each as the file that it was."""
    before = bytes_of(root)
    compaction.compact(root)
    backend = location.locate(root)
    record = next(f for f in listed(root) if (f.table, f.owner) == ("runs", RUNS[0]))
    fragments.discard(backend, record)
    found = orphans.collect(root)
    assert found.folder is not None
    moved = {f.path for f in found.files if f.path.startswith("fragments/")}
    assert moved == {p for p in before if f"/{RUNS[0]}/" in p} - {record.path}
    assert moved.isdisjoint(bytes_of(root))
    shutil.copytree(root / found.folder, root, dirs_exist_ok=True)
    assert bytes_of(root) == {p: d for p, d in before.items() if p != record.path}


def test_some_runs_alone(root: Path) -> None:
    """What belongs to no run, and other runs, stay as they are; a wrong name is one sentence."""
    attnstore.compact(root, runs=[RUNS[1]])
    assert {f.owner for f in listed(root) if f.bundle} == {RUNS[1]}
    with pytest.raises(UnknownNameError, match="did you mean tiny/texts"):
        attnstore.compact(root, runs=["tiny/text"])


def test_the_command_says_what_it_did(root: Path) -> None:
    """And before, with --dry-run, what it would do."""
    before, of_mark = contents(root), (root / location.MARK).read_bytes()
    dry = CliRunner().invoke(main, ["--store", str(root), "compact", "--dry-run"]).output
    assert (contents(root), (root / location.MARK).read_bytes()) == (before, of_mark)
    told = CliRunner().invoke(main, ["--store", str(root), "compact"]).output
    assert dry == f"Nothing was written; without --dry-run: {told}"
    merged = {p.split("/")[1] for p in files(root) if bundles.FOLDER in p}
    n = sum(bool(f.bundle) for f in listed(root))
    of_bundles = sum(bundles.FOLDER in p for p in files(root))
    assert told.startswith(f"{n} fragments of {len(merged)} tables became {of_bundles} bundles, ")
    again = CliRunner().invoke(main, ["--store", str(root), "compact"]).output
    assert again == "There are no small fragments to merge.\n"


def test_an_earlier_version_refuses_the_store_in_one_sentence(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would see no fragment in a bundle, and so no run."""
    compaction.compact(root)
    monkeypatch.setattr(location, "VERSION", 1)
    with pytest.raises(StoreError, match="has layout 2, and this attnstore knows up to 1; upgrade"):
        attnstore.open(root)


def test_damage_of_a_member_and_of_a_directory_is_named(root: Path) -> None:
    """The first by its own path, with its repair; the second by the bundle's."""
    backend = location.locate(root)
    compaction.compact(root)
    member = next(f for f in listed(root) if f.table == "map_stats")
    flip(root / member.bundle, (member.at + member.bytes // 2) / (root / member.bundle).stat().st_size)  # fmt: skip
    told = [str(f) for f in verify(root).findings]
    assert any(f"{member.path} does not match its checksum" in line for line in told)
    assert any(f"{member.bundle} does not match its checksum" in line for line in told)
    (bundle,) = bundles.listing(backend, "ingests")
    flip(root / bundle.path, 40 / bundle.bytes)
    told = [str(f) for f in verify(root).findings]
    assert any(f"{bundle.path} is damaged" in line for line in told)
    assert bundle.path in index.catch_up(backend).damaged
    assert bundle.path in compaction.compact(root).kept


def test_a_damaged_block_of_a_bundle_is_ingested_again(
    root: Path, tiny_bert: Path, made: Path
) -> None:
    """Then the bundle is written without the damage."""
    compaction.compact(root)
    member = next(f for f in listed(root) if (f.table, f.owner) == ("map_stats", RUNS[1]))
    size = (root / member.bundle).stat().st_size
    flip(root / member.bundle, (member.at + member.bytes // 2) / size)
    attnstore.ingest(root, str(tiny_bert), str(made.parent / "texts.jsonl"), max_length=48)
    (again,) = [f for f in listed(root) if f.path == member.path]
    assert not again.bundle
    assert fragments.whole(location.locate(root), again)
    compaction.compact(root)
    assert verify(root).findings == []


def test_a_bundle_is_full_at_some_size(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merging again joins those that are half full at most, and leaves the others."""
    before = bytes_of(root)
    stats = sum(f.bytes for f in listed(root) if f.table == "map_stats")
    monkeypatch.setattr(bundles, "FULL", stats * 3 // 5)
    compaction.compact(root)
    backend = location.locate(root)
    several = [t for t in TABLES if len(bundles.listing(backend, t)) > 1]
    assert "map_stats" in several
    assert bytes_of(root) == before
    compaction.compact(root)
    assert compaction.compact(root).bundles == 0
    assert bytes_of(root) == before


def test_a_bundle_that_is_replaced_while_files_are_listed_hides_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the new one holds is listed, though the folder was looked into before it was there."""
    compaction.compact(root)
    backend, before = location.locate(root), {f.path for f in listed(root)}
    walk, replaced = folder._walk, []

    def interrupted(path: Path) -> Iterator[os.DirEntry[str]]:
        for entry in list(walk(path)):
            if bundles.folder("blocks") in entry.path and not replaced:
                replaced.append(entry.path)
                bundles.take_out(backend, "blocks", lambda m: m.owner == RUNS[0])
            yield entry

    monkeypatch.setattr(folder, "_walk", interrupted)
    during = {f.path for f in listed(root)}
    assert replaced
    assert during == {p for p in before if not p.startswith(f"fragments/blocks/{RUNS[0]}/")}


def test_a_bundle_that_is_replaced_while_it_is_checked_is_no_damage(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`verify` beside a process that deletes a run or merges finds nothing."""
    compaction.compact(root)
    crc32c, backend, replaced = Folder.crc32c, location.locate(root), []

    def interrupted(self: Folder, path: str) -> int | None:
        if path.startswith(bundles.folder("links")) and not replaced:
            replaced.append(path)
            bundles.take_out(backend, "links", lambda m: m.owner == "more")
        return crc32c(self, path)

    monkeypatch.setattr(Folder, "crc32c", interrupted)
    told = [str(f) for f in verify(root).findings]
    assert replaced
    assert not [line for line in told if bundles.FOLDER in line]


def test_a_run_is_dropped_beside_a_damaged_member(root: Path) -> None:
    """Which stays as it is, in a bundle that other programs still read the rest of."""
    backend = location.locate(root)
    compaction.compact(root)
    member = next(f for f in listed(root) if (f.table, f.owner) == ("map_stats", RUNS[1]))
    size, whole = (root / member.bundle).stat().st_size, fragments.counts(backend, listed(root))
    flip(root / member.bundle, (member.at + member.bytes - 2) / size)  # of the magic at its end
    with attnstore.open(root) as store:
        store.drop(RUNS[0])
    found = [f for f in listed(root) if f.table == "map_stats"]
    assert [f.path for f in found if not fragments.whole(backend, f)] == [member.path]
    (bundle,) = bundles.listing(backend, "map_stats")
    expected = sum(whole[f.path] for f in found) - whole[member.path]
    assert len(pl.read_parquet(root / bundle.path, use_pyarrow=True)) == expected


def test_a_bundle_with_a_damaged_end_is_written_anew(root: Path) -> None:
    """As `verify` says, though nothing is to be merged with it."""
    before = bytes_of(root)
    compaction.compact(root)
    (bundle,) = bundles.listing(location.locate(root), "inputs")
    flip(root / bundle.path, (bundle.bytes - 40) / bundle.bytes)
    assert "run `attnstore compact`" in str(verify(root).findings[0])
    compaction.compact(root)
    assert verify(root).findings == []
    assert bytes_of(root) == before


def test_a_bundle_that_is_replaced_twice_while_a_member_is_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The member is read where it lies then; the index does not take it for unreadable."""
    compaction.compact(root)
    backend = location.locate(root)
    wanted = next(f for f in listed(root) if (f.table, f.owner) == ("map_stats", RUNS[1]))
    expected, read = fragments.data(backend, wanted), bundles.read
    gone = iter([f.part for f in listed(root) if (f.table, f.owner) == ("map_stats", RUNS[0])][:2])

    def interrupted(*arguments: Any) -> bytes:
        if arguments[2].name in wanted.path and (part := next(gone, None)):
            monkeypatch.setattr(bundles, "read", read)
            bundles.take_out(backend, "map_stats", lambda m: (m.owner, m.part) == (RUNS[0], part))
            monkeypatch.setattr(bundles, "read", interrupted)
        return read(*arguments)

    monkeypatch.setattr(bundles, "read", interrupted)
    assert fragments.data(backend, wanted) == expected
    assert next(gone, None) is None
