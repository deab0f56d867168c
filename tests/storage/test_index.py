"""Rules of `attnstore.storage.index`: a cache of the fragments that readers and writers share in peace."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
import tiny
from helpers import Child, contents, flip, shrink, write_texts

import attnstore
from attnstore import resources
from attnstore.errors import StoreError, UnknownNameError
from attnstore.storage import fragments, index, location

VIEWS = (
    "models",
    "datasets",
    "examples",
    "runs",
    "inputs",
    "tokens",
    "map_stats",
    "offsets",
    "blocks",
    "ingests",
)
"""Views that need no weights."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.make(tmp_path / "bert", "bert")


@pytest.fixture
def root(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with one run of 20 inputs in several blocks."""
    shrink(monkeypatch)
    add(tmp_path / "store", model, "first")
    return tmp_path / "store"


def add(root: Path, model: Path, name: str, n: int = 20) -> None:
    texts = write_texts(root.parent / f"{name}.jsonl", n, seed=len(name))
    attnstore.ingest(root, str(model), str(texts), max_length=64)


def answers(store: attnstore.Store) -> dict[str, Any]:
    """Every row of those views."""
    found = {view: store.sql(f"FROM {view} ORDER BY ALL") for view in VIEWS}
    return {view: frame.to_dict(as_series=False) for view, frame in found.items()}


@contextmanager
def plain_duckdb(root: Path) -> Iterator[None]:
    """Another program that has the index open, read-only, as a person in a duckdb shell."""
    text = (
        "import duckdb, sys\n"
        f"con = duckdb.connect({str(root / index.FILE)!r}, read_only=True)\n"
        "print(con.execute('SELECT count(*) FROM inputs').fetchall(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", text]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline()
        yield
        other.stdin.close()


# A cache


def test_plain_duckdb_answers_every_view_that_needs_no_weights(root: Path) -> None:
    """The file itself holds them, with the rows that a session sees."""
    with attnstore.open(root) as store:
        expected = answers(store)
    with duckdb.connect(str(root / index.FILE), read_only=True) as con:
        for view, rows in expected.items():
            assert con.sql(f"FROM {view} ORDER BY ALL").pl().to_dict(as_series=False) == rows


@pytest.mark.parametrize("lost", [[index.FILE], [index.SEAL], [index.FILE, index.SEAL, index.LOCK]])
def test_a_deleted_index_is_made_again(root: Path, lost: list[str]) -> None:
    """From the fragments, with the same answers; nothing of the data is touched."""
    with attnstore.open(root) as store:
        expected, before = answers(store), contents(root)
    for name in lost:
        (root / name).unlink()
    with attnstore.open(root) as store:
        assert answers(store) == expected
        assert store.behind is None
    assert contents(root) == before
    assert index.sealed(location.locate(root))


def test_reindexing_gives_the_same_answers(root: Path, model: Path) -> None:
    """What was loaded bit by bit equals what is loaded at once."""
    add(root, model, "second")
    with attnstore.open(root) as store:
        expected = answers(store)
        store.reindex()
        assert answers(store) == expected


def test_an_index_of_another_schema_is_made_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new version of attnstore brings its own tables; the fragments stay."""
    real = resources.sql_files
    more = tmp_path / "9-more.sql"
    more.write_text("CREATE VIEW one_more AS SELECT count(*) AS n FROM core.inputs;\n")
    monkeypatch.setattr(
        resources, "sql_files", lambda k: real(k) | ({"9": more} if k == "schema/index" else {})
    )
    with attnstore.open(root) as store:
        assert store.sql("FROM one_more").item() == 20
    monkeypatch.undo()
    with attnstore.open(root) as store, pytest.raises(Exception, match="one_more"):
        store.sql("FROM one_more")


def test_catching_up_loads_only_what_is_new(root: Path, model: Path) -> None:
    """Nothing when nothing has changed; one fragment when one was written; dropped rows go."""
    assert index.catch_up(location.locate(root)) == index.Change(0, 0, [])
    rows = pl.DataFrame(
        [{"run": "bert/first", "example": 0, "layer": 0, "head": 1, "label": "block"}]
    )
    path = fragments.write(location.locate(root), "labels", "bert/first", "anna", rows)
    assert index.catch_up(location.locate(root)) == index.Change(1, 0, [])
    fragments.write(
        location.locate(root), "labels", "bert/first", "anna", rows.with_columns(head=2)
    )
    assert index.catch_up(location.locate(root)) == index.Change(1, 1, [])
    with duckdb.connect(str(root / index.FILE), read_only=True) as con:
        assert con.execute("SELECT head FROM core.labels").fetchall() == [(2,)]
    assert not (root / path).exists()


def test_a_flipped_byte_in_the_index_is_seen_by_its_seal(root: Path) -> None:
    """And making it anew gives the same answers: no data was in it alone."""
    with attnstore.open(root) as store:
        expected = answers(store)
    assert index.sealed(location.locate(root)) is True
    flip(root / index.FILE, 0.6)
    assert index.sealed(location.locate(root)) is False
    index.rebuild(location.locate(root))
    assert index.sealed(location.locate(root)) is True
    with attnstore.open(root) as store:
        assert answers(store) == expected


# Readers and writers


def whole_blocks(store: attnstore.Store) -> int:
    """Inputs stored; every view must agree that there are whole blocks and nothing else."""
    stored = store.sql(
        "SELECT b.run, block, examples, count(DISTINCT example) AS inputs, count(layer) AS stats "
        "FROM blocks b LEFT JOIN inputs i USING (run, block) "
        "LEFT JOIN map_stats s USING (run, example) GROUP BY ALL"
    )
    assert (stored["examples"] == stored["inputs"]).all()
    assert (stored["examples"] * 8 == stored["stats"]).all()
    return int(stored["examples"].sum())


@pytest.mark.slow
def test_queries_run_while_another_process_ingests(root: Path, model: Path) -> None:
    """They see more and more whole blocks with their weights, and never an error."""
    texts = write_texts(root.parent / "many.jsonl", 400, longest=16)
    child, seen, polls = Child(root, model, texts), [], 0
    with attnstore.open(root) as held:
        while child.process.is_alive():
            polls += 1
            with attnstore.open(root) as store:
                seen.append(whole_blocks(store) - 20)
                total = store.sql(
                    "SELECT sum(list_sum(weights)) / sum(length) FROM maps WHERE example % 97 = 0"
                ).item()
                assert total == pytest.approx(1, abs=1e-3)
            assert held.sql("SELECT count(*) FROM maps WHERE run = 'bert/first'").item() == 160
    assert child.error() is None
    assert polls > 2
    assert seen == sorted(seen)
    assert any(0 < n < 400 for n in seen), "some polls fell into the middle"
    with attnstore.open(root) as store:
        assert whole_blocks(store) == 420


@pytest.mark.slow  # twice 5 s of waiting for the reader
def test_a_connection_held_open_keeps_nobody_from_ingesting(root: Path, model: Path) -> None:
    """The data is stored; readers go on with what they have, told that the index is behind."""
    with attnstore.open(root) as reader, reader.connect() as con:
        child = Child(root, model, write_texts(root.parent / "later.jsonl", 10))
        assert child.error() is None
        assert con.sql("SELECT count(*) FROM maps").fetchall() == [(160,)]
        late = attnstore.Store(location.locate(root))
        assert "this process" in late.behind
        assert late.runs()["run"].to_list() == ["bert/first"]
    with attnstore.open(root) as store:
        assert store.behind is None
        assert store.runs()["stored"].to_list() == [20, 10]


def test_an_index_open_in_plain_duckdb_keeps_nobody_from_anything(root: Path, model: Path) -> None:
    """Ingesting ends well, opening works with `behind` set, and later the index catches up."""
    with plain_duckdb(root):
        add(root, model, "second")
        with attnstore.open(root) as store:
            assert re.search(r"open in process \d+; close it there", store.behind)
            assert store.runs()["run"].to_list() == ["bert/first"]
            assert store.maps("bert/first", 3).shape[0] == 2
    with attnstore.open(root) as store:
        assert store.behind is None
        assert store.runs()["stored"].to_list() == [20, 20]


def test_a_store_opened_before_sees_what_another_caught_up(root: Path, model: Path) -> None:
    """Opening brings the index up to date, and every session reads the index anew per query."""
    with attnstore.open(root) as early:
        with pytest.raises(UnknownNameError):
            early.run("bert/second")
        add(root, model, "second")
        assert early.run("bert/second").record["stored"] == 20
        assert early.maps("bert/second", 5).shape[:2] == (2, 4)


def test_a_writer_cut_short_leaves_an_index_that_is_made_again(root: Path) -> None:
    """A WAL or a half-written new file beside it are leavings, not obstacles."""
    with attnstore.open(root) as store:
        expected = answers(store)
    (root / index.SEAL).unlink()
    (root / f"{index.FILE}.new").write_bytes(b"half")
    (root / f"{index.FILE}.wal").write_bytes(b"\x00" * 100)
    with attnstore.open(root) as store:
        assert answers(store) == expected
    assert not (root / f"{index.FILE}.wal").exists()


def test_catching_up_waits_for_a_query_to_end(root: Path) -> None:
    """For as long as it is told; then it says who reads."""
    rows = pl.DataFrame(
        [{"run": "bert/first", "example": 0, "layer": 0, "head": 1, "label": "block"}]
    )
    fragments.write(location.locate(root), "labels", "bert/first", "anna", rows)
    with index.reading(location.locate(root)):
        began = time.monotonic()
        with pytest.raises(StoreError, match="in use by this process"):
            index.catch_up(location.locate(root), wait=0.2)
        assert time.monotonic() - began >= 0.2
    assert index.catch_up(location.locate(root)).loaded == 1


def test_a_stray_file_among_fragments_is_left_out(root: Path) -> None:
    """Whatever its place and name, and a link to nothing."""
    (root / "fragments" / "x.parquet").write_bytes(b"?")
    (root / "fragments" / "runs" / "y.parquet").symlink_to(root / "nowhere")
    with attnstore.open(root) as store:
        assert not store.runs().is_empty()
