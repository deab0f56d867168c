"""Intervals and tests as SQL: aggregates of any session, the same as in Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import attnstore

STATS = "FROM map_stats JOIN sources USING (run, example)"


@pytest.fixture
def store(sample_store: Path) -> Iterator[attnstore.Store]:
    """A store with 8 inputs of 2 layers of 4 heads."""
    with attnstore.open(sample_store) as opened:
        yield opened


def _values(store: attnstore.Store, measure: str) -> pl.DataFrame:
    return store.sql(f"SELECT example, layer, head, {measure} AS x FROM map_stats ORDER BY example")


def test_mean_interval_gives_the_columns_of_each_group(store: attnstore.Store) -> None:
    """Unnested beside GROUP BY it gives mean, low, high and interval, equal to Python's."""
    rows = store.sql(
        f"SELECT layer, head, count(*) AS n, unnest(mean_interval(entropy, source, 0, NULL)) {STATS} GROUP BY layer, head"
    )
    assert rows.columns == ["layer", "head", "n", "mean", "low", "high", "interval"]
    values = _values(store, "entropy")
    for layer, head, n, *ours in rows.rows():
        x = values.filter(layer=layer, head=head)["x"]
        assert n == len(x)
        assert ours == [*map(pytest.approx, attnstore.mean_interval(x, least=0)[:3]), "t, few"]


def test_tests_of_all_heads_are_corrected_over_the_rows(store: attnstore.Store) -> None:
    """mean_test in a CTE, q_value over its rows."""
    rows = store.sql(
        "WITH tests AS (SELECT layer, head, mean_test(cls - 0.1, NULL, -1, 1) AS test FROM map_stats GROUP BY ALL) "
        "SELECT layer, head, test.p AS p, q_value(test.p, list(test.p) OVER ()) AS q FROM tests"
    )
    values = _values(store, "cls - 0.1")
    wanted = [
        attnstore.mean_test(values.filter(layer=y, head=h)["x"]).p for y, h, *_ in rows.rows()
    ]
    assert rows["p"].to_list() == pytest.approx(wanted)
    assert rows["q"].to_list() == pytest.approx(attnstore.q_values(rows["p"]).tolist())


def test_null_values_are_left_out_and_no_value_gives_no_mean(store: attnstore.Store) -> None:
    """NULL is no input; one input has a mean alone."""
    for case, wanted in (
        ("NULL::DOUBLE", (None, None, None, None)),
        ("CASE WHEN i = 0 THEN 1.5 END", (1.5, None, None, "one input")),
    ):
        rows = store.sql(
            f"SELECT unnest(mean_interval({case}, NULL, NULL, NULL)) FROM range(5) t(i)"
        )
        assert rows.rows() == [wanted]


def test_sources_may_be_of_any_type(store: attnstore.Store) -> None:
    """Texts and lists as sources group as numbers do, the number 0 too."""
    for source in ("'p' || (i // 3)", "i // 3", "[i // 3]"):
        rows = store.sql(
            f"SELECT unnest(mean_interval(i * i, {source}, 0, NULL)) FROM range(30) t(i)"
        )
        ours = attnstore.mean_interval(np.arange(30) ** 2, (np.arange(30) // 3).tolist(), 0)
        assert rows.rows()[0] == (*map(pytest.approx, ours[:3]), "t by source")


def test_flips_and_correlations_are_those_of_python(store: attnstore.Store) -> None:
    """mcnemar of two counts; correlation and rank_correlation over rows, pairs with NULL left out."""
    assert store.sql("SELECT mcnemar(4, 0), mcnemar(0, 0), mcnemar(NULL, 1)").row(0) == (
        pytest.approx(0.125), 1, None,
    )  # fmt: skip
    values = store.sql("SELECT cls, sep FROM map_stats")
    for name in ("correlation", "rank_correlation"):
        rows = store.sql(
            f"SELECT unnest({name}(x, y)) FROM (SELECT cls AS x, sep AS y FROM map_stats UNION ALL SELECT 1, NULL)"
        )
        assert rows.columns == ["r", "low", "high", "p"]
        assert rows.row(0) == pytest.approx(getattr(attnstore, name)(values["cls"], values["sep"]))


def test_an_own_analysis_and_a_connection_can_call_them(store: attnstore.Store) -> None:
    """A file of <store>/analysis with a parameter; a connection for any statement."""
    text = (
        "-- title: T\n-- source: S\n-- reads: map_stats, sources\n-- param most DOUBLE = 1: M\n"
        "-- column layer SMALLINT: L\n-- column mean DOUBLE: M\n-- column low DOUBLE: L\n"
        "-- column high DOUBLE: H\n-- column interval VARCHAR: I\n"
        f"SELECT layer, unnest(mean_interval(cls, source, 0, 1)) {STATS} WHERE layer < $most GROUP BY layer ORDER BY layer"
    )
    analyses = store.root / "analysis"
    analyses.mkdir(exist_ok=True)
    (analyses / "own_interval.sql").write_text(text, "utf-8")
    try:
        rows = store.query("own_interval")
        assert rows.equals(store.sql("FROM own_interval(most := 1)"))
        with store.connect() as con:
            assert (
                con.sql("SELECT mean FROM own_interval() ORDER BY layer")
                .pl()["mean"]
                .equals(rows["mean"])
            )
    finally:
        (analyses / "own_interval.sql").unlink()


def test_sources_are_the_inputs_that_share_a_text(tiny_bert: Path, tmp_path: Path) -> None:
    """Three hypotheses of one premise are one source; the sentence that nobody shares has none."""
    rows = [("A man sleeps.", f"Hypothesis {i}.") for i in range(3)] + [("Another.", "Text.")]
    pl.DataFrame(rows, ["premise", "hypothesis"], orient="row").write_csv(tmp_path / "nli.csv")
    attnstore.ingest(
        tmp_path / "store",
        str(tiny_bert),
        f"{tmp_path / 'nli.csv'}=nli",
        text="premise",
        pair="hypothesis",
        max_length=64,
    )
    with attnstore.open(tmp_path / "store") as opened:
        found = opened.sql(
            "SELECT example, source FROM sources WHERE run = 'tiny/nli' ORDER BY example"
        )
    assert found.rows() == [(0, 0), (1, 0), (2, 0), (3, None)]


def test_share_test_gives_the_share_over_all_things(store: attnstore.Store) -> None:
    """One row per source with its hits, its things and its inputs; NULL is no source."""
    rows = store.sql(
        "SELECT unnest(share_test(hits, n, inputs, 0, 1)) FROM (VALUES (4, 5, 2), (0, 4, 1), (2, 2, 1), "
        "(NULL, 5, 1)) AS t(hits, n, inputs)"
    )
    values = [1, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1]
    wanted = attnstore.mean_test(values, ["a"] * 5 + ["b"] * 4 + ["c"] * 2, 0, 1)
    mean, low, high, interval, p = rows.row(0)
    assert (mean, low, high, p) == pytest.approx((wanted.mean, wanted.low, wanted.high, wanted.p))
    assert interval == "t by source, few"
    nothing = store.sql("SELECT share_test(NULL, 1, 1, 0, 1) AS s FROM range(3)").item()
    assert nothing == dict.fromkeys(("mean", "low", "high", "interval", "p"))
