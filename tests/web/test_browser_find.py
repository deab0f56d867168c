"""Find in Chromium, as people use it: from the first page, in four actions and no typed address at most."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from browsing import OTHER, PATIENCE, RUN, drawn, serving

import attnstore

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(real_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server over the pairs, where each pronoun of a first text has a link to that text's first word."""
    folder = tmp_path_factory.mktemp("linked")
    shutil.copytree(real_store, folder / "s")
    spans, links = [], []
    with attnstore.open(folder / "s") as store:
        texts = store.sql("SELECT example, text FROM examples WHERE dataset = 'pairs' ORDER BY example")  # fmt: skip
    for example, text in texts.iter_rows():
        first = re.search(r"\w+", text)
        pronouns = list(re.finditer(r"\b(he|she|it|they|his|her|their)\b", text))
        for number, word in enumerate([first, *pronouns]):
            assert word is not None
            at = {"example": example, "span": number, "start": word.start(), "end": word.end()}
            kind = "pronoun" if number else "antecedent"
            spans.append({**at, "segment": 0, "kind": "mention", "label": kind})
            if number:
                links.append({"example": example, "from_span": number, "to_span": 0, "kind": "coreference", "label": "antecedent"})  # fmt: skip
    assert links
    for name, rows in (("spans", spans), ("links", links)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        attnstore.annotate(folder / "s", "pairs", f"{name}:{folder / f'{name}.jsonl'}=mine")
    with serving(folder / "s") as found:
        yield found


def _ask(page: Any, text: str) -> None:
    """Two actions: write into the field of the header, and send it."""
    page.fill(".finding input", text)
    page.press(".finding input", "Enter")
    page.wait_for_selector("#told[data-over]")


def test_examples_with_a_word_over_all_runs(page: Any) -> None:
    """Three actions: the texts with it marked, then one of them with lines from the word."""
    page.goto("/")
    _ask(page, '"the"')
    assert page.inner_text("mark >> nth=0").lower() == "the"
    assert page.locator("[data-dataset] .held a").first.inner_text() in (RUN.split("/")[0], OTHER.split("/")[0])  # fmt: skip
    held = {link.split("/")[2] for link in page.eval_on_selector_all(".held a", "links => links.map(l => l.getAttribute('href'))")}  # fmt: skip
    assert held == {name.split("/")[0] for name in (RUN, OTHER)}
    page.click("[data-dataset=pairs] td a >> nth=0")
    drawn(page)
    token = int(re.findall(r"token=(\d+)", page.url)[0])
    data = json.loads(page.text_content("#data"))
    assert data["tokens"][token].lower() == "the"


def test_pronouns_above_a_threshold(page: Any) -> None:
    """Three actions: heads in order, maps with the two words marked, and the map with its pair pinned."""
    page.goto("/")
    _ask(page, "pronoun -> antecedent > 0.05")
    shares = [float(t.split("(")[1].split()[0]) for t in page.locator(".strip h2 span:nth-child(3)").all_inner_texts()]  # fmt: skip
    assert shares == sorted(shares, reverse=True)
    assert set(page.eval_on_selector_all(".strip", "s => s.map(e => e.dataset.run)")) == {RUN, OTHER}  # fmt: skip
    first = page.locator(".strip .maps a").first
    weight, said = float(first.locator("b").inner_text()), first.locator("bdi").inner_text()
    assert first.locator("svg rect").count() >= 2
    assert re.match(r"(he|she|it|they|his|her|their) → ", said)
    first.click()
    drawn(page)
    layer, head, pins = re.findall(r"layer=(\d+)&head=(\d+)&pins=([\d,-]+)", page.url)[0]
    assert page.inner_text(".one .caption b") == f"Layer {layer}, head {head}"
    run = "/".join(page.url.split("/run/")[1].split("/")[:2])
    example = int(re.findall(r"/example/(\d+)", page.url)[0])
    assert weight > 0.05
    script = "async url => Array.from(new Float32Array(await (await fetch(url)).arrayBuffer()))"
    values = page.evaluate(script, f"/maps/{run}/{example}/{layer}/{head}")
    side = round(len(values) ** 0.5)
    pairs = [tuple(map(int, pin.split("-"))) for pin in pins.split(",")]
    senders = {i for i, _ in pairs}
    assert sum(values[i * side + j] for i, j in pairs) / len(senders) == pytest.approx(weight, abs=0.006)  # fmt: skip


def test_a_search_is_stopped_narrowed_and_paged(page: Any) -> None:
    """The link to all answers of a head asks for that head, and its pages follow each other."""
    page.goto("/")
    _ask(page, "* -> sep > 0.05")
    page.click(".strip h2 a:has-text('all ') >> nth=0")
    page.wait_for_selector("#told[data-over]")
    assert page.locator(".strip").count() == 1
    assert page.locator(".maps li").count() == 48
    first = page.locator(".maps li a").first.get_attribute("href")
    page.click("#pager a[rel=next]")
    page.wait_for_selector("#told[data-over]")
    assert page.locator(".maps li a").first.get_attribute("href") != first
    page.go_back()
    page.wait_for_selector("#told[data-over]")
    assert page.locator(".maps li a").first.get_attribute("href") == first


@pytest.mark.parametrize("text", [f'"the" run:{RUN}', f"* -> sep > 0.05 run:{RUN} head:0.0"])
def test_a_page_after_the_last_says_so(page: Any, text: str) -> None:
    """It says how many pages there are, and leads to the last of them."""
    page.goto(f"/find?{urlencode({'q': text, 'page': 99})}")
    page.wait_for_selector("#told[data-over]")
    said = page.inner_text("#told")
    (pages,) = re.fullmatch(r"There is no page 99: the answers have (\d+) pages?\.", said).groups()  # type: ignore[union-attr]
    page.click("#pager a[rel=prev]")
    page.wait_for_selector("#told[data-over]")
    assert f"page={pages}" in page.url
    assert page.locator("tbody mark, .maps li").count() > 0
    assert page.locator("#pager a[rel=next]").count() == 0


def test_a_sentence_where_nothing_can_be_found(page: Any) -> None:
    """A question that cannot be read keeps its text and says why; one without answers says that there are none."""
    page.goto("/find")
    page.fill(".find-field input", "zzzz")
    page.click("button:has-text('Find')")
    page.wait_for_selector("#told[data-over]")
    assert page.inner_text("#told").startswith("No input has it")


def test_label_15_maps(page: Any) -> None:
    """Three actions begin, and each map takes one key."""
    page.goto("/")
    page.click("header >> text=Annotate")
    page.fill("[name=annotator]", "ann")
    page.click("text=Begin")
    page.wait_for_selector("#map[data-map]")
    for n in range(1, 16):
        page.keyboard.press(str(n % 5 + 1))
        page.wait_for_selector(f"#count[data-n='{n}']", timeout=PATIENCE)
    assert "15 in this sitting" in page.inner_text("#count")
