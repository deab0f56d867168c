"""Findings of `verify`; a failure on damaged bytes becomes one instead of a crash."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from attnstore.errors import AttnstoreError, BusyError
from attnstore.storage.tables import AGAIN

DROP = "drop the run and ingest it again"


@dataclass(frozen=True)
class Finding:
    """A problem, with the next step. run, block: None where it belongs to none."""

    run: str | None
    block: int | None
    what: str

    def __str__(self) -> str:
        """Format as one line: location and finding."""
        where = [self.run] if self.run else []
        where += [f"block {self.block}"] if self.block is not None else []
        return f"{', '.join(where)}: {self.what}" if where else self.what


@dataclass(frozen=True)
class Report:
    """Result of `verify`. notes: remarks that are no damage; checked: summary of the checks."""

    findings: list[Finding]
    notes: list[str]
    checked: str

    def rows(self) -> pl.DataFrame:
        """Return the findings as rows: run, block, what."""
        schema = {"run": pl.String, "block": pl.Int64, "what": pl.String}
        return pl.DataFrame([vars(f) for f in self.findings], schema=schema)


class Findings:
    """Collects findings and notes, each once."""

    def __init__(self) -> None:
        """Start without findings."""
        self._findings: dict[Finding, None] = {}
        self._places: set[tuple[str | None, int | None]] = set()
        self._about: set[str | None] = set()
        self._notes: dict[str, None] = {}

    def add(self, what: str, run: str | None = None, block: int | None = None) -> None:
        """Add damage."""
        self._findings[Finding(run, block, what)] = None
        self._places.add((run, block))
        self._about.add(run)

    def note(self, what: str) -> None:
        """Add a remark that is no damage."""
        self._notes[what] = None

    def any(self) -> bool:
        """Return True if there is damage."""
        return bool(self._findings)

    def known(self, run: str | None, block: int | None) -> bool:
        """Return True if damage of a block, or of its run as a whole, is known."""
        return not self._places.isdisjoint({(run, block), (run, None)})

    def about(self, run: str) -> bool:
        """Return True if damage anywhere in a run is known."""
        return run in self._about

    @contextlib.contextmanager
    def step(self, what: str, run: str | None = None, block: int | None = None) -> Iterator[None]:
        """Turn every failure into a finding: damaged bytes can fail anywhere, in any library."""
        try:
            yield
        except BusyError as error:
            self.note(str(error))
        except AttnstoreError as error:
            self.add(str(error), run, block)
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0][:200]
            self.add(
                f"{what} cannot be read ({type(error).__name__}: {reason}); {AGAIN}.", run, block
            )

    def report(self, checked: str) -> Report:
        """Return everything that was collected."""
        return Report(list(self._findings), list(self._notes), checked)
