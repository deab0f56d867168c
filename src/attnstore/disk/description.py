"""What describes a run's arrays on disk: every zarr.json, and the coordinates.

zarr-python writes it, so that zarr and xarray open the arrays; the weights are `arrays`'.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import MemoryStore

from attnstore.disk import arrays, buckets, codecs, layout
from attnstore.disk.arrays import FOLDER


def describe(
    root: Path, run: str, precision: str, layers: Sequence[int], heads: Sequence[int], n_shards: int
) -> None:
    """Write what describes the arrays of a run; no weight is written or touched.

    Each file is replaced as a whole, so it also mends a damaged description.
    """
    for path, data in description(run, precision, layers, heads, n_shards).items():
        buckets.of(root).write(path, data)


def description(
    run: str, precision: str, layers: Sequence[int], heads: Sequence[int], n_shards: int
) -> dict[str, bytes]:
    """The files that describe the arrays of a run: path in the store, content.

    They are `zarr.json` of the arrays and of every group above them, and the coordinates.
    """
    written: dict[str, Any] = {}
    group = zarr.open_group(MemoryStore(written), mode="w", zarr_format=3)
    _describe(group, run, precision, layers, heads, n_shards)
    return {f"{FOLDER}/{path}": data.to_bytes() for path, data in sorted(written.items())}


def _describe(
    store: zarr.Group,
    run: str,
    precision: str,
    layers: Sequence[int],
    heads: Sequence[int],
    n_shards: int,
) -> None:
    group = store.require_group(run)
    group.attrs.update(
        {"run": run, "precision": precision, "layers": list(layers), "heads": list(heads)}
    )
    for name, (shard, chunk, kind, axis) in {
        "maps": (layout.SHARD_CELLS, layout.CHUNK_CELLS, precision, "cell"),
        "received": (layout.SHARD_TOKENS, layout.CHUNK_TOKENS, "float32", "token"),
    }.items():
        dtype = codecs.DTYPES[kind]
        array = group.create_array(
            name,
            shape=(len(layers), len(heads), n_shards * shard),
            chunks=(1, 1, chunk),
            shards=(len(layers), len(heads), shard),
            dtype=dtype,
            fill_value=0,
            filters=None,
            compressors=[_compressor(kind), Crc32cCodec()],
            dimension_names=("layer", "head", axis),
        )
        if dtype == np.uint8:
            array.attrs["scale"] = codecs.COMPACT_SCALE
    for axis, numbers in (("layer", layers), ("head", heads)):
        group.create_array(axis, data=np.asarray(numbers, np.int32), dimension_names=(axis,))


def _compressor(precision: str) -> BloscCodec:
    settings = codecs.BLOSC[precision]
    shuffle = {0: "noshuffle", 2: "bitshuffle"}[settings["shuffle"]]
    return BloscCodec(**settings | {"shuffle": shuffle}, typesize=codecs.DTYPES[precision].itemsize)


def files(root: Path, run: str) -> dict[str, bytes]:
    """The description that a run's arrays call for: path in the store, content."""
    about = arrays.attributes(root, run)
    maps = buckets.of(root).read(f"{FOLDER}/{run}/maps/zarr.json")
    cells = json.loads(maps)["shape"][2]
    n_shards = cells // layout.SHARD_CELLS
    return description(run, about["precision"], about["layers"], about["heads"], n_shards)


def described(root: Path, run: str) -> bool:
    """Whether what describes the arrays of a run is whole: the very bytes that it calls for."""
    place = buckets.of(root)
    try:
        return all(place.read(path) == data for path, data in files(root, run).items())
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return False
