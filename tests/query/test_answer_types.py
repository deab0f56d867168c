"""Rules of what a query's answer may hold: every type of DuckDB gives a value or one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

import attnstore
from attnstore.cli.main import main
from attnstore.errors import DamageError, QueryError, UnknownNameError
from attnstore.storage import arrays, fragments, location
from attnstore.storage.arrays import RunArrays
from attnstore.web.served_store import ServedStore


@pytest.fixture(scope="module")
def store(sample_store: Path) -> Iterator[attnstore.Store]:
    with attnstore.open(sample_store) as opened:
        yield opened


VALUES: dict[str, Any] = {
    "INTERVAL 3 DAY": "3 days",
    "TIMESTAMP '2026-01-02' - TIMESTAMP '2026-01-01'": "1 day",
    "[INTERVAL 1 DAY, NULL]": ["1 day", None],
    "[[INTERVAL 1 DAY]]": [["1 day"]],
    "[INTERVAL 1 DAY]::INTERVAL[1]": ["1 day"],
    "{'a b': INTERVAL 1 DAY, 'n': [1]}": {"a b": "1 day", "n": [1]},
    "row(INTERVAL 1 DAY, 2)": {"element1": "1 day", "element2": 2},
    "MAP {'k': INTERVAL 1 DAY}": {"k": "1 day"},
    "MAP {INTERVAL 1 DAY: 2}": {"1 day": 2},
    "MAP {'k': 'infinity'::DATE}": {"k": "infinity"},
    "union_value(k := 1)": "1",
    "[union_value(k := 1)]": ["1"],
    "'10100'::BIT": "10100",
    "1::BIGNUM": "1",
    "340282366920938463463374607431768211455::UHUGEINT": "340282366920938463463374607431768211455",
    "'12:30:00+02'::TIMETZ": "12:30:00+02",
    "'{\"a\": 1}'::JSON": '{"a": 1}',
    "DATE '2026-01-02'": date(2026, 1, 2),
    "[DATE '0001-01-01', DATE '9999-12-31']": [date(1, 1, 1), date(9999, 12, 31)],
    "'b'::ENUM('a', 'b')": "b",
    "MAP {'k': 1}": {"k": 1},
    "NULL::INTERVAL": None,
    "'00000000-0000-0000-0000-000000000001'::UUID": "00000000-0000-0000-0000-000000000001",
    "12345678901234567890123456789::HUGEINT": 12345678901234567890123456789,
}


@pytest.mark.parametrize("expression", VALUES)
def test_an_answer_of_any_type_has_its_value(store: attnstore.Store, expression: str) -> None:
    """What Polars lacks comes as the text that SQL gives it, inside of lists and structs too."""
    found = store.sql(f"SELECT {expression} AS v").rows()[0][0]
    if isinstance(found, pl.Series):
        found = found.to_list()
    assert found == VALUES[expression]


def test_columns_keep_names_that_occur_twice_apart(store: attnstore.Store) -> None:
    """A column that is cast leaves the others, and their order, as they are."""
    found = store.sql(
        "SELECT layer AS a, INTERVAL 1 DAY AS b, head AS c FROM map_stats ORDER BY head DESC, layer"
    )
    assert found.columns == ["a", "b", "c"]
    assert found["c"].to_list() == sorted(found["c"].to_list(), reverse=True)
    assert found["b"].unique().to_list() == ["1 day"]
    twice = store.sql("SELECT 1 AS a, 2 AS a").columns
    assert store.sql("SELECT INTERVAL 1 DAY AS a, 2 AS a").columns == twice


@pytest.mark.parametrize(
    "expression",
    ["'infinity'::DATE", "'-infinity'::TIMESTAMP", "['infinity'::TIMESTAMP]", "{'d': 'infinity'::DATE}",
     "DATE '10000-01-01'", "'290000-01-01'::TIMESTAMPTZ", "'infinity'::TIMESTAMP_MS", "[['infinity'::DATE]]"],
)  # fmt: skip
def test_dates_of_no_calendar_are_a_sentence(store: attnstore.Store, expression: str) -> None:
    """The column and a cast are named, and the cast works."""
    with pytest.raises(QueryError, match=r'Column v d .* as in "v d"::VARCHAR'):
        store.sql(f'SELECT {expression} AS "v d"')
    store.sql(f"SELECT v::VARCHAR FROM (SELECT {expression} AS v)")


BEYOND = (
    "date", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_tz", "date_array",
    "timestamp_array", "timestamptz_array",
)  # fmt: skip
"""Columns of test_all_types() that hold infinity."""


def test_every_type_that_duckdb_has(store: attnstore.Store) -> None:
    """Each column of test_all_types() gives rows that can be printed, or a sentence with its name."""
    for name in store.sql("SELECT column_name FROM (DESCRIBE FROM test_all_types())")[
        "column_name"
    ]:
        asked = f'SELECT "{name}" FROM test_all_types()'
        if name in BEYOND:
            with pytest.raises(QueryError, match=f"Column {name} "):
                store.sql(asked)
        else:
            assert len(store.sql(asked).rows()) == 3
    done = CliRunner().invoke(main, ["--store", str(store.root), "sql", "FROM test_all_types()"])
    assert done.exit_code == 2
    assert done.stderr.startswith("attnstore: Column date holds dates")


def test_pivot_without_in_runs(store: attnstore.Store) -> None:
    """A PIVOT finds its columns itself; with the values named it gives the same."""
    asked = "PIVOT (SELECT layer, head, entropy FROM map_stats) ON head {} USING avg(entropy) GROUP BY layer ORDER BY layer"
    found = store.sql(asked.format(""))
    assert found.columns == ["layer", "0", "1", "2", "3"]
    assert found.equals(store.sql(asked.format("IN (0, 1, 2, 3)")))
    assert (
        store.sql("SELECT count(*) FROM duckdb_types() WHERE type_name LIKE '%pivot%'").item() == 0
    )
    assert store.sql("/* one /* more */ */ -- note\n" + asked.format("")).equals(found)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM (PIVOT map_stats ON head USING avg(entropy) GROUP BY layer)",
        "PIVOT (FROM map_stats WHERE run = $run) ON head USING avg(entropy) GROUP BY layer",
        "CREATE TABLE t AS PIVOT map_stats ON head USING avg(entropy) GROUP BY layer",
        "/* /* */ PIVOT */ CREATE TABLE t AS PIVOT map_stats ON head USING avg(entropy)",
    ],
)
def test_pivots_that_cannot_run_say_in(store: attnstore.Store, text: str) -> None:
    """Where a PIVOT would need its values named, the sentence says so."""
    with pytest.raises(QueryError, match=r"ON head IN \("):
        store.sql(text, **({"run": "tiny/sample"} if "$run" in text else {}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("UPDATE EXTENSIONS", "An UPDATE|A UPDATE"),
        ("SELECT " + "1 + " * 400_000 + "1", r"1,600,008 characters; at most 1,000,000"),
        ("SELECT * FROM (" * 5000 + "SELECT 1" + ")" * 5000, "nested too deeply|depth"),
        ("SELECT " + "(" * 5000 + "1" + ")" * 5000, "depth"),
        ("SELECT 'half \ud800'", "half a character"),
        ("", "0 SQL statements"),
        ("-- nothing", "0 SQL statements"),
    ],
)  # fmt: skip
def test_texts_that_cannot_be_asked_are_a_sentence(
    store: attnstore.Store, text: str, said: str
) -> None:
    """Neither memory, nor the stack, nor a kind of statement that is new ends in a raw error."""
    with pytest.raises(QueryError, match=said):
        store.sql(text)
    with pytest.raises(QueryError, match="half a character"):
        store.sql("SELECT $x", x="\udfff")


def test_a_run_that_is_dropped_during_a_query_is_named_so(
    sample_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was dropped: that is said, not that it should be ingested again."""
    shutil.copytree(sample_store, tmp_path / "s")
    with attnstore.open(tmp_path / "s") as store:
        real = RunArrays.gather

        def gather(self: RunArrays, *about: Any) -> Any:
            monkeypatch.setattr(RunArrays, "gather", real)
            other = attnstore.open(tmp_path / "s")
            other.drop("tiny/sample")
            raise DamageError("Run tiny/sample cannot be read; ingest it again.")

        monkeypatch.setattr(RunArrays, "gather", gather)
        with pytest.raises(UnknownNameError, match="tiny/sample was dropped while"):
            store.sql("SELECT sum(weight) FROM attention")


def test_a_map_of_a_run_that_is_dropped_meanwhile_is_named_so(
    sample_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The maps of an input, and a page of the explorer, say that the run was dropped; damage stays damage."""
    shutil.copytree(sample_store, tmp_path / "s")
    served = ServedStore(tmp_path / "s")
    with attnstore.open(tmp_path / "s") as store:
        example = store.sql("SELECT min(example) FROM inputs").item()

        def unreadable(*_: Any) -> Any:
            raise DamageError("Run tiny/sample cannot be read; ingest it again.")

        monkeypatch.setattr(arrays, "open_run", unreadable)
        with pytest.raises(DamageError):
            store.maps("tiny/sample", example)
        for fragment in fragments.listing(location.locate(tmp_path / "s"), "runs"):
            (tmp_path / "s" / fragment.path).unlink()
        for ask in (store.maps, served.current.maps):
            with pytest.raises(UnknownNameError, match="tiny/sample was dropped while"):
                ask("tiny/sample", example)
    served.close()
