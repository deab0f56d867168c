"""A bound on the memory of a process for a query, so that an absurd one ends in a sentence.

DuckDB's own limit does not count what its functions allocate (texts that are repeated, lists that
are built, weights that are read). What counts is what a process holds in memory, which somebody has
to watch; the system's own limit counts addresses, most of them reserved and never used, and stands
far beyond as a last resort against one allocation that is all too large.
"""

from __future__ import annotations

import contextlib
import re
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

MEMORY = 2 << 30
"""Bytes that a query may hold by default."""
EVERY = 0.02
"""Seconds between two looks at what a process holds."""
_ADDRESSES = 4  # times the memory of a query: what the process may reserve beyond what it has
_SHORTAGE = re.compile(
    r"out of memory|bad.alloc|MemoryError|to allocate|not allocate|allocation fail|malloc",
    re.IGNORECASE,
)
_WEIGHTS = re.compile(r"\b(attention|maps)\b(?!\s*\.)", re.IGNORECASE)


def settings(memory: int) -> dict[str, str]:
    """Return settings of DuckDB for queries of so many bytes: half for DuckDB, half for functions; no files."""
    return {"memory_limit": f"{memory // 2}B", "temp_directory": ""}


def is_shortage(error: BaseException) -> bool:
    """Return True if an error says that there was not enough memory."""
    return isinstance(error, MemoryError) or _SHORTAGE.search(str(error)) is not None


def advice(text: str) -> str:
    """Return what to do about a query that needs too much memory, by the views that it names."""
    if _WEIGHTS.search(text):
        return (
            "ask for fewer examples, or for chosen pairs of tokens: the view link_attention has the weight of "
            "each link, and attention_at over map_places that of any pairs"
        )
    return "ask for less"


def held(process: int | str = "self") -> int:
    """Return the bytes that a process holds in memory of its own; 0 if it has ended."""
    kinds = ("RssAnon:", "RssShmem:")
    with contextlib.suppress(OSError, IndexError, ValueError):
        lines = Path(f"/proc/{process}/status").read_text("utf-8").splitlines()
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(kinds))
    return 0


@contextlib.contextmanager
def watched(process: int, memory: int, over: Callable[[], None]) -> Iterator[None]:
    """Call `over` once, from another thread, if a process comes to hold more than so many bytes more."""
    ended, before = threading.Event(), held(process)

    def watch() -> None:
        while not ended.wait(EVERY):
            if held(process) - before > memory:
                over()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def bind(memory: int) -> None:
    """Let the process reserve a few times so many bytes beyond what it has; more fails at once."""
    import pyarrow as pa

    pa.allocate_buffer(1)  # Arrow's pool reserves 1 GiB with its first buffer, no one's memory
    with contextlib.suppress(OSError, ValueError, IndexError):
        limit = _allocated() + _ADDRESSES * memory
        resource.setrlimit(
            resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1])
        )


@contextlib.contextmanager
def bound(memory: int) -> Iterator[None]:
    """Bound what the process may reserve, as `bind` does, for the length of a block."""
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
