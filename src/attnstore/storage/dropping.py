"""Delete a run: first its record, so that it is gone at once, then its data."""

from __future__ import annotations

import contextlib

from attnstore.errors import BusyError, StoreError, UnknownNameError
from attnstore.naming import near
from attnstore.storage import arrays, fragments, index, location, locks
from attnstore.storage.backend import Backend
from attnstore.storage.tables import OF_RUNS


def drop(backend: Backend, run: str) -> None:
    """Delete a run.

    If it is interrupted, files without a record remain: `gc` moves them aside.

    Raises:
        UnknownNameError: There is no such run.
        BusyError: The run is being ingested.
        StoreError: The system refuses to delete a file, or the index cannot be written.
    """
    runs = {fragment.owner for fragment in fragments.listing(backend, "runs")}
    if run not in runs:
        raise UnknownNameError(
            f"The store holds no run {run!r}{near(run, runs) or '; `attnstore runs` lists them'}"
        )
    lock = location.run_lock(backend, run)
    with locks.hold(lock, what=f"Run {run}"):
        try:
            for table in ("runs", *OF_RUNS):
                fragments.remove(backend, table, run)
            arrays.remove(backend, run)
        except StoreError as error:
            raise StoreError(_not_deleted(backend, run, error)) from error
        with contextlib.suppress(
            OSError
        ):  # under the lock, so that nobody waits for a deleted file
            lock.file.unlink(missing_ok=True)
    try:
        index.catch_up(backend)
    except BusyError:  # it catches up when the store is next opened
        return
    except StoreError as error:
        raise StoreError(f"Run {run} is deleted, but the index still lists it: {error}") from error


def _not_deleted(backend: Backend, run: str, error: StoreError) -> str:
    """Describe how far a failed deletion got."""
    if fragments.listing(backend, "runs", run):
        return f"Nothing of run {run} was deleted: {error}"
    return (
        f"Run {run} is no longer in the store, but some of its files are left: {error} "
        "`attnstore gc` moves them aside."
    )
