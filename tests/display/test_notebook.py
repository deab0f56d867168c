"""Rules of what is shown of a store, a run and a map: in a notebook, in a terminal, to numpy."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.cells import cell_len
from rich.console import Console

import attnstore
from attnstore.display import notebook, terminal
from attnstore.display.colors import SCALE, colormap, png
from attnstore.display.records import Map
from attnstore.errors import UnknownNameError
from attnstore.store import Store

RUN = "tiny/sample"


@pytest.fixture(scope="module")
def store(sample_store: Path) -> Store:
    return attnstore.open(sample_store)


@pytest.fixture(scope="module")
def one(store: Store) -> Map:
    """The map of layer 1, head 2 of the longest example."""
    example = store.sql("SELECT example FROM inputs ORDER BY length DESC LIMIT 1").item()
    return store.map(RUN, example, 1, 2)


def a_map(tokens: list[str]) -> Map:
    weights = np.random.default_rng(1).dirichlet(np.ones(len(tokens)), len(tokens))
    return Map("m/d", 0, 0, 0, tuple(tokens), weights.astype(np.float32), tuple(tokens))


def text_of(html: str) -> str:
    """The text of HTML that is well-formed XML; fails for what is not."""
    return " ".join(ElementTree.fromstring(f"<div>{html}</div>").itertext())


# A map -------------------------------------------------------------------------------------------


def test_map_is_one_of_the_maps_of_its_example(store: Store, one: Map) -> None:
    """`store.map` gives bit for bit what `store.maps` gives."""
    np.testing.assert_array_equal(one.weights, store.maps(RUN, one.example)[1, 2])


def test_map_is_an_array_to_numpy(one: Map) -> None:
    """np.asarray takes the weights; rows sum to 1."""
    array = np.asarray(one)
    assert array.shape == (len(one.tokens), len(one.tokens))
    np.testing.assert_allclose(array.sum(axis=1), 1, atol=1e-5)


def test_map_carries_its_tokens(store: Store, one: Map) -> None:
    """In the order of rows and columns."""
    found = store.sql(
        "SELECT token FROM tokens WHERE example = $e ORDER BY position", e=one.example
    )
    assert list(one.tokens) == found["token"].to_list()


def test_repr_of_a_map_is_short(one: Map) -> None:
    """It says which map it is, not its weights."""
    assert repr(one) == f"Map(run='{RUN}', example={one.example}, layer=1, head=2)"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (("tiny/sampl", 0, 0, 0), "did you mean tiny/sample"),
        ((RUN, 0, 2, 0), "no layer 2; its layers are 0, 1"),
        ((RUN, 0, 0, -1), "no head -1; its heads are 0, 1, 2, 3"),
        ((RUN, 99999, 0, 0), "no example 99999"),
    ],
)
def test_unknown_map_says_what_there_is(
    store: Store, place: tuple[str, int, int, int], said: str
) -> None:
    """UnknownNameError, which is a KeyError."""
    with pytest.raises(UnknownNameError, match=said):
        store.map(*place)


# HTML --------------------------------------------------------------------------------------------


def test_store_shows_its_runs_and_views(store: Store) -> None:
    """Name, state and examples of each run; every view with what a row of it is."""
    shown = text_of(store._repr_html_())
    for said in (RUN, "complete", "8 of 8", "map_stats", "One row per attention weight"):
        assert said in shown


def test_empty_store_says_so() -> None:
    """And why its index is behind."""
    shown = text_of(
        notebook.store_html("/s", [], {"runs": "One row per run."}, "A <reader> holds it.")
    )
    assert "no run yet" in shown
    assert "A <reader> holds it." in shown


def test_run_shows_its_record(store: Store) -> None:
    """Each column of view `runs` with its value."""
    run = store.run(RUN)
    shown = text_of(run._repr_html_())
    assert all(column in shown for column in store.columns("runs"))
    assert run.record["identity"] in shown


def test_unknown_run_is_a_key_error(store: Store) -> None:
    """With the near matches."""
    with pytest.raises(KeyError, match="did you mean tiny/sample"):
        store.run("tiny/smple")


def test_map_shows_every_token(one: Map) -> None:
    """A short input has all labels, twice: rows and columns."""
    shown = text_of(a_map(["[CLS]", "cat", "[SEP]"])._repr_html_())
    assert shown.count("cat") == 2
    assert f"example {one.example}, layer 1, head 2" in text_of(one._repr_html_())


@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=5))
def test_text_of_tokens_is_escaped(tokens: list[str]) -> None:
    """Whatever a token holds, the picture is well-formed and holds no element of it."""
    html = a_map(["<script>alert(1)</script>", "&amp;", '"', *tokens])._repr_html_()
    names = {e.tag.split("}")[-1] for e in ElementTree.fromstring(html).iter()}
    assert names <= {"figure", "figcaption", "strong", "svg", "image", "text"}


def test_large_map_stays_small() -> None:
    """512 tokens: labels are thinned out, and a notebook takes it easily."""
    html = a_map([f"token{i}" for i in range(512)])._repr_html_()
    assert html.count("<text") < 150
    assert len(html) < 1_500_000


# Colours -----------------------------------------------------------------------------------------


def test_colours_are_those_of_the_figures() -> None:
    """The scale of terminal and notebook differs from matplotlib's by no more than eyes can see."""
    weights = np.linspace(0, 0.5, 200)
    wanted = matplotlib.colormaps[SCALE](weights / 0.5)[:, :3] * 255
    assert np.abs(colormap(weights, 0.5) - wanted).max() <= 6


def test_png_gives_back_its_pixels() -> None:
    """As another library reads them."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(pixels)))), pixels)


# Terminal ----------------------------------------------------------------------------------------


@given(
    st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=130),
    st.integers(40, 150),
    st.booleans(),
)
def test_picture_fits_the_terminal(tokens: list[str], width: int, colour: bool) -> None:
    """Whatever the tokens, no line of the map is wider than asked for."""
    lines = terminal.picture(a_map(tokens).weights, tokens, width, colour).plain.split("\n")
    assert max(cell_len(line) for line in lines[1:-2]) <= width


@pytest.mark.parametrize("colour", [True, False])
def test_rows_are_named_by_position_and_token(one: Map, colour: bool) -> None:
    """One line per row where there is room."""
    lines = terminal.picture(one.weights, one.tokens, 200, colour).plain.split("\n")[1:-2]
    assert [line.split()[:2] for line in lines] == [[str(i), t] for i, t in enumerate(one.tokens)]


def test_without_colour_shades_follow_the_weights() -> None:
    """Darker for more, blank for next to nothing."""
    weights = np.array([[0.9, 0.1], [0.01, 0.99]], np.float32)
    lines = terminal.picture(weights, ["a", "b"], 80, colour=False).plain.split("\n")
    assert lines[1:3] == ["0 a ██░░", "1 b   ██"]


def test_long_input_in_colour_takes_two_rows_a_line() -> None:
    """Half blocks: the upper row in the letter's colour, the lower one behind it."""
    found = a_map([f"t{i}" for i in range(60)])
    picture = terminal.picture(found.weights, found.tokens, 80)
    lines = picture.plain.split("\n")[1:-2]
    assert len(lines) == 30
    assert all(line.count("▀") == 60 for line in lines)
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=80)
    console.print(picture)
    top = float(found.weights.max())
    (upper, lower) = colormap(found.weights[:2, 0], top)
    ansi = f"\x1b[38;2;{';'.join(map(str, upper))};48;2;{';'.join(map(str, lower))}m▀"
    assert ansi in console.file.getvalue()  # type: ignore[attr-defined]


def test_scaled_picture_keeps_the_largest_weight() -> None:
    """An input longer than the terminal is wide: a strong link never disappears."""
    weights = np.full((100, 100), 0.001, np.float32)
    weights[77, 31] = 0.9
    picture = terminal.picture(weights, [f"t{i}" for i in range(100)], 60, colour=False).plain
    assert picture.count("█") == 2  # one in the map, one in the key
    assert "largest of 2 × 2" in picture


def test_a_map_of_no_numbers_is_blank() -> None:
    """NaN, of a head that moves nothing, is no large weight; other rows keep their shades."""
    tokens, nothing = ["a", "b"], np.full((2, 2), np.nan, np.float32)
    assert "█" not in terminal.picture(nothing, tokens, 80, colour=False).plain.split("weights:")[0]
    nothing[1] = (0.5, 0.25)
    row, last = terminal.picture(nothing, tokens, 80, colour=False).plain.split("\n")[1:3]
    assert (row.strip(), "█" in last) == ("0 a", True)
