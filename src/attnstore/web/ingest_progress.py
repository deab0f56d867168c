"""Progress of ingestions that other processes run, as seen by a server that looks now and then."""

from __future__ import annotations

import time

from attnstore.storage import location, locks
from attnstore.storage.backend import Backend


class IngestProgress:
    """Remembers how many examples each run had, and when."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._counts: dict[str, list[tuple[float, int]]] = {}

    def seconds_left(self, run: str, stored: int, planned: int) -> tuple[bool, float | None]:
        """Return whether a run is being ingested, and the seconds left; None before two counts.

        Args:
            run: Name of the run.
            stored: Examples stored now.
            planned: Examples that the run will hold.
        """
        if stored >= planned or not locks.held(location.run_lock(self._backend, run)):
            self._counts.pop(run, None)
            return False, None
        counts = self._counts.setdefault(run, [])
        now = time.monotonic()
        if counts and stored < counts[-1][1]:  # another store lies in the folder
            counts.clear()
        if not counts or counts[-1][1] != stored:
            counts.append((now, stored))
        (began, first), (last, latest) = counts[0], counts[-1]
        if latest == first:
            return True, None
        seconds = (planned - latest) * (last - began) / (latest - first)
        return True, max(seconds - (now - last), 0.0)
