"""Merge the small fragments of each table into bundles, so that a store of many ingestions opens quickly.

    merged = compact("storage")          # as `attnstore compact`

A fragment keeps its bytes and its path (`storage.bundles`), so the index has nothing to load anew, and
what is committed is never half there: the bundle is written and read back before what it holds is
deleted. A process that is stopped between leaves a fragment in two places, where it counts once; the
next call deletes the second. Only committed fragments are merged, of which there is one version.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from attnstore.errors import DamageError, UnknownNameError
from attnstore.formatting import size
from attnstore.naming import near
from attnstore.storage import bundles, commits, fragments, location, parquet_footer
from attnstore.storage.backend import Backend, File
from attnstore.storage.bundles import Member
from attnstore.storage.files import crc32c
from attnstore.storage.fragments import Fragment
from attnstore.storage.location import Location
from attnstore.storage.snapshot import fresh
from attnstore.storage.tables import OF_RUNS, TABLES

SMALL = 4 << 20
"""Bytes of a fragment up to which it is merged; of a larger one a file of its own costs little."""

Progress = Callable[[int, int], None]
"""Called with the number of fragments that are merged, and of all that can be."""


@dataclass(frozen=True)
class Compacted:
    """Result of `compact`.

    fragments: merged ones, those of smaller bundles included; tables: they belong to; bundles: they
    became; bytes: of the bundles; kept: paths of fragments that were left alone since they are damaged.
    """

    fragments: int
    tables: int
    bundles: int
    bytes: int
    kept: list[str]

    def __str__(self) -> str:
        """Return the result as one sentence."""
        if not self.bundles:
            return "There are no small fragments to merge."
        return (
            f"{self.fragments:,} fragments of {self.tables} tables became {self.bundles:,} bundles, "
            f"{size(self.bytes)}."
        )


@dataclass(frozen=True)
class _Unit:
    """What goes into a bundle as a whole: one fragment, or the members of a smaller bundle.

    again: its bundle does not match its checksum, and is to be written anew.
    """

    members: list[tuple[Member, bytes]]
    fragment: Fragment | None = None
    bundle: File | None = None
    again: bool = False

    @property
    def whole(self) -> bytes:
        """Return the first member that matches its checksum; nothing where none does."""
        return next((data for m, data in self.members if crc32c(data) == m.crc32c), b"")

    @property
    def bytes(self) -> int:
        return sum(m.bytes for m, _ in self.members)


def compact(
    path: Location,
    runs: Sequence[str] | None = None,
    dry: bool = False,
    progress: Progress = lambda *_: None,
) -> Compacted:
    """Merge the small fragments of a store, of some runs alone if they are named; `dry` writes nothing.

    Raises:
        StoreError: There is no store, or it cannot be written; nothing is lost.
        UnknownNameError: There is no such run.
        BusyError: Another process merges or deletes fragments, for longer than a minute.
    """
    backend = fresh(location.find(path))
    listed = fragments.listing(backend)
    _require(runs, {f.owner for f in listed if f.table == "runs"})
    committed = {f.path for f in commits.committed(backend, {f.path for f in listed})[0]}
    if not dry:
        location.require_bundles(backend)
    work = _Work(backend, committed, None if runs is None else {*runs}, dry, progress)
    for table in TABLES if runs is None else ("runs", *OF_RUNS):
        if dry:
            work.merge(table)
        else:
            with bundles.lock(backend):
                work.merge(table)
    return work.result()


def _require(runs: Sequence[str] | None, known: set[str]) -> None:
    for run in runs or ():
        if run not in known:
            raise UnknownNameError(
                f"The store holds no run {run!r}{near(run, known) or '; `attnstore runs` lists them'}"
            )


@dataclass
class _Work:
    """One pass over the tables. committed: paths that may be merged; owners: None for all."""

    backend: Backend
    committed: set[str]
    owners: set[str] | None
    dry: bool
    progress: Progress
    _count: Counter[str] = field(default_factory=Counter)
    _kept: list[str] = field(default_factory=list)

    def result(self) -> Compacted:
        n = self._count
        return Compacted(n["fragments"], n["tables"], n["bundles"], n["bytes"], self._kept)

    def merge(self, table: str) -> None:
        """Merge the fragments of one table; the caller holds the lock of bundles."""
        before = self._count["bundles"]
        if not self.dry:
            self._finish(table)
        listed = fragments.listing(self.backend, table)
        alone = [f for f in listed if not f.bundle]
        versions = Counter((f.owner, f.part) for f in alone)
        small = [
            f for f in alone
            if f.path in self.committed and f.bytes <= SMALL and versions[f.owner, f.part] == 1
            and (self.owners is None or f.owner in self.owners)
        ]  # fmt: skip
        current = {f.path: f for f in listed if f.bundle}
        groups: dict[bytes, list[_Unit]] = {}
        for unit in (*self._smaller(table, current), *self._fragments(small)):
            try:
                schema = parquet_footer.schema(unit.whole)
            except (ValueError, RecursionError):  # another program's: it stays as it is
                self._kept += [f.path for f in (unit.fragment,) if f]
                continue
            group = groups.setdefault(schema, [])
            if sum(u.bytes for u in group) + unit.bytes > bundles.FULL and group:
                self._write(table, group)
                groups[schema] = group = []
            group.append(unit)
        for group in groups.values():
            self._write(table, group)
        self._count["tables"] += self._count["bundles"] > before

    def _finish(self, table: str) -> None:
        """Delete fragments that lie alone and whole in a bundle, too, as a stopped call leaves them."""
        listed = fragments.listing(self.backend, table)
        alone = {f.path: f for f in listed if not f.bundle}
        versions = Counter((f.owner, f.part) for f in alone.values())
        twice: dict[tuple[str, str], str] = {}
        for bundle in bundles.listing(self.backend, table):
            with contextlib.suppress(DamageError):
                for m in bundles.members(self.backend, bundle):
                    path = f"{fragments.FOLDER}/{table}/{m.name}"
                    if (
                        path in alone
                        and versions[m.owner, m.part] == 1
                        and crc32c(bundles.read(self.backend, bundle.path, m)) == m.crc32c
                    ):
                        twice[m.owner, m.part] = m.name
        if twice:
            bundles.take_out_locked(
                self.backend, table, lambda m: twice.get((m.owner, m.part), m.name) != m.name
            )
            for name in twice.values():
                self.backend.remove(f"{fragments.FOLDER}/{table}/{name}")

    def _smaller(self, table: str, current: dict[str, Fragment]) -> Iterator[_Unit]:
        """Yield the members that count of bundles that are half full at most, or damaged, as units.

        A bundle without one is deleted.
        """
        for bundle in bundles.listing(self.backend, table):
            again = self.backend.crc32c(bundle.path) != bundles.sum_of(bundle)
            if bundle.bytes > bundles.FULL // 2 and not again:
                continue
            try:
                members = bundles.members(self.backend, bundle)
            except DamageError:
                self._kept.append(bundle.path)
                continue
            prefix = f"{fragments.FOLDER}/{table}"
            counting = [
                m for m in members
                if (f := current.get(f"{prefix}/{m.name}")) and f.bundle == bundle.path
            ]  # fmt: skip
            if counting:
                read = [(m, bundles.read(self.backend, bundle.path, m)) for m in counting]
                yield _Unit(read, bundle=bundle, again=again)
            elif not self.dry:
                self.backend.remove(bundle.path)

    def _fragments(self, small: list[Fragment]) -> Iterator[_Unit]:
        """Yield fragments that lie alone, as units."""
        for done, f in enumerate(small, 1):
            try:
                data = fragments.data(self.backend, f)
            except FileNotFoundError:  # its writer has just replaced it
                continue
            if crc32c(data) == f.crc32c:
                member = Member(f.owner, f.part, f.crc32c, f.bytes, f.modified)
                yield _Unit([(member, data)], fragment=f)
            else:
                self._kept.append(f.path)
            self.progress(done, len(small))

    def _write(self, table: str, group: list[_Unit]) -> None:
        """Make one bundle of units, then delete what it holds elsewhere."""
        if len(group) < 2 and not any(unit.again for unit in group):
            return
        members = [pair for unit in group for pair in unit.members]
        self._count.update(
            fragments=len(members), bundles=1, bytes=sum(m.bytes for m, _ in members)
        )
        if self.dry:
            return
        path = bundles.write(self.backend, table, members)
        alone = {(u.fragment.owner, u.fragment.part) for u in group if u.fragment}
        replaced = [u.bundle.path for u in group if u.bundle and u.bundle.path != path]
        # First what other bundles hold of these parts: as long as they lie alone they hide it.
        bundles.take_out_locked(
            self.backend, table, lambda m: (m.owner, m.part) in alone, (path, *replaced)
        )
        for old in (*replaced, *(u.fragment.path for u in group if u.fragment)):
            self.backend.remove(old)
