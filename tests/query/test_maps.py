"""Rules of `store.maps` and `store.to_xarray`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import attnstore
from attnstore.errors import AttnstoreError, UnknownNameError, UsageError
from attnstore.query import stored_maps
from attnstore.storage.arrays import RunArrays

RUN = "tiny/sample"


@pytest.fixture(scope="module")
def store(sample_store: Path) -> Iterator[attnstore.Store]:
    with attnstore.open(sample_store) as opened:
        yield opened


def test_maps_of_a_run_come_in_storage_order(store: attnstore.Store) -> None:
    """Each input once, with its tokens, as `maps(run, example)` gives it."""
    rows = store.sql("SELECT example, tokens FROM inputs WHERE run = $run", run=RUN)
    tokens = {example: tuple(names) for example, names in rows.iter_rows()}
    lengths = []
    for example, names, weights in store.maps(RUN):
        assert names == tokens.pop(example)
        np.testing.assert_array_equal(weights, store.maps(RUN, example))
        lengths.append(len(names))
    assert tokens == {}
    assert lengths == sorted(lengths)  # inputs are packed by length


@pytest.mark.parametrize("bytes_at_once", [1, 100_000, 64 << 20])
def test_the_window_changes_nothing(
    store: attnstore.Store, monkeypatch: pytest.MonkeyPatch, bytes_at_once: int
) -> None:
    """Whether one input is read at a time, or some, or all."""
    everything = {example: weights for example, _, weights in store.maps(RUN)}
    monkeypatch.setattr(stored_maps, "WINDOW_BYTES", bytes_at_once)
    chosen = list(everything)[::2]
    found = {m.example: m.weights for m in store.maps(RUN, examples=[*chosen, chosen[0]])}
    assert list(found) == chosen
    for example, weights in found.items():
        np.testing.assert_array_equal(weights, everything[example])


def test_what_is_read_at_once_is_bounded(
    store: attnstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By bytes of weights, unless one input has more."""
    monkeypatch.setattr(stored_maps, "WINDOW_BYTES", 60_000)
    sizes = []
    stretch = RunArrays.stretch

    def measured(self: RunArrays, array: str, start: int, stop: int) -> np.ndarray:
        weights = stretch(self, array, start, stop)
        sizes.append(weights.nbytes)
        return weights

    monkeypatch.setattr(RunArrays, "stretch", measured)
    largest = max(maps.weights.nbytes for maps in store.maps(RUN))
    assert len(sizes) > 1
    assert max(sizes) <= max(60_000, largest)


def test_an_unknown_example_is_refused_before_anything_is_read(store: attnstore.Store) -> None:
    """Of a known run and of an unknown one."""
    with pytest.raises(UnknownNameError, match="holds no example 99999"):
        store.maps(RUN, examples=[99_999])
    with pytest.raises(UnknownNameError, match="did you mean tiny/sample"):
        store.maps("tiny/sampl")
    with pytest.raises(UsageError, match="not both"):
        store.maps(RUN, 0, examples=[1])  # type: ignore[call-overload]


def test_xarray_names_the_dimensions(store: attnstore.Store) -> None:
    """So that a head, a layer and a token are selected by their numbers."""
    example, tokens, weights = next(store.maps(RUN))
    array = store.to_xarray(RUN, example)
    assert array.dims == ("layer", "head", "from", "to")
    assert tuple(array["from_token"].values) == tuple(array["to_token"].values) == tokens
    np.testing.assert_array_equal(array.sel(layer=1, head=2).values, weights[1, 2])
    assert array.attrs == {"run": RUN, "example": example}
    np.testing.assert_allclose(array.sum("to").values, 1, atol=1e-3)


def test_xarray_of_a_restricted_run_has_its_numbers(tiny_bert: Path, tmp_path: Path) -> None:
    """Layers and heads by number, not by place."""
    attnstore.ingest(
        tmp_path / "s", str(tiny_bert), "sample", limit=2, max_length=64, layers=[1], heads=[0, 2]
    )
    with attnstore.open(tmp_path / "s") as store:
        array = store.to_xarray(
            store.runs()["run"][0], next(store.maps(store.runs()["run"][0])).example
        )
        assert list(array["layer"].values) == [1]
        assert list(array["head"].values) == [0, 2]


def test_without_xarray_it_is_a_sentence(
    store: attnstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the package."""
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(AttnstoreError, match="xarray"):
        store.to_xarray(RUN, next(store.maps(RUN)).example)
