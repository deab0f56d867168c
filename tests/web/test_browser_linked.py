"""Linked pictures in Chromium: a brush, heads, labels and inputs; the address keeps them, Back undoes them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from browsing import PATIENCE, RUN

import attnstore

pytestmark = pytest.mark.slow

SETTLED = """() => {
    const linked = document.getElementById("linked");
    return linked?.dataset.shown === new URLSearchParams(location.search).toString() && !linked.classList.contains("waiting-for");
}"""


def settled(page: Any) -> None:
    """Wait until the pictures are those of the address."""
    page.wait_for_function(SETTLED)


def selected(page: Any) -> int:
    """Return the number of inputs that the page says are selected."""
    return int(re.match(r"([\d,]+) of", page.inner_text("#selection"))[1].replace(",", ""))


def brush(page: Any, name: str, first: float, last: float) -> None:
    """Drag over a part of a histogram, from one share of its width to another."""
    picture = page.locator(f"[data-chart={name}] svg")
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    y = box["y"] + box["height"] * 0.4
    page.mouse.move(box["x"] + box["width"] * first, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * last, y, steps=4)
    page.mouse.up()
    page.wait_for_url("**s.*")
    settled(page)


def test_a_brush_is_followed_kept_and_undone(page: Any, chromium: Any, address: str, real_store: Path) -> None:  # fmt: skip
    """The grid and the list follow a brush; its address shows the same to others; Back and x undo it."""
    page.goto(f"/run/{RUN}")
    settled(page)
    tip = "#grid a[data-layer='1'][data-head='2']"
    whole = page.get_attribute(tip, "data-tip")
    brush(page, "length", 0.45, 0.95)
    low, high = (float(end) for end in page.url.split("s.length=")[1].split(".."))
    with attnstore.open(real_store) as store:
        mean, n = store.sql(
            "SELECT avg(entropy), count(*) FROM map_stats JOIN inputs USING (run, example) "
            "WHERE run = $run AND layer = 1 AND head = 2 AND length BETWEEN $low AND $high",
            run=RUN, low=low, high=high,
        ).row(0)  # fmt: skip
    assert 0 < n < 12
    assert selected(page) == n
    assert f"{mean:.4f}" in page.get_attribute(tip, "data-tip")
    assert page.locator("#rows tbody tr").count() == n
    other = chromium.new_context(base_url=address).new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(page.url)
    settled(other)
    assert selected(other) == n
    assert other.get_attribute(tip, "data-tip") == page.get_attribute(tip, "data-tip")
    other.context.close()
    page.go_back()
    page.wait_for_function(
        "([cell, tip]) => document.querySelector(cell).dataset.tip === tip", arg=[tip, whole]
    )
    page.go_forward()
    page.wait_for_selector("#selection .selected")
    settled(page)
    page.keyboard.press("x")
    page.wait_for_selector("#selection .selected", state="detached")
    assert "s.length" not in page.url


def test_heads_are_selected_by_mouse_and_by_keyboard(page: Any) -> None:
    """A drag takes a rectangle and opens no head, Space one more; the values of the inputs follow."""
    page.goto(f"/run/{RUN}")
    settled(page)
    before = page.locator("#rows tbody tr td:last-child").all_inner_texts()
    first, last = (page.locator(f"#grid a[data-layer='{i}'][data-head='{i}']") for i in (1, 2))
    first.hover()
    page.mouse.down()
    last.hover()
    page.mouse.up()
    page.wait_for_url("**s.heads=*")
    settled(page)
    assert page.locator("#grid a.picked").count() == 4
    assert "4 of 72 heads" in page.inner_text("#selection")
    assert page.locator("#rows tbody tr td:last-child").all_inner_texts() != before
    page.focus("#grid a[data-layer='5'][data-head='0']")
    page.keyboard.press("Space")
    page.wait_for_selector("#grid a.picked[data-layer='5']")
    page.wait_for_function("() => location.search.includes('5.0')")
    settled(page)
    assert page.locator("#grid a.picked").count() == 5
    focused = page.evaluate("document.activeElement.dataset.layer")
    assert focused == "5"
    page.fill("#heads", "3.*")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "() => location.search.includes('3.')&& !location.search.includes('5.0')"
    )
    settled(page)
    assert page.locator("#grid a.picked").count() == 12
    page.click("#grid a[data-layer='0'][data-head='0']")
    page.wait_for_url("**/head/0/0**")


def test_labels_inputs_and_ends_are_selected(page: Any) -> None:
    """A label by its button, an input by its box, a range by its ends; each part is cleared by itself."""
    page.goto(f"/run/{RUN}?by=cls")
    settled(page)
    page.locator("#labels button").first.click()
    page.wait_for_url("**s.labels=*")
    settled(page)
    n = selected(page)
    assert 0 < n < 12
    assert page.get_attribute("#labels button >> nth=0", "aria-pressed") == "true"
    assert page.locator("#rows tbody tr").count() == n
    page.locator("#rows input[type=checkbox]").first.check()
    page.wait_for_url("**s.inputs=*")
    settled(page)
    assert selected(page) == 1
    page.click("#selection a:has-text('chosen input')")
    page.wait_for_function("() => !location.search.includes('s.inputs')")
    settled(page)
    assert selected(page) == n
    page.click("#selection a:has-text('label')")
    settled(page)
    low = page.locator("[data-chart=length] input[name=low]")
    low.fill("10000")
    low.press("Enter")
    page.wait_for_url("**s.length=*")
    settled(page)
    assert selected(page) == 0
    assert "by=cls" in page.url


def test_an_answer_that_comes_late_does_not_replace_a_newer_one(page: Any) -> None:
    """While one selection is computed another is made; the page ends with the newer one."""
    page.goto(f"/run/{RUN}")
    settled(page)
    held: list[Any] = []
    page.route("**/linked?*s.length=1..*", lambda route: held.append(route))
    ends = page.locator("[data-chart=length] input")
    with page.expect_request("**/linked?*s.length=1..*"):
        ends.nth(0).fill("1")
        ends.nth(0).press("Enter")
    ends.nth(0).fill("10000")
    ends.nth(0).press("Enter")
    page.wait_for_timeout(100)
    held[0].continue_()
    page.wait_for_function("() => location.search.includes('s.length=10000')")
    settled(page)
    assert selected(page) == 0
