"""Saving in Chromium: what a paper needs, within four actions and without an address that is typed."""

from __future__ import annotations

import csv
import io
import re
import zlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from browsing import OTHER, RUN, drawn
from webtools import Browser

import attnstore
from attnstore.display import inputs
from attnstore.web import map_table

pytestmark = pytest.mark.slow

POINTS = {"one": 237.6, "two": 496.8}
"""Widths of one and of two columns: 3.3 and 6.9 inches."""


class Person:
    """Somebody at a page, whose actions are counted."""

    def __init__(self, page: Any) -> None:
        self.page, self.actions = page, 0

    def click(self, selector: str) -> None:
        """Click on something."""
        self.actions += 1
        self.page.click(selector)

    def saved(self, selector: str) -> bytes:
        """Click on something that gives a file."""
        with self.page.expect_download() as download:
            self.click(selector)
        return Path(download.value.path()).read_bytes()


def size_of_pdf(content: bytes) -> tuple[float, float]:
    """The size of its first page in points."""
    assert content.startswith(b"%PDF-")
    box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", content)
    assert box is not None
    return float(box[1]), float(box[2])


def texts_of_pdf(content: bytes) -> str:
    """What its streams say, with the letters of standard fonts."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL)
    said = []
    for stream in streams:
        try:
            said.append(zlib.decompress(stream).decode("latin-1"))
        except zlib.error:
            continue
    shown = "".join(re.findall(r"\(((?:[^()\\]|\\.)*)\) Tj", "\n".join(said)))
    return re.sub(r"\\([()\\])", r"\1", shown)


def made(page: Any, part: str) -> tuple[str, dict[str, Any]]:
    """The SQL beside a picture of maps, and what the Python beside it leaves, when it is run."""
    page.click(f"{part} .made summary")
    page.wait_for_function(f"() => document.querySelector('{part} .made pre').textContent.includes('attention')")  # fmt: skip
    sql, python = page.locator(f"{part} .made pre").all_text_contents()
    scope: dict[str, Any] = {}
    exec(python, scope)
    return sql, scope


def test_a_query_with_its_chart_link_svg_and_csv(page: Any) -> None:
    """A query, the kind of its chart, two files; the link is the page's address."""
    page.goto("/sql")
    page.fill("#text", f"SELECT layer, head, avg(cls) AS cls FROM map_stats WHERE run = '{RUN}' GROUP BY ALL ORDER BY ALL")  # fmt: skip
    person = Person(page)
    person.click("#run")
    person.click("[data-show=heatmap]")
    svg = person.saved("[data-chart] .saving button:text-is('SVG')")
    rows = person.saved("[data-chart] .saving button:text-is('CSV')")
    assert person.actions <= 4
    root = ElementTree.fromstring(svg)
    assert float(str(root.get("width")).removesuffix("pt")) == POINTS["one"]
    assert len(rows.decode().splitlines()) == 73
    assert "show=heatmap" in page.url
    assert "avg" in page.url


@pytest.mark.parametrize("width", POINTS)
def test_a_figure_of_the_grid_for_a_paper(page: Any, width: str) -> None:
    """From the store page: the run, then the file; its size is that of the column, its letters are letters."""
    page.add_init_script(f"localStorage.saveWidth = '{width}'")
    page.goto("/")
    person = Person(page)
    person.click(f"text={RUN}")
    pdf = person.saved(".panel .saving button:text-is('PDF')")
    assert person.actions <= 4
    assert size_of_pdf(pdf)[0] == pytest.approx(POINTS[width], abs=0.01)
    assert "entropy (nats)" in texts_of_pdf(pdf)
    svg = person.saved(".panel .saving button:text-is('SVG')")
    png = person.saved(".panel .saving button:text-is('PNG')")
    rows = person.saved(".panel .saving button:text-is('CSV')")
    assert len(rows.decode().splitlines()) == 73
    root = ElementTree.fromstring(svg)
    assert size_of_pdf(pdf)[1] == pytest.approx(float(str(root.get("height"))[:-2]), abs=0.01)
    assert int.from_bytes(png[16:20]) == round(POINTS[width] * 300 / 72)


def test_a_figure_of_a_map_for_a_paper(page: Any, real_store: Path) -> None:
    """From the store page: the run, an input, the file; its numbers, as CSV and by the SQL beside it, are the map's."""
    page.goto("/")
    person = Person(page)
    person.click(f"text={RUN}")
    person.click(".texts tbody a >> nth=3")
    drawn(page)
    pdf = person.saved(".one .saving button:text-is('PDF')")
    assert person.actions <= 4
    assert size_of_pdf(pdf)[0] == pytest.approx(POINTS["one"], abs=0.01)
    assert {"from", "to", "[CLS]"} <= set(re.findall(r"from|to|\[CLS\]", texts_of_pdf(pdf)))
    rows = list(csv.DictReader(io.StringIO(person.saved(".one .saving button:text-is('CSV')").decode())))  # fmt: skip
    sql, scope = made(page, ".one")
    with attnstore.open(real_store) as store:
        weights = store.maps(RUN, 3)[0, 0]
        asked = store.sql(sql)
    assert len(rows) == len(asked) == weights.size
    np.testing.assert_array_equal(scope["map_"].weights, weights)
    for row, (i, j, _, _, weight) in zip(rows, asked.iter_rows(), strict=True):
        assert (int(row["from_pos"]), int(row["to_pos"])) == (i, j)
        assert float(row["value"]) == pytest.approx(weights[i, j], abs=1e-6)
        assert weight == pytest.approx(weights[i, j], abs=1e-6)


def test_maps_of_two_runs_and_their_words_are_saved_as_they_are_shown(page: Any, real_store: Path) -> None:  # fmt: skip
    """Three pictures with their names; the SQL of words runs and has as many rows as the CSV for each run."""
    page.goto(f"/run/{OTHER}/example/3?layer=4&head=7&against={RUN}&unit=word")
    drawn(page)
    person = Person(page)
    root = ElementTree.fromstring(person.saved(".one .saving button:text-is('SVG')"))
    assert len(list(root.iter("{http://www.w3.org/2000/svg}image"))) == 3
    assert {RUN, OTHER, f"{OTHER} less {RUN}"} <= set(root.itertext())
    rows = list(csv.DictReader(io.StringIO(person.saved(".one .saving button:text-is('CSV')").decode())))  # fmt: skip
    for row in rows:
        change = float(row[OTHER]) - float(row[RUN])
        assert float(row[f"{OTHER} less {RUN}"]) == pytest.approx(change, abs=1e-6)
    page.click(".one .made summary")
    page.wait_for_function("() => document.querySelector('.one .made pre').textContent.includes('word')")  # fmt: skip
    with attnstore.open(real_store) as store:
        asked = store.sql(page.text_content(".one .made pre"))
    assert len(asked) == 2 * len(rows)
    values = {(run, i, j): weight for run, i, j, _, _, weight in asked.iter_rows()}
    firsts = sorted({i for _, i, _ in values})
    for row in rows:
        place = firsts[int(row["from_pos"])], firsts[int(row["to_pos"])]
        assert float(row[RUN]) == pytest.approx(values[RUN, *place], abs=1e-5)


@pytest.mark.parametrize("part", [".overview", ".drawn"])
def test_all_heads_and_the_lines_are_saved(page: Any, part: str) -> None:
    """As SVG and PDF of a column's width, with numbers of layers or tokens as letters."""
    page.goto(f"/run/{RUN}/example/3?layer=2&head=3")
    drawn(page)
    person = Person(page)
    pdf = person.saved(f"{part} .saving button:text-is('PDF')")
    assert size_of_pdf(pdf)[0] == pytest.approx(POINTS["one"], abs=0.01)
    root = ElementTree.fromstring(person.saved(f"{part} .saving button:text-is('SVG')"))
    said = set(root.itertext())
    assert ({"0", "5", "11"} if part == ".overview" else {"[CLS]", "[SEP]"}) <= said


def test_the_sql_of_the_lines_gives_their_numbers(page: Any, real_store: Path) -> None:
    """As many rows as the CSV, of the head that is drawn; the Python beside it asks the same."""
    page.goto(f"/run/{RUN}/example/3?layer=2&head=3")
    drawn(page)
    text = Person(page).saved(".drawn .saving button:text-is('CSV')").decode()
    rows = {
        (int(r["from_pos"]), int(r["to_pos"])): float(r["2.3"])
        for r in csv.DictReader(io.StringIO(text))
    }
    sql, scope = made(page, ".drawn")
    with attnstore.open(real_store) as store:
        asked = store.sql(sql)
    assert scope["rows"].equals(asked)
    weights = {(i, j): weight for i, j, _, _, weight in asked.iter_rows()}
    assert weights == pytest.approx(rows, abs=1e-6)


@pytest.mark.parametrize("switches", ["", "&unit=word&specials=renormalise", f"&against={OTHER}"])
def test_the_numbers_of_all_heads_are_saved_as_they_are_shown(
    page: Any, real_store: Path, switches: str
) -> None:
    """A row for each pair of tokens that is shown, a column for each head, those of the stored maps."""
    page.goto(f"/run/{RUN}/example/3?layer=2&head=3{switches}")
    drawn(page)
    text = Person(page).saved(".overview .saving button:text-is('CSV')").decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    with attnstore.open(real_store) as store:
        maps = {run: store.maps(run, 3) for run in (RUN, OTHER)}
        record = inputs.find(store, RUN, 3)
        ran: dict[str, Any] = {}
        page.click(".overview .made summary")
        code = page.locator(".overview .made pre:has-text('store.maps')").text_content()
        exec(code, ran)
        assert np.array_equal(ran["maps"], maps[RUN])
    wanted = maps[RUN]
    if "word" in switches:
        starts, special = record["data"]["starts"], np.array(record["data"]["special"])
        wanted = np.add.reduceat(np.add.reduceat(wanted, starts, 3), starts, 2)
        wanted /= np.diff([*starts, len(special)])[:, None]
        shown = np.flatnonzero(~special[starts])
        wanted = wanted[:, :, shown[:, None], shown]
        wanted /= wanted.sum(-1, keepdims=True)
    assert len(rows) == wanted.shape[2] * wanted.shape[3]
    before = f"{RUN} " if "against" in switches else ""
    found = np.array([[float(row[f"{before}{i}.{j}"]) for row in rows] for i in range(6) for j in range(12)])  # fmt: skip
    assert np.allclose(found, wanted.reshape(72, -1), atol=1e-6)
    if before:
        theirs = [float(row[f"{OTHER} 4.7"]) for row in rows]
        assert np.allclose(theirs, maps[OTHER][4, 7].ravel(), atol=1e-6)
        assert not np.allclose(theirs, maps[RUN][4, 7].ravel(), atol=1e-6)


def test_more_numbers_than_a_table_holds_are_a_sentence(
    pages: Browser, example: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the command that writes them."""
    monkeypatch.setattr(map_table, "MOST", 100)
    answer = pages.client.get(f"/maps/tiny/sample/{example}/all.csv")
    assert answer.status_code == 400
    assert "a table here holds 100; `attnstore export RUN --to npz" in answer.text


def test_mean_maps_of_a_list_of_runs_are_saved(page: Any, real_store: Path) -> None:
    """On the first page, behind a word under each picture: a figure, and view `offsets` as CSV."""
    page.goto("/")
    at = f'details:has(summary[aria-label="Save the mean maps of {RUN}"])'
    person = Person(page)
    person.click(f"{at} summary")
    pdf = person.saved(f"{at} .saving button:text-is('PDF')")
    text = person.saved(f"{at} .saving button:text-is('CSV')").decode()
    assert person.actions <= 4
    assert size_of_pdf(pdf)[0] == pytest.approx(POINTS["one"], abs=0.01)
    with attnstore.open(real_store) as store:
        assert text == store.sql("FROM offsets WHERE run = $run ORDER BY ALL", run=RUN).write_csv()
        sql = page.locator(f"{at} .made pre").first.text_content()
        assert store.sql(sql).write_csv() == text


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (f"/sql?analysis=head_entropy&p.run={RUN}&show=heatmap", "head_entropy-minilm-pairs-mean-by-layer-head.svg"),
        ("/sql?q=SELECT+layer,+avg%28sep%29+AS+sep+FROM+map_stats+GROUP+BY+layer&show=lines", "sep-by-layer.svg"),
        ("/sql?q=SELECT+layer,+head,+sep+FROM+map_stats&show=histogram&x=sep", "count-by-sep.svg"),
    ],
)  # fmt: skip
def test_a_chart_is_named_by_what_it_shows(page: Any, asked: str, name: str) -> None:
    """The analysis and its run, or the columns: of several files in a folder each says what it is."""
    page.goto(asked)
    with page.expect_download() as download:
        page.click("[data-chart] .saving button:text-is('SVG')")
    assert download.value.suggested_filename == name


def test_movement_between_two_runs_is_saved_with_its_sql(page: Any, real_store: Path) -> None:
    """The CSV has the rows that the query beside it gives."""
    page.goto(f"/compare?left={OTHER}&right={RUN}")
    page.wait_for_selector(".gridded ~ div .saving")
    rows = list(csv.DictReader(io.StringIO(Person(page).saved(".saving button:text-is('CSV') >> nth=0").decode())))  # fmt: skip
    sql = page.locator(".made pre").first.text_content()
    with attnstore.open(real_store) as store:
        values = {(r["layer"], r["head"]): r["mean"] for r in store.sql(sql).to_dicts()}
    assert len(rows) == len(values) == 72
    for row in rows:
        wanted = values[int(row["layer"]), int(row["head"])]
        assert float(row["value"]) == pytest.approx(wanted)


def test_the_width_is_kept_for_the_next_picture(page: Any) -> None:
    """Who chooses two columns once has them on every page."""
    page.goto(f"/run/{RUN}")
    page.select_option(".panel .saving select", "two")
    page.goto(f"/run/{OTHER}?by=cls")
    assert page.input_value(".panel .saving select") == "two"


def test_files_are_made_under_the_content_policy(page: Any) -> None:
    """Nothing that writes a PDF, or a picture, is refused by the policy."""
    page.add_init_script("window.broken = []; document.addEventListener('securitypolicyviolation', (e) => broken.push(e.violatedDirective + e.blockedURI));")  # fmt: skip
    page.goto(f"/sql?analysis=head_entropy&p.run={RUN}&show=heatmap")
    page.wait_for_selector("[data-chart] .saving")
    person = Person(page)
    for kind in ("PDF", "PNG", "SVG"):
        assert person.saved(f"[data-chart] .saving button:text-is('{kind}')")
    assert page.evaluate("broken") == []


def test_letters_that_standard_fonts_lack_are_in_a_pdf(page: Any) -> None:
    """A text with other letters stands in it as a picture, the others as letters."""
    page.goto("/sql")
    page.fill("#text", "SELECT * FROM (VALUES ('日本語 トークン', 2), ('café', 3), ('plain', 1)) t(token, value)")  # fmt: skip
    person = Person(page)
    person.click("#run")
    person.click("[data-show=bars]")
    pdf = person.saved("[data-chart] .saving button:text-is('PDF')")
    said = texts_of_pdf(pdf)
    assert "plain" in said
    assert "caf\\351" in said or "café" in said
    assert pdf.count(b"/Subtype /Image") >= 1
