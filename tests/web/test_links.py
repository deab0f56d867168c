"""Rules of links: each cell of a result that names something of the store is the address of its page."""

from __future__ import annotations

import re
from html import unescape

import pytest
from webtools import RUN, Browser

from attnstore.web.cell_links import CellLinks, only_run

KNOWN = {"run": ["m/d"], "model": ["m"], "dataset": ["d"]}


@pytest.mark.parametrize(
    ("columns", "row", "addresses"),
    [
        (["run", "n"], ["m/d", 3], ["/run/m/d", None]),
        (["base_run", "model", "source"], ["m/d", "m", "m"], ["/run/m/d", "/model/m", None]),
        (["run", "dataset"], ["x/d", "d"], [None, "/dataset/d"]),
        (["layer", "head", "mean"], [1, 2, 0.5], [None, None, None]),
        (["run", "layer", "head"], ["m/d", 1, 2], ["/run/m/d", "/run/m/d/head/1/2", "/run/m/d/head/1/2"]),
        (["run", "layer", "head"], ["m/d", 1, None], ["/run/m/d", None, None]),
        (["run", "example"], ["m/d", 7], ["/run/m/d", "/run/m/d/example/7"]),
        (
            ["run", "example", "layer", "head", "from_pos", "to_pos"],
            ["m/d", 7, 1, 2, 3, 4],
            ["/run/m/d", *["/run/m/d/example/7?layer=1&head=2&pins=3-4"] * 1, *["/run/m/d/head/1/2"] * 2,
             *["/run/m/d/example/7?layer=1&head=2&pins=3-4"] * 2],
        ),
        (
            ["run", "example", "from_positions", "to_positions"],
            ["m/d", 7, "[3]", "[4, 5]"],
            ["/run/m/d", *["/run/m/d/example/7?pins=3-4,3-5"] * 3],
        ),
    ],
)  # fmt: skip
def test_a_cell_is_the_address_of_what_it_names(
    columns: list[str], row: list[object], addresses: list[str | None]
) -> None:
    """A run, a model, a dataset, a head of a run, an input with its map and the pairs of tokens as pins."""
    assert CellLinks(columns, KNOWN).of(row) == addresses


def test_a_query_of_one_run_lends_it_to_its_rows() -> None:
    """Rows of layers and heads alone are of the run that the query names, if it names one."""
    runs = ["m/d", "it's/d"]
    assert only_run("SELECT 1 WHERE run = 'm/d'", {}, runs) == "m/d"
    assert only_run("SELECT 1 WHERE run = 'it''s/d'", {}, runs) == "it's/d"
    assert only_run("-- title: x", {"run": "m/d"}, runs) == "m/d"
    assert only_run("SELECT 1 WHERE run IN ('m/d', 'it''s/d')", {}, runs) is None
    assert only_run("FROM runs", {}, runs) is None
    assert only_run("SELECT 1 WHERE run <> 'm/d'", {}, runs) is None
    assert only_run("SELECT 1 WHERE run NOT IN ('m/d')", {}, runs) is None
    assert only_run("SELECT 1 -- not 'm/d'\nWHERE run = 'it''s/d'", {}, runs) == "it's/d"
    assert CellLinks(["layer", "head"], KNOWN, "m/d").of([0, 1]) == ["/run/m/d/head/0/1"] * 2


def test_every_address_of_a_table_answers(pages: Browser) -> None:
    """What a result links to is there, and the map of a row has its head and its pins in the address."""
    told = pages.ask(
        f"SELECT * FROM attention WHERE run = '{RUN}' AND layer = 1 AND head = 2 ORDER BY weight DESC LIMIT 3"
    )
    table = pages.get(f"/questions/{told['id']}/table").text
    addresses = {unescape(a) for a in re.findall(r'<td[^>]*><a href="([^"]*)"', table)}
    result = pages.site.questions.find(told["id"]).result
    names = [name for name, _, _ in result["columns"]]
    first = dict(zip(names, result["rows"][0], strict=True))
    place = f"/run/{RUN}/example/{first['example']}?layer=1&head=2&pins={first['from_pos']}-{first['to_pos']}"
    assert {f"/run/{RUN}", f"/run/{RUN}/head/1/2", place} <= addresses
    for address in addresses:
        assert pages.get(address).status_code == 200, address
