"""Open a store for a command and ask it a question: notes go to stderr, Ctrl-C ends it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import NoReturn, TypeVar

import click

from attnstore import store as stores
from attnstore.errors import QueryError
from attnstore.query import process_memory
from attnstore.store import Store

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
    limit, before = memory << 20, process_memory.held()
    store.settings |= process_memory.settings(limit)
    short = (
        f"The question needs more than {memory:,} MiB of memory; ask for less, or raise the "
        f"bound with --memory {2 * memory}."
    )

    def check() -> None:
        if process_memory.held() - before > limit:
            _leave(short, 2)

    try:
        with process_memory.bound(limit):
            return answer(ask, check)
    except (MemoryError, QueryError) as error:
        if not process_memory.is_shortage(error):
            raise
        raise QueryError(short) from error


def answer(ask: Callable[[], _T], check: Callable[[], None] | None = None) -> _T:
    """Return what `ask` returns; DuckDB ignores Ctrl-C while it computes, so this thread waits for it.

    Args:
        ask: The question.
        check: Called again and again while it is computed.
    """
    future = ThreadPoolExecutor(1).submit(ask)
    try:
        while not future.done():
            wait([future], timeout=0.05)  # polars keeps a signal from ending a wait without a limit
            if check is not None:
                check()
        return future.result()
    except KeyboardInterrupt:
        _leave("interrupted", 130)


def _leave(sentence: str, code: int) -> NoReturn:
    """End the process: a reader leaves nothing half done; an orderly exit would wait for DuckDB."""
    click.echo(f"\nattnstore: {sentence}" if code == 130 else f"attnstore: {sentence}", err=True)
    os._exit(code)
