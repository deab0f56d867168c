"""The head page's sentences and panels: each number is the analysis's or computed here from the model's maps."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import commands
import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread
from paper import BASE, TUNED, Case, Input, make_case, student
from webtools import Browser

import attnstore
from attnstore.display.mean_maps import GAP, LENGTH, WIDTH
from attnstore.web import head_near, head_sentences, lacking, measures
from attnstore.web.run_records import training_of

HEADS = [(layer, head) for layer in range(3) for head in range(4)]
MIDDLE = "tuned-10/pairs"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.getbasetemp() / "paper")


@pytest.fixture(scope="module")
def browser(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """An explorer over a copy of the case's store, with two random-weights twins of its base model."""
    root = tmp_path_factory.mktemp("sentences") / "s"
    place = Path(case.store.root)
    shutil.copytree(place, root, ignore=shutil.ignore_patterns("answers", "*.lock"))
    model, texts = (str(place.parent / name) for name in ("base", "pairs.jsonl"))
    options = {"max_length": 64, "precision": "float32", "seeds": (1, 2)}
    attnstore.ingest(root, f"{model}=base", f"{texts}=pairs", random_weights=True, **options)
    browser = Browser(root)
    yield browser
    browser.close()


def _plain(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def _says(browser: Browser, run: str, layer: int, head: int) -> str:
    page = browser.get(f"/run/{run}/head/{layer}/{head}")
    assert page.status_code == 200
    return _plain(page.text[page.text.index('class="says"') :].partition("</section>")[0])


def _value(measure: str, i: Input, layer: int, head: int) -> float:
    """A measure of one map, from the model's weights."""
    weights = i.maps[layer, head].astype(np.float64)
    if measure == "breadth":
        entropy = -(weights * np.log(np.where(weights > 0, weights, 1))).sum(1).mean()
        return float(entropy / np.log(len(weights)))
    if measure in ("cls", "sep", "punctuation"):
        return float(weights[:, np.array(i.kinds) == measure].sum(1).mean())
    offset = {"previous": -1, "next": 1, "self": 0}[measure]
    return float(np.diagonal(weights, offset).mean())


@pytest.mark.parametrize("at", HEADS)
def test_the_page_begins_with_what_the_head_does(
    case: Case, browser: Browser, at: tuple[int, int]
) -> None:
    """The type of the head, its measure's mean, interval and n, and the band of the twins."""
    says = _says(browser, BASE, *at)
    row = case.store.query("head_types", run=BASE).filter(layer=at[0], head=at[1]).to_dicts()[0]
    values = [_value(row["measure"], i, *at) for i in case.base]
    n, mean, low, high = student(values, 0, 1)
    twins = [
        browser.site.store.ask(
            f'SELECT avg({"entropy / ln(length)" if row["measure"] == "breadth" else row["measure"]}) '
            "FROM map_stats JOIN inputs USING (run, example) WHERE run = $run AND layer = $layer AND head = $head",
            run=f"base-random-{seed}/pairs", layer=at[0], head=at[1],
        ).item()
        for seed in (1, 2)
    ]  # fmt: skip
    does = {"broad": "attends to all tokens nearly alike", "none": "follows no plain pattern"}
    expected = does.get(row["type"]) or {"cls": "attends to [CLS]", "sep": "attends to [SEP]"}[row["type"]]  # fmt: skip
    assert f"Layer {at[0]}, head {at[1]} {expected}" in says
    assert f"{mean:.2f} of" in says
    assert f"95% {low:.2f} to {high:.2f}, n = {n} inputs" in says
    assert f"with random weights {min(twins):.2f} to {max(twins):.2f}" in says


def test_a_sentence_names_where_its_numbers_come_from(browser: Browser) -> None:
    """Each leads to the analysis with the run and the head, which has the number."""
    band = measures.of_random_weights(browser.site.store, BASE, (1, 2))
    run = {"run": BASE, "model": "base", "dataset": "pairs"}
    sentences = head_sentences.of_head(browser.site, run, 1, 2, band)
    query = parse_qs(urlsplit(sentences[0].address).query)
    assert query == {"analysis": ["head_types"], "p.run": [BASE], "p.layer": ["1"], "p.head": ["2"]}
    row = browser.site.store.analysis("head_types", run=BASE, layer=1, head=2).row(0, named=True)
    assert f"{row['mean']:.2f}" in sentences[0].text


@pytest.mark.parametrize(
    ("types", "said"),
    [
        (["broad", "broad", "broad"], "It was so before the training, at cls 0.30 in base/pairs; 3 checkpoints"),
        (["cls", "broad", "broad"], "It has been so since step 10 of the training (cls 0.40); before the training its type was cls (cls 0.30)."),
        (["broad", "none", "broad"], "It has been so since step 20 of the training (cls 0.50); at step 10 its type was none (cls 0.40)."),
    ],
)  # fmt: skip
def test_since_when_is_the_first_checkpoint_without_another_type_after_it(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, types: list[str], said: str
) -> None:
    """Over the run before the training and its checkpoints up to the run's own, in order of steps."""
    runs = [BASE, MIDDLE, TUNED]
    assert [r["run"] for r in training_of(browser.site, _record(browser, TUNED))] == runs
    kinds = {
        run: {"type": kind, "measure": "cls", "mean": 0.3 + 0.1 * i, "n": 14, "low": 0.1, "high": 0.9}
        for i, (run, kind) in enumerate(zip(runs, types, strict=True))
    }  # fmt: skip
    monkeypatch.setattr(head_sentences, "kind", lambda site, run, layer, head: kinds[run])
    assert said in _says(browser, TUNED, 1, 2)


def _record(browser: Browser, run: str) -> dict[str, object]:
    model, dataset = run.split("/")
    return browser.site.store.ask("FROM runs WHERE run = $run", run=run).row(0, named=True) | {"model": model, "dataset": dataset, "step": None}  # fmt: skip


def test_what_is_not_in_the_store_comes_with_its_command(case: Case, browser: Browser) -> None:
    """Each command is one that the command line takes; what is there is not named."""
    says = _says(browser, BASE, 1, 2)
    assert "Not in the store: since when in the training; what disabling it does" in says
    assert "same head does with random weights" not in says
    assert "words that it follows" not in says
    tuned = _record(browser, TUNED) | {"step": 20}
    found = lacking.about_heads(browser.site, tuned, effects=False)
    assert [lack.command.split()[1] for lack in found] == ["ablate", "classify"]
    every = found + lacking.about_heads(browser.site, _record(browser, BASE), effects=False)
    for lack in every:
        program, verb, *arguments = shlex.split(lack.command)
        command = commands.every()[verb]
        assert program == "attnstore"
        assert command.make_context(verb, arguments, resilient_parsing=False).params


def test_classes_leave_the_list_once_they_are_there(sample_store: Path, tmp_path: Path) -> None:
    """Their sentence has the class of most maps, by counting, and the command is gone."""
    root = Path(shutil.copytree(sample_store, tmp_path / "s"))
    browser = Browser(root)
    assert "attnstore classify --run tiny/sample" in _says(browser, "tiny/sample", 1, 2)
    attnstore.classify(root, "tiny/sample")
    browser.site.store.catch_up()
    says = _says(browser, "tiny/sample", 1, 2)
    assert "attnstore classify" not in says
    with attnstore.open(root) as store:
        counts = store.sql(
            "SELECT class, count(*) AS n FROM patterns WHERE layer = 1 AND head = 2 GROUP BY class ORDER BY n DESC, class"
        ).rows()
    share = counts[0][1] / sum(n for _, n in counts)
    assert f"The most frequent pattern class of its maps is {counts[0][0]}: {share:.2f} of 8 inputs" in says  # fmt: skip
    browser.close()


def test_relations_stand_beside_their_baselines(case: Case, browser: Browser) -> None:
    """The panel has the rows of dependency_heads and coreference_heads; then the page says them too."""
    panel = _plain(browser.get(f"/run/{TUNED}/relations/1/2").text)
    rows = case.store.query("dependency_heads", run=TUNED).filter(layer=1, head=2)
    above = rows.filter("above").sort("difference", descending=True)
    shown = above.head(8) if len(above) else rows.sort("difference", descending=True, nulls_last=True).head(3)  # fmt: skip
    ways = {"from_to": "dependent → head", "to_from": "head → dependent"}
    for row in shown.rows(named=True):
        wanted = f"{row['relation']} n = {row['n']} {ways[row['direction']]} {row['mean']:.2f}"
        assert wanted in panel
        assert f"{row['low']:.2f} to {row['high']:.2f} {row['baseline']:.2f}" in panel
    corefs = case.store.query("coreference_heads", run=TUNED).filter(layer=1, head=2).to_dicts()
    for row in corefs:
        assert f"The antecedent of a mention {row['mean']:.3f}" in panel
        assert f"Other mentions {row['baseline']:.3f}" in panel
    assert "Along" in _says(browser, TUNED, 1, 2)


def test_the_nearest_heads_come_by_their_distance(case: Case, browser: Browser) -> None:
    """In the run by the distance of pairs, in other runs the nearest and the same head."""
    panel = _plain(browser.get(f"/run/{BASE}/near/1/2").text)
    pairs = case.store.query("head_pairs_alike", run=BASE)
    distances = {}
    for row in pairs.rows(named=True):
        ends = ((row["layer"], row["head"]), (row["other_layer"], row["other_head"]))
        for one, other in (ends, ends[::-1]):
            if one == (1, 2):
                distances[other] = row["mean"]
    nearest = sorted(distances.items(), key=lambda pair: (pair[1], pair[0]))[: head_near.NEAREST]
    found = re.findall(r"layer (\d), head (\d) ([\d.]+)", panel.partition("In another run")[0])
    assert [(int(a), int(b), d) for a, b, d in found] == [(*at, f"{d:.3f}") for at, d in nearest]
    for other in (MIDDLE, TUNED):
        row = case.store.query("heads_across_runs", run=BASE, base_run=other).filter(layer=1, head=2).to_dicts()[0]  # fmt: skip
        place = f"layer {row['nearest_layer']}, head {row['nearest_head']} {row['nearest']:.3f}"
        assert f"{other} {place} {row['itself']:.3f} no. {row['rank']} of {row['heads']}" in panel
    assert "random" not in panel.partition("In another run")[2]


def test_typical_maps_and_odd_ones_are_shown(browser: Browser) -> None:
    """Both ends of typical_maps, with distance, measure and mean; each leads to the map."""
    html = browser.get(f"/run/{BASE}/head/1/2").text
    maps = html[html.index("Most typical") : html.index("is highest")]
    rows = browser.site.store.analysis("typical_maps", run=BASE, layer=1, head=2)
    ends = [*rows.head(6).rows(named=True), *rows.reverse().head(6).rows(named=True)]
    assert [int(n) for n in re.findall(r"/example/(\d+)\?", maps)] == [r["example"] for r in ends]
    for row in ends:
        measured = f"{row['measure']} {row['value']:.2f} mean {row['usual']:.2f}"
        assert f"{row['distance']:.3f} example {row['example']} {measured}" in _plain(maps)


def test_the_family_is_measured_for_the_same_head(browser: Browser) -> None:
    """Mean and n of the measure in each run of the family, as map_stats has them."""
    panel = _plain(browser.get(f"/run/{TUNED}/kin/1/2?by=cls").text)
    rows = browser.site.store.ask(
        "SELECT run, avg(cls), count(cls) FROM map_stats WHERE layer = 1 AND head = 2 AND run NOT LIKE '%random%' GROUP BY run"
    )
    assert len(rows) == 4
    for run, mean, n in rows.iter_rows():
        assert re.search(rf"{re.escape(run)} (–|\d+) {mean:.4f} \S+ to \S+ {n}\b", panel)


def test_features_have_the_band_of_random_weights(browser: Browser) -> None:
    """The gray band of the chart is that of feature_attention."""
    html = browser.get(f"/run/{BASE}/features/1/2").text
    rows = browser.site.store.analysis("feature_attention", run=BASE).filter(layer=1, head=2)
    assert rows["random_low"].null_count() == 0
    for value in rows.select(pl.col("random_low", "random_high").round(6)).row(0):
        assert f"{value:.5f}"[:6] in html


def _charts(html: str) -> list[dict[str, Any]]:
    return [
        json.loads(text)
        for text in re.findall(r'data-spec><script type="application/json">(.*?)</script>', html)
    ]


@pytest.mark.parametrize("page", ["head/1/2?by=cls", "features/1/2"])
def test_the_sql_of_a_chart_gives_its_numbers(browser: Browser, page: str) -> None:
    """Beside a chart stand SQL and Python that were asked for these numbers."""
    charts = _charts(browser.get(f"/run/{BASE}/{page}").text)
    assert charts
    for chart in charts:
        rows = browser.site.store.ask(chart["sql"])
        assert chart["python"].startswith("import attnstore")
        assert chart["name"].startswith(f"{BASE}-1.2-")
        marks = chart["spec"]["data"]["values"]
        if chart["kind"] == "histogram":
            assert sum(mark["y"] for mark in marks) == len(rows)
        else:
            wanted = sorted(rows["attention"].to_list())
            drawn = sorted(mark["x"] for mark in marks)
            assert drawn == pytest.approx(wanted, abs=1e-6)


def test_the_head_page_has_its_mean_map(browser: Browser) -> None:
    """The picture is the cut of the run's mosaic; words beside it say where most goes."""
    html = browser.get(f"/run/{BASE}/head/1/2").text
    address = unescape(re.findall(r'<figure class="mean-map"><img src="([^"]+)"', html)[0])
    profile = "SELECT target FROM offsets WHERE run = $run AND layer = 1 AND head = 2 ORDER BY share DESC LIMIT 1"
    named = {
        "cls": "[CLS]",
        "sep": "[SEP]",
        "far": "farther than 10",
        "other_text": "the other text",
    }
    target = browser.site.store.ask(profile, run=BASE).item()
    assert f"Most goes to {named[target]} " in _plain(html)
    picture = imread(io.BytesIO(browser.get(address).content))
    whole = imread(io.BytesIO(browser.get(f"/run/{BASE}/mean-maps.png").content))
    top, left = LENGTH + GAP, 2 * (WIDTH + GAP)
    assert np.array_equal(picture, whole[top : top + LENGTH, left : left + WIDTH])
    assert browser.get(f"/run/{BASE}/mean-maps.png?layer=9&head=0").status_code == 404
