"""Rules of `attnstore.query.session` and of a store's questions: a query only reads, and only the store."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny
from helpers import shrink, write_texts
from polars.testing import assert_frame_equal

import attnstore
from attnstore.errors import AttnstoreError, QueryError, UnknownNameError
from attnstore.query.session import Session
from attnstore.storage.arrays import RunArrays

RUN = "bert/t"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[attnstore.Store]:
    """Two runs of 16 inputs, 2 layers and 4 heads, in several blocks; beside it a file of a user."""
    folder = tmp_path_factory.mktemp("session")
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        model = tiny.make(folder / "bert", "bert")
        names = [str(write_texts(folder / f"{n}.jsonl", 16, seed=i)) for i, n in enumerate("tu")]
        attnstore.ingest(folder / "store", str(model), names, max_length=64)
    (folder / "mine.csv").write_text("a,b\n1,2\n")
    with attnstore.open(folder / "store") as opened:
        yield opened


def everything(root: Path) -> dict[str, bytes]:
    """Every file near the store, but for the lock."""
    files = (p for p in root.parent.rglob("*") if p.is_file() and p.suffix != ".lock")
    return {str(p): p.read_bytes() for p in files}


# A query reads the store and nothing else

ATTACKS = [
    "FROM read_csv('{dir}/mine.csv')",
    "FROM '{dir}/mine.csv'",
    "FROM read_text('{dir}/mine.csv')",
    "FROM read_blob('/etc/passwd')",
    "FROM read_json('{dir}/bert/config.json')",
    "FROM read_parquet('{root}/fragments/runs/**/*.parquet')",
    "FROM sniff_csv('{dir}/mine.csv')",
    "FROM query_table('{dir}/mine.csv')",
    "FROM glob('{dir}/*')",
    "COPY runs TO '{dir}/out.csv'",
    "COPY (SELECT 1) TO '{root}/index.duckdb'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{dir}/out.csv'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{root}/index.duckdb'",
    "EXPLAIN (ANALYZE, FORMAT json) COPY (SELECT 1) TO '{root}/index.duckdb.wal'",
    "EXPLAIN ANALYZE CREATE OR REPLACE VIEW runs AS SELECT 1",
    "EXPLAIN ANALYZE DELETE FROM idx.core.runs",
    "EXPORT DATABASE '{dir}/out'",
    "ATTACH '{dir}/new.duckdb'",
    "ATTACH '{root}/index.duckdb' AS mine",
    "DETACH idx",
    "USE idx",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA threads = 1",
    "SET enable_external_access = true",
    "SET threads = 1",
    "RESET lock_configuration",
    "CREATE TABLE mine (a INTEGER)",
    "CREATE OR REPLACE VIEW runs AS SELECT 1",
    "DROP VIEW maps",
    "INSERT INTO idx.core.runs (run) VALUES ('x')",
    "DELETE FROM idx.core.runs",
    "UPDATE idx.core.runs SET run = 'x'",
    "CALL force_checkpoint('idx')",
    "CHECKPOINT idx",
    "BEGIN",
    "SELECT 1; DROP VIEW maps",
    "FROM frame",
    "",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_query_can_neither_read_nor_write_outside_the_store(
    store: attnstore.Store, attack: str
) -> None:
    """One QueryError of one line; no file has changed, and the next question is answered."""
    frame = pl.DataFrame({"secret": [1]})  # DuckDB would find it by its variable's name
    before = everything(store.root)
    with pytest.raises(QueryError) as caught:
        store.sql(attack.format(dir=store.root.parent, root=store.root))
    assert "\n" not in str(caught.value)
    assert everything(store.root) == before
    assert store.runs()["run"].to_list() == ["bert/t", "bert/u"]
    assert frame.height == 1


@pytest.mark.parametrize("text", ["SHOW TABLES", "DESCRIBE maps", "SUMMARIZE runs", "EXPLAIN FROM maps",
                                  "EXPLAIN ANALYZE FROM runs", "FROM runs SELECT run;"])  # fmt: skip
def test_looking_around_is_reading(store: attnstore.Store, text: str) -> None:
    """What helps to write a query runs like one."""
    assert store.sql(text).height > 0


# What is misspelt is named


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("FROM runs WHERE run = 'bert/x'", {}),
        ("FROM runs WHERE 'bert/x' = runs.run", {}),
        (
            "SELECT max(weight) FROM attention a WHERE layer = 0 AND a.run IN ('bert/t', 'bert/x')",
            {},
        ),
        ("FROM runs WHERE run = $run", {"run": "bert/x"}),
        ("WITH a AS (FROM map_stats WHERE run = $r) SELECT count(*) FROM a", {"r": "bert/x"}),
    ],
)
def test_an_unknown_run_is_an_error_with_its_near_match(
    store: attnstore.Store, text: str, params: dict[str, str]
) -> None:
    """As a literal or a parameter, wherever the query compares it: never an empty answer."""
    with pytest.raises(UnknownNameError, match=r"no run 'bert/x'; did you mean bert/[tu]"):
        store.sql(text, **params)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("SELECT wieght FROM attention", r'"wieght" not found.*"weight"'),
        ("FROM run", r'name run does not exist! Did you mean "runs"'),
        ("SELECT * FROM maps WHERE lenght > 3", r'"lenght" not found.*"length"'),
        ("SELECT avrage(entropy) FROM map_stats", "avrage does not exist"),
        ("SELECT FROM WHERE", "Parser Error"),
        ("SELECT 'a'::INTEGER", "Could not convert"),
    ],
)
def test_an_unknown_view_or_column_is_named_with_candidates(
    store: attnstore.Store, text: str, sentence: str
) -> None:
    """DuckDB's own candidates on one line, without its picture of the text."""
    with pytest.raises(QueryError, match=sentence) as caught:
        store.sql(text)
    assert "\n" not in str(caught.value)
    assert "LINE" not in str(caught.value)


def test_parameters_fit_the_text_or_are_refused(store: attnstore.Store) -> None:
    """A missing one is named, and one too many with the near match."""
    text = "SELECT $layer + 1 AS next"
    assert store.sql(text, layer=3).item() == 4
    with pytest.raises(QueryError, match=r"needs a value for \$layer"):
        store.sql(text)
    with pytest.raises(QueryError, match=r"no parameter \$layr; did you mean layer\?"):
        store.sql(text, layer=3, layr=1)


def test_what_the_store_does_not_hold_is_named(store: attnstore.Store) -> None:
    """Run, example, layer, head, view: each with what there is."""
    for ask, sentence in (
        (lambda: store.maps("bert/x", 0), "no run 'bert/x'; did you mean"),
        (lambda: store.maps(RUN, 99), f"Run {RUN} holds no example 99"),
        (lambda: store.map(RUN, 0, 2, 0), "no layer 2; its layers are 0, 1"),
        (lambda: store.map(RUN, 0, 0, 4), "no head 4; its heads are 0, 1, 2, 3"),
        (lambda: store.scan("attentoin"), "no view 'attentoin'; did you mean attention"),
        (lambda: store.columns("mapz"), "no view 'mapz'; did you mean maps"),
        (lambda: store.run("brt/t"), "no run 'brt/t'; did you mean bert/t"),
    ):
        with pytest.raises(UnknownNameError, match=re.escape(sentence)):
            ask()


# Polars: what is filtered is not read


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many weights each call of the SQL functions reads."""
    real, read = RunArrays.gather, []

    def gather(self: RunArrays, array: str, row: Any, start: Any, count: Any) -> Any:
        read.append(int(count.sum()))
        return real(self, array, row, start, count)

    monkeypatch.setattr(RunArrays, "gather", gather)
    return read


IN_RUN = pl.col("run") == RUN
PUSHED = {
    "head": (IN_RUN & (pl.col("layer") == 1) & (pl.col("head") == 2), "layer = 1 AND head = 2"),
    "example": (IN_RUN & (pl.col("example") == 7), "example = 7"),
    "examples": (IN_RUN & (pl.col("example") < 5), "example < 5"),
    "row": (
        IN_RUN & (pl.col("head") == 0) & (pl.col("from_pos") == 1),
        "head = 0 AND from_pos = 1",
    ),
}


@pytest.mark.parametrize("case", PUSHED)
def test_filters_on_a_scan_reach_the_arrays(
    store: attnstore.Store, cells: list[int], case: str
) -> None:
    """Only the weights that the answer needs are read, and it equals that of SQL."""
    predicate, where = PUSHED[case]
    found = (
        store.scan("attention")
        .filter(predicate)
        .select("example", "layer", "head", "from_pos", "to_pos", "weight")
        .collect()
    )
    assert sum(cells) == found.height > 0
    expected = store.sql(
        f"SELECT example, layer, head, from_pos, to_pos, weight FROM attention WHERE run = '{RUN}' AND {where}"
    )
    keys = ["example", "layer", "head", "from_pos", "to_pos"]
    assert_frame_equal(found.sort(keys), expected.sort(keys))


def test_columns_that_are_not_asked_for_are_not_read(
    store: attnstore.Store, cells: list[int]
) -> None:
    """Counting maps by head needs the index alone."""
    found = store.scan("maps").filter(IN_RUN).group_by("layer", "head").len().collect()
    assert found["len"].to_list() == [16] * 8
    assert cells == []


@pytest.mark.parametrize(
    ("predicate", "where"),
    [
        (pl.col("head").is_in([0, 3]), "head IN (0, 3)"),
        (pl.col("head") != 1, "head <> 1"),
        (pl.col("token").str.starts_with("##"), "token LIKE '##%'"),
        (pl.col("token").str.len_chars() > 5, "length(token) > 5"),
        ((pl.col("weight") > 0.3) | (pl.col("position") == 0), "weight > 0.3 OR position = 0"),
        (pl.col("weight") * 2 > pl.col("weight").max(), None),
        (
            pl.col("run").is_in(["bert/u"]) & pl.col("layer").is_between(1, 5),
            "run = 'bert/u' AND layer = 1",
        ),
    ],
)
def test_filters_that_sql_cannot_take_still_filter(
    store: attnstore.Store, predicate: pl.Expr, where: str | None
) -> None:
    """Whatever Polars can say gives Polars' answer."""
    whole = store.sql("FROM received")
    keys = ["run", "example", "layer", "head", "position"]
    found = store.scan("received").filter(predicate).collect().sort(keys)
    assert_frame_equal(found, whole.filter(predicate).sort(keys))
    if where:
        assert_frame_equal(found, store.sql(f"FROM received WHERE {where}").sort(keys))


def test_a_scan_ends_when_enough_rows_are_there(store: attnstore.Store, cells: list[int]) -> None:
    """head(n) gives n rows, and does not read the whole run."""
    assert store.scan("attention").head(5).collect().height == 5
    total = store.sql("SELECT sum(length * length) FROM maps").item()
    assert sum(cells) < total
    assert (
        store.scan("tokens").filter(pl.col("kind") == "cls").head(3).collect()["position"].to_list()
        == [0] * 3
    )


def test_a_scan_may_be_used_twice_and_beside_queries(store: attnstore.Store) -> None:
    """In one plan, joined with itself, and with questions between its batches."""
    stats = store.scan("map_stats")
    joined = stats.join(stats, on=["run", "example", "layer", "head"]).select(pl.len()).collect()
    assert joined.item() == 2 * 16 * 8
    for batch in store.scan("attention").filter(IN_RUN).collect_batches():
        assert store.sql("SELECT count(*) FROM runs").item() == 2
        assert batch.width == 11


def test_a_scan_of_an_open_query_leaves_no_lock_behind(store: attnstore.Store) -> None:
    """A scan that is given up in the middle lets the next one, and a writer, go on."""
    batches = iter(store.scan("attention").collect_batches(chunk_size=10))
    next(batches)
    del batches
    assert store.reindex().damaged == []


# What comes back


def test_views_agree_on_every_weight(store: attnstore.Store) -> None:
    """`maps`, `attention`, `received`, `store.maps` and `store.map` tell the same."""
    for example in (0, 9):
        maps = store.maps(RUN, example)
        rows = store.sql(
            "FROM attention WHERE run = $run AND example = $e ORDER BY layer, head, from_pos, to_pos",
            run=RUN, e=example,
        )  # fmt: skip
        assert np.array_equal(rows["weight"].to_numpy(), maps.ravel())
        lists = store.sql(
            "SELECT weights FROM maps WHERE run = $run AND example = $e ORDER BY layer, head",
            run=RUN, e=example,
        )  # fmt: skip
        assert np.array_equal(
            np.array(lists["weights"].to_list(), np.float32).ravel(), maps.ravel()
        )
        one = store.map(RUN, example, 1, 3)
        assert np.array_equal(np.asarray(one), maps[1, 3])
        tokens = store.sql(
            "FROM tokens WHERE run = $run AND example = $e ORDER BY position", run=RUN, e=example
        )
        assert list(one.tokens) == tokens["token"].to_list()
        first = rows.filter(layer=1, head=3, from_pos=0)
        assert first["to_token"].to_list() == tokens["token"].to_list()
        assert set(first["from_token"]) == {tokens["token"][0]}


def test_a_question_for_too_much_at_once_says_what_to_do(
    store: attnstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`maps` of many long inputs has a limit and names the way round; `attention` streams."""
    monkeypatch.setattr("attnstore.query.map_reader.MAX_CELLS", 5000)
    with pytest.raises(QueryError, match="use the view attention, which streams"):
        store.sql("SELECT sum(list_sum(weights)) FROM maps")


def test_threads_share_one_store(store: attnstore.Store) -> None:
    """Questions from several threads are answered one after another, each its own."""
    found: dict[int, list[Any]] = {}

    def ask(head: int) -> None:
        found[head] = [
            store.sql("SELECT any_value(head), count(*) FROM maps WHERE head = $h", h=head).row(0)
            for _ in range(5)
        ]

    threads = [threading.Thread(target=ask, args=(head,)) for head in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {head: [(head, 64)] * 5 for head in range(4)}


def test_a_connection_is_a_database_of_ones_own(store: attnstore.Store) -> None:
    """Tables beside the views, functions at hand; what the index holds cannot be changed by it."""
    with store.connect() as con:
        con.execute(
            "CREATE TABLE best AS SELECT run, layer, head, max(max) AS m FROM map_stats GROUP BY ALL"
        )
        assert con.sql(
            "SELECT count(*) FROM best JOIN maps USING (run, layer, head)"
        ).fetchall() == [(256,)]
        with pytest.raises(Exception, match="read-only"):
            con.execute("DELETE FROM idx.core.runs")
    assert isinstance(QueryError("x"), AttnstoreError)


def test_a_session_whose_views_were_interrupted_is_not_used_again(
    store: attnstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while they are made leaves a store that answers the next question."""

    def interrupted(_: Session) -> None:
        raise KeyboardInterrupt

    with attnstore.open(store.root) as opened:
        with monkeypatch.context() as patch:
            patch.setattr(Session, "_register", interrupted)
            with pytest.raises(KeyboardInterrupt):
                opened.sql("FROM maps")
        assert opened.sql("FROM maps").height == 256
