"""Open a store for a command and ask it a question: notes go to stderr, Ctrl-C ends it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import click

from attnstore import store as stores
from attnstore.errors import QueryError
from attnstore.query import process_memory
from attnstore.store import Store

_MEMORY = re.compile("out of memory|bad.alloc|allocat|MemoryError", re.IGNORECASE)
_T = TypeVar("_T")


@contextlib.contextmanager
def reading(path: str, analyses: str | None = None) -> Iterator[Store]:
    """Open a store to read; a note on stderr says what keeps its index behind.

    Args:
        path: The store.
        analyses: A folder of your own analyses.
    """
    with stores.open(path, analyses) as store:
        if store.behind:
            click.echo(f"attnstore: note: {store.behind}", err=True)
        yield store


def bounded(store: Store, memory: int, ask: Callable[[], _T]) -> _T:
    """Answer a question within a bound of memory.

    Args:
        store: The store that is asked.
        memory: The bound in MiB.
        ask: The question.

    Raises:
        QueryError: The question needs more.
    """
    limit = memory << 20
    store.settings |= process_memory.settings(limit)
    try:
        with process_memory.bound(limit):
            return answer(ask)
    except (MemoryError, QueryError) as error:
        if not (isinstance(error, MemoryError) or _MEMORY.search(str(error))):
            raise
        raise QueryError(
            f"The question needs more than {memory:,} MiB of memory; ask for less, or raise the "
            f"bound with --memory {2 * memory}."
        ) from error


def answer(ask: Callable[[], _T]) -> _T:
    """Return what `ask` returns; DuckDB ignores Ctrl-C while it computes, so this thread waits for it."""
    future = ThreadPoolExecutor(1).submit(ask)
    try:
        while not future.done():
            wait([future], timeout=0.1)  # polars keeps a signal from ending a wait without a limit
        return future.result()
    except KeyboardInterrupt:
        click.echo("\nattnstore: interrupted", err=True)
        os._exit(130)  # a reader leaves nothing half done; an orderly exit would wait for DuckDB
