"""Rules of hostile SQL: a question reads the views and nothing else, however it is written.

Beside the attempts of test_session and test_web_safety: functions that read, nested and commented
statements, names of Python's variables, settings and extensions.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from helpers import contents

import attnstore
from attnstore.cli.main import main
from attnstore.errors import QueryError

SECRET = "s3cret"

READING = (
    "FROM read_csv_auto('{dir}/mine.csv')",
    "FROM read_csv(['{dir}/mine.csv', '{dir}/mine.csv'])",
    "FROM read_csv('{dir}/*.csv')",
    "FROM read_csv('{root}/../mine.csv')",
    "FROM read_csv('file://{dir}/mine.csv')",
    "FROM read_csv('/dev/stdin')",
    "FROM read_csv('/proc/self/environ')",
    "FROM read_json_objects('{dir}/mine.csv')",
    "FROM read_ndjson('{dir}/mine.csv')",
    "FROM read_parquet('{dir}/mine.parquet')",
    "FROM parquet_scan('{dir}/mine.parquet')",
    "FROM parquet_schema('{dir}/mine.parquet')",
    "FROM parquet_metadata('{dir}/mine.parquet')",
    "FROM parquet_file_metadata('{dir}/mine.parquet')",
    "FROM parquet_kv_metadata('{dir}/mine.parquet')",
    "FROM read_text('{dir}/mine.csv')",
    "FROM read_blob('{dir}/mine.csv')",
    "FROM sniff_csv('{dir}/mine.csv')",
    "FROM glob('{dir}/**')",
    "FROM '{dir}/mine.csv'",
    'FROM "{dir}/mine.csv"',
    "SELECT * FROM runs, '{dir}/mine.csv'",
    "WITH a AS (FROM read_text('{dir}/mine.csv')) FROM a",
    "SELECT (SELECT content FROM read_text('{dir}/mine.csv'))",
    "SELECT 1 WHERE EXISTS (FROM '{dir}/mine.csv')",
    "FROM query('FROM read_text(''{dir}/mine.csv'')')",
    "FROM query_table('{dir}/mine.csv')",
    "FROM query_table(['{dir}/mine.csv'])",
    "EXPLAIN ANALYZE FROM read_text('{dir}/mine.csv')",
    "DESCRIBE FROM '{dir}/mine.csv'",
    "SUMMARIZE FROM '{dir}/mine.csv'",
    "PIVOT '{dir}/mine.csv' ON a",
    "FROM frame",
    "FROM list_of_rows",
    "SELECT getenv('ATTNSTORE_SECRET')",
    "FROM sqlite_scan('{dir}/mine.csv', 't')",
    "FROM postgres_scan('', 'public', 't')",
    "FROM delta_scan('{dir}')",
    "FROM iceberg_scan('{dir}')",
    "FROM read_parquet('s3://bucket/x.parquet')",
    "FROM read_csv('https://127.0.0.1:1/x.csv')",
)
WRITING = (
    "COPY (SELECT 1) TO '{dir}/out.csv'",
    "COPY (SELECT 1) TO '{dir}/out' (FORMAT parquet, PARTITION_BY (a))",
    "COPY runs FROM '{dir}/mine.csv'",
    "COPY FROM DATABASE idx TO memory",
    "EXPORT DATABASE '{dir}/out'",
    "IMPORT DATABASE '{dir}'",
    "ATTACH '{dir}/out.duckdb' AS other",
    "ATTACH ':memory:' AS other",
    "ATTACH IF NOT EXISTS '{root}/index.duckdb' AS other (READ_WRITE)",
    "DETACH idx",
    "INSTALL httpfs",
    "FORCE INSTALL httpfs",
    "INSTALL x FROM '{dir}'",
    "LOAD httpfs",
    "LOAD '{dir}/x.duckdb_extension'",
    "UPDATE EXTENSIONS",
    "SET memory_limit = '1TB'",
    "SET GLOBAL allowed_paths = ['/']",
    "SET VARIABLE a = 1",
    "RESET enable_external_access",
    "PRAGMA enable_profiling",
    "PRAGMA profiling_output = '{dir}/out.json'",
    "CREATE SECRET (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "CREATE TABLE t AS FROM runs",
    "CREATE TEMP VIEW runs AS SELECT 1",
    "CREATE MACRO now() AS 1",
    "CREATE SEQUENCE s",
    "CREATE TYPE e AS ENUM ('a')",
    "ALTER VIEW runs RENAME TO walks",
    "INSERT INTO idx.core.runs SELECT * FROM idx.core.runs",
    "UPDATE idx.core.runs SET run = 'x'",
    "DELETE FROM idx.core.runs",
    "TRUNCATE idx.core.runs",
    "MERGE INTO idx.core.runs r USING (SELECT 1 AS a) s ON true WHEN MATCHED THEN DELETE",
    "WITH x AS (DELETE FROM idx.core.runs RETURNING *) FROM x",
    "VACUUM ANALYZE",
    "CHECKPOINT",
    "FORCE CHECKPOINT idx",
    "CALL checkpoint('idx')",
    "CALL force_checkpoint('idx')",
    "BEGIN",
    "COMMIT",
    "PREPARE p AS DELETE FROM idx.core.runs",
    "EXECUTE p",
    "DEALLOCATE p",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{dir}/out.csv'",
    "EXPLAIN /* x */ ANALYZE /* y */ COPY (SELECT 1) TO '{dir}/out.csv'",
    "EXPLAIN -- x\n ANALYZE COPY (SELECT 1) TO '{dir}/out.csv'",
    "EXPLAIN (FORMAT json, ANALYZE) COPY (SELECT 1) TO '{dir}/out.csv'",
    "EXPLAIN ANALYZE EXPLAIN ANALYZE COPY (SELECT 1) TO '{dir}/out.csv'",
    "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
    "SELECT 1; COPY (SELECT 1) TO '{dir}/out.csv'",
    "/* SELECT */ COPY (SELECT 1) TO '{dir}/out.csv'",
    "/* /* */ SELECT 1 */ COPY (SELECT 1) TO '{dir}/out.csv'",
    "SELECT 1 /* ; */; /* */ DROP VIEW runs --",
    ";;",
    "FROM query('COPY (SELECT 1) TO ''{dir}/out.csv''')",
    "FROM query('SELECT 1; DROP VIEW runs')",
)


@pytest.fixture
def root(sample_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with files of its user beside it."""
    shutil.copytree(sample_store, tmp_path / "store")
    (tmp_path / "mine.csv").write_text(f"a,b\n{SECRET},2\n", "utf-8")
    pl.DataFrame({"a": [SECRET]}).write_parquet(tmp_path / "mine.parquet")
    monkeypatch.setenv("ATTNSTORE_SECRET", SECRET)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store"


@pytest.mark.parametrize("attacks", [READING, WRITING], ids=["reading", "writing"])
def test_hostile_texts_are_sentences(root: Path, attacks: tuple[str, ...]) -> None:
    """One line each, without what was to be read; no file appears or changes; questions go on."""
    frame = pl.DataFrame({"secret": [SECRET]})
    list_of_rows = [{"secret": SECRET}]
    with attnstore.open(root) as store:
        store.runs()
        before = contents(root.parent, "store", "mine.csv", "mine.parquet")
        names = sorted(path.name for path in root.parent.iterdir())
        for attack in attacks:
            with pytest.raises(QueryError) as caught:
                store.sql(attack.format(dir=root.parent, root=root))
            said = str(caught.value)
            assert "\n" not in said, attack
            assert SECRET not in said, attack
            assert store.sql("SELECT run FROM runs").item() == "tiny/sample", attack
        assert contents(root.parent, "store", "mine.csv", "mine.parquet") == before
        assert sorted(path.name for path in root.parent.iterdir()) == names
    assert frame.height == len(list_of_rows) == 1


def test_the_terminal_says_the_same(root: Path) -> None:
    """Exit status 2 and one line, for the kinds of statement that DuckDB's Python does not know too."""
    for text in (
        "UPDATE EXTENSIONS",
        "LOAD httpfs",
        "COPY (SELECT 1) TO 'out.csv'",
        "FROM 'mine.csv'",
    ):
        done = CliRunner().invoke(main, ["--store", str(root), "sql", text])
        assert done.exit_code == 2, text
        assert done.stderr.startswith("attnstore: "), text
        assert len(done.stderr.strip().splitlines()) == 1, text


def test_a_question_leaves_no_settings_or_names_behind(root: Path) -> None:
    """What was tried before changes no answer: views are the store's, settings those of the start."""
    with attnstore.open(root) as store:
        asked = "SELECT name, value FROM duckdb_settings() ORDER BY name"
        before, views = store.sql(asked), store.views()
        for attack in WRITING:
            with pytest.raises(QueryError):
                store.sql(attack.format(dir=root.parent, root=root))
        assert store.sql(asked).equals(before)
        assert store.views() == views
        assert (
            store.sql(
                "SELECT count(*) FROM duckdb_tables() WHERE NOT internal AND database_name = 'memory'"
            ).item()
            == 0
        )
