"""Rules of the queries of a server: which result is kept, and that every query ends."""

from __future__ import annotations

import errno
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_routing import OWN
from webtools import LIMITS, RUN, Browser

from attnstore.web import query_jobs
from attnstore.web.served_store import ServedStore


@pytest.fixture
def browser(sample_store: Path, tmp_path: Path) -> Iterator[Browser]:
    """An explorer with a folder of own analyses."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.sql").write_text(OWN)
    opened = Browser(sample_store, limits=LIMITS, analyses=str(tmp_path / "own"))
    yield opened
    opened.close()


def test_a_result_is_kept_only_while_the_index_is_known_to_be_the_same(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the index is written nobody knows what it holds, so that the same text is asked anew."""
    questions = browser.site.questions

    def asked() -> str:
        question = questions.ask("SELECT count(*) AS n FROM runs", {})
        assert question.ended.wait(60)
        assert question.frame().item() == 1
        return str(question.id)

    assert asked() == asked()
    monkeypatch.setattr(ServedStore, "stamp", None)
    assert len({asked() for _ in range(3)}) == 3


def test_an_edited_analysis_is_asked_anew(browser: Browser, tmp_path: Path) -> None:
    """The text of the query is the same, that of the analysis it calls is not."""
    questions, file = browser.site.questions, tmp_path / "own" / "mine.sql"

    def answer(text: str) -> list[Any]:
        rows: list[Any] = questions.answer(text, {}).rows()
        return rows

    call, other = f"FROM mine(run := '{RUN}')", "SELECT count(*) AS n FROM runs"
    before, kept = answer(call), questions.ask(other, {}).id
    file.write_text(OWN.rstrip().rstrip(";") + "\nLIMIT 1\n")
    assert answer(call) == before[:1] != before
    assert questions.ask(other, {}).id == kept


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
def test_a_query_whose_process_cannot_be_started_fails(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """One sentence with the cause; the next query, for which there is room again, has its answer."""
    done = browser.site.questions.find(browser.ask("SELECT 1 AS one")["id"])

    def full(*_: Any, **__: Any) -> None:
        raise OSError(number, "there is no room")

    with monkeypatch.context() as crowded:
        crowded.setattr(subprocess, "Popen", full)
        crowded.setattr(browser.site.questions, "_idle", [])
        for n in range(3):  # each gives its turn back
            told = browser.ask(f"SELECT {n} AS n", wait=20)
            assert told["state"] == "failed"
            assert "could not be started (there is no room)" in told["sentence"]
        with pytest.raises(query_jobs.QueryError, match="could not be started"):
            browser.site.questions.csv(done)
    assert browser.ask("SELECT 0 AS n")["state"] == "done"


def test_a_query_without_a_thread_fails(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may give no further thread."""

    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as crowded:
        crowded.setattr(threading.Thread, "start", full)
        question = browser.site.questions.ask("SELECT 5 AS n", {})
    assert question.ended.is_set()
    assert "could not be started" in question.sentence


def test_a_query_cancelled_while_its_process_starts_stays_cancelled(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is not computed, and the process waits for the next one."""
    questions = browser.site.questions
    question = query_jobs.Question("late", "SELECT 6 AS n", {}, tmp_path / "late.parquet")
    questions._questions["late"] = question
    take, worked = questions._take, list[Any]()

    def slow() -> Any:
        worker = take()
        questions.cancel("late")
        return worker

    monkeypatch.setattr(questions, "_take", slow)
    monkeypatch.setattr(query_jobs._Worker, "do", lambda _, job, __: worked.append(job) or {})
    questions._run(question)
    assert question.state == "cancelled"
    assert not worked
    assert len(questions._idle) == 1
