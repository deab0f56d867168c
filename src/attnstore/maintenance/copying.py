"""Copy a store, or some of its runs, to another place: resumable, and every byte compared.

    done = copy("storage", "/backup/storage")

Only what is committed is copied, in the order in which it is committed: models and datasets, which
others refer to, arrays, fragments, then the marks of blocks, then the records of runs. So a stopped
copy leaves a sound store that holds less, and the same command continues from there. A target
keeps its other runs; `copy_rules` decides what to add to runs that both stores have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from attnstore import store as stores
from attnstore.errors import BusyError, DamageError, StoreError, UnknownNameError, UsageError
from attnstore.maintenance import copy_rules
from attnstore.naming import near
from attnstore.storage import (
    array_blocks,
    arrays,
    files,
    fragments,
    index,
    leftovers,
    location,
    locks,
    zarr_metadata,
)
from attnstore.storage.backend import Backend
from attnstore.storage.fragments import Fragment
from attnstore.storage.location import Location
from attnstore.storage.tables import OF_RUNS

_FIRST = ("models", "datasets", "examples")
"""Tables that others refer to, in the order in which they are written."""
_ORDER = {table: i for i, table in enumerate((*_FIRST, "", "map_stats", "blocks", "runs"))}
"""Position of a table in the order of writing; tables that are not named come after `_FIRST`."""

Progress = Callable[[int, int], None]
"""Called with the bytes that are done, and all of them."""


@dataclass(frozen=True)
class Item:
    """A file to copy. crc32c: expected CRC-32C of its content."""

    path: str
    bytes: int
    crc32c: int


@dataclass(frozen=True)
class Copied:
    """Result of a copy. files, bytes: of the whole; of them written now, the others were there.

    notes: results that were not copied, since the target has the same, or its own.
    """

    runs: list[str]
    files: int
    bytes: int
    written_files: int
    written_bytes: int
    notes: Sequence[str] = ()


def copy(
    source: Location,
    target: Location,
    runs: Sequence[str] | None = None,
    progress: Progress = lambda *_: None,
) -> Copied:
    """Copy committed runs (all, unless some are named) with all their results.

    Raises StoreError (no store there, or it cannot be written), DamageError (a file of the source
    does not match its checksum: it is not copied), UsageError (the target holds other content under
    the same name), UnknownNameError, BusyError.
    """
    backend, to = location.find(source), location.locate(target)
    if to.root == backend.root:
        raise UsageError(f"{backend.name} cannot be copied onto itself; give another place.")
    committed = index.committed(backend, {f.path for f in fragments.listing(backend)})[0]
    selected_runs = _runs(committed, runs)
    selected = committed if runs is None else _about(backend, committed, selected_runs)
    with _receiving(to, selected_runs, selected) as problems:
        selected, notes = _without_twins(to, selected)
        selected_runs = sorted({f.owner for f in selected if f.table == "runs"})
        with locks.registry(to):
            _refuse_same_names(to, selected)
        _clear_leftovers(backend, to, selected)
        merged = copy_rules.plan(backend, to, selected)
        items = list(_items(backend, selected_runs, merged.add))
        fragments.discard(to, *merged.unfinished)
        done = _write(backend, to, items, {f.path: f for f in selected}, progress)
        for run in selected_runs:  # the target may hold arrays that the source lacks
            names = {name for name, _ in array_blocks.listed(to, run)}
            zarr_metadata.consolidate(to, run, sorted(names))
        fragments.discard(to, *merged.replaced)
    return replace(done, runs=selected_runs, notes=[*notes, *merged.notes(), *problems])


@contextlib.contextmanager
def _receiving(backend: Backend, runs: list[str], coming: list[Fragment]) -> Iterator[list[str]]:
    """Make the target a store, and hold the locks of all results to copy.

    Yields a list, to which the end of the block adds parts that the target lacks.
    """
    location.create(backend)
    name = backend.name
    with contextlib.ExitStack() as stack:
        stack.enter_context(locks.hold(location.copy_lock(backend), what=f"The store {name}"))
        for run in runs:
            stack.enter_context(locks.hold(location.run_lock(backend, run), what=f"Run {run}"))
        results = {copy_rules.kind(f) for f in coming}
        guards = {lock for kind in results if (lock := copy_rules.lock(backend, kind))}
        for lock in sorted(guards, key=lambda lock: lock.path):
            label = f"What {lock.file.stem} guards in {name}"
            stack.enter_context(locks.hold(lock, what=label))
        problems: list[str] = []
        yield problems
        with contextlib.suppress(BusyError):  # the index catches up when the store is next opened
            if lacking := stores.incomplete(name, index.catch_up(backend)):
                problems.append(lacking)


def _runs(committed: list[Fragment], runs: Sequence[str] | None) -> list[str]:
    all_runs = sorted({f.owner for f in committed if f.table == "runs"})
    for run in runs or ():
        if run not in all_runs:
            listed = "; `attnstore runs` lists them"
            raise UnknownNameError(f"The store holds no run {run!r}{near(run, all_runs) or listed}")
    return all_runs if runs is None else sorted(set(runs))


def _about(backend: Backend, committed: list[Fragment], runs: list[str]) -> list[Fragment]:
    """Select the fragments of some runs, their models and datasets, and those that their scores name."""
    records = [
        fragments.read(backend, f) for f in committed if f.table == "runs" and f.owner in runs
    ]
    owners = {*runs, *(r[name].item() for r in records for name in ("model", "dataset"))}
    owned = [f for f in committed if f.owner in owners]
    scores = [fragments.read(backend, f) for f in owned if f.table == "evaluations"]
    named = {
        (table, name)
        for rows in scores
        for table, column in (("models", "base"), ("datasets", "dataset"), ("examples", "dataset"))
        for name in rows[column]
    }
    return [f for f in committed if f.owner in owners or (f.table, f.owner) in named]


def _without_twins(to: Backend, selected: list[Fragment]) -> tuple[list[Fragment], list[str]]:
    """Leave out runs whose content the target or the selection has under another name."""
    names = {f.part: f.owner for f in fragments.listing(to, "runs")}
    twins: dict[str, str] = {}
    for f in selected:
        if f.table == "runs" and names.setdefault(f.part, f.owner) != f.owner:
            twins[f.owner] = names[f.part]
    notes = [
        f"Run {run} was not copied: {to.name} holds the same run as {other}."
        for run, other in twins.items()
    ]
    of_runs = ("runs", *OF_RUNS)
    return [f for f in selected if f.table not in of_runs or f.owner not in twins], notes


def _refuse_same_names(to: Backend, selected: list[Fragment]) -> None:
    """Raise UsageError if a name to copy stands for other content in the target."""
    parts = {(f.table, f.owner): f.part for f in fragments.listing(to)}
    for f in selected:
        if f.table in copy_rules.OF_A_NAME and parts.get((f.table, f.owner), f.part) != f.part:
            raise UsageError(
                f"{to.name} holds other content under the name {f.owner} (in {f.table}); "
                "copy to another place, or name the runs to copy with --run."
            )


def _clear_leftovers(backend: Backend, to: Backend, selected: list[Fragment]) -> None:
    """Delete leftovers of a stopped drop or copy under the names of runs to copy."""
    present = {f.owner for f in fragments.listing(to, "runs")}
    coming = {f.path for f in selected}
    for f in selected:
        if f.table == "runs" and f.owner in present:
            leftovers.discard(to, f.owner, fragments.read(backend, f)["run_key"].item())
        elif f.table == "runs":
            leftovers.discard_but(to, f.owner, coming)


def _items(backend: Backend, runs: list[str], added: list[Fragment]) -> Iterator[Item]:
    """List the files to copy in the order of their commit: referenced files first.

    The shards and statistics of a block that the target has of its own stay as they are.
    """
    blocks = {(f.owner, f.part) for f in added if f.table == "blocks"}
    added = [f for f in added if f.table != "map_stats" or (f.owner, f.part) in blocks]
    order = sorted(added, key=lambda f: (_ORDER.get(f.table, len(_FIRST)), f.path))
    names = [f for f in order if f.table in _FIRST]
    yield from (Item(f.path, f.bytes, f.crc32c) for f in names)
    described: dict[str, bytes] = {}
    for run in runs:
        if not zarr_metadata.described(backend, run):
            fragments.read_one(
                backend, "runs", run
            )  # raises where it is the record that is damaged
            raise DamageError(f"What describes the arrays of {run} is damaged; ingest it again.")
        described |= zarr_metadata.files(backend, run)  # groups above several runs only once
        shape = zarr_metadata.recorded(backend, run)
        described |= array_blocks.descriptions(backend, run, shape)
    for path, expected in described.items():
        data = backend.read(path)  # of an earlier version it may be another text
        sound = data if zarr_metadata.agrees(data, expected) else expected
        yield Item(path, len(sound), files.crc32c(sound))
    sizes = {path: f.bytes for run in runs for path, f in arrays.shards(backend, run).items()}
    sealed = {"blocks": arrays.sealed, array_blocks.TABLE: arrays.sealed_further}
    for f in order:
        if f.table in sealed:
            block = fragments.read(backend, f).row(0, named=True)
            for path, value in sealed[f.table](f.owner, block).items():
                yield Item(path, sizes.get(path, 0), value)
    yield from (Item(f.path, f.bytes, f.crc32c) for f in order[len(names) :])


def _read(source: Backend, path: str, fragment: Fragment | None) -> bytes:
    try:
        return source.read(path) if fragment is None else fragments.data(source, fragment)
    except FileNotFoundError as error:
        raise StoreError(
            f"{path} of {source.name} is gone; it may have been dropped meanwhile: run the same "
            "command again."
        ) from error


def _write(
    source: Backend,
    to: Backend,
    items: list[Item],
    selected: dict[str, Fragment],
    progress: Progress,
) -> Copied:
    """Copy missing files and read each back; names and records under a lock. selected: fragments by path."""
    bundled = {f.path: f for f in fragments.listing(to) if f.bundle}
    total = sum(item.bytes for item in items)
    target = to
    done = count = written = 0
    for item in items:
        present = bundled.get(item.path)
        lies = fragments.stored_crc32c(to, present) if present else target.crc32c(item.path)
        if lies != item.crc32c:
            data = _read(source, item.path, selected.get(item.path))
            if files.crc32c(data) != item.crc32c:
                raise DamageError(
                    f"{item.path} of {source.name} is not what was committed, and was not copied; "
                    "`attnstore verify` shows how to fix it."
                )
            with _named(to, item.path):
                _put(target, item, data)
            count, written = count + 1, written + item.bytes
        done += item.bytes
        progress(done, total)
    return Copied([], len(items), total, count, written)


@contextlib.contextmanager
def _named(to: Backend, path: str) -> Iterator[None]:
    """Hold the registry while a model, dataset or run gets its name, if nobody else has taken it."""
    _, table, *owner = path.split("/")
    if table not in copy_rules.OF_A_NAME or not path.startswith(f"{fragments.FOLDER}/"):
        yield
        return
    part = owner.pop().partition(".")[0]
    with locks.registry(to):
        named = fragments.listing(to, table)
        if any(f.owner == "/".join(owner) and f.part != part for f in named) or (
            table == "runs" and any(f.part == part and f.owner != "/".join(owner) for f in named)
        ):
            raise BusyError(
                f"{to.name} has been given other content, or the same run under another "
                f"name, than {'/'.join(owner)} meanwhile; run the same command again."
            )
        yield


def _put(target: Backend, item: Item, data: bytes) -> None:
    write = target.commit if item.path.startswith(f"{fragments.FOLDER}/") else target.write
    write(item.path, data)
    if target.crc32c(item.path) != item.crc32c:
        raise StoreError(
            f"{item.path} reads back differently from {target.name} than it was written; "
            "check that storage, and run the same command again."
        )
