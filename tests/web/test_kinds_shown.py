"""Maps of other kinds than the weights where people look: Python, commands, exports and the explorer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
import zarr
from click.testing import CliRunner
from helpers import write_texts
from webtools import LIMITS, Browser

import attnstore
from attnstore.cli.main import main
from attnstore.errors import UnknownNameError, UsageError

RUN, ZEROING, GRADIENT = "m/t", "value_zeroing", "gradient_attention"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a classifier's run that holds two kinds beside the weights."""
    folder = tmp_path_factory.mktemp("kinds")
    model = tiny.make_classifier(folder / "m", "bert")
    texts = write_texts(folder / "t.jsonl", 4, longest=16)
    attnstore.ingest(
        folder / "s", f"{model}=m", f"{texts}=t", max_length=30, maps=[ZEROING, GRADIENT]
    )
    return folder / "s"


@pytest.fixture(scope="module")
def store(root: Path) -> Iterator[attnstore.Store]:
    with attnstore.open(root) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(root: Path) -> Iterator[Browser]:
    browser = Browser(root, limits=LIMITS)
    yield browser
    browser.close()


def plain(root: Path, store: attnstore.Store, kind: str, example: int) -> np.ndarray:
    """The maps of an input by plain zarr: (layers, heads or 1, L, L)."""
    cell, n = store.sql(
        "SELECT cell, length FROM map_places WHERE example = $e LIMIT 1", e=example
    ).row(0)
    array = zarr.open_group(root / "attention.zarr", mode="r")[f"{RUN}/{kind}"]
    return np.asarray(array[:, :, cell : cell + n * n]).reshape(*array.shape[:2], n, n)


@pytest.mark.parametrize("kind", [ZEROING, GRADIENT])
def test_python_reads_maps_of_a_kind(root: Path, store: attnstore.Store, kind: str) -> None:
    """One map, those of an input, and those of all inputs, as the array holds them."""
    streamed = {maps.example: maps.weights for maps in store.maps(RUN, kind=kind)}
    assert len(streamed) == 4
    for example, weights in streamed.items():
        expected = plain(root, store, kind, example)
        np.testing.assert_array_equal(weights, expected)
        np.testing.assert_array_equal(store.maps(RUN, example, kind=kind), expected)
        head = None if kind == ZEROING else 2
        map_ = store.map(RUN, example, 1, head, kind)
        np.testing.assert_array_equal(map_.weights, expected[1, head or 0])
        assert map_.title.endswith(kind)


def test_norm_based_maps_have_rows_that_sum_to_1(store: attnstore.Store) -> None:
    """They are computed as they are read, of every head."""
    maps = store.maps(RUN, 0, kind="norm")
    assert maps.shape == store.maps(RUN, 0).shape
    np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-5)
    assert not np.allclose(maps, store.maps(RUN, 0), atol=1e-3)


@pytest.mark.parametrize(
    ("head", "kind", "error", "said"),
    [
        (1, ZEROING, UsageError, "one a layer; leave the head out."),
        (None, GRADIENT, UsageError, "one a head; name the head."),
        (None, "weights", UsageError, "one a head; name the head."),
        (1, "gradient_attention_gold", UnknownNameError, "--maps gradient_attention_gold"),
        (1, "value_zeroin", UnknownNameError, "did you mean value_zeroing?"),
    ],
)
def test_a_map_that_is_not_there_is_one_sentence(
    store: attnstore.Store, head: int | None, kind: str, error: type[Exception], said: str
) -> None:
    """The sentence says which head or kind, and what to do."""
    with pytest.raises(error, match=re.escape(said)):
        store.map(RUN, 0, 1, head, kind)


def test_show_takes_a_kind(root: Path, tmp_path: Path) -> None:
    """In the terminal and as a figure; a kind with one map a layer takes no head."""
    for arguments in (["1", "--kind", ZEROING], ["1", "2", "--kind", GRADIENT]):
        shown = CliRunner().invoke(main, ["--store", str(root), "show", RUN, "0", *arguments])
        assert shown.exit_code == 0, shown.output
        assert arguments[-1] in shown.output
        file = tmp_path / f"{arguments[-1]}.png"
        CliRunner().invoke(
            main, ["--store", str(root), "show", RUN, "0", *arguments, "--out", str(file)]
        )
        assert file.stat().st_size > 1000


@pytest.mark.parametrize("kind", [ZEROING, GRADIENT, "norm"])
def test_an_export_holds_the_maps_of_a_kind(
    store: attnstore.Store, tmp_path: Path, kind: str
) -> None:
    """As many heads as the kind has; the name of the file says which kind."""
    store.export(RUN, "npz", tmp_path / "x.npz", kind=kind)
    with np.load(tmp_path / "x.npz") as kept:
        np.testing.assert_array_equal(kept["maps_2"], store.maps(RUN, 2, kind=kind))
        assert len(kept["heads"]) == store.maps(RUN, 2, kind=kind).shape[1]


@pytest.mark.parametrize("kind", [ZEROING, GRADIENT])
def test_the_explorer_sends_maps_of_a_kind(
    root: Path, store: attnstore.Store, pages: Browser, kind: str
) -> None:
    """The page offers the kinds of the run; maps come bit for bit, the overview scaled to the largest."""
    page = pages.get(f"/run/{RUN}/example/1?kind={kind}").text
    assert f"<option selected>{kind}</option>" in page
    expected = plain(root, store, kind, 1)
    body = pages.get(f"/maps/{RUN}/1/1/0?unit=piece&kind={kind}").content
    np.testing.assert_array_equal(np.frombuffer(body, "<f4"), expected[1, 0].ravel())
    small = np.frombuffer(pages.get(f"/maps/{RUN}/1/all?kind={kind}").content, np.uint8)
    sizes = np.abs(expected) / np.abs(expected).max()
    np.testing.assert_array_equal(small, (np.sqrt(sizes) * 255).round().astype(np.uint8).ravel())


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (f"/run/{RUN}/example/1?kind=value", "no kind of maps"),
        (f"/run/{RUN}/example/1?kind=gradient_attention_gold", "--maps gradient_attention_gold"),
        (f"/maps/{RUN}/1/1/3?kind={ZEROING}", "one a layer"),
    ],
)
def test_a_kind_that_is_not_there_is_a_sentence_on_the_page(
    pages: Browser, address: str, said: str
) -> None:
    """Not a failure of the server."""
    answer = pages.get(address)
    assert answer.status_code in (400, 404)
    assert said in answer.text
