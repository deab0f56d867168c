"""The compare page: movement, inputs, pictures and shares are those of the models' maps; addresses and refusals."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from html import unescape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paper import BASE, TUNED, Array, Case, make_case
from PIL import Image
from webtools import Browser

import attnstore
from attnstore.display import colors
from attnstore.web import compare_maps, compare_page

PAIR = f"left={TUNED}&right={BASE}"
MIDDLE = "tuned-10/pairs"
LAYER, HEAD = 1, 2


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.getbasetemp() / "paper")


@pytest.fixture(scope="module")
def browser(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    root = tmp_path_factory.mktemp("compared") / "s"
    shutil.copytree(case.store.root, root, ignore=shutil.ignore_patterns("answers", "*.lock"))
    browser = Browser(root)
    yield browser
    browser.close()


def _plain(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def _cosine(a: Array, b: Array) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def _cosines(case: Case, layer: int, head: int) -> list[float]:
    pairs = zip(case.steps[20], case.base, strict=True)
    return [_cosine(new.maps[layer, head], old.maps[layer, head]) for new, old in pairs]


def test_the_grid_has_how_far_each_head_moved(case: Case, browser: Browser) -> None:
    """Mean cosine over inputs; those that moved most are listed, and each head leads to its inputs."""
    means = {(i, j): np.mean(_cosines(case, i, j)) for i in range(3) for j in range(4)}
    panel = browser.get(f"/compare/movement?{PAIR}").text
    for (layer, head), mean in means.items():
        (address, tip) = re.findall(
            rf'href="([^"]+)" data-layer="{layer}" data-head="{head}" data-tip="([^"]+)"', panel
        )[0]
        assert float(tip.split(": ")[1].split()[0]) == pytest.approx(mean, abs=6e-5)
        assert unescape(address).startswith(f"/compare/head/{layer}/{head}?left=")
        assert browser.get(unescape(address)).status_code == 200
    moved = re.findall(r"layer (\d), head (\d)</a> <span>([\d.]+)", panel)
    order = sorted(means, key=lambda at: means[at])[:8]
    assert [(int(i), int(j)) for i, j, _ in moved] == order
    assert [float(v) for *_, v in moved] == pytest.approx([means[at] for at in order], abs=6e-5)
    assert _plain(panel) in _plain(browser.get(f"/compare?{PAIR}").text)


def test_the_inputs_come_by_movement_a_page_at_a_time(case: Case, browser: Browser) -> None:
    """Cosine of each, the smallest first, over all pages; each leads to both maps of the head."""
    cosines = _cosines(case, LAYER, HEAD)
    found: list[tuple[int, float]] = []
    for page in (1, 2, 3):
        html = browser.get(f"/compare/head/{LAYER}/{HEAD}?{PAIR}&page={page}").text
        trios = html[html.index('class="trios"') : html.index("How far each head moved")]
        values = re.findall(r"cosine ([\d.]+)", trios)
        for address, value in zip(re.findall(r'<li><a href="([^"]+)"', trios), values, strict=True):
            path, _, query = unescape(address).partition("?")
            assert query.replace("%2F", "/") == f"layer={LAYER}&head={HEAD}&against={BASE}"
            assert browser.get(unescape(address)).status_code == 200
            found.append((int(path.rpartition("/")[2]), float(value)))
    assert [example for example, _ in found] == np.argsort(cosines).tolist()
    assert [value for _, value in found] == pytest.approx(sorted(cosines), abs=6e-5)
    average = re.findall(r"is ([\d.]+) on average", html)
    assert float(average[0]) == pytest.approx(np.mean(cosines), abs=6e-5)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_difference_is_left_less_right_from_minus_one_to_one(
    case: Case, browser: Browser, theme: str
) -> None:
    """Each pixel has the color of the signed root of the difference of the model's weights."""
    address = f"/maps/{TUNED}/5/{LAYER}/{HEAD}/difference.png?less={BASE}&theme={theme}"
    answer = browser.get(address)
    pixels = np.asarray(Image.open(BytesIO(answer.content)).convert("RGB"), float)
    change = case.steps[20][5].maps[LAYER, HEAD] - case.base[5].maps[LAYER, HEAD]
    anchors = np.array(colors.scales()["difference_dark" if theme == "dark" else "difference"])
    place = (np.sign(change) * np.sqrt(np.abs(change)) + 1) / 2 * (len(anchors) - 1)
    wanted = np.stack([np.interp(place, range(len(anchors)), band) for band in anchors.T], -1)
    assert answer.headers["content-type"] == "image/png"
    assert pixels.shape == wanted.shape
    assert np.abs(pixels - wanted).max() <= 1.5


def test_a_small_difference_keeps_the_largest_change_of_each_cell() -> None:
    """With its sign, whichever way it goes."""
    change = np.zeros((6, 6), np.float32)
    change[0, 0], change[1, 1], change[5, 4] = 0.2, -0.9, 0.5
    small = compare_maps.shown(change, side=3)
    roots = np.array([[-np.sqrt(0.9), 0, 0], [0, 0, 0], [0, 0, np.sqrt(0.5)]])
    assert np.array_equal(small, colors.diverging(roots, 1.0))


def test_types_and_classes_of_both_runs_stand_in_one_picture(
    case: Case, sample_store: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    """Shares by counting heads and maps; without classes, the command that gives them."""
    root = Path(shutil.copytree(sample_store, tmp_path / "s"))
    options: dict[str, Any] = {"limit": 5, "max_length": 48, "precision": "float32"}
    attnstore.ingest(root, f"{tiny_bert}=again", "sample", **options)
    runs = ["tiny/sample", "again/sample"]
    browser = Browser(root)
    address = f"/compare/shares?left={runs[0]}&right={runs[1]}"
    assert "attnstore classify --run again/sample" in _plain(browser.get(address).text)
    for run in runs:
        attnstore.classify(root, run)
    browser.site.store.catch_up()
    texts = re.findall(r'application/json">(.*?)</script>', browser.get(address).text)
    specs = [_values(text) for text in texts]
    for text, values in zip(texts, specs, strict=True):
        rows = browser.site.store.ask(json.loads(text)["sql"])
        name = "type" if "type" in rows.columns else "class"
        asked = {
            (row[name], row["run"]): row["share"]
            for row in rows.iter_rows(named=True)
            if row["share"]
        }
        shown = {(x, color): y for x, color, y in values if y}
        assert shown == pytest.approx(asked, abs=1e-6)
    with attnstore.open(root) as store:
        for run in runs:
            types = Counter(store.query("head_types", run=run)["type"])
            n = sum(types.values())
            shown = {x: y for x, color, y in specs[0] if color == run}
            assert shown == pytest.approx({name: count / n for name, count in types.items()})
            counts = dict(
                store.sql("SELECT class, count(*) FROM patterns WHERE run = $run GROUP BY class", run=run).rows()
            )  # fmt: skip
            total = sum(counts.values())
            shown = {x: y for x, color, y in specs[1] if color == run}
            assert {k: v for k, v in shown.items() if v} == pytest.approx({k: v / total for k, v in counts.items()}, abs=1e-6)  # fmt: skip
    browser.close()


def _values(text: str) -> list[tuple[str, str, float]]:
    """The marks of a chart of the page: x, color, y."""
    spec = json.loads(text)["spec"]
    return [(row["x"], row["color"], row["y"]) for row in spec["data"]["values"]]


def test_two_runs_are_chosen_or_suggested(browser: Browser) -> None:
    """Without both, the menus have every run, and trained models stand with the run before."""
    page = browser.get("/compare").text
    for run in (BASE, MIDDLE, TUNED):
        assert page.count(f"<option >{run}</option>") == 2
    assert f"{TUNED} against {BASE}" in _plain(page)
    half = browser.get(f"/compare?left={TUNED}").text
    assert half.count(f"<option selected>{TUNED}</option>") == 1
    assert "<title>Compare two runs" in half


def test_the_address_says_what_is_shown(browser: Browser) -> None:
    """Title, menus, and the checkpoints before and after, which keep the head."""
    page = browser.get(f"/compare/head/{LAYER}/{HEAD}?left={MIDDLE}&right={BASE}").text
    assert f"<title>layer 1, head 2 of {MIDDLE} against {BASE}" in page
    assert page.count(f"<option selected>{MIDDLE}</option>") == 1
    (following,) = re.findall(r'data-key="]" href="([^"]+)"', page)
    assert unescape(following).replace("%2F", "/") == f"?left={TUNED}&right={BASE}"
    assert 'data-key="["' not in page  # the run before the training is the one at the right
    (runs,) = re.findall(r'data-runs="([^"]+)"', page)
    steps = json.loads(unescape(runs))
    assert [(r["run"], r["step"]) for r in steps if r["step"]] == [(MIDDLE, 10), (TUNED, 20)]


@pytest.mark.parametrize(
    ("address", "status", "sentence"),
    [
        (f"/compare?left={TUNED}&right={TUNED}", 200, "Both sides are run tuned-20/pairs"),
        (f"/compare?left=tuned-20/pairs@2&right={BASE}", 200, "hold different tokens"),
        (f"/compare?left=no/such&right={BASE}", 404, "no/such"),
        (f"/compare/head/9/0?{PAIR}", 404, "its layers are 0, 1, 2"),
        (f"/compare/head/0/0?{PAIR}&page=x", 400, "page as 'x'"),
        (f"/maps/{TUNED}/0/0/0/difference.png?less=no/such", 404, "no/such"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(
    browser: Browser, address: str, status: int, sentence: str
) -> None:
    """Of the store's own about pairs of runs, or about the address."""
    answer = browser.get(address)
    assert answer.status_code == status
    assert sentence in unescape(answer.text)


def test_more_pages_than_there_are_show_the_last(browser: Browser) -> None:
    """A page beyond the end is the last one."""
    last = -(-14 // compare_page.INPUTS)
    far = browser.get(f"/compare/head/{LAYER}/{HEAD}?{PAIR}&page=99").text
    assert f"{last} of {last}" in _plain(far)
