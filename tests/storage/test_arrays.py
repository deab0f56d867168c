"""Rules of `attnstore.storage.arrays`: what is written is what any reader reads, or an error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from attnstore.errors import DamageError, StoreError
from attnstore.storage import array_shape, arrays, files, layout, location, zarr_metadata
from attnstore.storage.precision import PRECISIONS as EVERY

PRECISIONS = {name: precision for name, precision in EVERY.items() if not precision.row_unit}
"""Those whose cells are read one by one; test_tiny.py has the one that is read by rows."""
RUN, LAYERS, HEADS, SHARDS = "tiny/data", (0, 2), (1, 2, 5), 3
SIZES = helpers.SMALL
CELLS, TOKENS = SHARDS * SIZES["SHARD_CELLS"], SHARDS * SIZES["SHARD_TOKENS"]


class Written:
    """A run of three shards with random weights: its arrays, and the same in numpy."""

    def __init__(self, root: Path, precision: str) -> None:
        self.root, self.precision = root, precision
        draw = np.random.default_rng(len(precision))
        weights = draw.random((len(LAYERS), len(HEADS), CELLS), np.float32) ** 4
        weights[:, :, -SIZES["CHUNK_CELLS"] :] = 0  # what a block leaves unused
        self.stored = PRECISIONS[precision].encode(weights)
        self.received = draw.random((len(LAYERS), len(HEADS), TOKENS), np.float32)
        self.shape = array_shape.planned(precision, list(LAYERS), list(HEADS), SHARDS, 64)
        zarr_metadata.describe(location.locate(root), RUN, self.shape)
        self.reports = [self.write(shard) for shard in range(SHARDS)]

    def write(self, shard: int) -> dict[str, tuple[list[int], int]]:
        cells, tokens = SIZES["SHARD_CELLS"], SIZES["SHARD_TOKENS"]
        return arrays.open_run(location.locate(self.root), RUN, self.shape).write_block(
            shard,
            np.ascontiguousarray(self.stored[:, :, shard * cells : (shard + 1) * cells]),
            np.ascontiguousarray(self.received[:, :, shard * tokens : (shard + 1) * tokens]),
        )

    @property
    def maps(self) -> np.ndarray[Any, Any]:
        """What a reader must see: (layer, head, cell) float32."""
        return PRECISIONS[self.shape.precision].decode(self.stored)

    def path(self, shard: int, array: str = "maps") -> Path:
        return self.root / arrays.shard_path(RUN, array, shard)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Written]]:
    """One run per precision, to read only."""
    with pytest.MonkeyPatch.context() as patch:
        helpers.shrink(patch)
        made = {p: Written(tmp_path_factory.mktemp(p), p) for p in PRECISIONS}
        yield made.__getitem__


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    """A run in float16, to damage."""
    helpers.shrink(monkeypatch)
    return Written(tmp_path, "float16")


@st.composite
def requests(draw: Any, size: int, longest: int) -> list[tuple[int, int, int]]:
    """(row, start, count): scattered, neighbouring, repeated and overlapping slices, some empty."""
    one = st.tuples(
        st.integers(0, len(LAYERS) * len(HEADS) - 1), st.integers(0, size), st.integers(0, longest)
    )
    found = [(r, s, min(n, size - s)) for r, s, n in draw(st.lists(one, min_size=1, max_size=40))]
    again = draw(st.lists(st.sampled_from(found), max_size=10))
    after = [(r, s + n, min(n, size - s - n)) for r, s, n in again]  # continues an earlier one
    return draw(st.permutations(found + again + after))


@settings(deadline=None, max_examples=60)
@given(
    precision=st.sampled_from(list(PRECISIONS)),
    asked=st.one_of(
        requests(CELLS, 700).map(lambda r: ("maps", r)),
        requests(TOKENS, 60).map(lambda r: ("received", r)),
    ),
)
def test_any_requests_give_what_slicing_gives(
    written: Callable[[str], Written], precision: str, asked: tuple[str, list[tuple[int, int, int]]]
) -> None:
    """Whatever their order and overlap, as from a plain numpy array, one after another."""
    array, slices = asked
    run = written(precision)
    source = (run.maps if array == "maps" else run.received).reshape(len(LAYERS) * len(HEADS), -1)
    expected = np.concatenate([source[r, s : s + n] for r, s, n in slices])
    found = arrays.open_run(location.locate(run.root), RUN, run.shape).gather(
        array, *np.array(slices, np.int64).T
    )
    assert found.dtype == np.float32
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_example_is_a_square_of_every_head(
    written: Callable[[str], Written], precision: str
) -> None:
    """(layer, head, from, to): L² cells from its offset on, row by row."""
    run = written(precision)
    for cell, length in ((0, 1), (37, 9), (2000, 30), (CELLS - 900, 30)):
        found = arrays.open_run(location.locate(run.root), RUN, run.shape).example(cell, length)
        flat = run.maps[:, :, cell : cell + length * length]
        assert np.array_equal(found, flat.reshape(len(LAYERS), len(HEADS), length, length))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_zarr_and_xarray_read_the_same_weights(
    written: Callable[[str], Written], precision: str
) -> None:
    """Plain zarr-python and xarray open the arrays, by their axes' names and numbers."""
    run = written(precision)
    group = zarr.open_group(run.root / arrays.FOLDER, mode="r")[RUN]
    assert np.array_equal(group["maps"][:], run.stored)
    assert np.array_equal(group["received"][:], run.received)
    assert group.attrs["layers"] == list(LAYERS)
    assert group.attrs["precision"] == precision
    data = xr.open_zarr(run.root / arrays.FOLDER / RUN, consolidated=False)
    assert data["maps"].dims == ("layer", "head", "cell")
    assert np.array_equal(data["maps"].sel(layer=2, head=5).values, run.stored[1, 2])
    assert np.array_equal(data["received"].sel(layer=0, head=1).values, run.received[0, 0])
    if precision == "compact":
        assert group["maps"].attrs["scale"] == PRECISIONS["compact"].scale


def test_writing_reports_the_files_as_they_lie_on_disk(mine: Written) -> None:
    """Checksum and size per array are those of the shard files, and writing again changes no byte."""
    for shard, report in enumerate(mine.reports):
        for array, (sums, size) in report.items():
            assert sums == [files.file_crc32c(mine.path(shard, array))]
            assert size == mine.path(shard, array).stat().st_size
    before = mine.path(1).read_bytes()
    assert mine.write(1) == mine.reports[1]
    assert mine.path(1).read_bytes() == before


def test_shards_are_files_of_one_block_each(mine: Written) -> None:
    """No block's writing touches another's file, so blocks can be written in any order."""
    assert sorted(p.name for p in mine.path(0).parent.iterdir()) == ["0", "1", "2"]
    whole = mine.path(1).read_bytes()
    mine.path(1).unlink()
    mine.write(0)
    assert not mine.path(1).exists()
    mine.write(1)
    assert mine.path(1).read_bytes() == whole


def test_a_missing_shard_is_an_error_not_zeros(mine: Written) -> None:
    """Its neighbours are read; asking for it names the run and the way out."""
    mine.path(1).unlink()
    run = arrays.open_run(location.locate(mine.root), RUN, mine.shape)
    cells = SIZES["SHARD_CELLS"]
    assert np.array_equal(run.example(0, 40), mine.maps[:, :, :1600].reshape(2, 3, 40, 40))
    with pytest.raises(DamageError, match=r"Run tiny/data .* `attnstore verify`"):
        run.example(cells, 5)
    with pytest.raises(DamageError):
        run.gather("maps", np.array([0, 0]), np.array([0, cells]), np.array([9, 9]))


@pytest.mark.parametrize("array", ["maps", "received"])
def test_a_flipped_byte_anywhere_in_a_shard_is_never_silent(mine: Written, array: str) -> None:
    """Data, checksums or the shard's index: reading is an error, also in a session that has read it."""
    run, path = arrays.open_run(location.locate(mine.root), RUN, mine.shape), mine.path(1, array)
    size = getattr(layout, "SHARD_CELLS" if array == "maps" else "SHARD_TOKENS")
    rows = len(LAYERS) * len(HEADS)
    whole = np.arange(rows), np.full(rows, size), np.full(rows, size)
    run.gather(array, *whole)
    content = path.read_bytes()
    for at in np.linspace(0, len(content) - 1, 40).astype(int):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(DamageError):
            run.gather(array, *whole)
    path.write_bytes(content)
    expected = (mine.maps if array == "maps" else mine.received)[:, :, size : 2 * size]
    assert np.array_equal(run.gather(array, *whole), expected.ravel())


def test_damage_names_the_files_that_are_not_what_was_committed(mine: Written) -> None:
    """A changed byte is seen by the sums, a file that is missing or written later without them."""
    block: dict[str, Any] = {"first_shard": 1}
    for array, (sums, size) in mine.reports[1].items():
        block |= {f"{array}_crc32c": sums, f"{array}_bytes": size}
    committed = time.time_ns()
    assert arrays.damage(location.locate(mine.root), RUN, block) == []
    assert not arrays.changed(RUN, block, arrays.shards(location.locate(mine.root), RUN), committed)
    time.sleep(0.02)
    helpers.flip(mine.path(1))
    assert arrays.damage(location.locate(mine.root), RUN, block) == [
        arrays.shard_path(RUN, "maps", 1)
    ]
    assert arrays.changed(RUN, block, arrays.shards(location.locate(mine.root), RUN), committed)
    assert not arrays.changed(
        RUN, block, arrays.shards(location.locate(mine.root), RUN), time.time_ns()
    )
    mine.path(1, "received").unlink()
    assert arrays.shard_path(RUN, "received", 1) in arrays.damage(
        location.locate(mine.root), RUN, block
    )
    assert arrays.changed(
        RUN, block, arrays.shards(location.locate(mine.root), RUN), time.time_ns()
    )


def test_a_damaged_description_is_an_error_and_describing_again_mends_it(mine: Written) -> None:
    """No weight is touched by it."""
    before = helpers.contents(mine.root)
    for name in ("zarr.json", "maps/zarr.json", "received/zarr.json"):
        path = mine.root / arrays.FOLDER / RUN / name
        path.write_text(path.read_text()[:-20])
        with pytest.raises(StoreError, match="arrays of run tiny/data cannot be opened"):
            arrays.open_run(location.locate(mine.root), RUN, mine.shape)
        zarr_metadata.describe(location.locate(mine.root), RUN, mine.shape)
        assert helpers.contents(mine.root) == before
