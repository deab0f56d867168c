"""Rules of the band of random weights: beside a result, its lowest and highest value over twins."""

from __future__ import annotations

import functools
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from helpers import write_texts
from older import make_older
from paper import BASE, TUNED, make_case
from polars.testing import assert_frame_equal
from test_macros import OTHERS, literal

import attnstore
from attnstore.errors import UsageError
from attnstore.query import analyses
from attnstore.query.analysis_file import parse
from attnstore.query.session import Session
from attnstore.storage import fragments, location

BANDS = {name: a for name, a in analyses.listing().items() if a.band is not None}
TWINS = {seed: f"base-random-{seed}/pairs" for seed in (1, 2, 3)}
CASES = [(name, {}) for name in BANDS] + [(n, more) for n, more in OTHERS.items() if n in BANDS]
COLUMNS = ["random_low", "random_high"]


@functools.cache
def _with_twins(place: Path) -> Path:
    case = make_case(place)
    root = Path(shutil.copytree(case.store.root, place.with_name("banded")))
    attnstore.ingest(
        root, f"{place / 'base'}=base", f"{place / 'pairs.jsonl'}=pairs", max_length=64,
        precision="float32", random_weights=True, seeds=tuple(TWINS),
    )  # fmt: skip
    attnstore.classify(root, [BASE, TUNED, *TWINS.values()])
    weigh(root)
    attnstore.annotate(root, "pairs", f"agreement:{_items(root)}=items")
    attnstore.probe(root, [BASE, TUNED, *TWINS.values()])
    return root


def _items(root: Path) -> Path:
    """Write an item of each text: its last word, with the first as the right and the second as a wrong candidate."""
    rows = attnstore.open(root).sql("SELECT example, text FROM examples WHERE dataset = 'pairs'")
    items = ["example,source_start,source_end,start,end,role"]
    for example, text in rows.iter_rows():
        words = [f"{w.start()},{w.end()}" for w in re.finditer(r"\w+", text)]
        for word, role in zip(words[: 2 * (len(words) > 2)], ("right", "distractor"), strict=False):
            items.append(f"{example},{words[-1]},{word},{role}")
    file = root.with_name("items.csv")
    file.write_text("\n".join(items), "utf-8")
    return file


def weigh(root: Path) -> None:
    """Write an importance for every token of two models' inputs: its place in the vocabulary."""
    opened = attnstore.open(root)
    for run in (BASE, TUNED):
        rows = opened.sql(
            "SELECT model, dataset, example, token_ids, token_ids::FLOAT[] AS values, 64 AS max_length, "
            "'gradient_x_input' AS method, 'predicted' AS explained, $r AS identity, count(*) OVER () AS n "
            "FROM inputs JOIN (SELECT run, model FROM runs) USING (run) WHERE run = $r",
            r=run,
        )
        fragments.write(location.locate(root), "token_importance", run, "hand", rows)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> attnstore.Store:
    """The case of the paper's analyses, with three twins of the base model."""
    return attnstore.open(_with_twins(tmp_path_factory.getbasetemp() / "paper"))


def expected(store: attnstore.Store, name: str, run: str, params: dict[str, Any]) -> pl.DataFrame:
    """The band from separate queries of the twins' runs, joined in Python."""
    band = BANDS[name].band
    assert band is not None
    rows = store.query(name, run=run, **params).drop(COLUMNS)
    kept = {} if band.keep is None else {band.keep: run}
    queried = [store.query(name, run=twin, **params, **kept) for twin in TWINS.values()]
    values: dict[tuple[Any, ...], list[float]] = {}
    for row in pl.concat(queried).rows(named=True):
        if row[band.column] is not None:
            key = tuple(run if k == "run" else row[k] for k in band.keys)
            values.setdefault(key, []).append(row[band.column])
    keys = [values.get(key) for key in rows.select(band.keys).rows()]
    low = pl.Series(COLUMNS[0], [min(v) if v else None for v in keys], pl.Float64)
    high = pl.Series(COLUMNS[1], [max(v) if v else None for v in keys], pl.Float64)
    return rows.with_columns(low, high)


@pytest.mark.parametrize(("name", "more"), CASES)
def test_the_band_is_that_of_separate_queries(
    store: attnstore.Store, name: str, more: dict[str, Any]
) -> None:
    """Same parameters, the run replaced by each twin's; rows and their order stay as they are."""
    for run in (BASE, TUNED):
        rows = store.query(name, run=run, **more)
        assert rows["random_low"].drop_nulls().len(), "no twin has a row"
        assert_frame_equal(rows, expected(store, name, run, more))


@pytest.mark.parametrize(("name", "more"), CASES)
def test_a_call_in_sql_has_the_band(
    store: attnstore.Store, name: str, more: dict[str, Any]
) -> None:
    """By a name, by a parameter, and where only the query tells the run."""
    rest = "".join(f", {k} := {literal(v)}" for k, v in more.items())
    wanted = store.query(name, run=BASE, **more)
    assert_frame_equal(store.sql(f"FROM {name}(run := '{BASE}'{rest})"), wanted)
    assert_frame_equal(store.sql(f"FROM {name}(run := $r{rest})", r=BASE), wanted)


def test_two_runs_in_one_query_have_their_own_twins(store: attnstore.Store) -> None:
    """A twin is held only against runs of its configuration and inputs."""
    text = f"SELECT count(random_low) FROM head_entropy(run := '{TWINS[1]}')"
    both = f"SELECT ({text}) AS none, count(random_low) AS some FROM head_entropy(run := '{BASE}')"
    assert store.sql(both).rows() == [(0, 12)]


def test_a_run_that_only_the_query_tells_has_its_band(store: attnstore.Store) -> None:
    """As in a subquery, and in an analysis that calls another."""
    wanted = store.query("head_entropy", run=BASE)
    told = f"FROM head_entropy(run := (SELECT min(run) FROM runs WHERE run = '{BASE}'))"
    assert_frame_equal(store.sql(told), wanted)


def test_a_result_of_every_run_has_each_runs_band(store: attnstore.Store) -> None:
    """The rows of a run are those that a query of it alone gives, in Python and in SQL."""
    alone = pl.concat(store.query("pattern_shares", run=run) for run in (BASE, TUNED, TWINS[1]))
    for rows in (store.query("pattern_shares"), store.sql("FROM pattern_shares()")):
        some = rows.filter(pl.col("run").is_in([BASE, TUNED, TWINS[1]]))
        assert_frame_equal(some, alone, check_row_order=False)


def without_comments(text: str) -> str:
    return re.sub("--.*", "", text)


CALLING = {
    name: called
    for name, a in analyses.listing().items()
    if (called := {other for other in BANDS if re.search(rf"\b{other}\(", without_comments(a.sql))})
}
"""The analyses that call others with a band."""


def test_no_analysis_shows_the_band_of_another() -> None:
    """Its text names none, and its result has one only by a line of its own header."""
    assert CALLING
    for name, analysis in analyses.listing().items():
        assert not set(COLUMNS) & set(re.findall(r"\w+", analysis.sql)), name
        columns = [column.name for column in analysis.columns]
        assert [c for c in columns if c in COLUMNS] == (COLUMNS if analysis.band else []), name


@pytest.mark.parametrize(
    "name", [n for n in CALLING if not {"model", "dataset"} & set(analyses.find(n).kinds)]
)
def test_an_analysis_computes_no_band_of_those_it_calls(store: attnstore.Store, name: str) -> None:
    """The macros of these name no twin, neither for a query nor where SQL calls the analysis for its own band."""
    for text in (analyses.find(name).sql, f"FROM {name}(run := $run)"):
        session = Session(store.backend)
        values = {p.name: p.default for p in analyses.find(name).parameters} | {"run": BASE}
        session.sql(
            text, {k: v for k, v in values.items() if f"${k}" in text}, 0, text[:4] == "FROM"
        )
        bodies = session.con.execute(
            "SELECT function_name, macro_definition FROM duckdb_functions() WHERE function_name LIKE '%$body'"
        ).fetchall()
        texts = {function.removesuffix("$body"): body for function, body in bodies}
        assert texts.keys() >= CALLING[name]
        for called in CALLING[name]:
            assert not any(twin in texts[called] for twin in TWINS.values()), called
        session.close()


def test_without_twins_both_ends_are_null(tmp_path_factory: pytest.TempPathFactory) -> None:
    """And every other column is as it was."""
    case = make_case(tmp_path_factory.getbasetemp() / "paper")
    for name in BANDS:
        rows = case.run(name, run=TUNED)
        assert rows.columns[-2:] == COLUMNS
        assert rows.select(pl.col(COLUMNS).is_null().all()).row(0) == (True, True)


def test_an_own_analysis_may_have_a_band(store: attnstore.Store, tmp_path: Path) -> None:
    """Its parameters, literals and comments with `$run` stay what they are."""
    (tmp_path / "mine.sql").write_text(
        "-- title: Mine\n-- source: this test\n-- reads: map_stats\n-- param run VARCHAR: Run\n"
        "-- param least DOUBLE = 0: Least\n-- column head SMALLINT: Head\n-- column top DOUBLE: Top\n"
        "-- column note VARCHAR: Note\n-- band: top BY head\n"
        "SELECT head, max(entropy)::DOUBLE AS top, '$run' AS note -- of $run\n"
        "FROM map_stats WHERE run = $run AND entropy > $least GROUP BY head ORDER BY head DESC;\n"
    )
    with attnstore.open(store.root, analyses=tmp_path) as opened:
        rows = opened.query("mine", run=BASE, least=0.1)
        twins = [opened.query("mine", run=twin, least=0.1)["top"] for twin in TWINS.values()]
        assert rows["random_low"].to_list() == [min(v) for v in zip(*twins, strict=True)]
        assert rows["random_high"].to_list() == [max(v) for v in zip(*twins, strict=True)]
        assert set(rows["note"]) == {"$run"}
        assert_frame_equal(opened.sql(f"FROM mine(run := '{BASE}', least := 0.1)"), rows)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [("-- band: top", "write '-- band: COLUMN BY column, column'"),
     ("-- band: tops BY head", "no column of it; did you mean top?"),
     ("-- band: top BY layer", "names layer"),
     ("-- band: top BY head\n-- band: top BY head", "2 lines of band")],
)  # fmt: skip
def test_a_header_with_a_wrong_band_is_refused(line: str, sentence: str) -> None:
    """In a sentence that says what to write."""
    head = "-- title: T\n-- source: S\n-- reads: runs\n-- param run VARCHAR: Run\n"
    columns = "-- column head SMALLINT: Head\n-- column top DOUBLE: Top\n"
    with pytest.raises(UsageError) as refused:
        parse("mine", f"{head}{columns}{line}\nSELECT 1 AS head, 2 AS top", "mine.sql", False)
    assert sentence in str(refused.value)
    text = f"{head}{columns}-- band: top BY head\n".replace("-- param run VARCHAR: Run\n", "")
    with pytest.raises(UsageError, match="no parameter run"):
        parse("mine", f"{text}SELECT 1 AS head, 2 AS top", "mine.sql", False)


def test_a_twin_of_an_earlier_capture_is_no_part_of_a_band_by_norm(
    tiny_bert: Path, tmp_path: Path
) -> None:
    """The other twins are the band; the question about the run itself is answered all the same."""
    texts = write_texts(tmp_path / "t.jsonl", 12)
    root = tmp_path / "s"
    for seeds in ((1,), (2,)):
        attnstore.ingest(
            root, f"{tiny_bert}=m", f"{texts}=t", max_length=40, random_weights=True, seeds=seeds
        )
        if seeds == (1,):
            make_older(root)
    attnstore.ingest(root, f"{tiny_bert}=m", f"{texts}=t", max_length=40)
    with attnstore.open(root) as opened:
        for name, by in (("special_tokens", {"by": "norm"}), ("norm_share", {})):
            ours = opened.query(name, run="m/t", **by)
            twin = opened.query(name, run="m-random-2/t", **by)
            column = analyses.find(name).band.column
            assert ours["random_low"].to_list() == pytest.approx(twin[column].to_list())
            assert ours["random_high"].to_list() == ours["random_low"].to_list()
        by_weight = opened.query("special_tokens", run="m/t")
        assert (by_weight["random_low"] < by_weight["random_high"]).any()
