"""Rules of analyses of one's own, in a folder or in a store: found everywhere, and only reading views."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import attnstore
from attnstore.cli.main import main
from attnstore.errors import QueryError, UnknownNameError, UsageError

RUN = "tiny/sample"
HEADER = "-- title: Runs\n-- source: this test\n-- reads: runs\n-- column run VARCHAR: Run\n"
GOOD = HEADER.replace("-- column", "-- param name_like VARCHAR = %: Pattern\n-- column") + (
    "SELECT run FROM runs WHERE run LIKE $name_like ORDER BY run"
)


@pytest.fixture
def root(sample_store: Path, tmp_path: Path) -> Path:
    root = Path(shutil.copytree(sample_store, tmp_path / "store"))
    (root / "analysis").mkdir()
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


@pytest.fixture(params=["store", "folder", "variable"])
def store(
    request: pytest.FixtureRequest, root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[attnstore.Store]:
    """A store with analysis my_runs, once in each of the places."""
    place = root / "analysis" if request.param == "store" else folder
    (place / "my_runs.sql").write_text(GOOD)
    if request.param == "variable":
        monkeypatch.setenv("ATTNSTORE_ANALYSES", str(folder))
    with attnstore.open(root, analyses=folder if request.param == "folder" else None) as opened:
        yield opened


def test_an_own_analysis_is_asked_listed_and_called(store: attnstore.Store) -> None:
    """By `query`, in `analyses`, and in SQL, with its parameters."""
    assert store.query("my_runs")["run"].to_list() == [RUN]
    assert store.query("my_runs", name_like="x%").is_empty()
    assert "my_runs" in store.analyses()["name"].to_list()
    assert store.sql("FROM my_runs(name_like := 'tiny%')")["run"].to_list() == [RUN]
    with store.connect() as con:
        assert con.sql("FROM my_runs()").fetchall() == [(RUN,)]


def test_an_own_analysis_may_call_others(root: Path) -> None:
    """Its kept answers follow what it calls."""
    (root / "analysis" / "my_runs.sql").write_text(GOOD)
    (root / "analysis" / "n_runs.sql").write_text(
        HEADER.replace("run VARCHAR", "n BIGINT") + "SELECT count(*) AS n FROM my_runs() ORDER BY n"
    )
    with attnstore.open(root) as store:
        assert store.query("n_runs").item() == 1
        (root / "analysis" / "my_runs.sql").write_text(GOOD.replace("WHERE", "WHERE false AND"))
        assert store.query("n_runs").item() == 0


def test_an_edited_file_counts_at_once(root: Path) -> None:
    """In the session that is open."""
    file = root / "analysis" / "my_runs.sql"
    file.write_text(GOOD)
    with attnstore.open(root) as store:
        assert len(store.sql("FROM my_runs()")) == len(store.query("my_runs")) == 1
        file.write_text(GOOD.replace("ORDER BY run", "LIMIT 0"))
        assert len(store.sql("FROM my_runs()")) == len(store.query("my_runs")) == 0


def test_a_name_of_attnstore_is_refused(root: Path) -> None:
    """In a sentence; the one that ships is asked."""
    (root / "analysis" / "head_entropy.sql").write_text(GOOD)
    with attnstore.open(root) as store:
        (problem,) = store.named_analyses.problems()
        assert "analysis/head_entropy.sql is left out" in problem
        assert store.query("head_entropy", run=RUN).columns[:2] == ["layer", "head"]


def test_a_broken_header_names_file_and_line(root: Path) -> None:
    """And breaks no other analysis."""
    (root / "analysis" / "broken.sql").write_text("-- title: T\n-- sauce: S\nSELECT 1")
    (root / "analysis" / "count.sql").write_text("-- nothing")
    (root / "analysis" / "my_runs.sql").write_text(GOOD)
    with attnstore.open(root) as store:
        assert "broken" not in store.analyses()["name"].to_list()
        assert len(store.query("my_runs")) == len(store.sql("FROM my_runs()")) == 1
        assert store.sql("SELECT count(*) AS n FROM runs").item() == 1
        for ask in (lambda: store.query("broken"), lambda: store.sql("FROM broken()")):
            with pytest.raises(UsageError, match=r"Line 2 of analysis/broken\.sql"):
                ask()
        assert len(store.named_analyses.problems()) == 2


ATTACKS = {
    "a file": "SELECT content FROM read_text('{secret}')",
    "a file by name": "FROM '{secret}'",
    "a file in a scalar": "SELECT (SELECT content FROM read_text('{secret}')) AS run",
    "a file hidden by WITH": (
        'WITH a AS (WITH "{secret}" AS (SELECT 1) FROM "{secret}") SELECT * FROM "{secret}"'
    ),
    "a query in a text": "FROM query('SELECT 1')",
    "a table of one's own": "FROM mine",
    "the index's tables": "FROM idx.core.runs",
    "DuckDB's tables": "FROM duckdb_settings()",
    "a description": "FROM (DESCRIBE runs)",
    "something written": "WITH q AS (INSERT INTO mine VALUES ('x') RETURNING *) FROM q",
    "a file made": "COPY (SELECT 1) TO '{out}'",
    "a setting": "SET threads = 1",
    "two statements": "SELECT run FROM runs; DROP VIEW runs",
    "a macro that ends early": "SELECT run FROM runs); DROP VIEW runs; --",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_file_in_a_store_only_reads_views(root: Path, tmp_path: Path, attack: str) -> None:
    """Asked, called in SQL, and called on a connection that may read and write files."""
    secret, out = tmp_path / "secret.csv", tmp_path / "out.csv"
    secret.write_text("run\nsecret\n")
    text = ATTACKS[attack].format(secret=secret, out=out)
    (root / "analysis" / "evil.sql").write_text(HEADER + text)
    with attnstore.open(root) as store:
        for ask in (lambda: store.query("evil"), lambda: store.sql("FROM evil()")):
            with pytest.raises(QueryError, match=r"analysis/evil\.sql"):
                ask()
        with store.connect() as con:
            con.execute("CREATE TABLE mine AS SELECT 'own' AS run")
            with pytest.raises(QueryError, match=r"analysis/evil\.sql"):
                con.sql("FROM evil()")
            assert con.sql("FROM mine").fetchall() == [("own",)]
        assert len(store.runs()) == 1
    assert not out.exists()


@pytest.mark.parametrize("name", ["range", "read_csv", "query", "unnest"])
def test_a_function_of_duckdb_is_not_replaced(root: Path, name: str) -> None:
    """A file of its name is refused."""
    (root / "analysis" / f"{name}.sql").write_text(GOOD)
    with attnstore.open(root) as store:
        with pytest.raises(UsageError, match="name of a function of DuckDB"):
            store.query(name)
        with pytest.raises(UsageError, match="name of a function of DuckDB"):
            store.sql(f"FROM {name}(1)")


def test_an_analysis_that_calls_itself_is_refused(root: Path) -> None:
    """Also by way of another."""
    (root / "analysis" / "first.sql").write_text(HEADER + "FROM second()")
    (root / "analysis" / "second.sql").write_text(HEADER + "FROM first()")
    with attnstore.open(root) as store, pytest.raises(QueryError, match="calls itself"):
        store.query("first")


def test_a_link_in_a_store_is_no_analysis(root: Path, tmp_path: Path) -> None:
    """What it leads to is not the store's, and is not shown either."""
    (tmp_path / "secret").write_text("root:x:0:0")
    (root / "analysis" / "linked.sql").symlink_to(tmp_path / "secret")
    with attnstore.open(root) as store:
        assert store.named_analyses.problems() == []
        with pytest.raises(UnknownNameError):
            store.query("linked")


def test_a_file_that_is_too_large_is_left_out(root: Path) -> None:
    """In a sentence, without being read."""
    file = root / "analysis" / "large.sql"
    with file.open("wb") as large:
        large.truncate(1 << 32)
    with attnstore.open(root) as store:
        assert "large.sql has 4,294,967,296 bytes" in store.named_analyses.problems()[0]
        assert "large" not in store.analyses()["name"].to_list()


def test_a_name_that_sql_cannot_have_is_left_out(root: Path) -> None:
    """In a sentence."""
    (root / "analysis" / "my-runs.sql").write_text(GOOD)
    with attnstore.open(root) as store:
        assert "letters, digits and _" in store.named_analyses.problems()[0]


def test_the_command_line_finds_own_analyses(root: Path, folder: Path) -> None:
    """Of the store, and of --analyses; problems are notes."""
    (root / "analysis" / "my_runs.sql").write_text(GOOD)
    (folder / "others.sql").write_text(GOOD)
    (folder / "drift.sql").write_text(GOOD)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["--store", str(root), "query", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    listed = run("--analyses", str(folder))
    assert "my_runs" in listed
    assert "others" in listed
    assert "drift.sql is left out" in listed
    rows = json.loads(run("others", "--analyses", str(folder), "--format", "json"))
    assert rows == [{"run": RUN}]
