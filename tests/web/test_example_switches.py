"""The switches of the example page in Chromium, against the weights of the store: each in the address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import RUN, drawn, hovered

import attnstore
from attnstore.store import Store

pytestmark = pytest.mark.slow

PLACE = f"/run/{RUN}/example/3?layer=2&head=3"


@pytest.fixture(scope="module")
def stored(real_store: Path) -> Iterator[Store]:
    with attnstore.open(real_store) as opened:
        yield opened


@pytest.fixture(scope="module")
def tokens(stored: Store) -> Any:
    """The tokens of the input: position, text, kind, segment."""
    return stored.sql(
        "SELECT position, text, kind, segment FROM tokens WHERE run = $run AND example = 3 "
        "ORDER BY position",
        run=RUN,
    )


def cell(page: Any, key: str = "") -> tuple[float, int, int, str]:
    """The weight that the large map tells of a cell, its tokens, and the whole sentence."""
    told, i, j = hovered(page, ".large canvas")
    return float(told.rsplit("  (", 1)[0].split(": ")[-1].split(",")[0].split()[0]), i, j, told


def test_without_special_tokens_rows_sum_to_1(page: Any, stored: Store, tokens: Any) -> None:
    """Hidden, then hidden with each row divided by what it gives to other tokens; thumbnails too."""
    weights = stored.maps(RUN, 3)[2, 3]
    plain = tokens["kind"].is_in(["word", "punctuation"]).to_numpy()
    page.goto(PLACE)
    n = drawn(page)
    for choice, expected in (
        ("drop", weights),
        ("renormalise", weights / weights[:, plain].sum(1, keepdims=True)),
    ):
        page.select_option("[name=specials]", choice)
        n = drawn(page, n)
        assert f"specials={choice}" in page.url
        value, i, j, _ = cell(page)
        assert plain[i]
        assert plain[j]
        assert value == pytest.approx(expected[i, j], abs=6e-5)
        listed = page.eval_on_selector_all(".lines ol:first-of-type li", "all => all.map(e => Number(e.dataset.token))")  # fmt: skip
        assert listed == np.flatnonzero(plain).tolist()


def test_from_one_sentence_to_the_other(page: Any, stored: Store, tokens: Any) -> None:
    """A → B has the rows of the first text and the columns of the second, in words too."""
    weights = stored.maps(RUN, 3)[2, 3]
    segment = tokens["segment"].to_numpy()
    page.goto(PLACE)
    n = drawn(page)
    page.select_option("[name=sentences]", "ab")
    n = drawn(page, n)
    assert "sentences=ab" in page.url
    value, i, j, _ = cell(page)
    assert (segment[i], segment[j]) == (0, 1)
    assert value == pytest.approx(weights[i, j], abs=6e-5)
    sides = [page.locator(f".lines ol >> nth={k} >> li").count() for k in (0, 1)]
    assert sides == [(segment == 0).sum(), (segment == 1).sum()]
    page.keyboard.press("b")
    drawn(page, n)
    assert "sentences=ba" in page.url


def test_a_threshold_leaves_lines_and_text_below_it_dark(page: Any, stored: Store) -> None:
    """What is lit up are the tokens of at least the threshold, each with its weight."""
    row = stored.maps(RUN, 3)[2, 3][4]
    page.goto(f"{PLACE}&token=4&least=0.09")
    drawn(page)
    lit = page.eval_on_selector_all(".text .token[data-weight]", "all => all.map(e => Number(e.dataset.weight))")  # fmt: skip
    assert sorted(lit) == pytest.approx(sorted(row[row >= 0.09]), abs=6e-5)
    assert page.inner_text("#least") == "0.090"


def test_hovering_a_word_lights_up_its_targets(page: Any, stored: Store, tokens: Any) -> None:
    """The lit tokens and their weights are those of the word's row; leaving turns them off."""
    weights = stored.maps(RUN, 3)[2, 3]
    page.goto(PLACE)
    drawn(page)
    text = page.locator(".text .token").nth(4)
    text.hover()
    page.wait_for_selector(".text .token[data-weight]")
    assert text.evaluate("e => e.matches('.source')")
    lit = page.eval_on_selector_all(".text .token", "all => all.map(e => [e.textContent, Number(e.dataset.weight ?? 0)])")  # fmt: skip
    assert [name for name, _ in lit] == tokens["text"].to_list()
    np.testing.assert_allclose(
        [weight for _, weight in lit], np.where(weights[4] >= 0.005, weights[4], 0), atol=6e-5
    )
    page.mouse.move(2, 2)
    page.wait_for_selector(".text .token[data-weight]", state="detached")


def test_heads_in_colors_keep_their_lines(page: Any) -> None:
    """Ctrl and a click add a head, the chip takes it away; the address keeps them, and Back undoes."""
    page.goto(PLACE)
    n = drawn(page)
    page.keyboard.press("m")
    n = drawn(page, n)
    box = page.locator("canvas.all").bounding_box()
    page.locator("canvas.all").click(position={"x": box["width"] * 0.8, "y": box["height"] * 0.9}, modifiers=["Control"])  # fmt: skip
    n = drawn(page, n)
    heads = page.url.split("heads=")[1].split("&")[0]
    assert heads.startswith("2-3%2C5-")
    assert page.locator(".drawn .pins li").count() == 2
    page.click(".drawn .pins button >> nth=0")
    n = drawn(page, n)
    assert page.url.split("heads=")[1].split("&")[0] == heads.split("%2C")[1]
    page.go_back()
    drawn(page, n)
    assert page.locator(".drawn .pins li").count() == 2


def test_weight_or_norm_keeps_the_rest_of_the_address(page: Any, stored: Store) -> None:
    """The norm's map of the same cell, with the same switches."""
    page.goto(f"{PLACE}&token=4&scale=linear")
    drawn(page)
    page.click("#controls label:has-text('norm')")
    page.wait_for_url("**kind=norm**")
    drawn(page)
    assert all(part in page.url for part in ("layer=2&head=3", "token=4", "scale=linear"))
    value, i, j, _ = cell(page)
    expected = stored.maps(RUN, 3, kind="norm")[2, 3, i, j]
    assert value == pytest.approx(expected, abs=6e-5)


def test_a_frame_on_the_map_zooms_and_the_keys_lead_out(page: Any, stored: Store) -> None:
    """A dragged frame shows its tokens alone; 0 shows all, + half as many."""
    page.goto(PLACE)
    n = drawn(page)
    canvas = page.locator(".large canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.7, steps=4)
    page.mouse.up()
    n = drawn(page, n)
    first, last, left, right = (int(p) for part in page.url.split("zoom=")[1].split("&")[0].split("%2C") for p in part.split("-"))  # fmt: skip
    value, i, j, _ = cell(page)
    assert first <= i <= last
    assert left <= j <= right
    assert value == pytest.approx(stored.maps(RUN, 3)[2, 3, i, j], abs=6e-5)
    page.keyboard.press("0")
    n = drawn(page, n)
    assert "zoom" not in page.url
    page.keyboard.press("+")
    drawn(page, n)
    assert "zoom" in page.url


def test_the_large_map_is_read_by_keyboard_and_by_screen_readers(page: Any, stored: Store) -> None:
    """It has a name with its strongest weights, arrows tell each cell, and a table lists values."""
    weights = stored.maps(RUN, 3)[2, 3]
    page.goto(PLACE)
    n = drawn(page)
    assert f"{weights.max():.2f}" in page.get_attribute(".large canvas", "aria-label")
    page.focus(".large canvas")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    assert page.inner_text(".hover").endswith("(1 → 1)")
    assert f"{weights[1, 1]:.4f}" in page.inner_text(".hover")
    page.keyboard.press("Enter")
    drawn(page, n)
    assert all(part in page.url for part in ("pins=1-1", "layer=2&head=3"))
    page.click(".values summary")
    row = page.locator(".values tbody tr >> nth=4").inner_text()
    assert f"{weights[4].max():.4f}" in row
    assert page.locator(".values tbody tr").count() == len(weights)


def test_arrows_scroll_after_a_click_beside_the_maps(page: Any) -> None:
    """They choose heads until then; at the first layer there is none above, so that they scroll, too."""
    page.set_viewport_size({"width": 1280, "height": 400})
    page.goto(PLACE)
    drawn(page)
    page.click("h1")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("() => scrollY > 0")
    assert "layer=2&head=3" in page.url
