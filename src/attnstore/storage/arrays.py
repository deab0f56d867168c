"""The Zarr side of the store: one group a run, with `maps`, `received` and further arrays.

    attention.zarr/<run>/maps       (layer, head, cell)    weights, packed; see `layout`
    attention.zarr/<run>/received   (layer, head, token)   mean weight that each token receives
    attention.zarr/<run>/<other>    (layer, head or component, cell or token)   see `array_kinds`
    attention.zarr/<run>/layer, head                       coordinates: 0-based numbers

Bulk reads go through tensorstore, ten times as fast as zarr-python on the same files; `shard_writer`
writes. Arrays are opened by the run's record, and only if the description on disk agrees with it;
`zarr_metadata` writes that description.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from attnstore.errors import DamageError, StoreError
from attnstore.storage import chunks, fragments, layout, lent_arrays
from attnstore.storage.array_shape import Shape
from attnstore.storage.backend import Backend, File
from attnstore.storage.precision import Precision
from attnstore.storage.reads import Ints, Read, cut, reads_of
from attnstore.storage.row_places import RowPlaces
from attnstore.storage.shard_writer import ShardWriter

FOLDER = "attention.zarr"
CACHE_BYTES = 64 << 20
"""Decoded chunks to cache per open array: neighboring requests share their boundary chunk."""
_READS_AT_ONCE = 16

Floats = npt.NDArray[np.float32]
Described = Mapping[str, dict[str, Any]]
"""What the zarr.json of a run's group holds of its arrays, by name."""
Further = Mapping[str, npt.NDArray[Any] | None]
"""Arrays of a block by name; None for one that cannot be had."""
Written = dict[str, tuple[list[int], int]]
"""CRC-32C of each written shard, and their bytes, by array."""


def remove(backend: Backend, run: str) -> None:
    """Delete the arrays of a run."""
    backend.remove_below(f"{FOLDER}/{run}")
    above = run.rpartition("/")[0]  # the group above, once no run is left in it
    if above and {f.path for f in backend.files(f"{FOLDER}/{above}")} <= {group_path(above)}:
        backend.remove_below(f"{FOLDER}/{above}")


def group_path(name: str) -> str:
    """Return the path of the zarr.json of a run's group, or of one above it, relative to the store."""
    return f"{FOLDER}/{name}/zarr.json"


def shard_path(run: str, array: str, shard: int) -> str:
    """Return the path of one shard, relative to the store."""
    return f"{FOLDER}/{run}/{array}/c/0/0/{shard}"


def sealed(run: str, block: dict[str, Any]) -> dict[str, int]:
    """Return the CRC-32C of each shard of a committed block, by path. block: its row of `blocks`."""
    return {
        path: value
        for array in ("maps", "received")
        for path, value in _sealed(run, array, block["first_shard"], block[f"{array}_crc32c"])
    }


def sealed_further(run: str, row: dict[str, Any]) -> dict[str, int]:
    """Return the CRC-32C of each shard of a block in another array. row: its row of `array_blocks`."""
    return dict(_sealed(run, row["array"], row["first_shard"], row["crc32c"]))


def _sealed(run: str, array: str, first: int, values: list[int]) -> Iterator[tuple[str, int]]:
    for i, value in enumerate(values):
        yield shard_path(run, array, first + i), value


def damage(backend: Backend, run: str, block: dict[str, Any]) -> list[str]:
    """Find the shards of a committed block that do not match their CRC-32C, by path.

    block: its row of `blocks`. Every byte is read.
    """
    return unlike(backend, sealed(run, block))


def unlike(backend: Backend, expected: dict[str, int]) -> list[str]:
    """Find the files that do not match their CRC-32C, or are not there. expected: CRC-32C by path."""
    return [path for path, value in expected.items() if backend.crc32c(path) != value]


def shards(backend: Backend, run: str) -> dict[str, File]:
    """List every shard of a run, by path, committed or not; no byte is read."""
    folder = f"{FOLDER}/{run}"
    return {f.path: f for f in backend.files(folder) if is_shard(run, f.path)}


def is_shard(run: str, path: str) -> bool:
    """Return True if a path below a run's folder is that of a shard; coordinates have none."""
    array, *inside = path.removeprefix(f"{FOLDER}/{run}/").split("/")
    return inside[:1] == ["c"] and array not in ("layer", "head")


def changed(run: str, block: dict[str, Any], shard_files: dict[str, File], committed: int) -> bool:
    """Return True if the shards of a block have visibly changed since its commit; no byte is read.

    One is missing, their bytes do not add up, or one was written after the block was committed.
    block: its row of `blocks`; shard_files: `shards` of the run; committed: when, in nanoseconds.
    """
    whole = block["maps_bytes"] + block["received_bytes"]
    return moved(sealed(run, block), whole, shard_files, committed)


def moved(paths: Iterable[str], whole: int, shard_files: dict[str, File], committed: int) -> bool:
    """Return True if shards at `paths` visibly differ from what was committed. whole: their bytes."""
    files = [shard_files[path] for path in paths if path in shard_files]
    return sum(f.bytes for f in files) != whole or any(f.modified > committed for f in files)


@dataclass(frozen=True)
class RunArrays:
    """The open arrays of a run.

    maps, received: tensorstore handles (layer index, head index, cell or token); opened to read,
    float16 comes as float32. Further arrays are opened when they are first asked for.
    layers, heads: the 0-based numbers along the first two axes; cores: that decode chunks, None for all;
    described: see `Described`.
    """

    backend: Backend
    run: str
    shape: Shape
    maps: Any
    received: Any
    cores: int | None = None
    described: Described = field(default_factory=dict)
    _further: dict[str, Any] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[int, ...]:
        """Return the layers along the first axis."""
        return self.shape.layers

    @property
    def heads(self) -> tuple[int, ...]:
        """Return the heads along the second axis of `maps`."""
        return self.shape.heads

    @property
    def precision(self) -> Precision:
        """Return how `maps` stores weights."""
        return self.shape.stored("maps")

    def write_block(
        self,
        first_shard: int,
        maps: npt.NDArray[Any] | None,
        received: Floats,
        further: Further | None = None,
    ) -> Written:
        """Write whole shards from `first_shard` on, atomically and fsynced.

        maps: (layers, heads, shards x SHARD_CELLS) as stored, None where a `writer` writes
        them; received: (layers, heads, SHARD_TOKENS) float32; further: as of `write`.
        """
        return self.write(first_shard, {"maps": maps, "received": received, **(further or {})})

    def write(self, first_shard: int, data: Further) -> Written:
        """Write whole shards of some arrays from `first_shard` on, atomically and fsynced.

        data: (layers, heads or components, shards x cells or tokens of a shard) as stored, by array;
        None for one that is not to be written. Arrays beside `maps` and `received` are described
        first. Returns, per array that is not None, the shards' CRC-32C and their bytes on disk.
        """
        self.backend.require_hold()
        written: Written = {}
        for name, values in data.items():
            if values is not None:
                n_shards = values.shape[2] // self.shape.axis(name).shard
                with self.writer(name, first_shard, n_shards) as writer:
                    writer.add_all(values)
                    written[name] = writer.finish()
        return written

    def writer(self, array: str, first_shard: int, n_shards: int) -> ShardWriter:
        """Return a writer of some shards of an array, which takes them a row at a time."""
        axis = self.shape.axis(array)
        paths = [shard_path(self.run, array, first_shard + i) for i in range(n_shards)]
        rows = len(self.layers), axis.rows
        kind = self.shape.stored(array).dtype
        return ShardWriter(self.backend, paths, rows, axis.shard, axis.chunk, kind)

    def _handle(self, array: str) -> Any:
        """Return the handle of an array, which is opened once. Raises DamageError, StoreError."""
        if array in ("maps", "received"):
            return self.maps if array == "maps" else self.received
        if array not in self._further:
            with _opening(self.backend, self.run):
                self._further[array] = _open(
                    self.backend, self.run, array, self.shape, self.described, self.cores
                )
        return self._further[array]

    def example(self, cell: int, length: int) -> Floats:
        """Read every map of one input: (layer, head, from, to) float32."""
        stored = self._read(self.maps[:, :, cell : cell + length * length])
        return self.precision.decode(stored).reshape(
            len(self.layers), len(self.heads), length, length
        )

    def stretch(self, array: str, start: int, stop: int) -> Floats:
        """Read cells (or tokens) start to stop of every row: (layers x heads, stop - start) float32.

        Of an array with named components, a layer has that many rows instead of heads.
        """
        source, precision = self._source(array)
        stored = self._read(source[:, :, start:stop])
        return precision.decode(stored).reshape(-1, stop - start)

    def gather(self, array: str, row: Ints, start: Ints, count: Ints) -> Floats:
        """Read slices along the last axis, concatenated, as float32.

        array: 'maps', 'received' or another one that the run holds; row: (n,) layer index x heads +
        head index (of an array with named components: x components + component); start, count:
        (n,) first cell (or token) and how many. Requests may come in any order and overlap:
        those that lie close together on disk are read as one, and each chunk is decoded once.
        """
        source, precision = self._source(array)
        size, n_heads = int(count.sum()), self.shape.axis(array).rows
        out = lent_arrays.empty(size)
        reads = reads_of(row, start, count, layout.CHUNK_CELLS) if size else []
        pieces = cut(reads, self.shape.axis(array).shard)
        pending: deque[tuple[Read, Any]] = deque()
        try:
            while True:
                for read in itertools.islice(pieces, _READS_AT_ONCE - len(pending)):
                    view = source[read.row // n_heads, read.row % n_heads, read.start : read.stop]
                    pending.append((read, _reading(view, read, out)))
                if not pending:
                    return out
                read, future = pending.popleft()
                stored = self._result(future)
                if stored is not None:
                    for begin, size, target in read.parts:
                        precision.decode_into(
                            stored[begin : begin + size], out[target : target + size]
                        )
        finally:  # no read may write into memory that has gone back
            for _, future in pending:
                future.exception()

    def as_stored(self) -> RunArrays:
        """Return arrays that give what is stored, where reading divides it by the sums of rows."""
        return self

    def _source(self, array: str) -> tuple[Any, Precision]:
        """Return the handle of an array, and the precision of its numbers."""
        return self._handle(array), self.shape.stored(array)

    def _read(self, view: Any) -> npt.NDArray[Any]:
        return np.asarray(self._result(view.read()))

    def _result(self, future: Any) -> npt.NDArray[Any] | None:
        """Wait for a read; None for one that has put its weights where they belong."""
        try:
            return future.result()  # type: ignore[no-any-return]
        except Exception as error:  # tensorstore raises its own kinds by status, not by class
            raise DamageError(
                f"Run {self.run} in {self.backend.name} cannot be read: {_reason(error)}; "
                "`attnstore verify` names the damaged blocks, and ingesting again fixes them."
            ) from error


@dataclass(frozen=True)
class SharedArrays(RunArrays):
    """The arrays of a run whose weights are stored as shares of a row: read, a row sums to 1."""

    @cached_property
    def _places(self) -> RowPlaces:
        inputs = fragments.read_one(self.backend, "inputs", self.run)
        if inputs is None:
            raise DamageError(
                f"The inputs of run {self.run} are missing, so the rows of its maps cannot be located; "
                "ingest the run again, which writes them again."
            )
        cell, length = (inputs[name].to_numpy().astype(np.int64) for name in ("cell", "length"))
        return RowPlaces(cell, length, self.shape.cells)

    def as_stored(self) -> RunArrays:
        """Return arrays that give what is stored: `Precision.row_unit` for a weight of 1."""
        return RunArrays(self.backend, self.run, self.shape, self.maps, self.received, self.cores)

    def example(self, cell: int, length: int) -> Floats:
        """Read every map of one input: (layer, head, from, to) float32."""
        shares = super().example(cell, length)
        sums = shares.sum(-1, keepdims=True)
        sums[sums == 0] = 1
        shares /= sums
        return shares

    def stretch(self, array: str, start: int, stop: int) -> Floats:
        """Read cells (or tokens) start to stop of every row, as `RunArrays.stretch` does."""
        if array != "maps":
            return super().stretch(array, start, stop)
        n = len(self.layers) * len(self.heads)
        at, count = np.full(n, start), np.full(n, stop - start)
        return self.gather(array, np.arange(n), at, count).reshape(n, -1)

    def gather(self, array: str, row: Ints, start: Ints, count: Ints) -> Floats:
        """Read slices along the last axis, as `RunArrays.gather` does."""
        if array != "maps":
            return super().gather(array, row, start, count)
        wide = self._places.widened(row, start, count)
        return wide.divide(super().gather(array, wide.row, wide.start, wide.size))


def _reading(view: Any, read: Read, out: Floats) -> Any:
    """Begin a read. One that comes as float32 and in one piece is decoded right into `out`."""
    import tensorstore as ts

    if len(read.parts) > 1 or view.dtype != ts.float32:
        return view.read()
    _, size, target = read.parts[0]
    return ts.array(out[target : target + size], copy=False).write(view)


@lru_cache(maxsize=2)
def _context(cores: int | None) -> Any:
    import tensorstore as ts  # 20 ms, which a question to the index alone does not need

    bounded = {} if cores is None else {"data_copy_concurrency": {"limit": cores}}
    return ts.Context({"cache_pool": {"total_bytes_limit": CACHE_BYTES}, **bounded})


def open_run(backend: Backend, run: str, shape: Shape, cores: int | None = None) -> RunArrays:
    """Open the arrays of a run by its record; chunks are decoded by so many cores, by all for None.

    Raises DamageError if their description on disk differs, StoreError if they are missing or cannot
    be opened.
    """
    if {"", ".", ".."} & set(run.split("/")) or "\0" in run:
        raise DamageError(f"{run!r} is no name of a run; `attnstore reindex` rebuilds the index.")
    with _opening(backend, run):
        described = _described(backend, run, shape)
        maps, received = (
            _open(backend, run, name, shape, described, cores) for name in ("maps", "received")
        )
    kind = SharedArrays if shape.stored("maps").row_unit else RunArrays
    return kind(backend, run, shape, maps, received, cores, described)


@contextlib.contextmanager
def _opening(backend: Backend, run: str) -> Iterator[None]:
    try:
        yield
    except DamageError:
        raise
    except Exception as error:  # tensorstore raises its own kinds by status, not by class
        raise StoreError(
            f"The arrays of run {run} cannot be opened in {backend.name}: {_reason(error)}; "
            "`attnstore verify` shows what is damaged."
        ) from error


def _open(
    backend: Backend, run: str, array: str, shape: Shape, described: Described, cores: int | None
) -> Any:
    import tensorstore as ts

    path = f"{FOLDER}/{run}/{array}"
    expected = shape.metadata(array)
    file = group_path(run) if array in described else f"{path}/zarr.json"
    actual = described[array] if array in described else _parsed(backend, file)
    _require_same(backend.name, run, file, actual, expected)
    spec = {
        "driver": "zarr3",
        "kvstore": backend.arrays(path),
        "metadata": expected,
        # Every chunk of a committed block is on disk: one that is missing is an error, not zeros.
        "fill_missing_data_reads": False,
        # A look whether a file has changed since it was read costs a request in a bucket.
        "recheck_cached_data": True if backend.is_local else "open",
    }
    opening = ts.open(spec, open=True, read=True, assume_metadata=True, context=_context(cores))
    handle = opening.result()
    # tensorstore converts float16 chunk by chunk in its own threads, several times numpy's speed.
    return ts.cast(handle, ts.float32) if handle.dtype == ts.float16 else handle


def _described(backend: Backend, run: str, shape: Shape) -> Described:
    """Refuse a run's group whose attributes differ from its record; return what it holds of the arrays.

    In a folder, where a file costs no request, each array is opened by its own zarr.json.
    """
    data = backend.read(group_path(run))
    document = _object(data)
    attributes = document.get("attributes")
    expected = {
        "precision": shape.precision, "layers": list(shape.layers), "heads": list(shape.heads),
    }  # fmt: skip
    actual = attributes if isinstance(attributes, dict) else {}
    _require_same(backend.name, run, group_path(run), actual, expected)
    return {} if backend.is_local else consolidated_of(data) or {}


def consolidated_of(group: bytes) -> Described | None:
    """Return what the zarr.json of a group holds of its arrays, by name; None where it holds nothing.

    Raises ValueError for what is no JSON.
    """
    held = _object(group).get("consolidated_metadata")
    metadata = held.get("metadata") if isinstance(held, dict) else None
    if not isinstance(metadata, dict):
        return None
    return {name: x for name, x in metadata.items() if isinstance(x, dict)}


def _parsed(backend: Backend, path: str) -> dict[str, Any]:
    return _object(backend.read(path))


def _object(data: bytes) -> dict[str, Any]:
    document = json.loads(data)
    return document if isinstance(document, dict) else {}


def _require_same(
    store_name: str, run: str, path: str, actual: dict[str, Any], expected: dict[str, Any]
) -> None:
    for key, value in expected.items():
        if actual.get(key) not in (value, chunks.as_before(value)):
            raise DamageError(
                f"{path} of {store_name} does not describe the arrays of run {run} as its record does "
                f"(in {key!r}): it is damaged; ingest the run again, which rewrites it."
            )
    if actual.get("storage_transformers"):
        raise DamageError(
            f"{path} of {store_name} asks for storage transformers, and attnstore writes none: it is "
            "damaged; ingest the run again, which rewrites it."
        )


def _reason(error: Exception) -> str:
    """Return the first sentence of an engine's message, without its source marks."""
    text = str(error).split(" [")[0].splitlines()
    return text[0][:300] if text else type(error).__name__
