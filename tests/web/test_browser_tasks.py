"""What people come for, in Chromium: each task in at most four clicks or choices, from the store page, no address typed."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import OTHER, PACKAGE, PATIENCE, RUN, drawn, serving

import attnstore

pytestmark = pytest.mark.slow

MOST = 4
"""Actions that a task may take."""


@pytest.fixture(scope="module")
def root(real_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two runs over pairs, classified, and one of random weights."""
    root = tmp_path_factory.mktemp("tasks") / "s"
    shutil.copytree(real_store, root, ignore=shutil.ignore_patterns("answers", "*.lock"))
    for run in (RUN, OTHER):
        attnstore.classify(root, run)
    texts = str(real_store.parent / "pairs.jsonl")
    attnstore.ingest(root, f"{PACKAGE}=minilm", texts, random_weights=True, seeds=(1,))
    return root


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    with serving(root) as found:
        yield found


class Person:
    """Someone before a page: clicks and chooses, and counts how often."""

    def __init__(self, page: Any) -> None:
        self.page, self.actions = page, 0
        page.goto("/")

    def click(self, selector: str) -> None:
        """Click what is first to match."""
        self.actions += 1
        self.page.locator(selector).first.click()

    def choose(self, menu: str, value: str) -> None:
        """Choose from a menu."""
        self.actions += 1
        self.page.wait_for_load_state()  # a menu that is chosen from before its script has begun does nothing
        self.page.select_option(menu, value)


@pytest.fixture
def person(page: Any) -> Iterator[Person]:
    found = Person(page)
    yield found
    assert 0 < found.actions <= MOST


def _asked(root: Path, ask: Callable[[Any], Any]) -> Any:
    with attnstore.open(root) as store:
        return ask(store)


def test_what_does_this_head_do(person: Person, root: Path) -> None:
    """The page of a head begins with it."""
    person.click(f"main a:text-is('{RUN}')")
    person.click(".chart-grid a[data-layer='2'][data-head='3']")
    person.page.wait_for_url("**/head/2/3**")
    row = _asked(root, lambda store: store.query("head_types", run=RUN, layer=2, head=3)).to_dicts()[0]  # fmt: skip
    says = person.page.inner_text(".says p")
    assert says.startswith("Layer 2, head 3 ")
    assert f"{row['mean']:.2f}" in says
    assert f"{row['low']:.2f} to {row['high']:.2f}" in says


def test_find_previous_token_heads(person: Person, root: Path) -> None:
    """The grid of the weight to the previous token lists the highest; the first one's page says so."""
    person.click(f"main a:text-is('{RUN}')")
    person.choose("#by", "previous")
    person.page.wait_for_url("**by=previous**")
    listed = person.page.locator(".extremes section").first.locator("li").all_inner_texts()
    best = _asked(root, lambda store: store.sql(
        "SELECT layer, head, avg(previous) AS mean FROM map_stats WHERE run = $run GROUP BY ALL ORDER BY mean DESC LIMIT 5", run=RUN
    ).rows())  # fmt: skip
    assert [" ".join(text.split()) for text in listed] == [f"layer {i}, head {j} {mean:.3f}" for i, j, mean in best]  # fmt: skip
    person.click(".extremes a")
    person.page.wait_for_url(f"**/head/{best[0][0]}/{best[0][1]}**")
    says = person.page.inner_text(".says p")
    assert "attends to the previous token" in says
    assert f"{best[0][2]:.2f} of a token's attention" in says


def test_where_a_head_moved_most_and_both_maps(person: Person, root: Path) -> None:
    """Compare, the pair, the head that moved most: its first input has both maps; one more click draws them large."""
    page = person.page
    person.click("nav a:text-is('Compare')")
    person.click(f"a:text-is('{OTHER} against {RUN}')")
    page.wait_for_selector(".chart-grid")
    person.click(".extremes a")
    page.wait_for_url("**/compare/head/**")
    place = _asked(root, lambda store: store.query("drift", run=OTHER).sort("mean", "layer", "head")).row(0, named=True)  # fmt: skip
    at = {"layer": place["layer"], "head": place["head"]}
    moved = _asked(root, lambda store: store.query("drift_by_input", run=OTHER, **at)).row(0, named=True)  # fmt: skip
    first = page.locator(".trios li").first
    assert f"cosine {moved['cosine']:.4f}" in first.inner_text()
    assert f"example {moved['example']}," in first.inner_text()
    page.wait_for_function(
        "[...document.querySelector('.trios li').querySelectorAll('img:not(.in-dark)')].every(i => i.complete && i.naturalWidth > 1)"
    )
    assert first.locator("img:visible").count() == 3
    before = page.url
    person.click(".trios a")
    drawn(page)
    assert page.locator(".large canvas").count() == 3
    assert page.title().startswith(f"{OTHER} example {moved['example']}")
    assert page.inner_text(".one .caption b") == f"Layer {at['layer']}, head {at['head']}"
    page.go_back()
    page.wait_for_selector(".trios")
    assert page.url == before


def test_two_models_class_shares_in_one_picture(person: Person, root: Path) -> None:
    """Compare and the two runs: a picture of both, whose numbers are those of counting maps."""
    page = person.page
    person.click("nav a:text-is('Compare')")
    person.choose("select[name=left]", OTHER)
    page.wait_for_url("**left=**")
    person.choose("select[name=right]", RUN)
    page.wait_for_url("**right=**")
    picture = page.locator("section:has(> h3:text-is('Pattern classes of maps')) .picture")
    picture.locator("svg").first.wait_for(timeout=PATIENCE)
    bars = picture.locator("[aria-roledescription=bar]")
    labels = bars.evaluate_all("all => all.map(bar => bar.getAttribute('aria-label'))")
    marks = [dict(part.split(": ", 1) for part in label.split("; ")) for label in labels]
    shown = {(m["run"], m["class"]): float(m["share"]) for m in marks if float(m["share"])}
    maps = _asked(root, lambda store: store.sql("SELECT run, class FROM patterns WHERE class IS NOT NULL").rows())  # fmt: skip
    counts, totals = Counter(maps), Counter(run for run, _ in maps)
    assert shown == pytest.approx({at: n / totals[at[0]] for at, n in counts.items()}, rel=1e-3)
    assert {run for run, _ in shown} == {RUN, OTHER}


def test_the_slider_changes_the_run_at_the_left_and_back_returns(page: Any) -> None:
    """The title names the run; the head stays; Back undoes the step."""
    page.goto(f"/compare/head/1/1?left={RUN}&right=minilm-random-1/pairs")
    assert page.title().startswith(f"layer 1, head 1 of {RUN} against")
    page.locator("#steps input").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**left=tuned%2Fpairs**")
    assert page.title().startswith(f"layer 1, head 1 of {OTHER} against")
    assert page.inner_text("#steps output") == f"{OTHER} (step 100)"
    page.go_back()
    page.wait_for_url("**left=minilm/pairs**")
    assert page.title().startswith(f"layer 1, head 1 of {RUN} against")
