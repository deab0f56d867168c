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
from attnstore.storage import array_kinds, array_shape, chunks, fragments
from attnstore.storage.array_shape import Shape
from attnstore.storage.arrays import FOLDER
from attnstore.storage.backend import Backend
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
    for name in ("maps", "received"):
        array = _create(group, name, shape, "head", 0)
        if (scale := shape.stored(name).scale) is not None:
            array.attrs["scale"] = scale
    for axis, numbers in (("layer", layers), ("head", heads)):
        group.create_array(axis, data=np.asarray(numbers, np.int32), dimension_names=(axis,))


def _create(group: zarr.Group, name: str, shape: Shape, middle: str, fill: float) -> Any:
    axis, kind = shape.axis(name), shape.stored(name).dtype
    return group.create_array(
        name,
        shape=(len(shape.layers), axis.rows, shape.shards * axis.shard),
        chunks=(1, 1, axis.chunk),
        shards=(len(shape.layers), axis.rows, axis.shard),
        dtype=kind,
        fill_value=fill,
        filters=None,
        compressors=[BloscCodec(**chunks.blosc(kind)), Crc32cCodec()],
        dimension_names=("layer", middle, axis.name),
    )


def path_of(run: str, array: str) -> str:
    """Return the path of the file that describes an array, relative to the store."""
    return f"{FOLDER}/{run}/{array}/zarr.json"


@lru_cache(maxsize=256)
def further(array: str, shape: Shape) -> bytes:
    """Make the description of an array beside `maps` and `received`. Raises UnknownNameError."""
    kind, written = array_kinds.find(array), dict[str, Any]()
    group = zarr.open_group(MemoryStore(written), mode="w", zarr_format=3)
    made = _create(group, array, shape, kind.middle, np.nan)
    if kind.components:
        made.attrs["components"] = list(kind.components)
    data: bytes = written[f"{array}/zarr.json"].to_bytes()
    return data


def describe_further(backend: Backend, run: str, array: str, shape: Shape) -> None:
    """Describe a further array of a run, unless it is described as it should be."""
    path, data = path_of(run, array), further(array, shape)
    try:
        described = agrees(backend.read(path), data)
    except FileNotFoundError:
        described = False
    if not described:
        backend.write(path, data)


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


def agrees(data: bytes, expected: bytes) -> bool:
    """Return True if a file is the description that is expected, or that of an earlier version."""
    if data == expected or not expected.startswith(b"{"):
        return data == expected
    return data == json.dumps(chunks.as_before(json.loads(expected)), indent=2).encode()


def described(backend: Backend, run: str) -> bool:
    """Return True if the description of a run's arrays matches its record byte by byte."""
    try:
        return all(agrees(backend.read(path), data) for path, data in files(backend, run).items())
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return False
