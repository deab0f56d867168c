"""A bound on the memory of a process for a query, so that an absurd one ends in a sentence.

DuckDB's own limit does not count what its functions allocate (texts that are repeated, lists that
are built, weights that are read); the limit of the system does.
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

MEMORY = 2 << 30
"""Bytes that a query may take by default."""


def settings(memory: int) -> dict[str, str]:
    """Return settings of DuckDB for queries of so many bytes: half for DuckDB, half for functions."""
    return {"memory_limit": f"{memory // 2}B", "max_temp_directory_size": "0B"}


def bind(memory: int) -> None:
    """Let the process allocate so many bytes beyond what it has; a larger allocation fails."""
    import pyarrow as pa

    pa.allocate_buffer(1)  # Arrow's pool reserves 1 GiB with its first buffer, no one's memory
    with contextlib.suppress(OSError, ValueError, IndexError):
        limit = _allocated() + memory
        resource.setrlimit(
            resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1])
        )


@contextlib.contextmanager
def bound(memory: int) -> Iterator[None]:
    """Bound the memory, as `bind` does, for the length of a block."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    bind(memory)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _allocated() -> int:
    """Return the bytes of data that the process has mapped."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.split("VmData:")[1].split()[0]) * 1024
