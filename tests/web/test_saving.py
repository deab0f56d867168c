"""Rules of saved pictures: the grid of heads as a file, its numbers, and the SQL and Python that make them."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest
from webtools import RUN, Browser

from attnstore.store import Store
from attnstore.web import grid_chart, grid_figure, grid_files, measures
from attnstore.web.head_grid import Cell, Grid

_SVG = "{http://www.w3.org/2000/svg}"
CHOICES = ("entropy", "breadth", "analysis:head_entropy", "analysis:head_types")


def saving(pages: Browser, by: str) -> dict[str, str]:
    """What the run page gives the buttons of a grid."""
    page = pages.get(f"/run/{RUN}/grid?by={by}").text
    found: dict[str, str] = json.loads(re.search(r"data-save><script[^>]*>(.*?)</script>", page)[1])  # type: ignore[index]
    return found


@pytest.mark.parametrize("by", CHOICES)
def test_a_grid_is_a_picture_of_the_width_asked_for(pages: Browser, by: str) -> None:
    """It stands alone, is as wide as asked, and its cells have the colors of the page in their order."""
    address = saving(pages, by)["svg"]
    for width in (237.6, 496.8):
        answer = pages.get(f"{address}&width={width}")
        assert answer.headers["content-type"].startswith("image/svg+xml")
        root = ElementTree.fromstring(answer.text)
        assert root.get("width") == f"{width:.2f}pt"
        assert not re.search(r'(?:href|src|style|class)="', answer.text)
        for part in root.iter():
            for side, longest in (("x", width), ("y", float(str(root.get("height"))[:-2]))):
                assert 0 <= float(part.get(side, 0)) <= longest
    run = measured_run(pages)
    grid = measures.grid(pages.site.store, run, measures.find(pages.site.store, by), {})
    fills = grid_chart.fills(grid, dark=False)
    wanted = [grid_chart.as_hex(fills[layer, head]) for layer in grid.layers for head in grid.heads]
    drawn = [part.get("fill") for part in root.iter(f"{_SVG}rect")]
    assert drawn[: len(wanted)] == wanted


def measured_run(pages: Browser) -> dict[str, Any]:
    """The record of the run."""
    rows = pages.site.store.ask("FROM runs WHERE run = $run", run=RUN).to_dicts()
    return dict(rows[0])


@pytest.mark.parametrize("by", CHOICES)
def test_the_numbers_of_a_grid_come_as_csv_and_from_sql_and_python(
    pages: Browser, store: Store, by: str
) -> None:
    """All three say the same of each head."""
    about = saving(pages, by)
    rows = list(csv.DictReader(io.StringIO(pages.get(about["csv"]).text)))
    assert list(rows[0]) == list(grid_figure.COLUMNS)
    scope: dict[str, Any] = {}
    exec(about["python"], scope)
    for frame in (store.sql(about["sql"]), scope["rows"]):
        values = {(r["layer"], r["head"]): r for r in frame.to_dicts()}
        assert len(values) == len(rows) == 8
        for row in rows:
            asked = values[int(row["layer"]), int(row["head"])]
            if by == "analysis:head_types":
                assert row["class"] == asked["type"]
            assert float(row["value"]) == pytest.approx(asked["mean"])


def test_an_effect_of_disabling_has_sql_that_binds(pages: Browser, store: Store) -> None:
    """The query of ablations runs on any store."""
    choice = measures.Choice("disabling", "Change", "Effects")
    about = grid_files.saving(pages.site, measured_run(pages), choice, Grid("", "", {}, [], []), {})
    assert isinstance(store.sql(about["sql"]), pl.DataFrame)


@pytest.mark.parametrize("width", ["", "x", "nan", "-5", "1e9", "inf"])
def test_a_width_that_no_paper_has_is_a_sentence(pages: Browser, width: str) -> None:
    """It says what was given and what may be."""
    answer = pages.get(f"/run/{RUN}/grid.svg?by=cls&width={width}")
    assert answer.status_code == 400
    assert "100 to 2000 points" in answer.text


def test_names_of_classes_find_room_in_the_legend() -> None:
    """A legend of many classes goes on in a further line, and the picture is as high as that needs."""
    names = ["vertical", "diagonal", "vertical+diagonal", "block", "heterogeneous", "none"]
    cells = {(0, i): Cell(1.0, None, None, 3, name) for i, name in enumerate(names)}
    grid = Grid("", "", cells, [0], list(range(len(names))))
    root = ElementTree.fromstring(str(grid_figure.svg(grid, "classes", 237.6)))
    at = {text.text: text for text in root.iter(f"{_SVG}text")}
    lines = {float(at[name].get("y", 0)) for name in names}
    assert len(lines) > 1
    assert max(lines) < float(str(root.get("height"))[:-2])


def test_mean_maps_are_a_picture_with_the_profile_as_its_numbers(
    pages: Browser, store: Store
) -> None:
    """As wide as asked, with one picture of all heads; CSV and Python say what view `offsets` says."""
    page = pages.get(f"/run/{RUN}").text
    about = next(
        found
        for text in re.findall(r"data-save><script[^>]*>(.*?)</script>", page)
        if (found := json.loads(text))["name"].endswith("mean-maps")
    )
    root = ElementTree.fromstring(pages.get(f"{about['svg']}?width=237.6").text)
    assert root.get("width") == "237.60pt"
    (image,) = root.iter(f"{_SVG}image")
    sides = {name: float(image.get(name, 0)) for name in ("x", "y", "width", "height")}
    assert sides["x"] + sides["width"] <= 237.6
    assert sides["y"] + sides["height"] <= float(str(root.get("height"))[:-2])
    wanted = store.sql("FROM offsets WHERE run = $run ORDER BY ALL", run=RUN)
    scope: dict[str, Any] = {}
    exec(about["python"], scope)
    assert scope["rows"].equals(wanted)
    rows = list(csv.DictReader(io.StringIO(pages.get(about["csv"]).text)))
    assert [float(row["weight"]) for row in rows] == pytest.approx(wanted["weight"].to_list())
