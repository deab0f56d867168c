"""Checks of the index for `verify`: its bytes, its rows against the fragments, and `sql/check`."""

from __future__ import annotations

from collections.abc import Callable

from attnstore.errors import DamageError, StoreError
from attnstore.maintenance.findings import DROP, Findings
from attnstore.resources import sql_files
from attnstore.storage import fragments, index, index_seal
from attnstore.storage.backend import Backend
from attnstore.storage.fragments import Fragment
from attnstore.storage.tables import TABLES, expanded
from attnstore.store import Store

Whose = Callable[[Fragment], tuple[str | None, int | None]]
"""The run and the block that a fragment is about, None where it is about none."""


class IndexChecks:
    """The checks of a store's index, after those of its fragments.

    whole: the whole fragments by path; done: how many files of `sql/check` were run.
    """

    def __init__(
        self, backend: Backend, findings: Findings, whole: dict[str, Fragment], whose: Whose
    ) -> None:
        self.backend, self.findings = backend, findings
        self._whole, self._whose = whole, whose
        self.done = 0

    def run(self) -> None:
        """Check that the index is as it was left and holds the rows of the fragments."""
        if not self._sealed():
            return
        committed = index.committed(self.backend, self._whole)[0]
        loose = self._whole.keys() - {f.path for f in committed}
        if n := sum(not self.findings.about(self._whole[path].owner) for path in loose):
            self.findings.note(
                f"{n} fragments belong to no committed block or run; they do no harm."
            )
        try:
            store = Store(self.backend)
        except DamageError:
            raise
        except StoreError as error:
            self.findings.add(f"The tables were not checked: {error}")
            return
        with store:
            unreadable = self._unreadable(store)
            if store.behind:
                self.findings.note(store.behind)
            else:
                self._indexed(store, index.counting(committed, unreadable))
            self._checks(store)
        if self.done < len(sql_files("check")) and not self.findings.any():
            self.findings.add("The tables were not checked; run `attnstore verify` again.")

    def _sealed(self) -> bool:
        """Return True if the index matches its seal, byte by byte, or there is none to compare."""
        if not (self.backend.root / index.FILE).exists():
            return True
        with index.reading(self.backend):
            sealed = index.sealed(self.backend)
        if sealed is False:
            whole = index_seal.read(self.backend.root / index.SEAL) is not None
            damage = (
                f"{index.FILE} does not match its checksum" if whole else f"{index.SEAL} is damaged"
            )
            self.findings.add(
                f"{damage} and the tables were not checked; `attnstore reindex` rebuilds it, then "
                "verify again."
            )
        return sealed is not False

    def _unreadable(self, store: Store) -> set[str]:
        """Report fragments that match their checksum and cannot be loaded; return their paths."""
        problems = dict(store.sql("SELECT path, problem FROM idx.core.unreadable").iter_rows())
        for fragment in self._whole.values():
            if fragment.path in problems:
                self.findings.add(problems[fragment.path], *self._whose(fragment))
        return set(problems)

    def _indexed(self, store: Store, expected: list[Fragment]) -> None:
        """Check that the index holds as many rows of each fragment as the fragment has."""
        tables = " UNION ALL ".join(f"SELECT fragment FROM idx.core.{t}" for t in TABLES)
        counts = store.sql(
            f"SELECT path, count(r.fragment) FROM idx.core.fragments LEFT JOIN ({tables}) r "
            "USING (fragment) GROUP BY path"
        )
        indexed = dict(counts.iter_rows())
        counted = fragments.counts(self.backend, expected)
        for path, rows in counted.items():
            if indexed.get(path) != rows:
                self.findings.add(
                    f"{index.FILE} holds {indexed.get(path, 0)} rows of {path}, which has {rows}; "
                    "`attnstore reindex` rebuilds it."
                )

    def _checks(self, store: Store) -> None:
        """Check that every file of `sql/check` gives no rows, but for known damage."""
        for name, path in sql_files("check").items():
            with self.findings.step(f"sql/check/{name}.sql"):
                for run, block, problem in store.sql(expanded(path.read_text("utf-8"))).iter_rows():
                    if not self.findings.known(run, block):
                        next_step = f"; {DROP}" if run else ""  # otherwise the check names it
                        self.findings.add(
                            f"{problem} (sql/check/{name}.sql){next_step}.", run, block
                        )
                self.done += 1
