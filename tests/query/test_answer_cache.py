"""Rules of the cache of answers and of the sessions behind it, where many threads ask one store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

import attnstore
from attnstore.errors import DamageError, QueryError
from attnstore.query import answer_cache
from attnstore.query.answer_cache import AnswerCache
from attnstore.query.session_pool import SessionPool
from attnstore.storage import location
from attnstore.store import Store

COUNT = "SELECT count(*) AS n FROM map_stats"


@pytest.fixture(scope="module")
def store(sample_store: Path) -> Iterator[Store]:
    with attnstore.open(sample_store) as opened:
        yield opened


def test_threads_that_ask_the_same_at_once_share_one_computation(store: Store) -> None:
    """The second waits for the first one's answer instead of computing it again."""
    cache = AnswerCache(location.locate(store.root))
    started, release, computed = threading.Event(), threading.Event(), []

    def compute() -> tuple[pl.DataFrame, set[str]]:
        computed.append(1)
        started.set()
        assert release.wait(60)
        return pl.DataFrame({"n": [7]}), set()

    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(cache.get, "q", {}, compute, False)
        assert started.wait(60)
        others = [threads.submit(cache.get, "q", {}, compute, False) for _ in range(3)]
        release.set()
        assert [f.result()["n"].item() for f in (first, *others)] == [7] * 4
    assert computed == [1]


def test_an_error_is_not_kept(store: Store) -> None:
    """The same question is computed again after one that failed."""
    cache = AnswerCache(location.locate(store.root))

    def fail() -> tuple[pl.DataFrame, set[str]]:
        raise QueryError("No.")

    with pytest.raises(QueryError):
        cache.get("q", {}, fail, on_disk=False)
    assert not cache.has("q", {})
    answer = cache.get("q", {}, lambda: (pl.DataFrame({"n": [1]}), set()), on_disk=False)
    assert answer["n"].item() == 1
    assert cache.has("q", {})


def test_answers_in_memory_are_bounded_by_number_and_bytes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least recently used go first; one that is larger than all that may stay is not kept."""
    cache = AnswerCache(location.locate(store.root))

    def ask(text: str, rows: int = 1) -> None:
        cache.get(text, {}, lambda: (pl.DataFrame({"n": range(rows)}), set()), on_disk=False)

    monkeypatch.setattr(answer_cache, "MAX_ANSWERS", 2)
    for text in ("a", "b", "a", "c"):
        ask(text)
    assert [cache.has(text, {}) for text in "abc"] == [True, False, True]
    monkeypatch.setattr(answer_cache, "MAX_BYTES", 1000)
    ask("large", rows=1000)
    assert [cache.has(text, {}) for text in ("a", "c", "large")] == [True, True, False]
    ask("half", rows=124)
    assert [cache.has(text, {}) for text in ("a", "c", "half")] == [False, True, True]


def test_threads_get_the_answers_that_one_gets(store: Store) -> None:
    """More threads than sessions, questions of SQL and maps read directly."""
    examples = store.sql("SELECT example FROM inputs ORDER BY example")["example"].to_list()
    expected = [float(store.maps("tiny/sample", e).sum()) for e in examples]
    with ThreadPoolExecutor(12) as threads:
        counts = [threads.submit(store.sql, COUNT) for _ in range(24)]
        sums = threads.map(lambda e: float(store.maps("tiny/sample", e).sum()), examples)
        assert list(sums) == expected
        assert len({f.result()["n"].item() for f in counts}) == 1


def test_a_session_that_met_damage_is_opened_again(sample_store: Path) -> None:
    """Others are used again, one after the other the same one."""
    pool = SessionPool(location.locate(sample_store), 2, {})
    with pool.session() as first:
        pass
    with pool.session() as again:
        assert again is first
    with pytest.raises(DamageError), pool.session():
        raise DamageError("Damaged.")
    with pool.session() as fresh:
        assert fresh is not first
        pool.close()  # while one is busy
        assert len(fresh.sql(COUNT)) == 1
    with pool.session() as last:
        assert last is not fresh
    pool.close()
