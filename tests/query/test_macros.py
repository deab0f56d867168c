"""Rules of analyses in SQL: `FROM drift(run := 'a/b')` is `store.query("drift", run="a/b")`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from paper import BASE, TUNED, Case, make_case
from polars.testing import assert_frame_equal

import attnstore
from attnstore.errors import AttnstoreError, QueryError, UnknownNameError, UsageError
from attnstore.query import analyses
from attnstore.query.analyses import Analysis

NAMES = sorted(analyses.listing())
WORLD = {"run": TUNED, "base_run": BASE, "example": 2, "model": "tuned-20", "dataset": "pairs", "layer": 1, "head": 2}  # fmt: skip
"""A value for every required parameter."""
OTHERS = {
    "token_pairs": {"relation": "object", "direction": "to_from", "statistic": "mean"},
    "feature_attention": {"by": "norm"},
    "top_links": {"layer": 1, "head": 2, "special": True, "top": 7},
    "cls_attention": {"layer": 0, "statistic": "max"},
    "head_types": {"position": 0.05, "special": 0.1},
    "word_match": {"punctuation": True, "stop_words": False},
    "frame_links": {"sentence": "fox"},
    "drift_over_steps": {"runs_like": "tuned-2%"},
}
"""Values that differ from the defaults."""


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.getbasetemp() / "paper")


def literal(value: Any) -> str:
    return str(value).lower() if not isinstance(value, str) else f"'{value}'"


def outcome(ask: Any) -> pl.DataFrame | str:
    """The rows, or the sentence of the refusal."""
    try:
        rows: pl.DataFrame = ask()
    except AttnstoreError as error:
        return str(error)
    return rows


def asked(analysis: Analysis, more: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A call in SQL, and the same parameters for Python."""
    values = {p.name: WORLD[p.name] for p in analysis.parameters if p.required} | more
    if analysis.name == "frame_links" and not more:
        values["example"] = 2
    call = ", ".join(f"{name} := {literal(value)}" for name, value in values.items())
    return f"FROM {analysis.name}({call})", values


def compare(case: Case, name: str, more: dict[str, Any]) -> None:
    text, values = asked(analyses.find(name), more)
    in_sql = outcome(lambda: case.store.sql(text))
    alone = outcome(lambda: case.run(name, **values))
    if isinstance(alone, str) or isinstance(in_sql, str):
        assert in_sql == alone
    else:
        assert_frame_equal(in_sql, alone)


@pytest.mark.parametrize("name", NAMES)
def test_a_call_gives_what_the_query_gives(case: Case, name: str) -> None:
    """Every analysis, its defaults left out: rows, types and order."""
    compare(case, name, {})


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_arguments_take_the_place_of_defaults(case: Case, name: str) -> None:
    """Texts, numbers and truth values."""
    compare(case, name, OTHERS[name])


@pytest.mark.parametrize("name", NAMES)
def test_calls_work_on_a_connection(case: Case, name: str) -> None:
    """As for a table of one's own."""
    text, values = asked(analyses.find(name), {})
    alone = outcome(lambda: case.run(name, **values))
    with case.store.connect() as con:
        if isinstance(alone, str):
            with pytest.raises(duckdb.Error):
                con.execute(text).fetchall()
        else:
            con.execute(f"CREATE TABLE mine AS {text}")
            assert con.sql("FROM mine").columns == alone.columns
            assert con.sql("SELECT count(*) FROM mine").fetchall() == [(len(alone),)]


def test_calls_are_sorted_joined_and_nested(case: Case) -> None:
    """Like any table."""
    types, entropy = (case.run(name, run=BASE) for name in ("head_types", "head_entropy"))
    joined = types.select("layer", "head", "type").join(
        entropy.select("layer", "head", "mean"), on=["layer", "head"]
    )
    found = case.store.sql(
        "WITH t AS (FROM head_types(run := $run)) SELECT t.layer, t.head, t.type, e.mean "
        "FROM t JOIN head_entropy(run := $run) AS e USING (layer, head) ORDER BY e.mean DESC LIMIT 3",
        run=BASE,
    )
    assert_frame_equal(found, joined.sort("mean", descending=True).head(3))


def test_a_call_may_be_explained_described_and_pivoted(case: Case) -> None:
    """Statements around a SELECT know the analyses too."""
    call = f"head_entropy(run := '{BASE}')"
    assert len(case.store.sql(f"EXPLAIN FROM {call}"))
    assert case.store.sql(f"DESCRIBE FROM {call}")["column_name"].to_list()[:2] == ["layer", "head"]
    assert len(case.store.sql(f"PIVOT (FROM {call}) ON head USING avg(mean) GROUP BY layer")) == 3


def test_names_and_parameters_may_be_written_in_any_case(case: Case) -> None:
    """As in SQL; and without names, in the order of the header."""
    wanted = case.run("head_entropy", run=BASE)
    for call in (f"HEAD_ENTROPY(Run := '{BASE}')", f"\"head_entropy\"('{BASE}')"):
        assert_frame_equal(case.store.sql(f"FROM {call}"), wanted)


@pytest.mark.parametrize(
    ("text", "kind", "sentence"),
    [("FROM head_entropy()", QueryError, "needs run"),
     ("FROM head_entropy(runs := 'x')", UsageError, "did you mean run?"),
     ("FROM head_entropy('x', 2)", QueryError, "2 arguments"),
     (f"FROM head_entropy(run := '{BASE}x')", UnknownNameError, f"did you mean {BASE}"),
     (f"FROM drift(run := '{BASE}x')", UnknownNameError, "holds no run"),
     ("FROM head_entropie(run := 'x')", QueryError, "head_entropie"),
     ("FROM head_entropy(run := $run)", QueryError, "needs a value for $run")],
)  # fmt: skip
def test_a_wrong_call_is_a_sentence(
    case: Case, text: str, kind: type[Exception], sentence: str
) -> None:
    """It says what to write."""
    with pytest.raises(kind) as caught:
        case.store.sql(text)
    assert sentence in str(caught.value)


def test_opening_makes_no_macro(sample_store: Path) -> None:
    """They are made when a text first calls them, so that opening stays quick."""
    with attnstore.open(sample_store) as store:
        made = (
            "SELECT count(*) FROM duckdb_functions() WHERE function_type = 'table_macro' "
            "AND list_contains($names, split_part(function_name, '$', 1))"
        )
        names = store.analyses()["name"].to_list()
        assert store.sql(made, names=names).item() == 0
        store.sql("FROM head_entropy(run := 'tiny/sample')")
        assert store.sql(made, names=names).item() == 2
