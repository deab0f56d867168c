"""Rules of the explorer's pages and pictures: what they show is what the store holds."""

from __future__ import annotations

import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import paper
import polars as pl
import pytest
from click.testing import CliRunner
from helpers import flip
from PIL import Image
from polars.testing import assert_frame_equal
from webtools import HOSTILE, RUN, Browser, hostile_texts

import attnstore
from attnstore.cli.main import main
from attnstore.display import inputs
from attnstore.display.colors import colormap
from attnstore.errors import UsageError
from attnstore.experiments.patterns.labels import read_csv
from attnstore.query import analyses
from attnstore.statistics import NAMES
from attnstore.storage import fragments, index, location, locks
from attnstore.storage.tables import TABLES
from attnstore.store import Store
from attnstore.web import mean_maps, measures, pictures
from attnstore.web.served_store import ServedStore


class Texts(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


# Pages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "/", f"/run/{RUN}", f"/run/{RUN}?by=cls&page=1&find=the", f"/run/{RUN}/head/1/2?by=max",
        f"/run/{RUN}?by=analysis:head_types", f"/run/{RUN}/grid?by=analysis:head_entropy", f"/run/{RUN}/head/1/2?by=breadth",
        f"/run/{RUN}/features/1/2", "/sql", "/sql?analysis=head_types&p.run=tiny/sample",
        "/sql?q=FROM+runs", "/annotate", f"/annotate?annotator=ann&run={RUN}", "/annotate/agreement",
    ],
)  # fmt: skip
def test_every_page_answers(pages: Browser, address: str) -> None:
    """Each address gives a page whose every address is this server's own."""
    answer = pages.get(address)
    assert answer.status_code == 200, answer.text
    found = Texts(answer.text)
    for name, value in found.attributes:
        if name in ("src", "href", "action"):
            assert re.match(r"[/?#]", value or ""), (name, value)
        assert not name.startswith("on"), name
        assert name != "style"


def test_example_page_holds_tokens_as_data(pages: Browser, store: Store, example: int) -> None:
    """The page's data are the input's readable tokens, its words, and the runs that can lie beside it."""
    page = pages.get(f"/run/{RUN}/example/{example}").text
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    tokens = store.sql("FROM tokens WHERE example = $e ORDER BY position", e=example)
    assert data["tokens"] == tokens["text"].to_list()
    assert data["layers"] == [0, 1]
    assert [run["run"] for run in data["runs"]] == [RUN]
    words = tokens.filter(pl.col("word").is_not_null())["word"].n_unique()
    assert len(data["words"]) == words + tokens["word"].null_count()


@pytest.mark.parametrize(
    ("address", "status", "said"),
    [
        ("/run/no/such", 404, "no/such"),
        (f"/run/{RUN}?by=nothing", 404, "no measure"),
        (f"/run/{RUN}/head/9/0", 404, "its layers are 0, 1"),
        (f"/run/{RUN}/head/0/x", 400, "head as &#39;x&#39;"),
        (f"/run/{RUN}/head/0/-1", 400, "-1"),
        (f"/run/{RUN}/example/999999", 404, "no example 999999"),
        (f"/run/{RUN}/example/{10**30}", 400, "give a number"),
        (f"/run/{RUN}/example/0?against=no/such", 400, "no/such"),
        (f"/maps/{RUN}/0/0/77", 404, "no head 77"),
        (f"/maps/{RUN}/0/all?unit=letters", 400, "piece or word"),
        ("/sql?analysis=nothing", 404, "nothing"),
        ("/questions/unknown", 404, "no longer kept"),
        ("/annotate?annotator=%3Cb%3E&run=tiny/sample", 400, "cannot be called"),
        ("/annotate?run=no/such", 404, "no/such"),
        ("/nowhere", 404, "/nowhere"),
        ("/static/../site.py", 404, ""),
        ("/static/%2e%2e/site.py", 404, ""),
    ],
)
def test_a_wrong_address_gets_one_sentence(
    pages: Browser, address: str, status: int, said: str
) -> None:
    """What is not there, or no number, is a page with the sentence and the right status."""
    answer = pages.get(address)
    example_missing = "/example/0?" in address or "/0/0/77" in address or "/0/all" in address
    assert answer.status_code == status or (example_missing and answer.status_code == 404)
    assert said in answer.text or example_missing
    assert "Traceback" not in answer.text


# What they show ----------------------------------------------------------------------------------


def test_a_map_comes_bit_for_bit(pages: Browser, store: Store, example: int) -> None:
    """The weights of a map are those of `store.maps`."""
    maps = store.maps(RUN, example)
    body = pages.get(f"/maps/{RUN}/{example}/1/2").content
    got = np.frombuffer(body, "<f4").reshape(maps.shape[2:])
    np.testing.assert_array_equal(got, maps[1, 2])


def test_the_overview_is_every_map_in_bytes(pages: Browser, store: Store, example: int) -> None:
    """(layer, head, s, s) bytes with weight = (q/255)², to half a step of the scale."""
    maps = store.maps(RUN, example)
    answer = pages.get(f"/maps/{RUN}/{example}/all")
    side = int(answer.headers["X-Side"])
    got = np.frombuffer(answer.content, np.uint8).reshape(2, 4, side, side) / 255
    assert side == maps.shape[-1]
    np.testing.assert_allclose(got, np.sqrt(maps), atol=0.5 / 255 + 1e-6)


def test_long_inputs_get_small_thumbnails() -> None:
    """Beyond SIDE cells a side, each cell shows the largest weight that falls into it."""
    maps = np.zeros((1, 1, 200, 200), np.float32)
    maps[0, 0, 0, 199] = 1
    small = pictures.thumbnails(maps)
    assert small.shape == (1, 1, pictures.SIDE, pictures.SIDE)
    assert small[0, 0, 0, -1] == 255
    assert (small > 0).sum() == 1


def test_words_are_means_over_rows_of_sums_over_columns(
    pages: Browser, store: Store, example: int
) -> None:
    """Attention from a word is the mean over its pieces, to a word the sum; rows sum to 1."""
    tokens = store.sql(
        "SELECT position, word, segment FROM tokens WHERE example = $e ORDER BY position", e=example
    )
    groups: list[list[int]] = []
    before: Any = None
    for position, word, segment in tokens.iter_rows():
        if word is None or (segment, word) != before:
            groups.append([])
        groups[-1].append(position)
        before = None if word is None else (segment, word)
    assert max(map(len, groups)) > 1, "the input has no word of several pieces"
    weights = store.maps(RUN, example)[1, 2].astype(float)
    expected = [[weights[np.ix_(a, b)].sum(1).mean() for b in groups] for a in groups]
    body = pages.get(f"/maps/{RUN}/{example}/1/2?unit=word").content
    got = np.frombuffer(body, "<f4").reshape(len(groups), len(groups))
    np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_allclose(got.sum(1), 1, atol=1e-5)


def test_words_are_named_as_in_the_text(store: Store, example: int) -> None:
    """A word's label is its stretch of the text, not its pieces."""
    record = inputs.find(store, RUN, example)
    for start, word in zip(record["data"]["starts"], record["data"]["words"], strict=True):
        if record["words"][start] is not None:
            text = record["text_pair"] if record["segments"][start] else record["text"]
            assert word in text
            assert text[record["starts"][start] :].startswith(word)


def test_a_picture_is_a_png_of_the_map(pages: Browser, example: int, store: Store) -> None:
    """As many pixels as cells, the largest weight the lightest."""
    image = Image.open(io.BytesIO(pages.get(f"/maps/{RUN}/{example}/1/2.png").content))
    weights = store.maps(RUN, example)[1, 2]
    assert image.size == weights.shape
    light = np.asarray(image.convert("L"))
    assert light.reshape(-1)[weights.argmax()] == light.max()


def test_pictures_share_one_range_or_have_their_own(
    pages: Browser, store: Store, example: int
) -> None:
    """A weight's color is that of √weight from 0 to 1; with range=map, up to the map's largest."""
    weights = store.maps(RUN, example)[1, 2]
    for query, top in (("", 1.0), ("?range=fixed", 1.0), ("?range=map", float(weights.max()))):
        body = pages.get(f"/maps/{RUN}/{example}/1/2.png{query}").content
        pixels = np.asarray(Image.open(io.BytesIO(body)).convert("RGB")).astype(int)
        wanted = colormap(np.sqrt(weights / top), 1.0).astype(int)
        assert np.abs(pixels - wanted).max() <= 4, query
    head = f"/run/{RUN}/head/1/2"
    assert "range=map" not in re.findall(r'<img src="(/maps/[^"]+)"', pages.get(head).text)[0]
    assert (
        "range=map"
        in re.findall(r'<img src="(/maps/[^"]+)"', pages.get(f"{head}?range=map").text)[0]
    )
    assert pages.get(f"/maps/{RUN}/{example}/all").headers["X-Top"] == "1.0"


@pytest.mark.parametrize("by", [*NAMES, "breadth", "reach"])
def test_the_grid_has_the_means_of_map_stats(pages: Browser, store: Store, by: str) -> None:
    """Mean and interval of each head, as SQL tells them apart from the page."""
    run = store.run(RUN).record
    grid = measures.grid(pages.site.store, run, measures.find(pages.site.store, by), {})
    even = "(length * length - 1.0) / (3 * length)"
    own = {"breadth": "entropy / ln(length)", "reach": f"mean_distance / ({even})"}
    value = own.get(by, f'"{by}"')
    rows = store.sql(
        f"SELECT layer, head, avg({value}), list({value}), count({value}) "
        "FROM map_stats JOIN inputs USING (run, example) GROUP BY ALL"
    )
    assert len(rows) == 8
    if by == "sink":  # of a model with attention sinks
        rows = rows.drop_nulls()
    assert len(grid.cells) == len(rows)
    most = np.inf if by in ("entropy", "mean_distance", "reach") else 1
    for layer, head, mean, values, n in rows.iter_rows():
        cell = grid.cells[layer, head]
        assert cell.value == pytest.approx(mean)
        assert (cell.n, cell.value, cell.low, cell.high) == pytest.approx(
            paper.student(values, 0, most)
        )
        assert cell.n == n


def test_a_grid_of_classes_names_them(pages: Browser, store: Store) -> None:
    """head_types colours by its type, with the type in the cell and in the legend."""
    page = pages.get(f"/run/{RUN}?by=analysis:head_types").text
    types = set(
        store.query("head_types", run=RUN)["type"].to_list()  # type: ignore[attr-defined]
    )
    for name in types:
        assert name in page


def test_every_analysis_of_heads_colours_the_grid(pages: Browser) -> None:
    """A file of sql/analysis with layer, head and mean or class is offered, and works or says why."""
    offered = [c for c in measures.choices(pages.site.store) if c.group == "Analyses"]
    assert {"analysis:head_entropy", "analysis:drift", "analysis:pattern_by_head"} <= {
        c.key for c in offered
    }
    for choice in offered:
        answer = pages.get(f"/run/{RUN}/grid?by={choice.key}")
        assert answer.status_code in (200, 400), (choice.key, answer.text)


def test_the_strongest_inputs_come_first(pages: Browser, store: Store) -> None:
    """The head page lists inputs by the measure, the highest first."""
    page = pages.get(f"/run/{RUN}/head/1/2?by=max").text.partition("is highest")[2]
    listed = [int(n) for n in re.findall(rf"/maps/{RUN}/(\d+)/1/2\.png", page)]
    wanted = store.sql(
        "SELECT example FROM map_stats WHERE layer = 1 AND head = 2 ORDER BY max DESC, example LIMIT 12"
    )
    assert listed == wanted["example"].to_list()


def test_search_finds_inputs_by_their_text(pages: Browser, store: Store) -> None:
    """In either text, in any case."""
    word = store.sql(
        "SELECT text FROM inputs JOIN examples USING (dataset, example) LIMIT 1"
    ).item()
    page = pages.get(f"/run/{RUN}?find={word[:12].upper()}").text
    assert "1 input" in page or "inputs" in page
    assert word[:12] in Texts(page).text
    assert "No input has" in pages.get(f"/run/{RUN}?find=zzzzqqq").text


@pytest.mark.skipif("ablations" not in TABLES, reason="the store keeps no ablations yet")
def test_what_disabling_does_colours_the_grid(sample_store: Path, tmp_path: Path) -> None:
    """The change of the score with its interval, for each head; a head's page adds its layer's."""
    root = tmp_path / "s"
    shutil.copytree(sample_store, root)
    places = [(i, j) for i in range(2) for j in (0, 1, 2, 3, None)]
    frame = pl.DataFrame(
        {
            "layer": [i for i, _ in places],
            "head": [j for _, j in places],
            "difference": [-0.5 if j is None else 0.01 * (i - j) for i, j in places],
        },
        schema={"layer": pl.Int16, "head": pl.Int16, "difference": pl.Float64},
    ).with_columns(
        model=pl.lit("tiny"), dataset=pl.lit("sample"), value=pl.lit("uniform"),
        metric=pl.lit("accuracy"), baseline=pl.lit(0.8), low=pl.lit(-0.6), high=pl.lit(0.2),
        n=pl.lit(8), max_length=pl.lit(64, pl.Int32), identity=pl.lit("x"),
    )  # fmt: skip
    fragments.write(location.locate(root), "ablations", "tiny", "part", frame)
    browser = Browser(root)
    run = attnstore.open(root).run(RUN).record
    choice = measures.find(browser.site.store, "disabling")
    grid = measures.grid(browser.site.store, run, choice, {})
    assert grid.parts == ["accuracy on sample, uniform"]
    assert grid.cells[0, 3].value == pytest.approx(-0.03)
    assert (grid.cells[0, 3].low, grid.cells[0, 3].high) == (-0.6, 0.2)
    assert "-0.5000" in browser.get(f"/run/{RUN}/head/1/2").text
    assert browser.get(f"/run/{RUN}?by=disabling").status_code == 200
    browser.close()


def test_a_head_stands_beside_random_weights(
    sample_store: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    """Lowest and highest mean over the twins, in the grid of a measure, of an analysis, and on its page."""
    root = Path(shutil.copytree(sample_store, tmp_path / "s"))
    options = {"limit": 8, "max_length": 64, "precision": "float32", "seeds": (1, 2)}
    attnstore.ingest(root, f"{tiny_bert}=tiny", "sample", random_weights=True, **options)
    browser = Browser(root)
    store, run = browser.site.store, browser.site.store.current.run(RUN).record
    twins = [
        attnstore.open(root).query("head_entropy", run=f"tiny-random-{k}/sample") for k in (1, 2)
    ]
    means = [t.filter(layer=1, head=2)["mean"].item() for t in twins]
    for by in ("entropy", "analysis:head_entropy"):
        cell = measures.grid(store, run, measures.find(store, by), {}).cells[1, 2]
        assert cell.random == pytest.approx((min(means), max(means)))
        assert "random weights" in browser.get(f"/run/{RUN}/grid?by={by}").text
    assert "With random weights" in browser.get(f"/run/{RUN}/head/1/2?by=entropy").text
    twin = browser.get("/run/tiny-random-1/sample/head/1/2?by=entropy").text
    assert "random weights" not in twin
    browser.close()


# Hostile texts -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile_store(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose texts and labels are hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    texts = hostile_texts(folder / "h.jsonl")
    attnstore.ingest(folder / "s", str(tiny_bert), str(texts), max_length=64)
    return folder / "s"


def test_hostile_texts_stay_text(hostile_store: Path) -> None:
    """Texts with HTML, script, RTL marks or endless words add no tag and no attribute to a page."""
    browser = Browser(hostile_store)
    for address in ("/run/tiny/h", "/run/tiny/h/head/0/1", *(f"/run/tiny/h/example/{i}" for i in range(5))):  # fmt: skip
        answer = browser.get(address)
        assert answer.status_code == 200
        found = Texts(answer.text)
        kinds = [
            v for n, v in found.attributes if n == "type" and v in ("module", "application/json")
        ]
        assert found.tags.count("script") == len(kinds)
        assert "i" not in found.tags
        assert all(not n.startswith("on") for n, _ in found.attributes)
        sources = [v or "" for n, v in found.attributes if n == "src"]
        assert all(
            v.startswith(("/static/", "/maps/", "/run/tiny/h/mean-maps.png?")) for v in sources
        )
    page = Texts(browser.get("/run/tiny/h/example/0").text)
    assert HOSTILE[0] in page.text
    browser.close()


# The store under the server ----------------------------------------------------------------------


def test_an_empty_store_says_how_to_fill_it(tmp_path: Path) -> None:
    """No run: a page with the command, on every address that needs one a sentence."""
    attnstore.storage.location.create(tmp_path / "empty")
    browser = Browser(tmp_path / "empty")
    assert "holds no run yet" in browser.get("/").text
    assert "nothing to annotate" in browser.get("/annotate").text
    assert browser.get("/sql").status_code == 200
    assert browser.get("/run/a/b").status_code == 404
    browser.close()


def test_a_replaced_store_is_opened_anew(
    sample_store: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    """The server goes on with what lies in the folder now; a folder that is gone is a sentence."""
    root = tmp_path / "s"
    shutil.copytree(sample_store, root)
    browser = Browser(root)
    assert browser.get(f"/run/{RUN}").status_code == 200
    shutil.rmtree(root)
    gone = browser.get("/")
    assert gone.status_code == 503
    assert "There is no attention store" in gone.text
    other = tmp_path / "t.jsonl"
    other.write_text('{"text": "the quick brown fox"}\n')
    attnstore.ingest(root, str(tiny_bert), str(other), max_length=64)
    assert "tiny/t" in browser.get("/").text
    assert browser.get(f"/run/{RUN}").status_code == 404
    assert browser.get("/run/tiny/t/example/0").status_code == 200
    browser.close()


def test_a_damaged_store_is_a_sentence(sample_store: Path, tmp_path: Path) -> None:
    """Maps that cannot be read and an index that cannot be opened name themselves; no trace."""
    root = tmp_path / "s"
    shutil.copytree(sample_store, root)
    browser = Browser(root)
    example = browser.site.store.ask("SELECT example FROM inputs LIMIT 1").item()
    for shard in (root / "attention.zarr" / RUN / "maps" / "c").rglob("*"):
        if shard.is_file():
            shard.write_bytes(shard.read_bytes()[:1000])
    answer = browser.get(f"/maps/{RUN}/{example}/all")
    assert answer.status_code == 503
    assert "attnstore verify" in answer.text
    (root / "attnstore.json").write_text("{")
    assert "is damaged" in browser.get("/").text
    browser.close()


def test_a_run_that_is_written_is_seen_without_a_lock(tmp_path: Path) -> None:
    """Who holds a run's lock alone shows; looking takes no lock itself."""
    lock = locks.path_of(location.locate(tmp_path), "x")
    assert not locks.held(lock)
    with locks.hold(lock):
        assert locks.held(lock)
    assert not locks.held(lock)
    with locks.hold(lock, shared=True):
        assert not locks.held(lock)


def test_a_damaged_fragment_is_noted(sample_store: Path, tmp_path: Path) -> None:
    """What the index had to leave out stands on top of the page."""
    root = tmp_path / "s"
    shutil.copytree(sample_store, root)
    flip(next((root / "fragments" / "datasets").rglob("*.parquet")))
    (root / index.FILE).unlink()
    browser = Browser(root)
    assert "damaged fragments" in browser.get("/").text
    browser.close()


# Notebook ----------------------------------------------------------------------------------------


def test_a_view_is_one_document_that_loads_nothing(store: Store, example: int) -> None:
    """Its policy forbids every request, and nothing in it names another address."""
    page = store.view(RUN, example, layer=1, head=2).html()
    assert "default-src 'none'" in page
    found = Texts(page)
    assert not [v for n, v in found.attributes if n in ("src", "href")]
    assert not re.search(r"https?://(?!www\.w3\.org)", page)


def test_a_view_holds_the_weights(store: Store, example: int) -> None:
    """The packed weights are the maps in float16, of the layers and heads that are asked for."""
    import base64
    import gzip

    page = store.view(RUN, example, layers=[1], heads=[0, 2]).html()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    n = len(data["tokens"])
    packed = gzip.decompress(base64.b64decode(data["maps"]))
    got = np.frombuffer(packed, "<f2").reshape(1, 2, n, n)
    expected = store.maps(RUN, example)[1:2][:, [0, 2]]
    np.testing.assert_array_equal(got, expected.astype(np.float16))
    assert (data["layers"], data["heads"]) == ([1], [0, 2])
    assert data["state"] == {"layer": 1, "head": 0}


def test_to_html_writes_the_document(store: Store, example: int, tmp_path: Path) -> None:
    """One file; the notebook's frame holds the same document."""
    view = store.view(RUN, example)
    path = view.to_html(tmp_path / "map.html")
    assert path.read_text() == view.html()
    assert 'sandbox="allow-scripts"' in view._repr_html_()


def test_a_view_of_hostile_texts_has_one_data_script(hostile_store: Path) -> None:
    """No text closes the data or the document's scripts."""
    store = attnstore.open(hostile_store)
    for i in range(len(HOSTILE)):
        found = Texts(store.view("tiny/h", i).html())
        assert found.tags.count("script") == 2
        assert "img" not in found.tags


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"layer": 7}, "no layer 7"),
        ({"layers": [9]}, "its layers are 0, 1"),
        ({"heads": [9]}, "no head 9"),
    ],
)
def test_a_view_refuses_what_is_not_there(
    store: Store, example: int, about: dict[str, Any], said: str
) -> None:
    with pytest.raises(attnstore.errors.UnknownNameError, match=said):
        store.view(RUN, example, **about)


def test_too_much_for_a_document_is_refused(
    store: Store, example: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to leave out."""
    monkeypatch.setattr("attnstore.display.standalone.MOST", 100)
    with pytest.raises(attnstore.errors.UsageError, match="name layers or heads"):
        store.view(RUN, example)


def test_bertviz_gets_the_stored_maps(store: Store, example: int) -> None:
    """The head view's weights are the store's, its tokens the input's as people read them; no model is loaded."""
    pytest.importorskip("bertviz", reason="the extra bertviz is not installed")
    html = store.bertviz(RUN, example, prettify_tokens=False).data
    start = html.index('{"attention"')
    params, _ = json.JSONDecoder().raw_decode(html[start:])
    attention = params["attention"][0]
    np.testing.assert_allclose(attention["attn"], store.maps(RUN, example), atol=1e-6)
    assert attention["left_text"] == inputs.find(store, RUN, example)["texts"]
    with pytest.raises(attnstore.errors.UsageError, match="head or model"):
        store.bertviz(RUN, example, "neuron")


# The command -------------------------------------------------------------------------------------


def test_serve_without_a_store_is_a_sentence(tmp_path: Path) -> None:
    """Exit code 2, before anything listens."""
    result = CliRunner().invoke(main, ["--store", str(tmp_path), "serve"])
    assert result.exit_code == 2
    assert "There is no attention store" in result.stderr


def test_serve_names_a_port_that_is_taken(sample_store: Path) -> None:
    """Exit code 2 with the port."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(main, ["--store", str(sample_store), "serve", "--port", port])
    assert result.exit_code == 2
    assert port in result.stderr


def test_labels_csv_is_what_labels_reads(pages: Browser, tmp_path: Path) -> None:
    """The download is a label file by run."""
    body = pages.get("/labels.csv").content
    (tmp_path / "labels.csv").write_bytes(body)
    assert "annotator" in read_csv(tmp_path / "labels.csv").columns


def _rows_of(name: str, rows: list[dict[str, object]], part: str | None = None) -> measures.Grid:
    """The grid of a result of an analysis, of a run with one layer and two heads."""
    place = {"layers": [0], "heads": [0, 1]}
    choice = measures.Choice(f"analysis:{name}", name, "Analyses")
    return measures._of_analysis(analyses.find(name), choice, pl.DataFrame(rows), part, place)


def _values_of(grid: measures.Grid) -> dict[tuple[int, int], float | None]:
    return {place: cell.value for place, cell in grid.cells.items()}


def test_rows_of_one_head_are_parts_of_a_grid() -> None:
    """Each text that tells them apart counts: no row hides another one of its head."""
    rows = [
        {"layer": 0, "head": head, "relation": relation, "direction": way, "mean": value}
        for head in (0, 1)
        for relation, way, value in (
            ("det", "from_to", 0.1 + head), ("det", "to_from", 0.2 + head), ("obj", "to_from", 0.3 + head),
        )
    ]  # fmt: skip
    grid = _rows_of("dependency_heads", rows)
    assert grid.parts == ["det, from_to", "det, to_from", "obj, to_from"]
    assert _values_of(grid) == {(0, 0): 0.1, (0, 1): 1.1}
    assert _values_of(_rows_of("dependency_heads", rows, "obj, to_from")) == {
        (0, 0): 0.3,
        (0, 1): 1.3,
    }
    with pytest.raises(UsageError, match="dependency_heads has several rows of a head"):
        _rows_of("dependency_heads", [*rows, rows[0]])


def test_a_text_that_is_no_class_names_no_head() -> None:
    """Coreference of all mentions is a value; only head_types and pattern_by_head say what a head is."""
    rows = [{"layer": 0, "head": h, "type": "all", "mean": h / 4} for h in (0, 1)]
    grid = _rows_of("coreference_heads", rows)
    assert _values_of(grid) == {(0, 0): 0.0, (0, 1): 0.25}
    assert {cell.name for cell in grid.cells.values()} == {None}
    same = [
        {"layer": 0, "head": h, "type": "broad", "measure": "breadth", "mean": 0.9} for h in (0, 1)
    ]
    assert {cell.name for cell in _rows_of("head_types", same).cells.values()} == {"broad"}


def test_rows_of_whole_layers_are_in_no_grid() -> None:
    """Nor is a row without a head; analyses of pairs of heads, or of the best heads alone, are not offered."""
    rows = [
        {"layer": 0, "head": None, "measure": "distance", "label": None, "mean": 0.5},
        {"layer": 0, "head": 1, "measure": "distance", "label": None, "mean": 0.25},
    ]
    assert _values_of(_rows_of("depth_and_tags", rows)) == {(0, 1): 0.25}


def test_a_result_without_one_row_a_head_is_no_choice(pages: Browser) -> None:
    """Two heads a row, or the best heads alone."""
    offered = {choice.key for choice in measures.choices(pages.site.store)}
    for name in ("head_pairs_alike", "relations", "trees", "language_summary", "dependency_table"):
        assert f"analysis:{name}" not in offered


def test_a_head_is_the_same_alone_and_among_all(sample_store: Path) -> None:
    """Asked before all heads of the run and after, when it is a part of their answer."""
    store = ServedStore(sample_store)
    alone = measures.statistics(store, RUN, (1, 2)), mean_maps.of_run(store, RUN, (1, 2))
    whole = measures.statistics(store, RUN)
    assert mean_maps.of_run(store, RUN) is not None
    again = measures.statistics(store, RUN, (1, 2)), mean_maps.of_run(store, RUN, (1, 2))
    assert len(whole) > len(alone[0]) > 0
    assert_frame_equal(again[0].sort("measure"), alone[0].sort("measure"))
    assert alone[1] is not None
    assert again[1] is not None
    assert again[1].shares == alone[1].shares
    np.testing.assert_array_equal(again[1].maps, alone[1].maps)
    store.close()
