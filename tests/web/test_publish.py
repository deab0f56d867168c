"""`attnstore publish`: a run as static pages."""

from __future__ import annotations

import base64
import io
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from browsing import PATIENCE
from matplotlib import image as plt_image

import attnstore
from attnstore.apps.publishing import choice, pages
from attnstore.display import mean_maps
from attnstore.errors import UnknownNameError, UsageError
from attnstore.store import Store

RUN = "tiny/sample"


def test_results_are_means_over_the_maps(sample_store: Path, store: Store, tmp_path: Path) -> None:
    """The CSV of a measure has the mean over inputs of what the weights themselves give."""
    with attnstore.open(sample_store) as opened:
        published = opened.publish(RUN, tmp_path, examples=1)
    by_name = {path.stem: pl.read_csv(path) for path in published.results}
    examples = store.sql("SELECT example FROM inputs WHERE run = $run", run=RUN)["example"]
    maps = [store.maps(RUN, example).astype(np.float64) for example in examples]
    diagonals = np.mean([m.diagonal(axis1=2, axis2=3).mean(-1) for m in maps], axis=0)
    rows = by_name["self"]
    found = np.zeros_like(diagonals)
    found[rows["layer"], rows["head"]] = rows["mean"]
    assert np.allclose(found, diagonals, atol=1e-6)
    html = published.page.read_text()
    assert all(path.name in html for path in published.results)


def test_pages_ask_nothing_of_the_network_and_are_the_same_again(
    sample_store: Path, tmp_path: Path
) -> None:
    """Links lead to files beside the page; the same store gives the same bytes."""
    first, second = (pages.publish(sample_store, RUN, tmp_path / n, 2) for n in ("a", "b"))
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert len(files) == 1 + len(first.results) + len(first.pictures) + len(second.examples)
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    html = first.page.read_text()
    targets = set(re.findall(r'(?:href|src)="(?!data:)([^"#]+)', html))
    assert targets == {str(f) for f in files} - {"index.html"}


def test_mean_maps_are_those_of_the_profile(
    sample_store: Path, store: Store, tmp_path: Path
) -> None:
    """The CSV is view `offsets`, the picture in the page has the pixels of its weights, each head is named."""
    published = pages.publish(sample_store, RUN, tmp_path, 2)
    numbers = next(p for p in published.results if p.name == "mean_maps.csv")
    wanted = store.sql("FROM offsets WHERE run = $run ORDER BY ALL", run=RUN)
    assert numbers.read_text() == wanted.write_csv()
    html = published.page.read_text()
    part = html[html.index('<section id="mean-maps">') : html.index("</section>")]
    (drawn,) = re.findall(r'href="data:image/png;base64,([^"]+)"', part)
    shown = plt_image.imread(io.BytesIO(base64.b64decode(drawn)))
    assert np.allclose(shown * 255, mean_maps.pixels(mean_maps.of_rows(wanted).maps), atol=0.6)
    assert len(set(re.findall(r'data-layer="(\d+)" data-head="(\d+)"', part))) == 8
    assert all(f'href="examples/{published.examples[1].name}#/{at}"' in part for at in ("0/0", "1/3"))  # fmt: skip
    assert "attnstore sql" in part
    picture = next(p for p in published.pictures if p.name == "mean_maps.svg")
    assert ElementTree.parse(picture).getroot().get("width") == "496.80pt"


def test_a_run_without_a_profile_says_how_it_gets_one(sample_store: Path, tmp_path: Path) -> None:
    """No picture and no file of mean maps, but the command."""
    shutil.copytree(sample_store, tmp_path / "s")
    shutil.rmtree(tmp_path / "s" / "fragments" / "offsets")
    published = pages.publish(tmp_path / "s", RUN, tmp_path / "p", 0)
    assert f"attnstore recompute offsets {RUN}" in published.page.read_text()
    assert not [p for p in (*published.results, *published.pictures) if "mean_maps" in p.name]


def test_examples_are_chosen_from_short_to_long(sample_store: Path, store: Store) -> None:
    """A number takes evenly spaced ranks of length; names are taken as they stand, once."""
    with pages._served(sample_store) as served:
        run = served.current.run(RUN).record
        by_length = store.sql(
            "SELECT example FROM inputs WHERE run = $run ORDER BY length, example", run=RUN
        )["example"].to_list()
        assert [r["example"] for r in choice.inputs(served, run, 2)] == [
            by_length[0],
            by_length[-1],
        ]
        assert [r["example"] for r in choice.inputs(served, run, 100)] == by_length
        assert choice.inputs(served, run, 0) == []
        assert [r["example"] for r in choice.inputs(served, run, [by_length[3]] * 2)] == [
            by_length[3]
        ]
        with pytest.raises(UnknownNameError, match="holds no example 99999"):
            choice.inputs(served, run, [99999])


def test_an_analysis_without_a_value_per_head_is_refused(
    sample_store: Path, tmp_path: Path
) -> None:
    """One sentence says which analyses can be published; an unknown one is named."""
    with pytest.raises(
        UsageError, match=r"drift_by_layer has no value for each head.*cls_attention"
    ):
        pages.publish(sample_store, RUN, tmp_path, 0, ["drift_by_layer"])
    with pytest.raises(UnknownNameError, match="cls_attentoin"):
        pages.publish(sample_store, RUN, tmp_path, 0, ["cls_attentoin"])
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_a_sentence(sample_store: Path, tmp_path: Path) -> None:
    """The folder cannot be made where a file stands."""
    (tmp_path / "public").write_text("")
    with pytest.raises(UsageError, match=r"cannot be written to .*give another folder"):
        pages.publish(sample_store, RUN, tmp_path / "public", 0)


def test_a_head_leads_to_its_map(chromium: Any, sample_store: Path, tmp_path: Path) -> None:
    """From the grid, from disk, to the large map of the head in the example."""
    published = pages.publish(sample_store, RUN, tmp_path, 3, ["cls_attention"])
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(published.page.as_uri())
    assert page.locator("#cls_attention details:has(.gridded)").count() == 3
    assert page.locator("#cls_attention [data-head]").count() == 3 * 8
    for grid in ("#self", "#mean-maps"):
        page.goto(published.page.as_uri())
        page.click(f'{grid} [data-layer="1"][data-head="2"]')
        page.wait_for_selector(".large canvas")
        assert page.inner_text(".one .caption b") == "Layer 1, head 2"
        assert page.url.startswith(published.examples[1].as_uri())
    page.close()
    assert not wrong
