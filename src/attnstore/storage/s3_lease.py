"""Locks between machines: objects in a bucket that are put on condition and renewed.

A `Lease` is between machines like a flock between the processes of one machine. The system
frees a flock when its holder dies; a lease that is not renewed runs out.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import S3Store

SECONDS = 45.0
"""A lock in a bucket whose holder has not renewed it for so long may be taken over."""
POLL_SECONDS = 5.0
"""Seconds between two looks at a lock that somebody else has."""
CLOCK = "locks/clock"
"""An object that is put to learn the server's time."""


class Lease:
    """One lock object. path: of the object; machine: identifies this machine's processes.

    Its methods raise obstore's errors.
    """

    def __init__(self, store: S3Store, path: str, machine: str) -> None:
        self._store, self._path = store, path
        self._identity = {
            "host": platform.node(), "pid": os.getpid(), "machine": machine, "id": uuid.uuid4().hex,
        }  # fmt: skip
        self._renewals = 0
        self._tag: str | None = None
        self._seen = 0.0
        self._taken_over = False

    @property
    def lost(self) -> bool:
        """Return True if it was, or may have been, taken over since its last renewal."""
        return self._taken_over or _awake() - self._seen > SECONDS

    def taken(self) -> str | None:
        """Try to take the lease; return None, or its holder."""
        with contextlib.suppress(AlreadyExistsError):
            self._put("create")
            return None
        try:
            there = obstore.get(self._store, self._path)
            holder = _holder(bytes(there.bytes()))
        except FileNotFoundError:
            return "a process that has just ended"
        neighbour = holder.get("machine") == self._identity["machine"]
        if neighbour or self._age(there.meta["last_modified"]) > SECONDS:
            with contextlib.suppress(PreconditionError):
                self._put({"e_tag": there.meta["e_tag"]})
                return None
        return f"process {holder.get('pid')} on {holder.get('host')}"

    def fresh(self) -> bool:
        """Return True if it was renewed recently, by this machine's clock; for display only."""
        try:
            renewed = obstore.head(self._store, self._path)["last_modified"]
        except FileNotFoundError:
            return False
        return (datetime.now(UTC) - renewed).total_seconds() < SECONDS

    def _age(self, renewed: datetime) -> float:
        """Compute the seconds since then by the server's clock; the clocks of machines may differ."""
        obstore.put(self._store, CLOCK, b"")
        now = obstore.head(self._store, CLOCK)["last_modified"]
        return (now - renewed).total_seconds()

    @contextlib.contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew it in a thread until the block ends, then release it."""
        ended = threading.Event()
        thread = threading.Thread(target=self._renew, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            if not self.lost:
                with contextlib.suppress(BaseError, OSError):
                    obstore.delete(self._store, self._path)

    def _renew(self, ended: threading.Event) -> None:
        while not self._taken_over and not ended.wait(SECONDS / 4):
            try:
                self._put({"e_tag": self._tag})
            except (PreconditionError, FileNotFoundError):
                self._taken_over = not self._still_held()
            except (BaseError, OSError):
                continue  # the network may come back in time

    def _still_held(self) -> bool:
        """Return True if the last renewal succeeded and only its response was lost."""
        with contextlib.suppress(BaseError, OSError):
            stored = obstore.get(self._store, self._path)
            if _holder(bytes(stored.bytes())).get("id") == self._identity["id"]:
                self._tag = stored.meta["e_tag"]
                return True
        return False

    def _put(self, mode: Any) -> None:
        """Put the object with new content, so that its tag changes every time."""
        content = json.dumps({**self._identity, "renewals": self._renewals}).encode()
        at = _awake()
        result = obstore.put(self._store, self._path, content, mode=mode)
        self._renewals, self._tag, self._seen = self._renewals + 1, result["e_tag"], at


def _holder(data: bytes) -> dict[str, Any]:
    """Read the holder of a lock from its object; empty where that is damaged."""
    try:
        holder = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _awake() -> float:
    """Return seconds of a clock that runs while the machine sleeps, where the system has one."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)
