"""The explorer in Debian's Chromium, as a person uses it: real pages over a store made from MiniLM.

Every page also leaves a screenshot at 1280 and at 390 pixels, light and dark, in
output/screenshots; nothing that a page does may ask anything outside this machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from browsing import OTHER, PACKAGE, PAGES, PATIENCE, ROOT, RUN, drawn, hovered, serving
from helpers import write_rows
from webtools import HOSTILE

import attnstore

SHOTS = ROOT / "output" / "screenshots"

pytestmark = pytest.mark.slow


# Pages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_fit_their_window(chromium: Any, address: str, width: int, scheme: str) -> None:
    """No page is wider than its window; a screenshot of each is kept."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    context = chromium.new_context(
        viewport={"width": width, "height": 860}, color_scheme=scheme, base_url=address
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    for name, path in PAGES.items():
        page.goto(path)
        page.wait_for_load_state("networkidle")
        if name == "sql":
            page.wait_for_selector("[data-as=heatmap]:not([hidden]) svg")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} is {wide} pixels wide in a window of {width}"
        page.screenshot(path=SHOTS / f"{name}-{width}-{scheme}.png", full_page=True)
    context.close()


def test_from_store_to_example_by_links(page: Any) -> None:
    """Run, head and example are reached by links, and each address can be opened again."""
    page.goto("/")
    page.click(f"text={RUN}")
    page.wait_for_selector(".chart-grid")
    page.click(".chart-grid a[data-layer='2'][data-head='3']")
    assert page.url.endswith(f"/run/{RUN}/head/2/3")
    page.wait_for_selector("text=Attention to features")
    page.click(".maps a >> nth=0")
    drawn(page)
    assert "layer=2&head=3" in page.url
    page.reload()
    drawn(page)
    assert page.inner_text(".one .caption b") == "Layer 2, head 3"


def test_hovering_a_head_tells_its_value_with_the_interval(page: Any, real_store: Path) -> None:
    """The tip says what SQL says."""
    page.goto(f"/run/{RUN}?by=cls")
    page.hover(".chart-grid a[data-layer='1'][data-head='2'] rect")
    tip = page.inner_text("#tip")
    with attnstore.open(real_store) as store:
        mean = store.sql(
            "SELECT avg(cls) FROM map_stats WHERE run = $run AND layer = 1 AND head = 2", run=RUN
        ).item()
    assert f"{mean:.4f}" in tip
    assert "95%" in tip


def test_every_way_to_colour_the_grid(page: Any) -> None:
    """Choosing one sends the form; what takes long comes after the page; the address keeps it."""
    page.goto(f"/run/{RUN}")
    options = page.eval_on_selector_all("#by option", "all => all.map(o => o.value)")
    assert {"entropy", "analysis:head_types", "analysis:drift"} <= set(options)
    page.select_option("#by", "analysis:head_entropy")
    page.wait_for_url("**/run/*/*?by=analysis*")
    page.wait_for_selector(".chart-grid")
    assert page.input_value("#by") == "analysis:head_entropy"
    page.goto(f"/run/{OTHER}?by=analysis:drift&base_run={RUN}")
    page.wait_for_selector(".chart-grid")


def test_keyboard_goes_everywhere(page: Any) -> None:
    """g s, g q, g a; arrows in the grid, Enter; arrows from head to head; u; ? and Escape."""
    page.goto(f"/run/{RUN}")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url("**/head/1/1")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/head/1/2**")
    page.keyboard.press("u")
    page.wait_for_selector("#inputs")
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("Escape")
    assert not page.is_visible("#help")
    for key, path in (("q", "/sql"), ("a", "/annotate"), ("s", "/")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        page.wait_for_url(f"**{path}")
        page.wait_for_load_state()


# An example --------------------------------------------------------------------------------------


def test_an_example_by_mouse(page: Any, real_store: Path) -> None:
    """A head of the overview, a hovered weight, a pinned one, a token's lines, words."""
    page.goto(f"/run/{RUN}/example/3")
    n = drawn(page)
    box = page.locator("canvas.all").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    n = drawn(page, n)
    layer, head = (int(page.url.split(f"{what}=")[1].split("&")[0]) for what in ("layer", "head"))
    told, i, j = hovered(page, ".large canvas")
    weight = float(told.rsplit(":", 1)[1].split()[0])
    with attnstore.open(real_store) as store:
        assert weight == pytest.approx(store.maps(RUN, 3)[layer, head, i, j], abs=6e-5)
    page.mouse.down()
    page.mouse.up()
    n = drawn(page, n)
    assert f"pins={i}-{j}" in page.url
    assert page.locator(".pins li").count() == 1
    page.click(".lines li button >> nth=2")
    n = drawn(page, n)
    assert "token=2" in page.url
    page.click("#controls label:has-text('words')")
    drawn(page, n)
    assert "unit=word" in page.url
    assert page.locator(".pins li").count() == 0


def test_an_example_by_keyboard(page: Any) -> None:
    """Arrows choose the head, j and k the token, w words, l the scale; the address follows."""
    page.goto(f"/run/{RUN}/example/3")
    n = drawn(page)
    for key, part in (
        ("ArrowRight", "head=1"), ("ArrowDown", "layer=1"), ("j", "token=0"), ("j", "token=1"),
        ("k", "token=0"), ("w", "unit=word"), ("w", "layer=1"), ("l", "scale=linear"), ("f", "range=map"),
    ):  # fmt: skip
        page.keyboard.press(key)
        n = drawn(page, n)
        assert part in page.url, key
    page.keyboard.press("n")
    page.wait_for_url("**/example/4?**")
    assert "scale=linear" in page.url
    drawn(page)


def test_two_runs_side_by_side(page: Any, real_store: Path) -> None:
    """Three maps: one run, the other, their difference; a hovered cell tells both."""
    page.goto(f"/run/{OTHER}/example/3?layer=4&head=7")
    n = drawn(page)
    page.select_option("#against", RUN)
    n = drawn(page, n)
    assert page.locator(".large figure").count() == 3
    assert "against=minilm" in page.url
    told, i, j = hovered(page, ".large canvas >> nth=2")
    mine, theirs = (float(v) for v in told.split(": ")[-1].split(",")[0].split(" and "))
    with attnstore.open(real_store) as store:
        assert mine == pytest.approx(store.maps(OTHER, 3)[4, 7, i, j], abs=6e-5)
        assert theirs == pytest.approx(store.maps(RUN, 3)[4, 7, i, j], abs=6e-5)
    page.reload()
    drawn(page)
    assert page.locator(".large figure").count() == 3


def test_checkpoints_step_by_step(page: Any) -> None:
    """The slider and the brackets go from the model to its checkpoints, in the address too."""
    page.goto(f"/run/{RUN}/example/3?layer=2&head=1")
    n = drawn(page)
    assert page.inner_text("#steps output") == RUN
    page.keyboard.press("]")
    n = drawn(page, n)
    assert f"/run/{OTHER}/example/3" in page.url
    assert "step 100" in page.inner_text("#steps output")
    page.locator("#steps input").fill("0")
    drawn(page, n)
    assert f"/run/{RUN}/example/3" in page.url


@pytest.mark.parametrize("example", range(len(HOSTILE)))
def test_hostile_texts_show_as_text(page: Any, example: int) -> None:
    """They are on the page, letter for letter, and nothing of them runs."""
    page.goto(f"/run/minilm/hostile/example/{example}")
    drawn(page)
    assert page.title().startswith("minilm/hostile")
    text = page.eval_on_selector(".text bdi", "e => e.textContent")
    assert text == HOSTILE[example]
    assert page.locator(".text img, .text script, .lines script").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


# SQL ---------------------------------------------------------------------------------------------


def ask(page: Any, sql: str) -> None:
    """Write a query into the editor and run it by keyboard."""
    page.fill("#text", sql)
    page.keyboard.press("Control+Enter")


def test_a_query_is_asked_sorted_drawn_and_shared(page: Any, chromium: Any, address: str) -> None:
    """Its address, opened by somebody else, shows the same picture."""
    page.goto("/sql")
    ask(page, f"SELECT layer, head, avg(max) AS mean FROM map_stats WHERE run = '{RUN}' GROUP BY ALL")  # fmt: skip
    page.wait_for_selector(".sortable tbody tr")
    assert page.locator(".sortable tbody tr").count() == 72
    page.click(".sortable th >> nth=2")
    values = page.eval_on_selector_all(
        ".sortable tbody tr", "rows => rows.map(r => Number(r.cells[2].dataset.v))"
    )
    assert values == sorted(values)
    page.click("[data-show=heatmap]")
    page.wait_for_selector("[data-as=heatmap] svg")
    assert "show=heatmap" in page.url
    with page.expect_download() as download:
        page.click("text=CSV")
    assert len(Path(download.value.path()).read_text().splitlines()) == 73
    other = chromium.new_context(base_url=address).new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(page.url)
    other.wait_for_selector("[data-as=heatmap]:not([hidden]) svg")
    assert other.input_value("#text") == page.input_value("#text")
    other.context.close()


def test_an_analysis_is_a_start(page: Any) -> None:
    """From the list into the editor, with a field for each parameter."""
    page.goto("/sql")
    page.click("text=special_tokens")
    page.wait_for_selector("#parameters select[name=run]")
    page.select_option("select[name=run]", RUN)
    page.click("#run")
    page.wait_for_selector("[data-show=lines]")
    assert "analysis=special_tokens" in page.url
    assert "p.run=minilm%2Fpairs" in page.url
    page.click("[data-show=lines]")
    page.wait_for_selector("[data-as=lines] svg")


def test_a_chart_is_chosen_shared_and_saved(page: Any, chromium: Any, address: str) -> None:
    """Axes and colors from menus, in the address, the same for somebody else; SVG, PNG and CSV."""
    page.goto("/sql")
    ask(page, f"SELECT layer, head, avg(cls) AS cls, avg(sep) AS sep FROM map_stats WHERE run = '{RUN}' GROUP BY ALL ORDER BY ALL")  # fmt: skip
    page.click("[data-show=lines]")
    page.wait_for_selector("[data-as=lines] svg")
    page.select_option("[data-chart] select[name=y]", json.dumps(["sep"]))
    page.wait_for_function("document.querySelector('[data-chart] svg').textContent.includes('sep')")
    assert "y=sep" in page.url
    files = {}
    for name in ("SVG", "PNG", "CSV"):
        with page.expect_download() as download:
            page.click(f"[data-chart] .saving button:text-is('{name}')")
        files[name] = Path(download.value.path()).read_bytes()
    assert files["PNG"].startswith(b"\x89PNG")
    assert len(files["CSV"].decode().splitlines()) == 73
    drawn = ElementTree.fromstring(files["SVG"].decode())
    assert {"layer", "sep", "head"} <= {text.strip() for text in drawn.itertext()}
    assert b"url(http" not in files["SVG"]
    other = chromium.new_context(base_url=address).new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(page.url)
    other.wait_for_selector("[data-as=lines]:not([hidden]) svg")
    assert other.input_value("[data-chart] select[name=y]") == json.dumps(["sep"])  # fmt: skip
    other.context.close()


def test_charts_run_under_the_content_policy(page: Any) -> None:
    """The grammar draws without inline scripts, inline styles or eval, which the policy forbids."""
    page.add_init_script("window.broken = []; document.addEventListener('securitypolicyviolation', (e) => broken.push(e.violatedDirective + e.blockedURI));")  # fmt: skip
    page.goto(f"/run/{RUN}/head/2/3")
    page.wait_for_selector(".picture svg")
    page.goto(f"/sql?analysis=head_entropy&p.run={RUN}&show=heatmap")
    page.wait_for_selector("[data-as=heatmap] svg")
    assert page.evaluate("broken") == []


def test_views_and_columns_are_beside_the_editor(page: Any) -> None:
    """Searched, opened, and written into the query with a click."""
    page.goto("/sql")
    page.fill("#filter", "same_segment")
    page.click("button[data-insert=same_segment]")
    assert "same_segment" in page.input_value("#text")


def test_a_query_shows_progress_and_is_cancelled(page: Any) -> None:
    """Cancel and Escape end it at once; the page is ready for the next."""
    page.goto("/sql")
    endless = "SELECT count(*) FROM range(10000000) a, range(9999999) b WHERE a.range * b.range < 0"
    for stop in (lambda: page.click("#cancel"), lambda: page.keyboard.press("Escape")):
        ask(page, endless)
        page.wait_for_selector("#progress:not([hidden])")
        stop()
        page.wait_for_function(
            "() => document.getElementById('told').textContent.includes('cancelled')"
        )
    ask(page, "SELECT 40 + 2 AS answer")
    page.wait_for_selector("text=42")


def test_a_query_is_cancelled_before_the_server_has_named_it(page: Any) -> None:
    """Cancel counts as soon as the query is sent, however long its answer takes."""
    page.goto("/sql")
    requests: list[Any] = []
    page.route("**/questions", lambda route: requests.append(route))
    with page.expect_request("**/questions"):
        ask(
            page,
            "SELECT count(*) FROM range(10000000) a, range(9999998) b WHERE a.range < -b.range",
        )
    page.click("#cancel")
    requests[0].continue_()
    page.wait_for_function(
        "() => document.getElementById('told').textContent.includes('cancelled')"
    )


def test_an_attack_is_answered_with_a_sentence(page: Any) -> None:
    """A query that would write or read files leaves the page with why not."""
    page.goto("/sql")
    for attack, said in (("COPY runs TO '/tmp/attnstore-x.csv'", "only reads"), ("FROM '/etc/passwd'", "")):  # fmt: skip
        ask(page, attack)
        page.wait_for_selector("#told.wrong")
        assert said in page.inner_text("#told")
        page.fill("#text", "SELECT 1")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#result table")


# Annotating --------------------------------------------------------------------------------------


def test_twenty_maps_by_keyboard_are_in_sql(page: Any, real_store: Path) -> None:
    """Keys 1 to 5 label, the next map follows, s skips, z takes back, notes and confidence."""
    page.goto(f"/annotate?annotator=tess&run={RUN}")
    page.wait_for_selector("#map[data-map]")
    seen = []
    for i in range(20):
        seen.append(page.get_attribute("#map", "data-map"))
        page.keyboard.press(str(i % 5 + 1))
        page.wait_for_function("was => document.getElementById('map').dataset.map !== was", arg=seen[-1])  # fmt: skip
    skipped = page.get_attribute("#map", "data-map")
    page.keyboard.press("s")
    page.wait_for_function("was => document.getElementById('map').dataset.map !== was", arg=skipped)
    last = page.get_attribute("#map", "data-map")
    page.keyboard.press("n")
    page.keyboard.type("a note")
    page.keyboard.press("Enter")
    page.keyboard.press("c")
    page.keyboard.press("4")
    page.wait_for_selector("#count[data-n='21']")
    page.keyboard.press("5")
    page.wait_for_selector("#count[data-n='22']")
    page.keyboard.press("z")
    page.wait_for_selector("#count[data-n='21']")
    with attnstore.open(real_store) as store:
        rows = store.sql(
            "SELECT concat_ws('-', example, layer, head) AS map, label, confidence, note FROM labels "
            "WHERE annotator = 'tess' ORDER BY labelled"
        )
    assert rows["map"].to_list() == [*seen, last]
    names = ["vertical", "diagonal", "vertical+diagonal", "block", "heterogeneous"]
    assert rows["label"].to_list() == [*(names[i % 5] for i in range(20)), "block"]
    assert rows.row(-1)[2:] == (2, "a note")
    assert skipped not in rows["map"].to_list()


def test_a_second_annotator_and_their_agreement(page: Any) -> None:
    """Draws what the first has labelled, sees no label of it, and kappa appears."""
    page.goto(f"/annotate?annotator=una&run={RUN}")
    page.wait_for_selector("#map[data-map]")
    for key in "12345":
        was = page.get_attribute("#map", "data-map")
        page.keyboard.press(key)
        page.wait_for_function("w => document.getElementById('map').dataset.map !== w", arg=was)
    page.wait_for_selector("#count[data-n='5']")
    page.goto(f"/annotate?annotator=vera&run={RUN}&pick=shared")
    page.wait_for_selector("#map[data-map]")
    for _ in range(60):
        if page.is_hidden("#map"):
            break
        was = page.get_attribute("#map", "data-map")
        page.keyboard.press("1")
        page.wait_for_function(
            "w => document.getElementById('map').dataset.map !== w || document.getElementById('map').hidden",
            arg=was,
        )
    page.wait_for_selector("#agreement >> text=una and vera")
    assert "κ" in page.inner_text("#agreement")


# A growing store, and a document of its own -------------------------------------------------------


def test_an_ingestion_shows_its_progress(chromium: Any, tmp_path: Path) -> None:
    """The store page of an empty store shows a run as it comes in, without being loaded again."""
    root = tmp_path / "s"
    attnstore.storage.location.create(root)
    texts = write_rows(tmp_path / "many.jsonl", [{"text": f"number {i} " * 12} for i in range(240)])
    code = (
        "import attnstore, sys, time; from helpers import shrink; import pytest; "
        "from attnstore.capture.blocks import BlockWorker; stored = BlockWorker.store; "
        "BlockWorker.store = lambda self, block: (time.sleep(0.3), stored(self, block))[1]; "
        "shrink(pytest.MonkeyPatch(), SHARD_CELLS=1 << 13, CHUNK_CELLS=1 << 11); "
        f"attnstore.ingest(sys.argv[1], '{PACKAGE}=minilm', sys.argv[2])"
    )
    with serving(root) as address:
        page = chromium.new_page(base_url=address)
        page.set_default_timeout(PATIENCE)
        page.goto("/")
        assert "holds no run yet" in page.inner_text("main")
        child = subprocess.Popen([sys.executable, "-c", code, str(root), str(texts)], cwd=ROOT / "tests" / "support")  # fmt: skip
        try:
            page.wait_for_selector("progress")
            first = int(page.get_attribute("progress", "value"))
            page.wait_for_function(
                "was => Number(document.querySelector('progress')?.value ?? 1e9) > was",
                arg=first,
            )
            page.wait_for_selector(".state.complete")
        finally:
            child.wait(120)
        page.context.close()


def test_a_document_draws_itself_from_a_file(chromium: Any, real_store: Path, tmp_path: Path) -> None:  # fmt: skip
    """`to_html` opens from disk without a request; arrows and words work."""
    with attnstore.open(real_store) as store:
        path = store.view(RUN, 3, layer=2, head=3).to_html(tmp_path / "map.html")
        weights = store.maps(RUN, 3)[2, 3]
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    n = drawn(page)
    told, i, j = hovered(page, ".large canvas")
    assert float(told.split(": ")[-1].split()[0]) == pytest.approx(weights[i, j], abs=5e-4)
    page.keyboard.press("ArrowRight")
    n = drawn(page, n)
    assert page.inner_text(".one .caption b") == "Layer 2, head 4"
    page.keyboard.press("w")
    drawn(page, n)
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    page.screenshot(path=SHOTS / "document.png")
    page.close()
