"""Tables of results in Chromium: they scroll sideways, and a row opens its map."""

from __future__ import annotations

from typing import Any

import pytest
from browsing import RUN, drawn

pytestmark = pytest.mark.slow


def ask(page: Any, sql: str) -> None:
    """Run a query and wait for its rows."""
    page.goto("/sql")
    page.fill("#text", sql)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#result tbody tr")


@pytest.mark.parametrize("width", [1280, 390])
def test_a_wide_table_scrolls_and_breaks_no_word(page: Any, width: int) -> None:
    """Every cell of FROM runs is one line high, and the page is as wide as its window."""
    page.set_viewport_size({"width": width, "height": 860})
    ask(page, "FROM runs")
    heights = page.eval_on_selector_all(
        "#result tbody tr", "rows => rows.map(r => r.getBoundingClientRect().height)"
    )
    assert max(heights) < 50
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.eval_on_selector("#result .wide", "e => e.scrollWidth > e.clientWidth")
    assert wide


def test_a_row_opens_its_map_with_pins(page: Any) -> None:
    """From a pair of tokens in a result to the map that holds it, one click."""
    ask(page, f"SELECT * FROM attention WHERE run = '{RUN}' AND example = 3 AND layer = 2 AND head = 3 AND from_pos = 2 AND to_pos = 4")  # fmt: skip
    page.click("#result tbody td:nth-child(5) a")
    drawn(page)
    assert page.url.endswith(f"/run/{RUN}/example/3?layer=2&head=3&pins=2-4")
    assert page.locator(".pins li").count() == 1
    assert page.inner_text(".one .caption b") == "Layer 2, head 3"


def test_a_column_with_nan_and_infinity_is_sorted(page: Any) -> None:
    """They stand at the ends, and the numbers between are in order."""
    ask(page, "SELECT unnest([3.5, 'nan'::DOUBLE, 1.5, 'inf'::DOUBLE, 2.5, NULL, '-inf'::DOUBLE]) AS v")  # fmt: skip
    page.click("#result thead th button")
    shown = page.eval_on_selector_all(
        "#result tbody td", "cells => cells.map(c => c.dataset.v).filter(v => /^\\d/.test(v))"
    )
    assert shown == ["1.5", "2.5", "3.5"]
    assert page.get_attribute("#result tbody tr:last-child td", "data-v") == "inf"
