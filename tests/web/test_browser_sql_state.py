"""The state of the SQL page in Chromium: Back undoes the last step, a copied tab is another asker, lists are searched."""

from __future__ import annotations

import json
from typing import Any

import pytest
from browsing import PATIENCE, RUN

pytestmark = pytest.mark.slow

SHARES = f"SELECT layer, avg(cls) AS cls, avg(sep) AS sep FROM map_stats WHERE run = '{RUN}' GROUP BY ALL ORDER BY ALL"
AXIS = "[data-chart] select[name=y]"
SHOWS = "([menu, value]) => document.querySelector(menu)?.value === value"


def ask(page: Any, sql: str) -> Any:
    """Run a query by keyboard, wait for its rows, and return what the page sent."""
    page.fill("#text", sql)
    with page.expect_request("**/questions") as request:
        page.keyboard.press("Control+Enter")
    page.wait_for_selector("#result tbody tr")
    return json.loads(request.value.post_data)


def test_back_undoes_the_choices_of_a_chart_one_by_one(page: Any) -> None:
    """The axis, then the chart, then the query; Forward does them again, and an edited text stays."""
    page.goto("/sql")
    ask(page, "SELECT 41 + 1 AS answer")
    page.wait_for_selector("text=42")
    ask(page, SHARES)
    page.click("[data-show=lines]")
    page.wait_for_selector("[data-as=lines] svg")
    first = page.input_value(AXIS)
    page.select_option(AXIS, json.dumps(["sep"]))
    page.wait_for_function(SHOWS, arg=[AXIS, json.dumps(["sep"])])
    page.fill("#text", SHARES + " -- edited")
    page.go_back()
    page.wait_for_function(SHOWS, arg=[AXIS, first])
    assert page.input_value("#text").endswith("-- edited")
    page.go_back()
    page.wait_for_selector("[data-as=table]:not([hidden])")
    page.go_forward()
    page.wait_for_selector("[data-as=lines]:not([hidden]) svg")
    page.go_back()
    page.go_back()
    page.wait_for_selector("text=42")
    assert page.input_value("#text") == "SELECT 41 + 1 AS answer"


def test_a_chart_is_of_the_query_in_its_address(page: Any) -> None:
    """A text that is edited and not yet asked is not in the address of the chart."""
    page.goto("/sql")
    ask(page, SHARES)
    page.fill("#text", "SELECT 1 AS other")
    page.click("[data-show=lines]")
    page.wait_for_selector("[data-as=lines] svg")
    assert "other" not in page.url
    assert "avg%28cls%29" in page.url


def test_a_copied_tab_is_another_asker(page: Any) -> None:
    """A tab keeps its name for cancelling over its pages; a copy of it, state and all, gets another."""
    page.goto("/sql")
    mine = ask(page, "SELECT 1 AS a")["asker"]
    with page.context.expect_page() as opened:
        page.evaluate("window.open('/sql')")
    copy = opened.value
    copy.set_default_timeout(PATIENCE)
    copy.wait_for_load_state()
    theirs = ask(copy, "SELECT 1 AS a")["asker"]
    page.goto("/")
    page.goto("/sql")
    assert ask(page, "SELECT 2 AS a")["asker"] == mine
    assert mine
    assert theirs not in ("", mine)


def test_lists_beside_the_editor_are_searched_and_bounded(page: Any) -> None:
    """One field narrows analyses by title and views by column; the editor's side is no longer than a window."""
    page.goto("/sql")
    assert page.locator("#analyses li:visible").count() > 40
    height = page.eval_on_selector(".asking aside", "e => e.getBoundingClientRect().height")
    assert height <= 860
    page.fill("#filter", "punctuation")
    names = page.locator("#analyses li:visible").all_inner_texts()
    assert "punctuation_heads" in names
    assert len(names) < 15
    columns = page.locator("#views button:visible").all_inner_texts()
    assert any(text.startswith("punctuation") for text in columns)
    assert page.inner_text("summary:has-text('Analyses') i") == str(len(names))
