"""Rules of who may ask the explorer and what: queries only read and are bounded, writes need the page."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from helpers import contents
from starlette.testclient import TestClient
from webtools import HTML, LIMITS, RUN, Browser

import attnstore
from attnstore.apps.labeling import drawing, sittings
from attnstore.errors import UsageError
from attnstore.experiments.patterns.labels import import_labels, read_csv
from attnstore.naming import CLASSES
from attnstore.storage import fragments, location
from attnstore.web import query_worker
from attnstore.web.server import application

# Queries -----------------------------------------------------------------------------------------


def test_a_query_gives_what_the_store_gives(pages: Browser, root: Path, tmp_path: Path) -> None:
    """Its Parquet and its CSV hold the rows of `store.sql`; the table shows them."""
    sql = "SELECT layer, head, avg(entropy) AS mean, [layer, head] AS pair FROM map_stats GROUP BY ALL ORDER BY ALL"
    told = pages.ask(sql)
    assert told["state"] == "done", told
    expected = attnstore.open(root).sql(sql)
    (tmp_path / "r.parquet").write_bytes(
        pages.get(f"/questions/{told['id']}/result.parquet").content
    )
    assert pl.read_parquet(tmp_path / "r.parquet").equals(expected)
    csv = pages.get(f"/questions/{told['id']}/result.csv").text
    assert csv.splitlines()[0] == "layer,head,mean,pair"
    assert len(csv.splitlines()) == 9
    table = pages.get(f"/questions/{told['id']}/table").text
    assert 'data-show="heatmap"' in table
    assert "8 rows" in table
    drawn = pages.get(f"/questions/{told['id']}/chart?kind=heatmap").json()["spec"]["data"][
        "values"
    ]
    assert [row["color"] for row in drawn] == pytest.approx(expected["mean"].to_list())
    assert pages.get(f"/questions/{told['id']}/chart?kind=pie").status_code == 400
    assert pages.get(f"/questions/{told['id']}/pie.svg").status_code == 404


def test_the_same_query_is_computed_once(pages: Browser) -> None:
    """As long as the store has not changed, its result is the one that is kept."""
    first, second = (pages.ask("SELECT 41 + 1 AS answer") for _ in range(2))
    assert first["id"] == second["id"]


def test_an_analysis_takes_its_defaults(pages: Browser, root: Path) -> None:
    """A text that opens as an analysis does gets its parameters' types and defaults."""
    analysis = attnstore.query.analyses.find("head_types")  # type: ignore[attr-defined]
    told = pages.ask(analysis.sql, run=RUN, position="0.1")
    assert told["state"] == "done", told
    expected = attnstore.open(root).query("head_types", run=RUN, position=0.1)
    result = pages.site.questions.find(told["id"]).result
    assert [row[2] for row in result["rows"]] == expected["type"].to_list()
    assert "needs run" in pages.ask(analysis.sql)["sentence"]


def test_parameters_come_as_numbers_or_texts(pages: Browser) -> None:
    """`$n` takes JSON where the text is some, otherwise the text."""
    told = pages.ask("SELECT $n + 1 AS n, $t AS t", n="41", t="it's")
    assert pages.site.questions.find(told["id"]).result["rows"] == [[42, "it's"]]
    assert query_worker.values("SELECT $a", {"a": "true"}) == {"a": True}


ATTACKS = (
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/*')",
    "SELECT * FROM '/etc/passwd'",
    "FROM 'attnstore.json'",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM read_parquet('https://example.org/x.parquet')",
    "SELECT * FROM read_json_auto('http://127.0.0.1:1/x')",
    "SELECT * FROM parquet_metadata('/etc/passwd')",
    "COPY (SELECT 1) TO '/tmp/attnstore-attack.csv'",
    "COPY runs FROM '/etc/passwd'",
    "EXPORT DATABASE '/tmp/attnstore-attack'",
    "ATTACH '/tmp/attnstore-attack.duckdb'",
    "ATTACH ':memory:' AS other",
    "DETACH idx",
    "USE idx",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "SET memory_limit = '100GB'",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "CREATE TABLE t AS SELECT 1",
    "CREATE MACRO f() AS 1",
    "INSERT INTO idx.core.labels SELECT * FROM idx.core.labels",
    "UPDATE idx.core.runs SET run = 'x'",
    "DELETE FROM idx.core.runs",
    "DROP VIEW runs",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "PREPARE p AS SELECT 1",
    "BEGIN TRANSACTION",
    "SELECT 1; DROP VIEW runs",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/attnstore-attack.csv'",
    "EXPLAIN ANALYZE DELETE FROM idx.core.runs",
    "SELECT getenv('HOME')",
    "SELECT * FROM query('COPY (SELECT 1) TO ''/tmp/attnstore-attack.csv''')",
    "SELECT * FROM query_table('/etc/passwd')",
    "SELECT * FROM sqlite_scan('/tmp/x', 'y')",
    "WITH x AS (DELETE FROM idx.core.runs RETURNING *) SELECT * FROM x",
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_query_only_reads_the_store(pages: Browser, root: Path, attack: str) -> None:
    """No file, no network, no setting, nothing written: each attempt fails with a sentence."""
    before = contents(root)
    told = pages.ask(attack)
    assert told["state"] == "failed", told
    assert told["sentence"]
    assert "root:" not in told["sentence"]
    assert "Traceback" not in told["sentence"]
    assert not list(Path("/tmp").glob("attnstore-attack*"))
    assert contents(root) == before


BOMBS = {
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t": "longer than|memory|Memory",
    "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range + b.range = 7": "longer than",
    "SELECT list(range) FROM range(3000000000)": "longer than|[Mm]emory",
    "SELECT repeat('x', 3000000000)": "longer than|[Mm]emory|[Aa]llocation",
    "SELECT sum(length(repeat('x', 900000000) || range)) FROM range(40)": "longer than|[Mm]emory|[Aa]llocation",
}


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_query_is_bounded(pages: Browser, bomb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would take for ever or all memory ends with a sentence, and the next query runs."""
    monkeypatch.setattr(pages.site.questions, "limits", replace(LIMITS, seconds=4))
    told = pages.ask(bomb)
    assert told["state"] == "failed"
    assert re.search(BOMBS[bomb], told["sentence"]), told
    monkeypatch.undo()
    assert pages.ask("SELECT 1 AS one")["state"] == "done"


def test_a_huge_result_is_cut_and_says_so(pages: Browser) -> None:
    """No more rows than the limit; the page says that there are more."""
    told = pages.ask("SELECT range AS n, repeat('y', 2000) AS long FROM range(1000000000)")
    assert told["state"] == "done", told
    page = pages.get(f"/questions/{told['id']}/table").text
    assert "5,000 rows, the limit; there are more; the first 1,000 are shown" in page
    assert "y" * 401 not in page


def test_a_result_is_bounded_on_disk_and_in_width(pages: Browser) -> None:
    """More bytes than a file may have, or more columns than a page can show, is a sentence."""
    wide = ", ".join(f"{i} AS c{i}" for i in range(400))
    assert "400 columns" in pages.ask(f"SELECT {wide}")["sentence"]
    noise = "SELECT list(md5((range * 1000 + i)::VARCHAR)) AS t FROM range(2000), range(60) r(i) GROUP BY range"
    assert "cannot be kept" in pages.ask(noise)["sentence"]
    assert pages.ask("SELECT 3 AS three")["state"] == "done"


def test_a_query_can_be_cancelled(pages: Browser) -> None:
    """It ends before its result is there, and the next one runs."""
    sql = "SELECT count(*) FROM range(10000000) a, range(9999999) b WHERE a.range * b.range < 0"
    told = pages.post("/questions", {"sql": sql, "params": {}}).json()
    while told["state"] == "waiting":
        told = pages.get(f"/questions/{told['id']}").json()
    answer = pages.client.delete(f"/questions/{told['id']}", headers=pages.headers).json()
    assert answer["state"] == "cancelled"
    assert pages.ask("SELECT 2 AS two")["state"] == "done"


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"sql": 1}', '{"sql": "", "params": {}}', "{"])
def test_what_is_no_query_is_a_sentence(pages: Browser, body: str) -> None:
    answer = pages.client.post("/questions", content=body, headers=pages.headers)
    assert answer.status_code == 400
    assert pages.client.post("/questions", content="x" * (1 << 21), headers=pages.headers).status_code == 413  # fmt: skip


# Who may ask -------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["/", "/sql", "/static/page.js", "/nowhere", "/questions/x"])
def test_every_answer_has_the_policy(pages: Browser, address: str) -> None:
    """Nothing may be loaded from elsewhere, nothing inline may run, no other page may frame it."""
    policy = pages.get(address).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_other_names_are_not_answered(root: Path) -> None:
    """A page of another site that points its name at this machine gets nothing (DNS rebinding)."""
    app = application(root)
    assert TestClient(app, base_url="http://evil.example").get("/").status_code == 421
    for name in ("localhost", "127.0.0.1", "[::1]"):
        assert TestClient(app, base_url=f"http://{name}:8765").get("/").status_code == 200
    app.state.site.close()


def test_another_address_needs_the_token(root: Path) -> None:
    """Without it nothing is told; with it once in the address, a cookie does."""
    app = application(root, token="secret")
    client = TestClient(app, base_url="http://192.0.2.1", follow_redirects=False)
    assert client.get("/").status_code == 401
    assert client.get("/static/page.js").status_code == 401
    assert client.get("/?token=wrong").status_code == 401
    entered = client.get(f"/run/{RUN}?by=cls&token=secret")
    assert entered.status_code == 303
    assert entered.headers["location"] == f"/run/{RUN}?by=cls"
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get(f"/run/{RUN}?by=cls").status_code == 200
    away = client.get("http://192.0.2.1//evil.example/?token=secret").headers["location"]
    assert away == "/evil.example/"
    app.state.site.close()


@pytest.mark.parametrize(
    ("method", "url"),
    [("POST", "/questions"), ("POST", "/labels"), ("POST", "/labels/undo"), ("DELETE", "/questions/x")],
)  # fmt: skip
def test_writing_needs_the_page(pages: Browser, method: str, url: str) -> None:
    """What writes or starts something without the page's token is refused."""
    for headers in ({}, {"X-Page-Token": "guess"}):
        assert pages.client.request(method, url, headers=headers).status_code == 403


# Labels ------------------------------------------------------------------------------------------


def _body(place: dict[str, Any], label: str, annotator: str = "ann", **more: Any) -> dict[str, Any]:
    return {**{k: place[k] for k in ("run", "example", "layer", "head")}, "label": label, "annotator": annotator, **more}  # fmt: skip


def _next(pages: Browser, annotator: str, pick: str = "balanced", without: str = "") -> list[Any]:
    answer = pages.get(
        f"/annotate/next?annotator={annotator}&run={RUN}&pick={pick}&without={without}"
    )
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()
    return found


def test_labels_are_saved_at_once_and_can_be_taken_back(
    pages: Browser, root: Path, tmp_path: Path
) -> None:
    """Each label is in SQL after the answer; undo takes the last one; the CSV is one that is read."""
    store = attnstore.open(root)
    maps = _next(pages, "ann")
    for i, place in enumerate(maps[:5]):
        told = pages.post("/labels", _body(place, CLASSES[i], confidence=2, note="a <b> note"))
        assert told.json()["labelled"] == i + 1
    with attnstore.open(root) as fresh:
        rows = fresh.sql(
            "SELECT example, layer, head, label, confidence, note FROM labels WHERE annotator = 'ann' ORDER BY labelled"
        )
    assert rows["label"].to_list() == list(CLASSES)
    assert rows["confidence"].unique().to_list() == [2]
    assert set(rows["note"]) == {"a <b> note"}
    undone = pages.post("/labels/undo", {"annotator": "ann"}).json()
    assert undone["place"]["example"] == maps[4]["example"]
    assert undone["labelled"] == 4
    pages.post("/labels", _body(maps[0], "block"))
    with attnstore.open(root) as fresh:
        mine = "FROM labels WHERE annotator = 'ann'"
        assert fresh.sql(f"SELECT count(*) {mine}").item() == 4
        first = maps[0]
        again = fresh.sql(
            f"SELECT label {mine} AND example = $e AND layer = $l AND head = $h",
            e=first["example"], l=first["layer"], h=first["head"],
        )  # fmt: skip
        assert again["label"].to_list() == ["block"]
    (tmp_path / "labels.csv").write_bytes(pages.get("/labels.csv").content)
    assert len(read_csv(tmp_path / "labels.csv")) >= 4
    assert import_labels(root, tmp_path / "labels.csv") >= 4
    store.close()


def test_a_labelled_map_does_not_come_again(pages: Browser) -> None:
    """Nor one that the page says it has."""
    first = _next(pages, "cleo")
    pages.post("/labels", _body(first[0], "block", "cleo"))
    names = [f"{m['example']}-{m['layer']}-{m['head']}" for m in first]
    later = _next(pages, "cleo", without=",".join(names[1:5]))
    assert not set(names[:5]) & {f"{m['example']}-{m['layer']}-{m['head']}" for m in later}


def test_balanced_maps_go_through_every_head(sample_store: Path) -> None:
    """Of a run of eight heads, every eight maps are of eight heads; another seed draws others."""
    store = attnstore.open(sample_store)
    places = drawing.draw(store, RUN, "dora", "balanced", "dora", 24, [])
    for i in (0, 8, 16):
        assert len({(p.layer, p.head) for p in places[i : i + 8]}) == 8
    assert places != drawing.draw(store, RUN, "dora", "balanced", "emma", 24, [])


def test_a_second_annotator_works_blind(pages: Browser, root: Path) -> None:
    """Maps that others labelled come without their labels; agreement is counted afterwards."""
    for place in _next(pages, "eve", "random")[:6]:
        pages.post("/labels", _body(place, "vertical", "eve"))
    attnstore.open(root).close()
    with attnstore.open(root) as fresh:
        labelled = set(fresh.sql("SELECT DISTINCT example, layer, head FROM labels").iter_rows())
    shared = _next(pages, "fred", "shared")
    assert {(m["example"], m["layer"], m["head"]) for m in shared} == labelled
    assert all(set(m) == {"run", "example", "layer", "head", "tokens", "weights"} for m in shared)
    both = [m for m in shared if (m["example"], m["layer"], m["head"]) in labelled]
    for place in both:
        pages.post("/labels", _body(place, "vertical", "fred"))
    page = pages.get(f"/annotate/agreement?run={RUN}").text
    assert "eve and fred" in page
    assert "fred" in pages.get("/annotate").text


def test_least_sure_maps_come_first(root: Path, tmp_path: Path) -> None:
    """By the probability of the predicted class, the lowest first."""
    copied = tmp_path / "s"
    shutil.copytree(root, copied)
    store = attnstore.open(copied)
    maps = store.sql("SELECT example, layer, head FROM map_stats ORDER BY ALL")
    key = store.sql("SELECT run_key FROM runs").item()
    sure = np.random.default_rng(0).permutation(len(maps)) / len(maps)
    columns = dict.fromkeys(("vertical", "diagonal", "vertical_diagonal", "block"), pl.lit(0.0))
    patterns = maps.with_columns(
        pl.lit(key, pl.UInt64).alias("run_key"), pl.lit("block").alias("class"),
        probability=pl.Series(sure, dtype=pl.Float32), heterogeneous=pl.lit(0.0), **columns,
    )  # fmt: skip
    fragments.write(location.locate(copied), "patterns", RUN, "000000.test", patterns)
    with attnstore.open(copied) as opened:
        drawn = drawing.draw(opened, RUN, "gil", "unsure", "gil", 10, [])
    expected = maps[np.argsort(sure)[:10].tolist()]
    assert [tuple(place)[1:] for place in drawn] == expected.rows()


def test_a_run_without_classes_says_how_to_get_them(pages: Browser) -> None:
    """Drawing where the classifier is least sure needs a classified run."""
    assert _next(pages, "gil", "unsure") == []
    page = pages.get(f"/annotate?annotator=gil&run={RUN}&pick=unsure").text
    assert "attnstore classify" in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": "blocky"}, "did you mean block"),
        ({"confidence": 7}, "give 1"),
        ({"note": "x" * 501}, "at most 500"),
        ({"annotator": "../x"}, "cannot be called"),
        ({"annotator": ""}, "cannot be called"),
        ({"example": 10**9}, "no example"),
        ({"layer": 9}, "no layer 9"),
        ({"head": "x"}, "A label names"),
        ({"run": "no/such"}, "no/such"),
    ],
)
def test_a_label_that_cannot_be_is_not_written(
    pages: Browser, root: Path, change: dict[str, Any], said: str
) -> None:
    place = _next(pages, "hal")[0]
    before = contents(root, "fragments")
    answer = pages.post("/labels", _body(place, "block", "hal") | change)
    assert answer.status_code in (400, 404)
    assert said in answer.text
    assert contents(root, "fragments") == before


def test_undo_without_a_label_is_nothing(root: Path) -> None:
    """There is nothing to take back."""
    assert sittings.Sittings(location.locate(root)).of("ida").undo() is None
    with pytest.raises(UsageError, match="no way"):
        drawing.draw(attnstore.open(root), RUN, "ida", "best", "ida", 5, [])


def test_agreement_of_nobody(pages: Browser) -> None:
    """The page of a run without labels says so."""
    assert (
        pages.client.get("/annotate?annotator=x&run=tiny/sample", headers=HTML).status_code == 200
    )
