"""Rules of memory on the SQL page: what counts is what a process holds, and an exhausted one is not kept."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import helpers
import numpy as np
import pytest
import relations
import tiny
from webtools import LIMITS, Browser

import attnstore
from attnstore.query import process_memory
from attnstore.web import query_jobs

JOINED = """
WITH first AS (SELECT *, unnest(from_positions) AS from_pos FROM link_tokens WHERE run = 'm/texts'),
pairs AS (SELECT *, unnest(to_positions) AS to_pos FROM first)
SELECT example, layer, head, from_positions, to_positions, sum(weight / len(from_positions)) AS weight
FROM pairs JOIN attention USING (run, example, from_pos, to_pos)
GROUP BY ALL HAVING sum(weight / len(from_positions)) > 0.1
ORDER BY ALL"""
ASKED = """
SELECT DISTINCT example, layer, head, from_positions, to_positions, weight FROM link_attention
WHERE run = 'm/texts' AND weight > 0.1 ORDER BY ALL"""


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[attnstore.Store]:
    """A store of one run over texts with links of their own."""
    place = tmp_path_factory.mktemp("linked")
    model = tiny.make(place / "tiny", "bert", seed=4)
    made = relations.write(place / "files", helpers.sentences(8, 3, 9), 1)
    data = f"{made.folder / 'texts.jsonl'}=texts"
    attnstore.ingest(place / "s", f"{model}=m", data, max_length=64, precision="float32")
    for what in ("spans", "links"):
        attnstore.annotate(place / "s", "texts", f"{what}:{made.folder / f'{what}.csv'}=own")
    with attnstore.open(place / "s") as store:
        yield store


@pytest.mark.parametrize("text", [JOINED, ASKED], ids=["joined", "view"])
def test_links_above_a_weight_are_those_of_the_maps(linked: attnstore.Store, text: str) -> None:
    """The question has one answer, computed here from whole maps: in the page, in the terminal and in Python."""
    maps = {e: linked.maps("m/texts", e) for e in linked.sql("SELECT example FROM inputs")["example"]}  # fmt: skip
    links = linked.sql(
        "SELECT DISTINCT example, from_positions AS f, to_positions AS t FROM link_tokens"
    )
    wanted = []
    for example, first, second in links.iter_rows():
        weights = maps[example][:, :, first][:, :, :, second].astype(float).sum(3).mean(2)
        for layer, head in np.argwhere(weights > 0.1).tolist():
            wanted.append((example, layer, head, first, second, weights[layer, head]))
    wanted.sort(key=lambda row: row[:5])
    assert len(wanted) > 5
    if text is JOINED:  # a pair of spans with two links counts once in each way of asking
        text = text.replace("FROM link_tokens", "FROM (SELECT DISTINCT run, example, from_positions, to_positions FROM link_tokens)")  # fmt: skip
    root = linked.backend.root
    browser = Browser(root, limits=LIMITS)
    try:
        told = browser.ask(text)
        assert told["state"] == "done", told
        result = browser.site.questions.find(told["id"]).result
    finally:
        browser.close()
    shown = subprocess.run(
        [sys.executable, "-m", "attnstore", "--store", str(root), "sql", text, "--format", "csv"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    rows = linked.sql(text).rows()
    assert [row[:5] for row in rows] == [row[:5] for row in wanted]
    assert [row[5] for row in rows] == pytest.approx([row[5] for row in wanted], abs=1e-5)
    assert result["n"] == len(shown.stdout.splitlines()) - 1 == len(wanted)


def test_a_process_that_ran_out_of_memory_is_not_asked_again(linked: attnstore.Store) -> None:
    """The next query, however small, gets another process and its answer; a mistake keeps the process."""
    browser = Browser(linked.backend.root, limits=replace(LIMITS, memory=256 << 20))
    questions = browser.site.questions
    try:
        assert browser.ask("SELECT nothing")["state"] == "failed"
        (kept,) = questions._idle
        assert browser.ask("SELECT 1 AS one")["state"] == "done"
        assert questions._idle == [kept]
        told = browser.ask("SELECT len(list(range::VARCHAR || md5(range::VARCHAR))) FROM range(20000000)")  # fmt: skip
        assert told["state"] == "failed"
        assert "needs more than 256 MiB of memory, the limit here" in told["sentence"]
        assert "SET " not in told["sentence"]
        assert browser.ask("SELECT 2 AS two")["state"] == "done"
        assert kept not in questions._idle
        assert not kept.alive
    finally:
        browser.close()


def test_what_a_query_of_weights_should_ask_instead_is_said() -> None:
    """A query that holds weights is told of the views that read chosen ones, another one is not."""
    assert "link_attention" in process_memory.advice("SELECT * FROM link_tokens JOIN Attention")
    assert process_memory.advice("FROM runs, attention_of_mine") == "ask for less"


HOLDS = "import mmap, sys; m = mmap.mmap(-1, {size}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); {use}; print(1, flush=True); sys.stdin.read()"  # fmt: skip


@pytest.mark.parametrize(("use", "over"), [("pass", False), ("m.write(bytes(300 << 20))", True)])
def test_what_a_process_reserves_does_not_count(use: str, over: bool) -> None:
    """Three GiB of addresses are nothing; 300 MiB that are written are 300 MiB."""
    code = HOLDS.format(size=3 << 30, use=use)
    told = threading.Event()
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1) as child:
        assert child.stdout is not None
        with process_memory.watched(child.pid, 200 << 20, told.set):
            child.stdout.readline()
            assert (process_memory.held(child.pid) > 200 << 20) == over
            if over:
                assert told.wait(60)
        child.kill()
    assert told.is_set() == over


@pytest.mark.parametrize(
    ("sentence", "short"),
    [
        ("Out of Memory Error: failed to offload data block of size 32.0 KiB", True),
        ("Invalid Error: std::bad_alloc", True),
        ("Unable to allocate 7.45 GiB for an array", True),
        ('Binder Error: Referenced column "allocation" not found in FROM clause!', False),
    ],
)
def test_a_name_in_a_query_is_no_shortage(sentence: str, short: bool) -> None:
    """Only what says that memory did not suffice counts as that, not a column that is called so."""
    assert process_memory.is_shortage(RuntimeError(sentence)) == short


def test_two_pages_may_ask_for_one_file_at_once(
    linked: attnstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each gets the whole file, though neither was done when the other began."""
    browser = Browser(linked.backend.root, limits=LIMITS)
    questions, both = browser.site.questions, threading.Barrier(2)
    try:
        question = questions.find(browser.ask("SELECT range AS n FROM range(3)")["id"])
        work = query_jobs._Worker.do

        def together(*arguments: Any) -> dict[str, Any]:
            reply = work(*arguments)
            both.wait(60)
            return reply

        monkeypatch.setattr(query_jobs._Worker, "do", together)
        with ThreadPoolExecutor(2) as pool:
            written = [pool.submit(questions.csv, question) for _ in range(2)]
            assert [w.result().read_text("utf-8") for w in written] == ["n\n0\n1\n2\n"] * 2
    finally:
        browser.close()
