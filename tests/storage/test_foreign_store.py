"""Rules for a store that came from elsewhere: opening it runs nothing of it and stays within it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
import pytest
from helpers import flip

import attnstore
from attnstore.errors import AttnstoreError, DamageError
from attnstore.maintenance.verify import verify
from attnstore.storage import (
    array_shape,
    arrays,
    fragments,
    index,
    index_schema,
    index_seal,
    location,
)

RUN = "tiny/sample"


@pytest.fixture
def root(sample_store: Path, tmp_path: Path) -> Path:
    """A copy of a store with one run, its index rebuilt: nothing foreign about it."""
    root = Path(shutil.copytree(sample_store, tmp_path / "store"))
    index.catch_up(location.locate(root))
    return root


def edit(root: Path, *statements: str) -> None:
    """Change the index with plain DuckDB."""
    with duckdb.connect(str(root / index.FILE)) as con:
        for statement in statements:
            con.execute(statement)


def forge(root: Path) -> None:
    """Give the index a seal that fits its bytes and its time of writing, as an attacker can.

    The time of change is the system's, and the attacker's machine has another.
    """
    index_seal.write(root / index.SEAL, root / index.FILE)
    line, _, blocks = (root / index.SEAL).read_bytes().partition(b"\n")
    value, size, modified, changed = line.split()
    forged = b" ".join((value, size, modified, str(int(changed) - 10**9).encode()))
    (root / index.SEAL).write_bytes(forged + b"\n" + blocks)


def unwritable(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Let the index not be rebuilt, as in a folder that cannot be written."""

    def refuse(*_: object, **__: object) -> None:
        raise attnstore.errors.StoreError("The folder cannot be written.")

    monkeypatch.setattr(index, "rebuild", refuse)


CODE: dict[str, Callable[[str], list[str]]] = {
    "a view's name that is SQL": lambda file: [
        f"""CREATE VIEW "x"" AS SELECT 1; COPY (SELECT 42) TO '{file}'; --" AS SELECT 1"""
    ],
    "a view that reads a file": lambda file: [
        "DROP VIEW runs",
        f"CREATE VIEW runs AS SELECT content AS run FROM read_text('{Path(__file__)}')",
    ],
    "a table that has become a view": lambda file: [
        "ALTER TABLE core.made_by RENAME TO old",
        f"CREATE VIEW core.made_by AS SELECT content AS schema FROM read_text('{Path(__file__)}')",
    ],
    "a macro under the name of a function": lambda file: [
        f"CREATE MACRO format(x) AS (SELECT content FROM read_text('{Path(__file__)}'))"
    ],
    "a default that is computed": lambda file: [
        "ALTER TABLE core.labels ALTER COLUMN note SET DEFAULT random()::VARCHAR"
    ],
    "a sequence": lambda file: ["CREATE SEQUENCE core.numbers"],
    "another table": lambda file: ["CREATE TABLE core.more AS SELECT 1 AS x"],
}
"""What the index of a store may hold beside rows."""


@pytest.mark.parametrize("what", sorted(CODE))
def test_nothing_that_an_index_holds_beside_rows_is_used(
    root: Path, tmp_path: Path, what: str
) -> None:
    """It is rebuilt from the fragments before a question is asked; the answers are theirs."""
    with attnstore.open(root) as store:
        expected = store.sql("FROM runs").rows(), store.views()
    edit(root, *CODE[what](str(tmp_path / "written")))
    forge(root)
    with attnstore.open(root) as store:
        assert (store.sql("FROM runs").rows(), store.views()) == expected
    assert not (tmp_path / "written").exists()
    assert verify(root).findings == []
    assert index.sealed(location.locate(root))


@pytest.mark.parametrize("what", sorted(CODE))
def test_where_it_cannot_be_rebuilt_such_an_index_is_refused(
    root: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that cannot be written is no way around it: no session and no connection opens."""
    edit(root, *CODE[what](str(tmp_path / "written")))
    forge(root)
    unwritable(monkeypatch, root)
    with pytest.raises(AttnstoreError, match="cannot be written"):
        attnstore.open(root)
    assert not (tmp_path / "written").exists()


def test_where_it_cannot_be_rebuilt_an_index_of_rows_alone_is_used(
    sample_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy on a disk that cannot be written is read, and told to be as it came."""
    root = Path(shutil.copytree(sample_store, tmp_path / "copy"))
    unwritable(monkeypatch, root)
    with attnstore.open(root) as store:
        assert store.sql("FROM runs").height == 1
        assert store.sql("SELECT count(*) FROM maps").item() == 64
        assert "could not be brought up to date" in str(store.behind)
    flip(root / index.FILE, 0.7)
    with pytest.raises(AttnstoreError):
        attnstore.open(root)


def test_an_index_that_another_program_changed_is_not_read(root: Path) -> None:
    """Not by a new session, not by one that is open, and not with its time of writing put back."""
    with attnstore.open(root) as store:
        assert store.sql("SELECT max(self) < 2 FROM map_stats").item()
        stat = (root / index.FILE).stat()
        edit(root, "UPDATE core.map_stats SET self = 2")
        os.utime(root / index.FILE, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert store.sql("SELECT max(self) < 2 FROM map_stats").item()
    assert index.sealed(location.locate(root))


def test_verify_names_an_index_that_another_program_changed(root: Path) -> None:
    """With its time of writing put back, too; the next ingestion does not seal it anew."""
    stat = (root / index.FILE).stat()
    edit(root, "UPDATE core.map_stats SET self = 0.1")
    os.utime(root / index.FILE, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert "index.duckdb does not match its checksum" in str(verify(root).findings[0])
    index.catch_up(location.locate(root))
    with attnstore.open(root) as store:
        assert store.sql("SELECT count(DISTINCT self) > 1 FROM map_stats").item()


@pytest.mark.parametrize("at", [0.2, 0.9])
def test_a_damaged_seal_is_a_finding(root: Path, at: float) -> None:
    """An index without a seal to compare it with has not been checked."""
    flip(root / index.SEAL, at)
    assert "index.crc32c is damaged" in str(verify(root).findings[0])
    index.rebuild(location.locate(root))
    assert verify(root).findings == []


def test_a_log_beside_the_index_is_not_replayed(root: Path) -> None:
    """DuckDB would run what another program left there; the index is rebuilt without it."""
    (root / f"{index.FILE}.wal").write_bytes(b"\0" * 64)
    with attnstore.open(root) as store:
        assert store.sql("FROM runs").height == 1
    assert not (root / f"{index.FILE}.wal").exists()


@pytest.mark.parametrize(
    "name", ["../../secret/sample", "/etc/x", "tiny/../../x", "other/sample", "a\0b"]
)
def test_a_record_that_names_another_run_is_damage(root: Path, name: str) -> None:
    """A run's arrays lie in its own folder, whatever its record says; the rest can be read."""
    (fragment,) = fragments.listing(location.locate(root), "runs")
    record = fragments.read(location.locate(root), fragment).with_columns(pl.lit(name).alias("run"))
    fragments.write(location.locate(root), "runs", RUN, fragment.part, record)
    with attnstore.open(root) as store:
        assert store.sql("FROM runs").is_empty()
        assert store.sql("FROM examples").height > 0
        assert "damaged" in str(store.behind)
    assert any(f"is no record of run {RUN}" in str(f) for f in verify(root).findings)


@pytest.mark.parametrize("precision", ["../x", "", None])
def test_a_record_of_no_precision_is_made_again(
    root: Path, tiny_bert: Path, precision: str | None
) -> None:
    """Ingesting the same again does not build arrays by it."""
    (fragment,) = fragments.listing(location.locate(root), "runs")
    forged = pl.lit(precision, pl.String).alias("precision")
    fragments.write(
        location.locate(root),
        "runs",
        RUN,
        fragment.part,
        fragments.read(location.locate(root), fragment).with_columns(forged),
    )
    attnstore.ingest(root, str(tiny_bert), "sample", limit=8, max_length=64, precision="float32")
    assert verify(root).findings == []
    with attnstore.open(root) as store:
        assert store.sql("SELECT run, precision, state FROM runs").rows() == [
            (RUN, "float32", "complete")
        ]


@pytest.mark.parametrize("name", ["../secret", "/etc", "a/../../b", ".", "", "a//b", "a\0b"])
def test_arrays_outside_the_store_are_never_opened(root: Path, name: str) -> None:
    """Even where somebody asks for them by name."""
    shape = array_shape.planned("float32", [0], [0], 1, 64)
    with pytest.raises(DamageError, match="is no name of a run"):
        arrays.open_run(location.locate(root), name, shape)


def test_the_views_of_a_session_are_the_packages_own(root: Path) -> None:
    """The names come from its SQL files: those that the index has when the package made it."""
    with duckdb.connect(str(root / index.FILE), read_only=True) as con:
        made = con.execute(
            "SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'main'"
        ).fetchall()
        assert sorted(index_schema.views()) == sorted(name for (name,) in made)
        assert index_schema.nothing_else(con)


def test_external_access_is_off_before_the_index_is_attached(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands in it."""
    seen: list[str] = []
    look = attnstore.query.session.Session._load_runs

    def spy(session: attnstore.query.session.Session) -> None:
        text = "SELECT current_setting('enable_external_access')::VARCHAR"
        seen.append(session.con.execute(text).fetchall()[0][0])
        look(session)

    monkeypatch.setattr(attnstore.query.session.Session, "_load_runs", spy)
    with attnstore.open(root) as store:
        store.runs()
    assert set(seen) == {"false"}
