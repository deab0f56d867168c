"""Rules of the lists of runs: found by words, sorted, a page at a time; a model and a dataset have pages."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from webtools import RUN, Browser

from attnstore.storage import fragments, location
from attnstore.web import run_list


def _runs(page: str) -> list[str]:
    return re.findall(r'<td><a href="/run/([^"]*)"', page)


@pytest.fixture
def many(sample_store: Path, tmp_path: Path) -> Browser:
    """A client of an explorer over a store whose list says that it has 200 runs more."""
    return Browser(Path(shutil.copytree(sample_store, tmp_path / "s")))


def test_runs_come_a_page_at_a_time(many: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run is on one page, in the order that is asked for, and a search keeps those with all of its words."""
    records = many.site.store.ask("FROM runs").to_dicts()
    frame = pl.DataFrame(records)
    names = [f"m{i:03}/{'even' if i % 2 == 0 else 'odd'}" for i in range(200)]
    copies = [
        records[0] | {"run": n, "model": n.split("/")[0], "dataset": n.split("/")[1], "stored": i, "planned": i,
         "base": None, "step": None, "latest": None, "annotated": None, "classified": i == 7, "ablated": False}
        for i, n in enumerate(names)
    ]  # fmt: skip
    ask = many.site.store.ask

    def answer(sql: str, /, **params: object) -> pl.DataFrame:
        if "AS classified" in sql:
            return pl.DataFrame(copies, infer_schema_length=None)
        return ask(sql, **params)

    assert len(frame) == 1
    monkeypatch.setattr(many.site.store, "ask", answer)
    pages = [_runs(many.get(f"/?page={i}").text) for i in (1, 2, 3, 4)]
    assert [len(page) for page in pages] == [run_list.PER_PAGE] * 4
    assert sorted(name for page in pages for name in page) == sorted(names)
    assert _runs(many.get("/?find=ODD+m01").text) == [n for n in names if "odd" in n and "m01" in n]
    assert "200" in many.get("/").text
    assert 'rel="next"' in many.get("/?find=m&page=2").text
    assert "find=m" in re.findall(r'href="([^"]*)" rel="next"', many.get("/?find=m&page=2").text)[0]
    assert "classified" in many.get("/?find=m007").text
    assert "No run has these words" in many.get("/?find=zzz").text
    many.close()


def test_orders_of_the_list(many: Browser) -> None:
    """Each works, and another one is a sentence."""
    for sort in run_list.SORTS:
        assert _runs(many.get(f"/?sort={sort}").text) == [RUN]
    answer = many.get("/?sort=sise")
    assert answer.status_code == 400
    assert "did you mean size" in answer.text
    many.close()


def test_a_model_and_a_dataset_have_pages(many: Browser) -> None:
    """With their runs, what the dataset's labels are, and what has been annotated and ablated."""
    root = location.locate(many.site.store.backend)
    effects = pl.DataFrame(
        {"model": ["tiny"], "dataset": ["sample"], "layer": [0], "head": [1], "difference": [0.1], "value": ["uniform"],
         "metric": ["accuracy"], "baseline": [0.8], "low": [0.0], "high": [0.2], "n": [8], "max_length": [64], "identity": ["x"]},
        schema_overrides={"layer": pl.Int16, "head": pl.Int16, "max_length": pl.Int32},
    )  # fmt: skip
    fragments.write(root, "ablations", "tiny", "part", effects)
    many.site.store.catch_up()
    model = many.get("/model/tiny").text
    assert _runs(model) == [RUN]
    assert "accuracy" in model
    assert "uniform" in model
    dataset = many.get("/dataset/sample").text
    assert _runs(dataset) == [RUN]
    counts = many.site.store.ask(
        "SELECT label, count(*) FROM examples WHERE label IS NOT NULL GROUP BY label"
    )
    for label, n in counts.iter_rows():
        assert re.search(rf"<bdi>{re.escape(label)}</bdi></td><td class=\"n\">{n}</td>", dataset)
    assert "ablated" in many.get("/").text
    for address, said in (("/model/tiy", "did you mean tiny"), ("/dataset/none", "no dataset")):
        answer = many.get(address)
        assert answer.status_code == 404
        assert said in answer.text
    store = many.get("/").text
    assert 'href="/model/tiny"' in store
    assert 'href="/dataset/sample"' in store
    many.close()
