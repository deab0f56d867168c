"""The table `array_blocks`: which blocks of a run hold which further array, and its shards' checksums.

The fragment of an array and a block is written after the shards and is their commit. A list of
checksums that is empty says that the array cannot be had of this model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from attnstore.errors import DamageError, UnknownNameError
from attnstore.storage import array_kinds, arrays, fragments, zarr_metadata
from attnstore.storage.array_shape import Shape
from attnstore.storage.arrays import Further, RunArrays, Written
from attnstore.storage.backend import Backend
from attnstore.storage.fragments import Fragment

TABLE = "array_blocks"
_TYPES: dict[str, pl.DataType | type[pl.DataType]] = {
    "run_key": pl.UInt64, "block": pl.Int32, "first_shard": pl.Int32, "crc32c": pl.List(pl.UInt32),
}  # fmt: skip


@dataclass(frozen=True)
class Committed:
    """A block of an array whose fragment is whole. row: of `array_blocks`; fragment: its own."""

    row: dict[str, Any]
    fragment: Fragment

    @property
    def sealed(self) -> dict[str, int]:
        """Return the CRC-32C of each shard, by path."""
        return arrays.sealed_further(self.fragment.owner, self.row)


def remedy(name: str) -> str:
    """Describe what brings a damaged array of a run back."""
    if name in (kind.name for kind in array_kinds.CAPTURED):
        return "ingest the run again"
    return f"ingest the run again with --maps weights,{name}"


def describe(opened: RunArrays, data: Further) -> None:
    """Describe the further arrays that have something to write, before the first shard of each.

    The group of a run of an earlier version then holds the descriptions of all its arrays, too.
    """
    backend, run = opened.backend, opened.run
    written = [name for name, values in data.items() if values is not None]
    held = [zarr_metadata.describe_further(backend, run, x, opened.shape) for x in written]
    if not all(held):
        names = {*written, *(name for name, _ in listed(backend, run))}
        zarr_metadata.consolidate(backend, run, sorted(names), all_of=True)


def commit(
    opened: RunArrays,
    key: int,
    block: int,
    first_shard: int,
    names: Iterable[str],
    written: Written,
) -> int:
    """Commit some arrays of a block once their shards are written; returns the shards' bytes.

    key: run_key of the run; names: arrays to commit; written: result of `RunArrays.write`, without
    those that cannot be had.
    """
    total = 0
    for name in names:
        crc, n_bytes = written.get(name, ([], 0))
        row = {
            "run_key": key, "block": block, "array": name, "first_shard": first_shard,
            "crc32c": crc, "bytes": n_bytes,
        }  # fmt: skip
        part = array_kinds.part(name, block)
        frame = pl.DataFrame([row], schema_overrides=_TYPES)
        fragments.write(opened.backend, TABLE, opened.run, part, frame)
        total += n_bytes
    return total


def listed(backend: Backend, run: str) -> dict[tuple[str, str], list[Fragment]]:
    """List the fragments of a run by array and part of the block; of two versions both, older first."""
    found: dict[tuple[str, str], list[Fragment]] = {}
    for fragment in sorted(fragments.listing(backend, TABLE, run), key=lambda f: f.modified):
        found.setdefault(array_kinds.split(fragment.part), []).append(fragment)
    return found


def committed(
    backend: Backend,
    run: str,
    key: int,
    names: Iterable[str] | None = None,
    part: str | None = None,
) -> dict[tuple[str, str], Committed | None]:
    """Read the rows of a run by array and part of the block; None where the fragment is damaged.

    key: run_key of the run: rows of another may be left by a run that had the name before; names:
    arrays to read (None: all); part: of the one block to read (None: all).
    """
    wanted = {
        at: versions[-1]
        for at, versions in listed(backend, run).items()
        if (names is None or at[0] in names) and part in (None, at[1])
    }
    fragments.fetch(backend, wanted.values())
    found: dict[tuple[str, str], Committed | None] = {}
    for at, fragment in wanted.items():
        try:
            row = fragments.read(backend, fragment).row(0, named=True)
        except DamageError:
            found[at] = None
            continue
        if row["run_key"] == key:
            found[at] = Committed(row, fragment)
    return found


def descriptions(backend: Backend, run: str, shape: Shape) -> dict[str, bytes]:
    """Make the descriptions that the further arrays of a run need: content by path in the store.

    An array that cannot be had of its model needs none, nor one of a later version of attnstore.
    """
    of_array: dict[str, list[Fragment]] = {}
    for (name, _), versions in listed(backend, run).items():
        of_array.setdefault(name, []).append(versions[-1])
    held = (n for n, owned in of_array.items() if any(_has_shards(backend, f) for f in owned))
    return _descriptions(run, shape, held)


def descriptions_of(run: str, shape: Shape, rows: pl.DataFrame | None) -> dict[str, bytes]:
    """Make the same where the rows of the run's fragments have been read; None: there is none."""
    if rows is None:
        return {}
    held = rows.filter(pl.col("crc32c").list.len() > 0)["array"].unique(maintain_order=True)
    return _descriptions(run, shape, held)


def _descriptions(run: str, shape: Shape, names: Iterable[str]) -> dict[str, bytes]:
    found = {}
    for name in names:
        with contextlib.suppress(UnknownNameError):
            found[zarr_metadata.path_of(run, name)] = zarr_metadata.further(name, shape)
    return found


def _has_shards(backend: Backend, fragment: Fragment) -> bool:
    try:
        return bool(fragments.read(backend, fragment)["crc32c"].list.len().sum())
    except DamageError:
        return False


def described(
    backend: Backend, run: str, shape: Shape, read: zarr_metadata.Read | None = None
) -> bool:
    """Return True if every further array that a run holds is described as it should be.

    read: as `zarr_metadata.reader` makes it.
    """
    try:
        needed = descriptions(backend, run, shape)
        return zarr_metadata.as_needed(read or zarr_metadata.reader(backend), run, needed)
    except OSError:
        return False
