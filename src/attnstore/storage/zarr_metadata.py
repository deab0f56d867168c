"""The description of a run's arrays on disk: every zarr.json, and the coordinates.

zarr-python writes it, so that zarr and xarray open the arrays; the weights are `arrays`'.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import MemoryStore

from attnstore.errors import DamageError
from attnstore.storage import array_shape, fragments
from attnstore.storage.array_shape import Shape
from attnstore.storage.arrays import FOLDER
from attnstore.storage.backend import Backend
from attnstore.storage.precision import FLOAT32, PRECISIONS
from attnstore.storage.run_record import RunRecord


def describe(backend: Backend, run: str, shape: Shape) -> None:
    """Write the description of a run's arrays; no weight is written or touched.

    Each file is replaced as a whole, so it also fixes a damaged description.
    """
    for path, data in description(run, shape).items():
        backend.write(path, data)


def description(run: str, shape: Shape) -> dict[str, bytes]:
    """Make the files that describe the arrays of a run: content by path in the store.

    They are `zarr.json` of the arrays and of every group above them, and the coordinates.
    """
    stand_in = "/".join(f"~{i}~" for i, _ in enumerate(run.split("/")))
    written = _of_any(stand_in, shape)
    names = list(zip(stand_in.split("/"), run.split("/"), strict=True))
    files = {}
    for path, data in written.items():
        for stand_in_part, name in names:
            path = path.replace(stand_in_part, name)
            if path.endswith(".json"):
                data = data.replace(stand_in_part.encode(), json.dumps(name)[1:-1].encode())
        files[f"{FOLDER}/{path}"] = data
    return files


@lru_cache(maxsize=64)
def _of_any(run: str, shape: Shape) -> dict[str, bytes]:
    """Make the description under a stand-in name, once per shape: zarr takes milliseconds for it."""
    written: dict[str, Any] = {}
    group = zarr.open_group(MemoryStore(written), mode="w", zarr_format=3)
    _describe(group, run, shape)
    return {path: data.to_bytes() for path, data in sorted(written.items())}


def _describe(store: zarr.Group, run: str, shape: Shape) -> None:
    layers, heads = list(shape.layers), list(shape.heads)
    group = store.require_group(run)
    group.attrs.update({"run": run, "precision": shape.precision, "layers": layers, "heads": heads})
    sizes = {
        "maps": (shape.shard_cells, shape.chunk_cells, PRECISIONS[shape.precision], "cell"),
        "received": (shape.shard_tokens, shape.chunk_tokens, FLOAT32, "token"),
    }
    for name, (shard, chunk, precision, axis) in sizes.items():
        array = group.create_array(
            name,
            shape=(len(layers), len(heads), shape.shards * shard),
            chunks=(1, 1, chunk),
            shards=(len(layers), len(heads), shard),
            dtype=precision.dtype,
            fill_value=0,
            filters=None,
            compressors=[BloscCodec(**precision.blosc), Crc32cCodec()],
            dimension_names=("layer", "head", axis),
        )
        if precision.scale is not None:
            array.attrs["scale"] = precision.scale
    for axis, numbers in (("layer", layers), ("head", heads)):
        group.create_array(axis, data=np.asarray(numbers, np.int32), dimension_names=(axis,))


def recorded(backend: Backend, run: str) -> Shape:
    """Read the shape in the record of a run. Raises DamageError where there is none."""
    records = fragments.read_one(backend, "runs", run)
    if records is None or records.is_empty():
        raise DamageError(f"The record of run {run} is missing; ingest the run again.")
    record, end = RunRecord.of_row(records.row(0, named=True)), None
    if record.layout is None:  # of an earlier version
        inputs = fragments.read_one(backend, "inputs", run)
        end = None if inputs is None else end_of(inputs)
    return array_shape.of_record(run, record, end)


def end_of(inputs: pl.DataFrame) -> int:
    """Compute the number of cells up to the end of a run's last planned input."""
    cells = inputs.select(pl.col("cell") + pl.col("length").cast(pl.Int64) ** 2)
    return int(cells["cell"].max() or 0)  # type: ignore[arg-type]


def files(backend: Backend, run: str) -> dict[str, bytes]:
    """Make the description that a run's record requires: content by path in the store."""
    return description(run, recorded(backend, run))


def described(backend: Backend, run: str) -> bool:
    """Return True if the description of a run's arrays matches its record byte by byte."""
    try:
        return all(backend.read(path) == data for path, data in files(backend, run).items())
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return False
