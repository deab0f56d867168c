"""The description of a run's arrays on disk: every zarr.json, and the coordinates.

zarr-python writes it, so that zarr and xarray open the arrays; the weights are `arrays`'.

The group of a run holds, beside its attributes, the descriptions of its arrays (Zarr's consolidated
metadata), so that one request opens a run anywhere. The descriptions in the arrays' own zarr.json are
written first, and `verify` compares the two. Groups of earlier versions hold none and stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
import polars as pl
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import MemoryStore

from attnstore.errors import DamageError
from attnstore.storage import array_kinds, array_shape, arrays, chunks, fragments
from attnstore.storage.array_shape import Shape
from attnstore.storage.arrays import FOLDER
from attnstore.storage.backend import Backend
from attnstore.storage.run_record import RunRecord

_HOLDS_NONE: dict[str, Any] = {"kind": "inline", "must_understand": False, "metadata": {}}
"""Consolidated metadata of no array, as zarr-python writes them."""
_ALWAYS = ("head", "layer", "maps", "received")
"""The arrays that every run has."""
Read = Callable[[str], bytes | None]
"""Reads a file of the store, by its path; None where there is none."""


def describe(
    backend: Backend, run: str, shape: Shape, further: Mapping[str, bytes] | None = None
) -> None:
    """Write the description of a run's arrays; no weight is written or touched.

    Each file is replaced as a whole, so it also fixes a damaged description. further: those of arrays
    beside `maps` and `received`, by path.
    """
    files = description(run, shape) | dict(further or {})
    group = files.pop(arrays.group_path(run))
    for path, data in files.items():
        backend.write(path, data)
    own = {name: files[path_of(run, name)] for name in names(run, files)}
    backend.write(arrays.group_path(run), consolidated(group, own))


def names(run: str, paths: Iterable[str]) -> list[str]:
    """List the arrays of a run whose descriptions are among some paths."""
    inside = (p.removeprefix(f"{FOLDER}/{run}/") for p in sorted(paths) if p.startswith(f"{FOLDER}/{run}/"))  # fmt: skip
    return [p.removesuffix("/zarr.json") for p in inside if p.endswith("/zarr.json")]


def consolidated(group: bytes, own: Mapping[str, bytes]) -> bytes:
    """Add descriptions of arrays, by name, to the zarr.json of their group."""
    document = json.loads(group)
    held = document.get("consolidated_metadata", _HOLDS_NONE)
    metadata = held["metadata"] | {name: json.loads(data) for name, data in own.items()}
    document["consolidated_metadata"] = held | {"metadata": dict(sorted(metadata.items()))}
    return json.dumps(document).encode()


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


def describe_further(backend: Backend, run: str, array: str, shape: Shape) -> bool:
    """Describe a further array of a run, unless it is described as it should be.

    Returns False if the run's group, of an earlier version, holds no descriptions.
    """
    path, data = path_of(run, array), further(array, shape)
    group = _read(backend, arrays.group_path(run)) or b"{}"
    held = arrays.consolidated_of(group)
    current = held is not None and held.get(array) == json.loads(data)
    if current and not backend.is_local:  # its own was written before; a request less
        return True
    own = _read(backend, path)
    if own is None or not agrees(own, data):
        backend.write(path, data)
        own = data
    if held is not None and held.get(array) != json.loads(own):
        backend.write(arrays.group_path(run), consolidated(group, {array: own}))
    return held is not None


def _read(backend: Backend, path: str) -> bytes | None:
    try:
        return backend.read(path)
    except FileNotFoundError:
        return None


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
    """Return True if a file is the description that is expected, or that of an earlier version.

    What a group holds of its arrays is compared by `unlike_own`.
    """
    if data == expected or not expected.startswith(b"{"):
        return data == expected
    before = json.dumps(chunks.as_before(json.loads(expected)), indent=2).encode()
    return data == before or _alone(data) == expected


def _alone(data: bytes) -> bytes | None:
    """Return the zarr.json of a group as it is without what it holds of its arrays; None for another."""
    try:
        document = json.loads(data)
        if data != json.dumps(document).encode():  # as `consolidated` writes it
            return None
        held = document.pop("consolidated_metadata")
        if held | {"metadata": {}} != _HOLDS_NONE:
            return None
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    return json.dumps(document, indent=2).encode()


def unlike_own(read: Read, run: str, names: Iterable[str]) -> str | None:
    """Find an array of which a run's group and its own zarr.json say different things.

    Args:
        read: reads a file of the store, None where there is none.
        run: the run.
        names: arrays that the group has to hold.

    Returns:
        The name of the first; None where all agree, or where the group holds none (an earlier version's).
    """
    try:
        held = arrays.consolidated_of(read(arrays.group_path(run)) or b"{}")
    except (ValueError, RecursionError):  # `agrees` says so
        return None
    for name in sorted({*names, *held}) if held is not None else ():
        own = read(path_of(run, name))
        try:
            if own is None or held is None or held.get(name) != json.loads(own):
                return name
        except (ValueError, RecursionError):
            return name
    return None


def consolidate(backend: Backend, run: str, names: Iterable[str], all_of: bool = False) -> None:
    """Let a run's group hold the descriptions that some arrays have on disk.

    A group that holds none stays as it is, unless the names are those of all further arrays: `all_of`.
    """
    group = _read(backend, arrays.group_path(run)) or b"{}"
    held = arrays.consolidated_of(group)
    if held is None and not all_of:
        return
    if held is None:
        held, names = {}, [*_ALWAYS, *names]
    found = {name: data for name in names if (data := _read(backend, path_of(run, name)))}
    if any(held.get(name) != json.loads(data) for name, data in found.items()):
        backend.write(arrays.group_path(run), consolidated(group, found))


def described(backend: Backend, run: str, read: Read | None = None) -> bool:
    """Return True if the description of a run's arrays matches its record byte by byte.

    read: as `reader` makes it.
    """
    read = read or reader(backend)
    try:
        return as_needed(read, run, files(backend, run))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return False


def as_needed(read: Read, run: str, needed: Mapping[str, bytes]) -> bool:
    """Return True if files of a run are the descriptions that are needed, and its group agrees with them."""
    present = {path: read(path) for path in needed}
    return unlike_own(read, run, names(run, needed)) is None and all(
        data is not None and agrees(data, needed[path]) for path, data in present.items()
    )


def reader(backend: Backend) -> Read:
    """Return what reads each file of a store once; None where there is none."""
    return cache(partial(_read, backend))
