"""Check a store: every byte is as committed, and the parts agree with each other.

Nothing here trusts the data it reads: every problem becomes a finding that names the run and the
block, and the checks that do not need it continue. Ingesting again fixes these problems.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from attnstore.errors import DamageError, StoreError
from attnstore.formatting import many, size
from attnstore.maintenance import row_sums
from attnstore.maintenance.findings import DROP, Findings, Report
from attnstore.maintenance.index_check import IndexChecks
from attnstore.storage import (
    array_blocks,
    array_shape,
    arrays,
    bundles,
    commits,
    fragments,
    index,
    layout,
    zarr_metadata,
)
from attnstore.storage.array_shape import Shape
from attnstore.storage.backend import Backend
from attnstore.storage.fragments import Fragment
from attnstore.storage.location import MARK, VERSION, Location, exists, locate, mark
from attnstore.storage.run_record import RunRecord
from attnstore.storage.tables import AGAIN, NEEDS, TABLES, tables

Progress = Callable[[str, int, int], None]
"""Called with a run, its blocks that are checked and all its committed blocks, after each block."""

_READ = ("runs", "inputs", "blocks", array_blocks.TABLE)
_RUNS_AT_ONCE = 256
"""Runs whose plans and blocks are read together."""


def verify(path: Location, progress: Progress | None = None) -> Report:
    """Check a whole store; about a second for 300 MB.

    Writes nothing but the index, which catches up. Raises StoreError where there is no store, or one
    of a later layout.
    """
    backend = locate(path)
    with contextlib.suppress(DamageError):  # of the mark, which is named below
        exists(backend)  # refuses a store of a later layout, as readers do
    if not _in_part(backend):
        raise StoreError(f"There is no attention store at {backend.name}; give the folder of one.")
    work = _Verification(backend, progress or (lambda *_: None))
    for check in (work.mark, work.fragments, work.runs, work.leftovers, work.index):
        with work.findings.step(f"{backend.name} ({check.__name__})"):
            check()
    return work.findings.report(work.checked())


def _in_part(backend: Backend) -> bool:
    """Return True if any part of a store is there."""
    try:
        backend.read(MARK)
    except FileNotFoundError:
        return bool(backend.files(fragments.FOLDER) or backend.files(arrays.FOLDER))
    return True


class _Verification:
    """One pass over a store; each method is one kind of check, in the order that `verify` has.

    _whole: the newest whole fragment of each (table, owner, part), _of: the same by table and owner;
    _owners: the (table, owner) that have any; _expected: files of the arrays that something refers to.
    """

    def __init__(self, backend: Backend, progress: Progress) -> None:
        self.backend, self._progress = backend, progress
        self.findings = Findings()
        self._runs: list[str] = []
        self._whole: dict[tuple[str, str, str], Fragment] = {}
        self._owners: set[tuple[str, str]] = set()
        self._of: dict[tuple[str, str], dict[str, Fragment]] = defaultdict(dict)
        self._ahead: dict[str, pl.DataFrame] = {}
        self._expected: set[str] = set()
        self._count: Counter[str] = Counter()

    def checked(self) -> str:
        """Summarize the checks."""
        n = self._count
        return (
            f"{n['runs']:,} runs, {n['blocks']:,} blocks, {many(n['weights'])} weights, "
            f"{size(n['bytes'])} in shards, {n['fragments']:,} fragments, {n['checks']} SQL checks"
        )

    def mark(self) -> None:
        """Check that `attnstore.json` is as it was written."""
        data = (self._read(MARK) or b"").rstrip(b"\n")
        if data not in [mark(number) for number in range(1, VERSION + 1)]:
            self.findings.add(
                f"{MARK} is missing or damaged; write {mark(VERSION).decode()} into it."
            )

    def _read(self, path: str) -> bytes | None:
        """Read a file of the store; None where there is none."""
        try:
            return self.backend.read(path)
        except FileNotFoundError:
            return None

    def fragments(self) -> None:
        """Check that every fragment matches the checksum in its name, and every bundle of them."""
        self._bundles()
        all_fragments = sorted(fragments.listing(self.backend), key=lambda f: f.modified)
        self._runs = sorted({f.owner for f in all_fragments if f.table == "runs"})
        self._count.update(fragments=len(all_fragments), runs=len(self._runs))
        self._owners = {(f.table, f.owner) for f in all_fragments}
        parts = {(f.table, f.owner, f.part) for f in all_fragments}
        for fragment in all_fragments:
            run, block = self._whose(fragment)
            with self.findings.step(fragment.path, run, block):
                if damage := self._fragment(fragment):
                    self.findings.add(f"{fragment.path} {damage}.", run, block)
                elif (needed := NEEDS.get(fragment.table)) and (
                    needed, fragment.owner, fragment.part
                ) not in parts:  # fmt: skip
                    self.findings.add(
                        (tables()[fragment.table].without or "").format(fragment.owner), run, block
                    )
        if not all_fragments and not self.backend.files(arrays.FOLDER):
            self._empty()
        hidden = (self.backend.root / fragments.FOLDER).rglob(".*")  # left by killed writers
        others = sum(not f.path.endswith(".parquet") for f in self.backend.files(fragments.FOLDER))
        if n := others + sum(path.is_file() for path in hidden):
            self.findings.note(
                f"{n} files in {fragments.FOLDER} are no fragments and can be deleted."
            )

    def _bundles(self) -> None:
        """Check every byte of the bundles; what of a member is damaged is said of the member, too."""
        for table in TABLES:
            for bundle in bundles.listing(self.backend, table):
                differs = self.backend.crc32c(bundle.path) != bundles.sum_of(bundle)
                if differs and bundle in bundles.listing(
                    self.backend, table
                ):  # else it was replaced
                    self.findings.add(
                        f"{bundle.path} does not match its checksum; fix the fragments in it that are named "
                        "here, if any, then run `attnstore compact`, which writes it anew."
                    )

    def _whose(self, fragment: Fragment) -> tuple[str | None, int | None]:
        """Return the run and the block of a fragment, None where it has none."""
        run = fragment.owner if fragment.owner in self._runs else None
        block = commits.of_block(fragment)
        return run, int(block) if block is not None and block.isdecimal() else None

    def _fragment(self, fragment: Fragment) -> str | None:
        """Describe the damage of a fragment; None if there is none."""
        if fragment.table == bundles.FOLDER:
            return (
                "is damaged, a bundle of fragments whose directory does not match its checksum; bring it "
                "back from a copy, or move it away and make again what it held"
            )
        if fragment.table not in TABLES or fragment.crc32c < 0:
            return "is no fragment of attnstore; move it away"
        if fragments.stored_crc32c(self.backend, fragment) != fragment.crc32c:
            return f"does not match its checksum; {tables()[fragment.table].repair}"
        key = fragment.table, fragment.owner, fragment.part
        if older := self._whole.get(key):
            self.findings.note(f"{older.path} is superseded and can be deleted.")
        self._whole[key] = fragment
        self._of[key[:2]][fragment.part] = fragment
        return None

    def runs(self) -> None:
        """Check that each run's arrays are described as its record says, and its blocks whole."""
        for at in range(0, len(self._runs), _RUNS_AT_ONCE):
            batch = self._runs[at : at + _RUNS_AT_ONCE]
            self._ahead = self._read_ahead(batch)
            for run in batch:
                with self.findings.step("The run", run):
                    self._run(run)

    def _read_ahead(self, runs: list[str]) -> dict[str, pl.DataFrame]:
        """Read the rows of these runs' fragments by path, as far as they can be read together."""
        rows: dict[str, pl.DataFrame] = {}
        for table in _READ:
            of_table = [f for run in runs for f in self._of.get((table, run), {}).values()]
            with contextlib.suppress(pl.exceptions.PolarsError, OSError):  # then one by one
                rows |= fragments.read_together(self.backend, of_table)
        return rows

    def _run(self, run: str) -> None:
        records, inputs, blocks, further = (self._rows(run_table, run) for run_table in _READ)
        record = None if records is None else RunRecord.of_row(records.row(0, named=True))
        self._described(run, record)
        opened = None
        if record and inputs is not None:
            with self.findings.step("The arrays", run):
                shape = array_shape.of_record(run, record, zarr_metadata.end_of(inputs))
                if self._plan(run, shape, inputs, further):
                    opened = arrays.open_run(self.backend, run, shape)
        elif record and not self.findings.known(run, None):
            self.findings.add(f"the plan of its inputs is missing; {AGAIN}.", run)
        rows = [] if blocks is None else blocks.sort("block").to_dicts()
        if record and len(rows) < record.n_blocks:
            self.findings.note(
                f"{run} holds {len(rows)} of {record.n_blocks} blocks; ingest it again to finish."
            )
        for done, row in enumerate(rows, 1):
            number = row["block"] if row.get("block") is not None else -1
            with self.findings.step("The block", run, number):
                if self._shards(run, row) and opened and record and inputs is not None:
                    in_block = inputs.filter(pl.col("block") == number)
                    if problem := row_sums.wrong(opened, record.precision, in_block, record.sinks):
                        self.findings.add(f"{problem}; {DROP}.", run, number)
                    maps = len(opened.layers) * len(opened.heads)
                    self._count.update(weights=row["n_cells"] * maps)
            self._progress(run, done, len(rows))
        self._further(run, {row["block"] for row in rows}, further)

    def _further(self, run: str, blocks: set[int], rows: pl.DataFrame | None) -> None:
        """Check the further arrays of a run's committed blocks."""
        for row in [] if rows is None else rows.sort("array", "block").to_dicts():
            name, block = row["array"], row["block"]
            if block not in blocks:
                continue
            with self.findings.step(f"The block of {name}", run, block):
                advice = f"{array_blocks.remedy(name)}, which recomputes the block"
                self._whole_shards(run, block, arrays.sealed_further(run, row), advice)
                self._count.update(bytes=row["bytes"])

    def _described(self, run: str, record: RunRecord | None) -> None:
        """Check that the model and the dataset of a run have their records."""
        if record is None:
            return
        for table, owner in (
            ("models", record.model),
            ("datasets", record.dataset),
            ("examples", record.dataset),
        ):
            if (table, owner) not in self._owners:
                problem = f"{fragments.FOLDER}/{table}/{owner} is missing"
                self.findings.add(f"{problem}; {AGAIN}.", run)

    def _empty(self) -> None:
        """Check that a store without data never had any."""
        loaded = 0
        with contextlib.suppress(StoreError):  # `IndexChecks` names what is wrong with it
            loaded = index.n_loaded(self.backend)
        if loaded:
            self.findings.add(
                f"{index.FILE} has rows of {loaded} fragments, and {fragments.FOLDER}/ and "
                f"{arrays.FOLDER}/ are gone: bring them back from a copy, or delete {index.FILE} if the "
                "store is to be empty."
            )
        else:
            self.findings.note("The store is empty: nothing has been ingested into it.")

    def _rows(self, table: str, run: str) -> pl.DataFrame | None:
        """Read all whole rows of a run in a table."""
        owned = self._of.get((table, run), {}).values()
        frames = [
            self._ahead[f.path] if f.path in self._ahead else fragments.read(self.backend, f)
            for f in owned
        ]
        return pl.concat(frames, how="diagonal_relaxed") if frames else None

    def _plan(
        self, run: str, shape: Shape, inputs: pl.DataFrame, further: pl.DataFrame | None
    ) -> bool:
        """Check that the inputs lie where the plan puts them, and that zarr.json describes that."""
        plan = layout.plan(inputs["length"].to_numpy())
        stored = inputs.select("block", "cell", "token_cell").to_numpy()
        if not np.array_equal(stored, np.stack((plan.block, plan.cell, plan.token), axis=1)):
            self.findings.add(f"its inputs do not lie where the plan puts them; {DROP}.", run)
        expected = zarr_metadata.description(run, shape) | array_blocks.descriptions_of(
            run, shape, further
        )
        self._expected.update(expected)
        for path, data in expected.items():
            read = self._read(path)
            if read is None or not zarr_metadata.agrees(read, data):
                problem = f"{path} is missing or not what describes the arrays; {AGAIN}."
                self.findings.add(
                    problem, run if path.startswith(f"{arrays.FOLDER}/{run}/") else None
                )
        name = zarr_metadata.unlike_own(self._read, run, zarr_metadata.names(run, expected))
        if name and not self.findings.known(run, None):
            own, group = zarr_metadata.path_of(run, name), arrays.group_path(run)
            self.findings.add(f"{group} and {own} describe the array differently; {AGAIN}.", run)
        return not self.findings.known(run, None)

    def _shards(self, run: str, row: dict[str, Any]) -> bool:
        """Return True if the shards of a committed block are whole."""
        advice = "ingest the run again, which recomputes the block"
        whole = self._whole_shards(run, row["block"], arrays.sealed(run, row), advice)
        self._count.update(blocks=1, bytes=row["maps_bytes"] + row["received_bytes"])
        return whole

    def _whole_shards(self, run: str, block: int, sealed: dict[str, int], advice: str) -> bool:
        """Return True if shards match their checksums. sealed: CRC-32C by path."""
        self._expected.update(sealed)
        damaged = arrays.unlike(self.backend, sealed)
        for path in damaged:
            lies = self.backend.crc32c(path) is not None
            damage = "does not match its checksum" if lies else "is missing"
            self.findings.add(f"{path} {damage}; {advice}.", run, block)
        return not damaged

    def leftovers(self) -> None:
        """Note files of the arrays that nothing refers to; they are no damage."""
        unused: Counter[str] = Counter()
        groups = {p / "zarr.json" for run in self._runs for p in Path(arrays.FOLDER, run).parents}
        for file in self.backend.files(arrays.FOLDER):
            inside = Path(file.path)
            if inside not in groups and file.path not in self._expected:
                parents = {p.as_posix() for p in inside.relative_to(arrays.FOLDER).parents}
                unused[next((run for run in self._runs if run in parents), "")] += 1
        for run, n in sorted(unused.items()):
            if not run:
                self.findings.note(
                    f"{n} files in {arrays.FOLDER} belong to no run and can be deleted."
                )
            elif not self.findings.about(run):
                self.findings.note(
                    f"{run}: {n} files belong to no committed block; ingesting it again overwrites them."
                )

    def index(self) -> None:
        """Check that the index is as it was left and holds the rows of the fragments."""
        whole = {f.path: f for f in self._whole.values()}
        checks = IndexChecks(self.backend, self.findings, whole, self._whose)
        checks.run()
        self._count.update(checks=checks.done)
