"""Rules of `attnstore.storage.chunks`: every reader of Blosc gets the numbers back, bit for bit."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import google_crc32c
import helpers
import numcodecs
import numpy as np
import polars as pl
import pytest
import tensorstore as ts
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import attnstore
from attnstore.maintenance.verify import verify
from attnstore.storage import array_shape, arrays, chunks, fragments, location, zarr_metadata

KINDS = [np.dtype(kind) for kind in ("uint8", "float16", "float32")]
RUN = "tiny/sample"


def numbers(kind: np.dtype[Any], size: int, seed: int) -> np.ndarray[Any, Any]:
    """Weights of some rows, or what has no pattern at all: the bits are drawn."""
    draw = np.random.default_rng(seed)
    if seed % 2:
        return np.frombuffer(draw.bytes(size * kind.itemsize), kind)
    return (draw.random(size) ** 8 * (200 if kind.itemsize == 1 else 1)).astype(kind)


@given(st.sampled_from(KINDS), st.integers(1, 1000), st.integers(0, 9))
def test_blosc_reads_any_chunk(kind: np.dtype[Any], size: int, seed: int) -> None:
    """A frame is Blosc's, whatever the type and the size; the four bytes after it are its CRC-32C."""
    given_ = numbers(kind, size, seed)
    encoded = chunks.encode(given_)
    frame, checksum = encoded[:-4], encoded[-4:]
    assert numcodecs.Blosc().decode(frame) == given_.tobytes()
    assert int.from_bytes(checksum, "little") == google_crc32c.value(frame)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 500])
def test_zeros_keep_their_sign_and_their_number(kind: np.dtype[Any], size: int) -> None:
    """A chunk of zeros is encoded once for all; one of -0, or with a number before its zeros, is another."""
    zeros = np.zeros(size, kind)
    first = np.array([1, *zeros], kind)
    for values in (zeros, zeros, first) if kind == np.uint8 else (zeros, -zeros, zeros, first):
        assert numcodecs.Blosc().decode(chunks.encode(values)[:-4]) == values.tobytes()


@given(hnp.arrays(np.float16, st.integers(128, 500), elements=st.floats(0, 1, width=16)))
def test_each_byte_of_a_number_is_a_part_of_its_own(weights: np.ndarray[Any, Any]) -> None:
    """Each is zstd of one byte of every number, the least first, or that plane itself if zstd is no shorter."""
    encoded = chunks.encode(weights)
    at, planes = 20, []
    for _ in range(2):
        (size,) = struct.unpack_from("<I", encoded, at)
        part = encoded[at + 4 : at + 4 + size]
        planes.append(part if size == len(weights) else bytes(numcodecs.Zstd().decode(part)))
        at += 4 + size
    assert at == len(encoded) - 4
    assert planes == [
        weights.view(np.uint8)[0::2].tobytes(),
        weights.view(np.uint8)[1::2].tobytes(),
    ]


@pytest.mark.parametrize("precision", ["float16", "float32", "compact"])
def test_plain_tensorstore_and_zarr_read_every_array_of_a_run(
    tiny_bert: Path, tmp_path: Path, precision: str
) -> None:
    """By nothing but zarr.json, to the same bits; they are what attnstore itself reads."""
    attnstore.ingest(
        tmp_path, str(tiny_bert), "sample", limit=9, max_length=64, precision=precision
    )
    opened = arrays.open_run(
        location.locate(tmp_path), RUN, zarr_metadata.recorded(location.locate(tmp_path), RUN)
    )
    group = zarr.open_group(tmp_path / arrays.FOLDER / RUN, mode="r")
    for name in ("maps", "received", "value_norm", "mixing"):
        path = str(tmp_path / arrays.FOLDER / RUN / name)
        store = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}
        theirs = ts.open(store, open=True, read=True).result().read().result()
        assert theirs.tobytes() == np.asarray(group[name][:]).tobytes()
        stored = opened.shape.stored(name)
        ours = opened.stretch(name, 0, theirs.shape[-1]).reshape(theirs.shape)
        assert np.array_equal(ours, stored.decode(theirs), equal_nan=True)


# Runs of earlier versions


def make_older(root: Path, run: str) -> None:
    """Rewrite the arrays of a run as earlier versions wrote them: lz4 over shuffled bits, by zarr itself."""
    folder = root / arrays.FOLDER / run
    group = json.loads((folder / "zarr.json").read_text())
    del group["consolidated_metadata"]
    (folder / "zarr.json").write_text(json.dumps(group, indent=2))
    for description in folder.glob("*/zarr.json"):
        content = json.loads(description.read_text())
        if "sharding_indexed" not in description.read_text():
            continue
        values = np.asarray(zarr.open_array(description.parent, mode="r")[:])
        sharding = content["codecs"][0]["configuration"]
        blosc = sharding["codecs"][1]["configuration"]
        if blosc["typesize"] > 1:
            blosc |= {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle"}
        description.write_text(json.dumps(content, indent=2))
        array = zarr.open_array(description.parent, mode="r+", config={"write_empty_chunks": True})
        array[:] = values


def commit_older(root: Path, run: str) -> None:
    """Give the committed blocks of a run the checksums of what `make_older` wrote."""
    backend = location.locate(root)
    for fragment in fragments.listing(backend, "blocks", run):
        frame = fragments.read(backend, fragment)
        first, n = frame["first_shard"][0], frame["n_shards"][0]
        changed: dict[str, Any] = {}
        for array, count in (("maps", n), ("received", 1)):
            paths = [arrays.shard_path(run, array, first + i) for i in range(count)]
            changed[f"{array}_crc32c"] = [[backend.crc32c(path) for path in paths]]
            changed[f"{array}_bytes"] = [sum((root / path).stat().st_size for path in paths)]
        new = frame.with_columns(
            **{name: pl.Series(value, dtype=frame[name].dtype) for name, value in changed.items()}
        )
        fragments.write(backend, "blocks", run, fragment.part, new)
    for fragment in fragments.listing(backend, "array_blocks", run):
        frame = fragments.read(backend, fragment)
        path = arrays.shard_path(run, frame["array"][0], frame["first_shard"][0])
        new = frame.with_columns(
            crc32c=pl.Series([[backend.crc32c(path)]], dtype=frame["crc32c"].dtype),
            bytes=pl.Series([(root / path).stat().st_size], dtype=frame["bytes"].dtype),
        )
        fragments.write(backend, "array_blocks", run, fragment.part, new)


@pytest.mark.parametrize("precision", ["float16", "float32", "compact"])
def test_a_run_of_an_earlier_version_is_read_verified_and_resumed(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """Its weights are those of a run of today; a block that it lacks is added, and the rest keeps its bytes."""
    helpers.shrink(monkeypatch)
    settings: dict[str, Any] = {"limit": 30, "max_length": 40, "precision": precision}
    attnstore.ingest(tmp_path / "new", str(tiny_bert), "sample", **settings)
    attnstore.ingest(tmp_path / "old", str(tiny_bert), "sample", **settings)
    make_older(tmp_path / "old", RUN)
    commit_older(tmp_path / "old", RUN)
    text = "SELECT example, layer, head, weights FROM maps ORDER BY ALL"
    with attnstore.open(tmp_path / "new") as new, attnstore.open(tmp_path / "old") as old:
        assert old.sql(text).equals(new.sql(text))
    assert not verify(tmp_path / "old").findings
    backend = location.locate(tmp_path / "old")
    last = max(fragments.listing(backend, "blocks", RUN), key=lambda f: f.part)
    first = fragments.read(backend, last)["first_shard"][0]
    assert first > 0, "the run needs several blocks"
    backend.remove(last.path)
    kept = {
        path.name: path.read_bytes()
        for path in (tmp_path / "old" / arrays.FOLDER / RUN / "maps/c/0/0").iterdir()
        if int(path.name) < first
    }
    attnstore.ingest(tmp_path / "old", str(tiny_bert), "sample", **settings)
    for name, data in kept.items():
        assert (tmp_path / "old" / arrays.FOLDER / RUN / "maps/c/0/0" / name).read_bytes() == data
    with attnstore.open(tmp_path / "new") as new, attnstore.open(tmp_path / "old") as old:
        assert old.sql(text).equals(new.sql(text))
    assert not verify(tmp_path / "old").findings
    shape = array_shape.planned(precision, [0], [0], 1, 8)
    assert chunks.as_before(shape.metadata("received")) != shape.metadata("received")
