"""Whether a store is sound: every byte is what was committed, and what the bytes say holds together.

Nothing here trusts what it reads: whatever is wrong becomes a finding that names the run and the
block, and the checks that do not need it go on. Ingesting again mends what this finds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from attnstore.disk import arrays, buckets, description, fragments, index, layout, rowsums
from attnstore.disk.files import Place
from attnstore.disk.fragments import Fragment
from attnstore.errors import DamageError, StoreError
from attnstore.query.findings import AGAIN, DROP, Findings, Report
from attnstore.readable import many, size
from attnstore.resources import sql_files
from attnstore.store import MARK, VERSION, Store, locate

Progress = Callable[[str, int, int], None]
"""Called with a run, its blocks that are checked and all its committed blocks, after each block."""

_MEND = {
    "ingests": "ingest the run again, which removes it: only the record of one ingestion is lost",
    "spans": "annotate again",
    "links": "annotate again",
    "labels": "restore it from a copy: it was made by hand",
    "patterns": "classify again",
    "classifications": "classify again, which removes it: only the record of one classification is lost",
    "evaluations": "evaluate again: the same `flows.finetune`",
    "ablations": "disable the heads again",
    "head_importance": "disable the heads again",
    "prunings": "prune again",
}
"""What to do about a damaged fragment of a table that ingesting does not write."""


def verify(root: str | Path, progress: Progress | None = None) -> Report:
    """Check a whole store; about a second for 300 MB.

    Writes nothing but the index, which catches up. Raises StoreError where there is no store.
    """
    folder = locate(root)
    place = buckets.of(folder)
    if not _in_part(place):
        raise StoreError(f"There is no attention store at {place.name}; give the folder of one.")
    work = _Verification(folder, progress or (lambda *_: None))
    for check in (work.mark, work.fragments, work.runs, work.leftovers, work.index):
        with work.findings.step(f"{place.name} ({check.__name__})"):
            check()
    return work.findings.report(work.checked())


def _in_part(place: Place) -> bool:
    """Whether anything of a store is there."""
    try:
        place.read(MARK)
    except FileNotFoundError:
        return bool(place.files(fragments.FOLDER) or place.files(arrays.FOLDER))
    return True


class _Verification:
    """One pass over a store; each method is one kind of check, in the order that `verify` has.

    _whole: the newest whole fragment of each (table, owner, part); _expected: files of the arrays
    that something refers to.
    """

    def __init__(self, root: Path, progress: Progress) -> None:
        self.root, self._place, self._progress = root, buckets.of(root), progress
        self.findings = Findings()
        self._runs: list[str] = []
        self._whole: dict[tuple[str, str, str], Fragment] = {}
        self._expected: set[str] = set()
        self._count: Counter[str] = Counter()

    def checked(self) -> str:
        """What was looked at, in words."""
        n = self._count
        return (
            f"{n['runs']:,} runs, {n['blocks']:,} blocks, {many(n['weights'])} weights, "
            f"{size(n['bytes'])} in shards, {n['fragments']:,} fragments, {n['checks']} SQL checks"
        )

    def mark(self) -> None:
        """`attnstore.json` is as it was written."""
        data = (self._read(MARK) or b"").rstrip(b"\n")
        if data not in [json.dumps({"attnstore": v}).encode() for v in range(1, VERSION + 1)]:
            self.findings.add(
                f'{MARK} is missing or damaged; write {{"attnstore": {VERSION}}} into it.'
            )

    def _read(self, path: str) -> bytes | None:
        """A file of the store; None where there is none."""
        try:
            return self._place.read(path)
        except FileNotFoundError:
            return None

    def fragments(self) -> None:
        """Every fragment matches the checksum in its name."""
        found = sorted(fragments.listing(self.root), key=lambda f: f.modified)
        self._runs = sorted({f.owner for f in found if f.table == "runs"})
        self._count.update(fragments=len(found), runs=len(self._runs))
        for fragment in found:
            run = fragment.owner if fragment.owner in self._runs else None
            by_block = fragment.table in ("blocks", "map_stats") and fragment.part.isdecimal()
            block = int(fragment.part) if by_block else None
            with self.findings.step(fragment.path, run, block):
                if what := self._fragment(fragment):
                    self.findings.add(f"{fragment.path} {what}.", run, block)
        hidden = (self.root / fragments.FOLDER).rglob(".*")  # what killed writers left
        others = sum(not f.path.endswith(".parquet") for f in self._place.files(fragments.FOLDER))
        if n := others + sum(path.is_file() for path in hidden):
            self.findings.note(
                f"{n} files in {fragments.FOLDER} are no fragments and can be deleted."
            )

    def _fragment(self, fragment: Fragment) -> str | None:
        """What is wrong with a fragment, if anything."""
        if fragment.table not in index.TABLES or fragment.crc32c < 0:
            return "is no fragment of attnstore; move it away"
        if self._place.crc32c(fragment.path) != fragment.crc32c:
            return f"does not match its checksum; {_MEND.get(fragment.table, AGAIN)}"
        key = fragment.table, fragment.owner, fragment.part
        if older := self._whole.get(key):
            self.findings.note(f"{older.path} is superseded and can be deleted.")
        self._whole[key] = fragment
        return None

    def runs(self) -> None:
        """Each run's arrays are described as its record says, and its blocks are whole."""
        for run in self._runs:
            with self.findings.step("The run", run):
                self._run(run)

    def _run(self, run: str) -> None:
        records, inputs, blocks = (self._rows(t, run) for t in ("runs", "inputs", "blocks"))
        record = {} if records is None else records.row(0, named=True)
        opened = None
        if record and inputs is not None:
            with self.findings.step("The arrays", run):
                if self._plan(run, record, inputs):
                    opened = arrays.open_run(self.root, run)
        elif record and not self.findings.known(run, None):
            self.findings.add(f"the plan of its inputs is missing; {AGAIN}.", run)
        rows = [] if blocks is None else blocks.sort("block").to_dicts()
        if len(rows) < record.get("n_blocks", 0):
            self.findings.note(
                f"{run} holds {len(rows)} of {record['n_blocks']} blocks; ingest it again to finish."
            )
        for done, row in enumerate(rows, 1):
            number = row["block"]
            with self.findings.step("The block", run, number):
                if self._shards(run, row) and opened and inputs is not None:
                    mine = inputs.filter(pl.col("block") == number)
                    if what := rowsums.wrong(
                        opened, record["precision"], mine, bool(record.get("sinks"))
                    ):
                        self.findings.add(f"{what}; {DROP}.", run, number)
                    maps = len(opened.layers) * len(opened.heads)
                    self._count.update(weights=row["n_cells"] * maps)
            self._progress(run, done, len(rows))

    def _rows(self, table: str, run: str) -> pl.DataFrame | None:
        """All whole rows of a run in a table."""
        mine = [f for (t, owner, _), f in self._whole.items() if (t, owner) == (table, run)]
        frames = [fragments.read(self.root, f) for f in mine]
        return pl.concat(frames, how="vertical_relaxed") if frames else None

    def _plan(self, run: str, record: dict[str, Any], inputs: pl.DataFrame) -> bool:
        """Whether the inputs lie where the plan puts them, and the arrays are described for it."""
        plan = layout.plan(inputs["length"].to_numpy())
        stored = inputs.select("block", "cell", "token_cell").to_numpy()
        if not np.array_equal(stored, np.stack((plan.block, plan.cell, plan.token), axis=1)):
            self.findings.add(f"its inputs do not lie where the plan puts them; {DROP}.", run)
        wanted = description.description(
            run, record["precision"], record["layers"], record["heads"], plan.n_shards
        )
        self._expected.update(wanted)
        for path, data in wanted.items():
            if self._read(path) != data:
                what = f"{path} is missing or not what describes the arrays; {AGAIN}."
                self.findings.add(what, run if path.startswith(f"{arrays.FOLDER}/{run}/") else None)
        return not self.findings.known(run, None)

    def _shards(self, run: str, row: dict[str, Any]) -> bool:
        """Whether the shards of a committed block are whole."""
        self._expected.update(arrays.sealed(run, row))
        damaged = arrays.damage(self.root, run, row)
        for path in damaged:
            lies = self._place.crc32c(path) is not None
            what = "does not match its checksum" if lies else "is missing"
            self.findings.add(
                f"{path} {what}; ingest the run again, which computes the block anew.",
                run,
                row["block"],
            )
        self._count.update(blocks=1, bytes=row["maps_bytes"] + row["received_bytes"])
        return not damaged

    def leftovers(self) -> None:
        """Files of the arrays that nothing refers to are told, and are no damage."""
        found: Counter[str] = Counter()
        groups = {p / "zarr.json" for run in self._runs for p in Path(arrays.FOLDER, run).parents}
        for file in self._place.files(arrays.FOLDER):
            inside = Path(file.path)
            if inside not in groups and file.path not in self._expected:
                parents = {p.as_posix() for p in inside.relative_to(arrays.FOLDER).parents}
                found[next((run for run in self._runs if run in parents), "")] += 1
        for run, n in sorted(found.items()):
            if not run:
                self.findings.note(
                    f"{n} files in {arrays.FOLDER} belong to no run and can be deleted."
                )
            elif not self.findings.about(run):
                self.findings.note(
                    f"{run}: {n} files belong to no committed block; ingesting it again overwrites them."
                )

    def index(self) -> None:
        """The index is as it was left, and holds the rows of the fragments."""
        if (self.root / index.FILE).exists():
            with index.reading(self.root):
                sealed = index.sealed(self.root)
            if sealed is False:
                self.findings.add(
                    f"{index.FILE} does not match its checksum and its tables were not checked; "
                    "`attnstore reindex` makes it anew, then verify again."
                )
                return
        whole = {f.path: f.owner for f in self._whole.values()}
        wanted = [f.path for f in index.committed(self.root, whole)[0]]
        if n := sum(not self.findings.about(whole[path]) for path in whole.keys() - wanted):
            self.findings.note(
                f"{n} fragments belong to no committed block or run; they do no harm."
            )
        try:
            store = Store(self.root)
        except DamageError:
            raise
        except StoreError as error:
            self.findings.note(f"The tables were not checked. {error}")
            return
        with store:
            if store.behind:
                self.findings.note(store.behind)
            else:
                self._indexed(store, wanted)
            self._checks(store)

    def _indexed(self, store: Store, wanted: list[str]) -> None:
        """The index holds as many rows of each fragment as the fragment has."""
        tables = " UNION ALL ".join(f"SELECT fragment FROM idx.core.{t}" for t in index.TABLES)
        found = store.sql(
            f"SELECT path, count(r.fragment) FROM idx.core.fragments LEFT JOIN ({tables}) r "
            "USING (fragment) GROUP BY path"
        )
        held = dict(found.iter_rows())
        for path in wanted:
            file = self._place.local(path)
            rows = pl.scan_parquet(file, glob=False).select(pl.len()).collect().item()
            if held.get(path) != rows:
                self.findings.add(
                    f"{index.FILE} holds {held.get(path, 0)} rows of {path}, which has {rows}; "
                    "`attnstore reindex` makes it anew."
                )

    def _checks(self, store: Store) -> None:
        """Every file of `sql/check` gives no rows, but for what is known to be damaged."""
        for name, path in sql_files("check").items():
            with self.findings.step(f"sql/check/{name}.sql"):
                for run, block, what in store.sql(path.read_text()).iter_rows():
                    if not self.findings.known(run, block):
                        self.findings.add(f"{what} (sql/check/{name}.sql); {DROP}.", run, block)
            self._count.update(checks=1)
