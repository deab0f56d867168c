"""Rules of the precision tiny: 64 levels, rounded at random by place, rows that sum to 1 when read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest
import tiny
import torch
import zarr
from helpers import write_rows
from hypothesis import given, settings
from hypothesis import strategies as st

import attnstore
from attnstore.capture.sink import encoded
from attnstore.maintenance import row_sums
from attnstore.maintenance.verify import verify
from attnstore.storage import arrays, dither, fragments, layout, location, zarr_metadata
from attnstore.storage.precision import PRECISIONS
from attnstore.storage.row_places import RowPlaces

TINY = PRECISIONS["tiny"]
RUN = "m/d"
ROWS = [{"text": " ".join(["the", "lazy", "dog"] * (1 + i % 7))} for i in range(24)]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.make(tmp_path / "m", "bert")


def ingest(root: Path, model: Path, rows: list[dict[str, str]], **more: Any) -> Path:
    texts = root.parent / "d.jsonl"
    write_rows(texts, rows)
    given_ = {"precision": "tiny", "max_length": 40} | more
    attnstore.ingest(root, f"{model}=m", f"{texts}=d", **given_)
    return root


def codes(root: Path) -> Iterator[tuple[dict[str, Any], np.ndarray[Any, Any]]]:
    """The rows of inputs, and their maps (layers, heads, L, L) as plain zarr gives them."""
    stored = zarr.open_array(root / arrays.FOLDER / RUN / "maps", mode="r")[:]
    with attnstore.open(root) as store:
        inputs = store.sql(
            "SELECT example, cell, length FROM map_places WHERE layer = 0 AND head = 0"
        )
    for row in inputs.rows(named=True):
        n = row["length"]
        of_input = stored[:, :, row["cell"] : row["cell"] + n * n]
        yield row, of_input.reshape(*stored.shape[:2], n, n)


# Rounding


@pytest.mark.parametrize("weight", [1e-5, 0.0003, 0.01, 0.1234, 0.5, 0.97])
def test_the_mean_of_what_is_stored_is_the_weight(weight: float) -> None:
    """Over 400,000 places, within five standard errors of the two levels that it lies between."""
    n = 400_000
    stored = TINY.encode(np.full(n, weight, np.float32)).astype(np.float64)
    low = np.floor(63 * np.sqrt(weight))
    assert set(np.unique(stored)) <= {low, low + 1}
    step = (2 * low + 1) / 63**2
    assert abs((stored**2 / 63**2).mean() - weight) <= 5 * step / 2 / np.sqrt(n) + 1e-7


def test_levels_stay_as_they_are() -> None:
    """A weight on one of the 64 levels gets it at every place; 0 and 1 are among them."""
    levels = np.arange(64)
    for key in range(200):
        weights = ((levels / 63) ** 2).astype(np.float32)
        numbers = dither.numbers(np.int32(key), dither.spread(levels.astype(np.int32)))
        stored = TINY.code(weights, numbers).astype(np.uint8)
        assert np.abs(stored.astype(int) - levels).max() <= 1
        assert (stored != levels).sum() <= 1  # where float32 lies a little beside the level
        assert (stored[0], stored[63]) == (0, 63)


def test_numbers_of_places_are_even_and_unrelated() -> None:
    """Of neighbors, heads, layers and examples: uniform, and no pair of them is correlated."""
    cells = dither.spread(np.arange(4096, dtype=np.int32))
    keys = np.stack([dither.keys(layer, range(12), np.arange(6)) for layer in range(6)])
    drawn = dither.numbers(keys[..., None], cells) / 2**dither.BITS
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = np.bincount((drawn * 64).astype(int).ravel(), minlength=64)
    expected = drawn.size / 64
    assert ((counts - expected) ** 2 / expected).sum() < 63 + 6 * np.sqrt(2 * 63)
    centered = drawn - 0.5
    for axis in range(4):
        a, b = (np.take(centered, range(i, drawn.shape[axis] - 1 + i), axis) for i in (0, 1))
        assert abs((a * b).mean() * 12) < 6 / np.sqrt(a.size)
    assert len(np.unique(keys)) == keys.size


def test_a_tensor_gets_the_codes_of_an_array() -> None:
    """Bit for bit, whatever the weights are."""
    draw = np.random.default_rng(3)
    weights = draw.dirichlet(np.full(50, 0.2), 2000).astype(np.float32)
    cells = np.arange(weights.size, dtype=np.int32).reshape(weights.shape)
    ours = TINY.code(weights, dither.numbers(np.int32(77), dither.spread(cells)))
    numbers = dither.numbers(
        torch.tensor(77, dtype=torch.int32), dither.spread(torch.tensor(cells))
    )
    theirs = encoded(torch.from_numpy(weights), TINY, numbers)
    assert np.array_equal(ours.astype(np.uint8), theirs.to(torch.uint8).numpy())


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 600), seed=st.integers(0, 10**6), sharp=st.floats(0.01, 5))
def test_the_sum_of_a_row_stays_within_what_verify_lets_pass(
    length: int, seed: int, sharp: float
) -> None:
    """Before it is divided."""
    weights = np.random.default_rng(seed).dirichlet(np.full(length, sharp))
    weights = np.nan_to_num(weights / weights.sum()) if weights.sum() else np.eye(1, length)[0]
    key = dither.keys(0, [0], np.array([seed]))[0]
    cells = dither.spread(np.arange(length, dtype=np.int32))
    stored = TINY.code(weights.astype(np.float32), dither.numbers(key, cells)).astype(np.float64)
    assert abs((stored**2).sum() / 63**2 - 1) <= TINY.row_rounding(np.array([length]))[0]


# What is stored


def test_reading_divides_the_squares_of_codes_by_their_sum(tmp_path: Path, model: Path) -> None:
    """As numpy does with what plain zarr reads; rows sum to 1; cells are read alone as in their row."""
    root = ingest(tmp_path / "s", model, ROWS)
    with attnstore.open(root) as store:
        for row, stored in codes(root):
            squares = stored.astype(np.float64) ** 2
            expected = squares / squares.sum(-1, keepdims=True)
            found = store.maps(RUN, row["example"])
            np.testing.assert_allclose(found, expected, rtol=3e-7, atol=0)
            np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
        flat = store.sql(
            "SELECT example, layer, head, from_pos AS f, to_pos AS t, weight FROM attention"
        )
        listed = store.sql(
            "SELECT example, layer, head, (i - 1) // length AS f, (i - 1) % length AS t, w AS weight FROM "
            "(SELECT *, unnest(weights) AS w, generate_subscripts(weights, 1) AS i FROM maps)"
        )
    keys = ["example", "layer", "head", "f", "t"]
    both = flat.join(listed, on=keys)
    assert len(both) == len(flat) == len(listed)
    assert both["weight"].equals(both["weight_right"].alias("weight"))
    assert not verify(root).findings


def test_any_cells_are_read_as_within_their_rows(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slices that begin or end inside a row, reach over inputs and unused cells, or are empty."""
    helpers.shrink(monkeypatch)
    root = ingest(tmp_path / "s", model, ROWS)
    backend = location.locate(root)
    opened = arrays.open_run(backend, RUN, zarr_metadata.recorded(backend, RUN))
    expected = np.zeros((len(opened.layers), len(opened.heads), opened.shape.cells))
    for row, stored in codes(root):
        squares = stored.astype(np.float64) ** 2
        n = row["length"] ** 2
        shares = (squares / squares.sum(-1, keepdims=True)).reshape(*stored.shape[:2], n)
        expected[:, :, row["cell"] : row["cell"] + n] = shares
    flat = expected.reshape(-1, opened.shape.cells)
    draw = np.random.default_rng(0)
    start = draw.integers(0, opened.shape.cells, 300)
    count = np.minimum(draw.integers(0, 600, 300), opened.shape.cells - start)
    row = draw.integers(0, len(flat), 300)
    found = opened.gather("maps", row, start, count)
    wanted = [flat[r, s : s + n] for r, s, n in zip(row, start, count, strict=True)]
    np.testing.assert_allclose(found, np.concatenate(wanted), rtol=3e-7, atol=0)
    np.testing.assert_allclose(opened.stretch("maps", 3, 1001), flat[:, 3:1001], rtol=3e-7)
    assert opened.gather("maps", row[:0], start[:0], count[:0]).shape == (0,)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 400), st.integers(0, 400)
)
def test_widened_requests_are_whole_rows(lengths: list[int], start: int, count: int) -> None:
    """They cover what was asked for, and each begins and ends where a row does."""
    plan = layout.plan(lengths, shard_cells=100, shard_tokens=100)
    cells = plan.n_shards * 100
    start, count = min(start, cells - 1), min(count, cells - min(start, cells - 1))
    places = RowPlaces(plan.cell, plan.length, cells)
    edges = {0, cells} | {
        int(cell + k * n)
        for cell, n in zip(plan.cell, plan.length, strict=True)
        for k in range(n + 1)
    }
    wide = places.widened(*(np.array([x]) for x in (0, start, count)))
    assert wide.count.sum() == count
    covered = [
        range(b + before, b + before + n)
        for b, before, n in zip(wide.start, wide.before, wide.count, strict=True)
    ]
    assert list(itertools.chain.from_iterable(covered)) == list(range(start, start + count))
    assert {int(x) for x in (*wide.start, *(wide.start + wide.size))} <= edges


def test_a_block_has_the_same_bytes_however_it_is_computed(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In larger blocks, with other threads, with some layers and heads alone, resumed, under another name."""
    first = ingest(tmp_path / "a", model, ROWS)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        helpers.shrink(monkeypatch)
        second = ingest(tmp_path / "b", model, ROWS)
    finally:
        torch.set_num_threads(threads)
    monkeypatch.undo()
    part = ingest(tmp_path / "c", model, ROWS, layers=(1,), heads=(3, 1))
    of_first = {row["example"]: stored for row, stored in codes(first)}
    different = total = 0
    for row, stored in codes(second):
        different += int((stored != of_first[row["example"]]).sum())
        total += stored.size
    # a weight in another batch may differ in its last bit, which moves a code once in some 10⁵
    assert different <= max(2, total // 10_000)
    for row, stored in codes(part):
        held = of_first[row["example"]][1:, [1, 3]]
        assert (stored != held).sum() <= max(2, held.size // 10_000)


def test_zeros_stay_zeros(tmp_path: Path) -> None:
    """What a causal model or padding hides is 0 in every map, and rows sum to 1 without it."""
    causal = tiny.make(tmp_path / "gpt", "gpt2")
    root = ingest(tmp_path / "s", causal, ROWS)
    for _, stored in codes(root):
        assert not np.triu(stored, 1).any()
        assert (stored[..., 0, 0] == 63).all()
    padded = ingest(tmp_path / "p", tiny.make(tmp_path / "bert", "bert"), ROWS, pad_to=40)
    with attnstore.open(padded) as store:
        for row, stored in codes(padded):
            kinds = store.sql(
                "SELECT kind FROM tokens WHERE example = $e ORDER BY position", e=row["example"]
            )["kind"]
            pads = kinds.to_numpy() == "pad"
            assert pads.any()
            assert not stored[..., pads].any()
            assert np.abs(store.maps(RUN, row["example"]).sum(-1) - 1).max() < 1e-6


def test_long_inputs_are_stored_by_the_same_numbers(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map that is written some rows at a time has the codes of one in memory."""
    rows = [{"text": " ".join(["dog"] * 36)}] * 2
    whole = ingest(tmp_path / "a", model, rows)
    helpers.shrink(monkeypatch, SHARD_CELLS=1 << 10, CHUNK_CELLS=1 << 8)
    long = ingest(tmp_path / "b", model, rows)
    with attnstore.open(long) as store:
        assert store.sql("SELECT min(n_shards) AS n FROM blocks").item() > 1
    for (_, ours), (_, theirs) in zip(codes(whole), codes(long), strict=True):
        assert (ours != theirs).sum() <= 2


def test_verify_sees_a_row_that_was_stored_wrong(tmp_path: Path, model: Path) -> None:
    """It sums codes before they are divided, as after that every row sums to 1."""
    root = ingest(tmp_path / "s", model, ROWS[:4])
    backend = location.locate(root)
    opened = arrays.open_run(backend, RUN, zarr_metadata.recorded(backend, RUN))
    inputs = fragments.read_one(backend, "inputs", RUN)
    assert inputs is not None
    assert row_sums.wrong(opened, "tiny", inputs) is None
    stored = zarr.open_array(root / arrays.FOLDER / RUN / "maps", mode="r+")
    n = inputs["length"][0]
    stored[0, 1, inputs["cell"][0] : inputs["cell"][0] + n] = 0
    again = arrays.open_run(backend, RUN, opened.shape)
    assert "layer 0, head 1 do not sum to 1" in str(row_sums.wrong(again, "tiny", inputs))
