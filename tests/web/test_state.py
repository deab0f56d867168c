"""Rules of what stays: addresses carry the measure, the search and the parameters; queries are each asker's own."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from webtools import RUN, Browser


def _links(page: str, inside: str) -> list[str]:
    return [unescape(a) for a in re.findall(r'href="([^"]*)"', page) if inside in a]


@pytest.mark.parametrize(
    "state", ["by=cls", "by=analysis%3Ahead_types&position=0.2"]
)  # fmt: skip
def test_what_colors_the_grid_goes_along_to_the_head_and_back(pages: Browser, state: str) -> None:
    """Each head of the grid and each way back has the measure, its parameters and its part."""
    grid = pages.get(f"/run/{RUN}/grid?{state}&find=a&page=1").text
    heads = _links(grid, "/head/")
    assert len(heads) >= 8
    wanted = parse_qs(state)
    for address in heads:
        assert parse_qs(urlsplit(address).query) == wanted
    head = pages.get(f"/run/{RUN}/head/1/2?{state}").text
    back = _links(head, f"/run/{RUN}?")
    assert len(back) == 2
    for address in [*back, *_links(head, f"/run/{RUN}/head/0/2?")]:
        assert parse_qs(urlsplit(address).query) == wanted


def test_a_measure_of_the_head_page_keeps_the_way_back(pages: Browser) -> None:
    """Of a grid colored by an analysis, another measure is shown and the analysis kept."""
    page = pages.get(f"/run/{RUN}/head/1/2?by=analysis%3Ahead_types&measure=cls").text
    assert "Cls over inputs" in page
    assert [a for a in _links(page, f"/run/{RUN}?") if "analysis%3Ahead_types" in a]


def test_search_and_pager_keep_the_parameters_of_an_analysis(
    pages: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search form sends them, and the pages' addresses hold them beside the search."""
    monkeypatch.setattr("attnstore.web.run_page.INPUTS", 2)
    page = pages.get(f"/run/{RUN}?by=analysis:head_types&position=0.2&find=e&page=2").text
    search = page[page.index('role="search"') :]
    for name, value in (("by", "analysis:head_types"), ("position", "0.2")):
        assert f'name="{name}" value="{value}"' in search[: search.index("</form>")]
    (following,) = re.findall(r'href="\?([^"]*)#inputs" rel="next"', page)
    assert parse_qs(unescape(following)) == {
        "by": ["analysis:head_types"], "position": ["0.2"], "find": ["e"], "page": ["3"],
    }  # fmt: skip
    coloring = page[page.index("data-submit") :]
    assert 'name="find" value="e"' in coloring[: coloring.index("</form>")]


ENDLESS = "SELECT count(*) FROM range(10000000) a, range(9999997) b WHERE a.range * b.range < 0"


def _ask(pages: Browser, asker: str) -> dict[str, Any]:
    body = {"sql": ENDLESS, "params": {}, "asker": asker}
    told: dict[str, Any] = pages.post("/questions", body).json()
    return told


def test_two_people_with_one_query_do_not_cancel_each_other(pages: Browser) -> None:
    """It goes on for the one who still waits, and ends with the last one who cancels it."""
    first, second = _ask(pages, "ann"), _ask(pages, "bob")
    assert first["id"] == second["id"]
    address = f"/questions/{first['id']}"
    answer = pages.client.delete(f"{address}?asker=ann", headers=pages.headers).json()
    assert answer["state"] == "cancelled"
    assert pages.get(address).json()["state"] in ("waiting", "running")
    answer = pages.client.delete(f"{address}?asker=bob", headers=pages.headers).json()
    assert answer["state"] == "cancelled"
    assert pages.get(address).json()["state"] == "cancelled"


def test_an_example_names_the_ones_beside_it_in_every_run(pages: Browser) -> None:
    """The page's data have, for each run that can be shown, the example before and the one after."""
    store = pages.site.store
    examples = store.ask("SELECT example FROM inputs WHERE run = $run ORDER BY example", run=RUN)
    held = examples["example"].to_list()
    for i in (0, 3, len(held) - 1):
        page = pages.get(f"/run/{RUN}/example/{held[i]}").text
        near = [held[i - 1] if i else None, held[i + 1] if i + 1 < len(held) else None]
        text = str(near).replace("None", "null")
        assert f'"near": {text}' in page
