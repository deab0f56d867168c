"""Rules of views and macros of a session: each is made when a text names it, and no answer shows that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest

import attnstore
from attnstore import resources
from attnstore.errors import QueryError, UnknownNameError
from attnstore.query.analyses import Analyses
from attnstore.query.session import Session
from attnstore.query.session_objects import SessionObjects
from attnstore.query.session_pool import SessionPool
from attnstore.storage import index_schema, location, tables

RUN = "tiny/sample"
LISTED = (
    "SELECT 'view' AS kind, view_name AS name, sql, comment FROM duckdb_views() WHERE NOT internal AND "
    "database_name = 'memory' UNION ALL SELECT 'column', table_name || '.' || column_name, NULL, comment FROM "
    "duckdb_columns() WHERE NOT internal AND database_name = 'memory' UNION ALL "
    "SELECT 'macro', function_name, macro_definition, NULL FROM duckdb_functions() WHERE NOT internal AND "
    "function_type LIKE '%macro' ORDER BY ALL"
)
"""Everything that a session defines in SQL."""


@pytest.fixture
def session(sample_store: Path) -> Iterator[Session]:
    """A session that was asked nothing."""
    session = Session(location.find(sample_store))
    yield session
    session.close()


def made(session: Session) -> set[str]:
    """Return the views that a session has."""
    rows = session.con.execute(LISTED).fetchall()
    return {name for kind, name, *_ in rows if kind == "view"}


def forbid_all(patch: pytest.MonkeyPatch) -> None:
    """Make a session fail where it makes everything."""
    patch.setattr(SessionObjects, "make_all", lambda _: pytest.fail("everything is made"))


def test_a_question_makes_what_it_names(session: Session) -> None:
    """In any case and in quotes, with what that needs; no other view, and no function for one of the index."""
    session.sql('SELECT count(*) FROM "Map_Stats"')
    assert made(session) == {"map_stats"}
    assert session._functions is None
    session.sql("FROM base_runs")
    assert {"map_stats", "base_runs", "run_pairs", "runs"} <= made(session)
    assert not {"attention", "received", "published_scores"} & made(session)


def test_every_view_and_analysis_is_made_from_its_name(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alone in a new session, without making everything."""
    session.sql(LISTED)
    analyses = Analyses(session.backend).listing().values()
    calls = [
        f"{a.name}({', '.join(f'{p.name} := NULL' for p in a.parameters if p.required)})"
        for a in analyses
    ]
    forbid_all(monkeypatch)
    for called in sorted(made(session)) + calls:
        alone = Session(session.backend)
        assert alone.sql(f"FROM {called} LIMIT 0").columns, called
        alone.close()


def test_everything_that_is_made_is_what_the_files_say(session: Session) -> None:
    """A text that reads the catalog sees views, macros and comments as DuckDB makes them of the whole files."""
    session.sql("FROM map_stats LIMIT 0")
    answer = session.sql(LISTED).rows()
    with session.attached(), duckdb.connect(":memory:") as con:
        path = str(session.backend.root / "index.duckdb")
        session._functions.register(con)  # type: ignore[union-attr]
        from attnstore.query import group_functions, mean_functions, rank_functions

        for module in (group_functions, mean_functions, rank_functions):
            module.register(con)
        con.execute(f"ATTACH '{path}' AS idx (READ_ONLY)")
        for name in index_schema.views():
            con.execute(f'CREATE VIEW "{name}" AS FROM idx.main."{name}"')
        for file in resources.sql_files("schema/session").values():
            con.execute(tables.expanded(file.read_text("utf-8")))
        assert answer == con.execute(LISTED).fetchall()


def test_a_name_that_no_text_spells_is_found(session: Session) -> None:
    """It is put together inside the question; a name that does not exist is told with those like it."""
    assert session.sql("FROM query_table('map_' || 'stats') LIMIT 1").height == 1
    session.close()
    other = Session(session.backend)
    with pytest.raises(QueryError, match="map_stats"):
        other.sql("FROM map_statz")
    with pytest.raises(QueryError, match="attention_weights"):
        other.sql("SELECT attention_weightz(1)")
    other.close()


def test_a_function_without_its_view_is_found(session: Session) -> None:
    """A text that names no view makes the functions when DuckDB misses one."""
    assert session.sql("SELECT word_units([1, 1, 2]) AS u").item().to_list()
    assert session._functions is not None


def test_maps_of_an_input_need_no_session_the_second_time(
    sample_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they lie is kept beside the index; the weights are those that SQL gives; unknown names are told."""
    with attnstore.open(sample_store) as store:
        store.answers.forget()
        example = store.sql("SELECT max(example) FROM inputs WHERE run = $run", run=RUN).item()
        expected = store.sql(
            "SELECT weights FROM maps WHERE run = $run AND example = $example ORDER BY layer, head",
            run=RUN, example=example,
        )  # fmt: skip
    monkeypatch.setattr("attnstore.query.answer_cache.WORTH", 1000.0)
    for _ in range(2):
        with attnstore.open(sample_store) as store:
            weights = store.maps(RUN, example)
            flat = np.array(expected["weights"].to_list(), np.float32)
            assert np.array_equal(weights.reshape(flat.shape), flat)
            with pytest.raises(UnknownNameError, match="no run 'tiny/x'"):
                store.maps("tiny/x", example)
            with pytest.raises(UnknownNameError, match="no example 100000"):
                store.maps(RUN, 100000)
    with attnstore.open(sample_store) as store:
        monkeypatch.setattr(SessionPool, "session", lambda _: pytest.fail("DuckDB is asked"))
        assert np.array_equal(store.maps(RUN, example), weights)
