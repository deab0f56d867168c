"""Copy a store, or some of its runs, to another place: resumable, and every byte compared.

    done = copy("storage", "/backup/storage")

Only what is committed is copied, in the order in which it is committed: arrays, fragments, then
the marks of blocks, then the records of runs. So what a stopped copy leaves is a sound store that
holds less, and the same command goes on from there. A place that holds other runs keeps them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnstore import store as stores
from attnstore.disk import arrays, buckets, description, files, fragments, index, locks
from attnstore.disk.files import Place
from attnstore.disk.fragments import Fragment
from attnstore.errors import BusyError, DamageError, StoreError, UnknownNameError, UsageError
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
    target: str | Path,
    runs: Sequence[str] | None = None,
    progress: Progress = lambda *_: None,
) -> Copied:
    """Copy committed runs (all, unless some are named) with everything that is known about them.

    Raises StoreError (no store there, or it cannot be written), DamageError (a file of the source
    is not what was committed: it is not copied), UsageError (the target holds other content under
    the same name), UnknownNameError, BusyError.
    """
    root, to = stores.find(source), stores.locate(target)
    if to == root:
        raise UsageError(
            f"{buckets.of(root).name} cannot be copied onto itself; give another place."
        )
    found = index.committed(root, {f.path for f in fragments.listing(root)})[0]
    wanted = _runs(found, runs)
    mine = found if runs is None else _about(root, found, wanted)
    with _receiving(to, wanted):
        held = {(f.table, f.owner, f.part): f.path for f in fragments.listing(to)}
        _refuse_same_names(buckets.of(to), mine, held)
        items = list(_items(root, wanted, mine, held))
        return _write(buckets.of(root), buckets.of(to), wanted, items, progress)


@contextlib.contextmanager
def _receiving(root: Path, runs: list[str]) -> Iterator[None]:
    """Make the target a store, hold it against a second copy and the runs against ingestion."""
    stores.create(root)
    with contextlib.ExitStack() as held:
        what = f"The store {buckets.of(root).name}"
        held.enter_context(locks.hold(root / locks.FOLDER / "copy.lock", what=what))
        for run in runs:
            held.enter_context(locks.hold(stores.run_lock(root, run), what=f"Run {run}"))
        yield
        with contextlib.suppress(BusyError):  # it catches up when it is next opened
            index.catch_up(root)


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
    yield from (Item(path, len(x), files.crc32c(x)) for path, x in described.items())
    lying = {path: f.bytes for run in wanted for path, f in arrays.shards(root, run).items()}
    for f in left:
        if f.table == "blocks":
            block = fragments.read(root, f).row(0, named=True)
            for path, value in arrays.sealed(f.owner, block).items():
                yield Item(path, lying.get(path, 0), value)
    for f in sorted(left, key=lambda f: (f.table in _LAST and _LAST.index(f.table) + 1, f.path)):
        yield Item(f.path, f.bytes, f.crc32c)


def _read(source: Place, path: str) -> bytes:
    try:
        return source.read(path)
    except FileNotFoundError as error:
        raise StoreError(
            f"{path} of {source.name} is gone; it may have been dropped meanwhile: run the same "
            "command again."
        ) from error


def _write(
    source: Place, target: Place, runs: list[str], items: list[Item], progress: Progress
) -> Copied:
    """Copy what is not there yet, and read back what was written."""
    total = sum(item.bytes for item in items)
    done = count = written = 0
    for item in items:
        if target.crc32c(item.path) != item.crc32c:
            data = _read(source, item.path)
            if files.crc32c(data) != item.crc32c:
                raise DamageError(
                    f"{item.path} of {source.name} is not what was committed, and was not copied; "
                    "`attnstore verify` tells how to mend it."
                )
            write = target.commit if item.path.startswith(f"{fragments.FOLDER}/") else target.write
            write(item.path, data)
            if target.crc32c(item.path) != item.crc32c:
                raise StoreError(
                    f"{item.path} reads back differently from {target.name} than it was written; "
                    "check that storage, and run the same command again."
                )
            count, written = count + 1, written + item.bytes
        done += item.bytes
        progress(done, total)
    return Copied(runs, len(items), total, count, written)
