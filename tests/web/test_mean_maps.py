"""Rules of the mean maps: what each place of a picture shows, and where the pictures stand."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread
from webtools import RUN, Browser

from attnstore.display import mean_maps
from attnstore.display.colors import colormap
from attnstore.display.mean_maps import LENGTH, WIDTH
from attnstore.store import Store
from attnstore.web import run_list

PNG = f"/run/{RUN}/mean-maps.png"


@pytest.fixture
def older(sample_store: Path, tmp_path: Path) -> Browser:
    """A client of an explorer over a store that an earlier version wrote."""
    root = Path(shutil.copytree(sample_store, tmp_path / "s"))
    shutil.rmtree(root / "fragments" / "offsets")
    browser = Browser(root)
    browser.site.store.catch_up()
    return browser


def test_a_place_of_a_mean_map_has_the_weight_of_its_group() -> None:
    """Rows attend, columns are attended to; two columns of [CLS], then the tokens, then two of [SEP]."""
    weights = {("cls", None): 0.5, ("sep", None): 0.25, ("near", -1): 0.75, ("far", None): 0.125}
    found = mean_maps.mean_map(weights, False)
    wanted = np.zeros((LENGTH, WIDTH))
    wanted[:, :2], wanted[:, -2:] = 0.5, 0.25
    for row in range(LENGTH):
        for token in range(LENGTH):
            if token == row - 1:
                wanted[row, 2 + token] = 0.75
            if abs(token - row) > 10:
                wanted[row, 2 + token] = 0.125
    np.testing.assert_array_equal(found, wanted)


def test_two_texts_are_two_blocks_with_a_sep_each() -> None:
    """Offsets count within a text, and pairs across have the weight to the other text."""
    weights = {
        ("cls", None): 0.5,
        ("sep", None): 0.25,
        ("near", 0): 1.0,
        ("other_text", None): 0.75,
    }
    found, half = mean_maps.mean_map(weights, True), LENGTH // 2
    assert found.shape == (LENGTH, WIDTH)
    assert (found[:, 2 + half] == 0.25).all()
    assert (found[:, -1] == 0.25).all()
    first, second = found[:, 2 : 2 + half], found[:, 3 + half : -1]
    np.testing.assert_array_equal(first[:half], np.eye(half))
    np.testing.assert_array_equal(second[half:], np.eye(half))
    assert (first[half:] == 0.75).all()
    assert (second[:half] == 0.75).all()


def test_a_model_without_special_tokens_has_its_first_token_on_the_left() -> None:
    """What there is not stays empty."""
    found = mean_maps.mean_map({("first", None): 0.5}, False)
    assert (found[:, :2] == 0.5).all()
    assert np.isnan(found[:, -2:]).all()


def test_the_picture_shows_the_weights_of_the_store(pages: Browser, store: Store) -> None:
    """Each head at its place, previous token, itself and [CLS], from the rows of `attention` alone."""
    answer = pages.get(PNG)
    assert answer.headers["content-type"] == "image/png"
    shown = imread(io.BytesIO(answer.content)) * 255
    heads = store.run(RUN)
    kinds = store.sql("SELECT run, example, position, kind, segment FROM tokens")
    weights = store.sql("SELECT run, example, layer, head, from_pos, to_pos, weight FROM attention")
    ordinary = pl.col("kind").is_in(["word", "punctuation"])
    rows = weights.join(
        kinds.filter(ordinary).rename({"position": "from_pos", "segment": "text"}).drop("kind"),
        on=["run", "example", "from_pos"],
    ).join(kinds.rename({"position": "to_pos"}), on=["run", "example", "to_pos"])
    own = ordinary & (pl.col("text") == pl.col("segment"))
    places = {
        (0, 0): pl.col("kind") == "cls",
        (1, 2): own & (pl.col("to_pos") == pl.col("from_pos") - 1),
        (3, 5): own & (pl.col("to_pos") == pl.col("from_pos")),
    }
    n_layers, n_heads = heads.n_layers, heads.n_heads
    assert shown.shape == (n_layers * (LENGTH + 1) - 1, n_heads * (WIDTH + 1) - 1, 4)
    for (row, column), condition in places.items():
        means = rows.filter(condition).group_by("layer", "head").agg(pl.col("weight").mean())
        assert len(means) == n_layers * n_heads
        for layer, head, mean in means.iter_rows():
            pixel = shown[layer * (LENGTH + 1) + row, head * (WIDTH + 1) + column]
            wanted = colormap(np.sqrt(np.array([mean])), 1.0)[0]
            assert np.abs(pixel[:3] - wanted).max() <= 1, (layer, head, row, column)
            assert pixel[3] == 255
    assert (shown[LENGTH :: LENGTH + 1, :, 3] == 0).all(), "gaps have the color of the page"


def test_each_run_has_its_picture_on_the_first_page(pages: Browser) -> None:
    """Loaded when it is seen, kept by the browser, with a name and its size."""
    (image,) = re.findall(r"<img class=\"mean-maps\"[^>]*>", pages.get("/").text)
    assert 'loading="lazy"' in image
    assert f'alt="Mean maps of the heads of {RUN}"' in image
    (source,) = re.findall(r'src="([^"]*)"', image)
    assert source.startswith(PNG + "?v=")
    answer = pages.get(source)
    assert "immutable" in answer.headers["cache-control"]
    size = imread(io.BytesIO(answer.content)).shape
    assert f'width="{size[1]}" height="{size[0]}"' in image


def test_the_address_of_a_picture_changes_as_the_run_grows() -> None:
    """It may be kept for ever."""
    from attnstore.web.mean_maps import address

    run = {"run": RUN, "run_key": 7, "stored": 4}
    assert address(run) != address(run | {"stored": 5})
    assert address(run) != address(run | {"run_key": 8})


def test_each_head_of_the_run_page_is_a_link_with_a_name(pages: Browser, store: Store) -> None:
    """The name says where most of its attention goes."""
    text = pages.get(f"/run/{RUN}").text
    part = text[text.index('id="mean-maps"') :]
    links = re.findall(
        r'<a href="([^"]*)" data-layer="(\d+)" data-head="(\d+)"[^>]* aria-label="([^"]*)"', part
    )
    best = store.sql(
        "SELECT layer, head, max(share) AS share, arg_max(target, share) AS target FROM offsets "
        "GROUP BY ALL ORDER BY ALL"
    ).rows()
    assert len(links) == len(best)
    for (href, *at, name), (layer, head, share, target) in zip(links, best, strict=True):
        assert (href, *at) == (f"/run/{RUN}/head/{layer}/{head}", str(layer), str(head))
        assert name.startswith(f"layer {layer} · head {head}: ")
        assert f" {share:.0%}" in name.split(",")[0]
        if target in ("cls", "sep"):
            assert f"[{target.upper()}]" in name.split(",")[0]


def test_a_run_of_an_earlier_version_says_how_to_get_them(older: Browser) -> None:
    """On its page and at the picture's address; the list has the run without a picture."""
    assert "mean-maps" not in older.get("/").text
    assert f"attnstore recompute offsets {RUN}" in older.get(f"/run/{RUN}").text
    answer = older.client.get(PNG)
    assert answer.status_code == 404
    assert f"attnstore recompute offsets {RUN}" in answer.text
    older.close()


def test_a_long_list_loads_its_pictures_as_they_are_seen(
    older: Browser, sample_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of 200 runs ask for no profile: a picture is asked for by the browser."""
    ask, asked = older.site.store.ask, []
    record = ask("FROM runs").to_dicts()[0]
    rest = {
        "base": None,
        "step": None,
        "latest": None,
        "annotated": None,
        "classified": False,
        "ablated": False,
    }
    copies = [record | rest | {"run": f"m{i}/t", "profiled": True} for i in range(200)]

    def answer(sql: str, /, **params: object) -> pl.DataFrame:
        asked.append(sql)
        return pl.DataFrame(copies, infer_schema_length=None) if "AS classified" in sql else ask(sql, **params)  # fmt: skip

    monkeypatch.setattr(older.site.store, "ask", answer)
    text = older.get("/").text
    assert text.count('loading="lazy"') == run_list.PER_PAGE
    assert not any("FROM offsets" in sql for sql in asked)
    older.close()
