"""Copy a store, or some of its runs, to another place: resumable, and every byte compared.

    done = copy("storage", "/backup/storage")

Only what is committed is copied, in the order in which it is committed: arrays, fragments, then
the marks of blocks, then the records of runs. So what a stopped copy leaves is a sound store that
holds less, and the same command goes on from there. A place that holds other runs keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnstore import store as stores
from attnstore.care.places import Folder, Place
from attnstore.disk import arrays, description, fragments, index
from attnstore.disk.fragments import Fragment
from attnstore.errors import DamageError, StoreError, UnknownNameError, UsageError
from attnstore.names import near

_OF_A_NAME = ("models", "datasets", "runs")
"""Tables in which one owner has one part, made from its content: another part is another thing."""
_LAST = ("blocks", "runs")
"""Tables that make the rest count, in the order in which they are written."""

Progress = Callable[[int, int], None]
"""Called with the bytes that are done, and all of them."""


@dataclass(frozen=True)
class Item:
    """A file to copy. crc32c: what its content must have."""

    path: str
    bytes: int
    crc32c: int


@dataclass(frozen=True)
class Copied:
    """What a copy did. files, bytes: of the whole; of them written now, the others were there."""

    runs: list[str]
    files: int
    bytes: int
    written_files: int
    written_bytes: int


def copy(
    source: str | Path,
    target: str | Path | Place,
    runs: Sequence[str] | None = None,
    progress: Progress = lambda *_: None,
) -> Copied:
    """Copy committed runs (all, unless some are named) with everything that is known about them.

    Raises StoreError (no store there, or it cannot be written), DamageError (a file of the source
    is not what was committed: it is not copied), UsageError (the target holds other content under
    the same name), UnknownNameError, BusyError.
    """
    root = stores.find(source)
    place = _place(target)
    if isinstance(place, Folder) and place.root == root:
        raise UsageError(f"{root} cannot be copied onto itself; give another folder.")
    found = index.committed(root, {f.path for f in fragments.listing(root)})[0]
    wanted = _runs(found, runs)
    mine = found if runs is None else _about(root, found, wanted)
    with place.receiving(wanted):
        held = _held(place)
        _refuse_same_names(place, mine, held)
        return _write(root, place, wanted, list(_items(root, wanted, mine, held)), progress)


def _place(target: str | Path | Place) -> Place:
    if isinstance(target, (str, Path)):
        return Folder(Path(target).expanduser().resolve())
    return target


def _runs(found: list[Fragment], runs: Sequence[str] | None) -> list[str]:
    known = sorted({f.owner for f in found if f.table == "runs"})
    for run in runs or ():
        if run not in known:
            listed = "; `attnstore runs` lists them"
            raise UnknownNameError(f"The store holds no run {run!r}{near(run, known) or listed}")
    return known if runs is None else sorted(set(runs))


def _about(root: Path, found: list[Fragment], wanted: list[str]) -> list[Fragment]:
    """The fragments of some runs, of their models and of their datasets."""
    records = [fragments.read(root, f) for f in found if f.table == "runs" and f.owner in wanted]
    owners = {*wanted, *(r[name].item() for r in records for name in ("model", "dataset"))}
    return [f for f in found if f.owner in owners]


Parts = dict[tuple[str, str, str], str]
"""(table, owner, part): path."""


def _held(place: Place) -> Parts:
    """The fragments that the target holds already."""
    held: Parts = {}
    for path in place.paths():
        _, table, *owner, name = path.split("/")
        held[table, "/".join(owner), name.rsplit(".", 2)[0]] = path
    return held


def _refuse_same_names(place: Place, mine: list[Fragment], held: Parts) -> None:
    there = {(table, owner) for table, owner, _ in held if table in _OF_A_NAME}
    for f in mine:
        if (f.table, f.owner) in there and (f.table, f.owner, f.part) not in held:
            raise UsageError(
                f"{place.name} holds other content under the name {f.owner} (in {f.table}); copy "
                "to another place, or name the runs to copy with --run."
            )


def _items(root: Path, wanted: list[str], mine: list[Fragment], held: Parts) -> Iterator[Item]:
    """What to copy, in the order in which it is committed.

    The same part under another checksum is the same thing made elsewhere, and stays; so do the
    shards and statistics of a block that is committed there.
    """
    theirs = {
        key for f in mine if (key := (f.table, f.owner, f.part)) in held and held[key] != f.path
    }
    blocks = {(owner, part) for table, owner, part in theirs if table == "blocks"}
    left = [
        f for f in mine
        if ((f.owner, f.part) not in blocks if f.table == "map_stats"
            else (f.table, f.owner, f.part) not in theirs)
    ]  # fmt: skip
    described: dict[str, bytes] = {}
    for run in wanted:
        if not description.described(root, run):
            raise DamageError(f"What describes the arrays of {run} is damaged; ingest it again.")
        described |= description.files(root, run)  # groups above several runs only once
    yield from (Item(path, len(x), fragments.crc32c(x)) for path, x in described.items())
    for f in left:
        if f.table == "blocks":
            yield from _shards(root, f.owner, fragments.read(root, f).row(0, named=True))
    for f in sorted(left, key=lambda f: (f.table in _LAST and _LAST.index(f.table) + 1, f.path)):
        yield Item(f.path, f.bytes, f.crc32c)


def _shards(root: Path, run: str, block: dict[str, Any]) -> Iterator[Item]:
    """The shards of a committed block."""
    for array in ("maps", "received"):
        for i, value in enumerate(block[f"{array}_crc32c"]):
            path = arrays.shard_path(root, run, array, block["first_shard"] + i)
            size = path.stat().st_size if path.is_file() else 0
            yield Item(path.relative_to(root).as_posix(), size, value)


def _write(
    root: Path, place: Place, runs: list[str], items: list[Item], progress: Progress
) -> Copied:
    """Copy what is not there yet, and read back what was written."""
    source, total = Folder(root), sum(item.bytes for item in items)
    done = files = written = 0
    for item in items:
        if place.crc32c(item.path) != item.crc32c:
            data = source.read(item.path)
            if fragments.crc32c(data) != item.crc32c:
                raise DamageError(
                    f"{item.path} of {root} is not what was committed, and was not copied; "
                    "`attnstore verify` tells how to mend it."
                )
            place.write(item.path, data)
            if place.crc32c(item.path) != item.crc32c:
                raise StoreError(
                    f"{item.path} reads back differently from {place.name} than it was written; "
                    "check that storage, and run the same command again."
                )
            files, written = files + 1, written + item.bytes
        done += item.bytes
        progress(done, total)
    return Copied(runs, len(items), total, files, written)
