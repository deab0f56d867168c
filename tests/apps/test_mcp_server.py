"""`attnstore mcp`: the real server, started as a client starts it, over a small store."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

import attnstore
from attnstore import extras
from attnstore.store import Store

mcp = pytest.importorskip("mcp", reason="the package mcp is not installed")

RUN = "tiny/sample"
PNG = b"\x89PNG\r\n\x1a\n"
SMALL = "Limits(seconds={seconds}, memory={memory} << 20)"
SERVER = (
    "from attnstore.apps.mcp_server import server; from attnstore.web.query_jobs import Limits; "
    "server.run({path!r}, limits={limits})"
)


class Assistant:
    """A client of a server over stdin and stdout, for tests that are no coroutines."""

    def __init__(self, portal: BlockingPortal, client: Any) -> None:
        self.portal, self.client = portal, client

    def ask(self, tool: str, /, **arguments: Any) -> Any:
        """Call a tool; its data."""
        answer = self.portal.call(self.client.call_tool, tool, arguments)
        assert not answer.is_error, answer.content[0].text
        return answer.structured_content

    def refused(self, tool: str, /, **arguments: Any) -> str:
        """Call a tool that refuses; its sentence."""
        answer = self.portal.call(self.client.call_tool, tool, arguments)
        assert answer.is_error, answer.structured_content
        (part,) = answer.content
        assert "\n" not in part.text
        assert "Traceback" not in part.text
        return str(part.text)

    def picture(self, tool: str, /, **arguments: Any) -> tuple[bytes, Any]:
        """Call a tool that draws; the bytes of its PNG, and its data."""
        answer = self.portal.call(self.client.call_tool, tool, arguments)
        assert not answer.is_error, answer.content[0].text
        image, text = answer.content
        assert image.mime_type == "image/png"
        assert json.loads(text.text) == answer.structured_content
        return base64.b64decode(image.data), answer.structured_content


@contextlib.contextmanager
def assistant(*command: str) -> Iterator[Assistant]:
    """Start a server and speak to it."""
    about = mcp.StdioServerParameters(command=sys.executable, args=list(command), env=dict(os.environ))  # fmt: skip
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(mcp.Client(about)) as client,
    ):
        yield Assistant(portal, client)


def served(path: Path) -> tuple[str, ...]:
    """Return the command that a client is told to start."""
    return ("-m", "attnstore", "--store", str(path), "mcp")


def limited(path: Path, seconds: float = 60, memory: int = 2048) -> tuple[str, ...]:
    """Return a command that starts the server with other limits."""
    limits = SMALL.format(seconds=seconds, memory=memory)
    return ("-c", SERVER.format(path=str(path), limits=limits))


@pytest.fixture(scope="module")
def here(sample_store: Path) -> Iterator[Assistant]:
    with assistant(*served(sample_store)) as started:
        yield started


@pytest.fixture(scope="module")
def store(sample_store: Path) -> Iterator[Store]:
    with attnstore.open(sample_store) as opened:
        yield opened


def test_every_tool_says_what_it_takes_and_gives(here: Assistant) -> None:
    """Each has a description, a schema of its answer, and only reads; parameters are described."""
    tools = here.portal.call(here.client.list_tools).tools
    assert len(tools) == len({t.name for t in tools}) >= 12
    for tool in tools:
        assert len(tool.description) > 60, tool.name
        assert tool.output_schema, tool.name
        assert tool.annotations.read_only_hint
        undescribed = [
            n for n, about in tool.input_schema["properties"].items() if "description" not in about
        ]
        assert not undescribed, tool.name
    assert "list_runs" in here.client.instructions


def test_the_store_is_described_as_it_is(here: Assistant, store: Store) -> None:
    """Runs, views, columns and analyses are those of the store, with their comments and parameters."""
    (run,) = here.ask("list_runs")["runs"]
    record = store.run(RUN)
    assert (run["run"], run["inputs"], run["layers"], run["heads"]) == (RUN, record.stored, record.layers, record.heads)  # fmt: skip
    views = here.ask("list_views")["result"]
    assert {v["name"]: v["meaning"] for v in views} == store.views()
    columns = here.ask("describe_view", view="map_stats")["columns"]
    assert {c["name"]: c["meaning"] for c in columns} == store.columns("map_stats")
    assert {c["type"] for c in columns if c["name"] == "layer"} == {"SMALLINT"}
    listed = {a["name"]: a["meaning"] for a in here.ask("list_analyses")["result"]}
    assert listed == {a["name"]: a["title"] for a in store.analyses().to_dicts()}
    about = here.ask("describe_analysis", name="head_types")
    analysis = store.named_analyses.find("head_types")
    assert [p["name"] for p in about["parameters"]] == [p.name for p in analysis.parameters]
    assert about["parameters"][0]["default"] is None
    assert about["sql"] == analysis.sql


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("FROM map_stats WHERE run = $run ORDER BY example, layer, head LIMIT 40", {"run": RUN}),
        ("SELECT layer, head, avg(weight) AS mean FROM attention WHERE run = $run GROUP BY ALL ORDER BY ALL", {"run": RUN}),
        ("SELECT example, tokens, length FROM inputs WHERE length > $least ORDER BY example", {"least": 5}),
        ("SELECT list_contains($some, 2) AS a, $text AS b, $flag AS c", {"some": [1, 2], "text": "it's\n\"12\"", "flag": True}),
    ],
    ids=["statistics", "weights", "tokens", "parameters"],
)  # fmt: skip
def test_sql_gives_the_rows_of_the_library(
    here: Assistant, store: Store, query: str, parameters: dict[str, Any]
) -> None:
    """The same names, numbers and texts as `store.sql`, and a program that says so."""
    told = here.ask("sql", query=query, parameters=parameters, rows=1000)
    wanted = store.sql(query, **parameters)
    assert [c["name"] for c in told["columns"]] == wanted.columns
    assert told["n_rows"] == len(wanted)
    assert told["rows"] == [json.loads(json.dumps(list(row))) for row in wanted.iter_rows()]
    found: dict[str, Any] = {}
    exec(told["python"], found)
    assert found["rows"].equals(wanted)


def test_an_analysis_gives_the_rows_of_the_library(here: Assistant, store: Store) -> None:
    """Computed in a bounded process and, once it is kept, from there: both times as `store.query`."""
    wanted = store.sql(f"FROM head_types(run := '{RUN}')")
    assert wanted.equals(store.query("head_types", run=RUN))
    for _ in range(2):
        told = here.ask("run_analysis", name="head_types", parameters={"run": RUN})
        assert told["rows"] == [list(row) for row in wanted.iter_rows()]
        meanings = {c["name"]: c["meaning"] for c in told["columns"]}
        assert meanings["entropy"].endswith("(nats)")
        store.query("head_types", run=RUN)
    one = here.ask("run_analysis", name="head_types", parameters={"run": RUN, "layer": 1}, rows=2)
    assert [row[0] for row in one["rows"]] == [1, 1]
    assert one["n_rows"] == 4


def test_what_is_left_out_is_said(here: Assistant) -> None:
    """Rows beyond the asked ones, long texts and lists, numbers that JSON has not."""
    told = here.ask("sql", query="SELECT range AS n FROM range(2_000_000)", rows=3)
    assert told["rows"] == [[0], [1], [2]]
    assert told["n_rows"] == 1_000_000
    assert "more than 1,000,000 rows" in told["notes"][0]
    assert "first 3 of 1,000,000" in told["notes"][1]
    long = here.ask("sql", query="SELECT repeat('x', 9000) AS a, range(5000) AS b, 'NaN'::FLOAT AS c, 9007199254740993 AS d")  # fmt: skip
    (row,) = long["rows"]
    assert len(row[0]) == 2000
    assert row[0].endswith("x…")
    assert row[1][-2:] == [599, "…"]
    assert row[2:] == ["nan", "9007199254740993"]
    assert "Texts are cut" in long["notes"][0]
    wide = here.ask("sql", query="SELECT range AS n, repeat('y', 1500) AS y FROM range(500)", rows=500)  # fmt: skip
    assert 30 < len(wide["rows"]) < 45
    assert len(json.dumps(wide)) < 70_000
    assert f"first {len(wide['rows'])} of 500" in wide["notes"][0]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 7 AS n, list_transform(range(128), lambda i: list_transform(range(128), lambda j: (i * 128 + j) / 16384)) AS cell",
        "SELECT 7 AS n, " + ", ".join(f"repeat('x', 1900) AS t{i}" for i in range(200)),
        "SELECT 7 AS n, [{'text': repeat('\"', 2000), 'more': list_transform(range(600), lambda j: repeat('y', 2000))}] AS cell",
    ],
    ids=["nested lists", "many texts", "one item"],
)  # fmt: skip
def test_the_first_row_is_no_longer_than_an_answer(here: Assistant, query: str) -> None:
    """Its longest values are cut, the short ones are whole, and a note says so."""
    told = here.ask("sql", query=query)
    (row,) = told["rows"]
    assert 30_000 < len(json.dumps(row, ensure_ascii=False)) <= 60_000
    assert row[0] == 7
    assert str(row[-1]).endswith(("…", "…']"))
    assert "One row is longer than the 60,000 letters of an answer" in told["notes"][-1]
    if "128 + j" in query:
        assert [len(item) for item in row[1][:-1]] == [128] * (len(row[1]) - 1)


@pytest.mark.parametrize(
    ("tool", "arguments", "sentence"),
    [
        ("sql", {"query": "COPY runs TO 'stolen.csv'"}, "a query only reads"),
        ("sql", {"query": "CREATE TABLE t AS FROM runs"}, "a query only reads"),
        ("sql", {"query": "DROP VIEW runs"}, "a query only reads"),
        ("sql", {"query": "SET memory_limit = '100GB'"}, "a query only reads"),
        ("sql", {"query": "INSTALL httpfs"}, "a query only reads"),
        ("sql", {"query": "SELECT 1; SELECT 2"}, "2 SQL statements"),
        ("sql", {"query": "FROM read_csv('/etc/passwd')"}, "file system operations are disabled"),
        ("sql", {"query": "FROM read_text('https://example.org')"}, "disabled"),
        ("sql", {"query": "FROM '/etc/passwd'"}, "/etc/passwd"),
        ("sql", {"query": "SELECT * FROM run"}, "run"),
        ("sql", {"query": "FROM maps WHERE run = 'tiny/sampel'"}, "did you mean tiny/sample?"),
        ("sql", {"query": "SELECT $layer"}, "give layer in `parameters`"),
        ("sql", {"query": ""}, "The query is empty"),
        ("sql", {}, "needs a value for query"),
        ("sql", {"query": "SELECT 1", "limit": 5}, "takes no 'limit'; it takes query, parameters, rows."),
        ("sql", {"query": "SELECT 1", "rows": 5000}, "less than or equal to 1000"),
        ("sql", {"query": "SELECT 1", "parameters": "layer"}, "parameters = 'layer'"),
        ("sqll", {"query": "SELECT 1"}, "There is no tool 'sqll'; did you mean sql?"),
        ("run_analysis", {"name": "head_typs"}, "did you mean head_types"),
        ("run_analysis", {"name": "head_types"}, "give run in `parameters`"),
        ("run_analysis", {"name": "head_types", "parameters": {"rum": RUN}}, "did you mean run?"),
        ("run_analysis", {"name": "head_types", "parameters": {"run": "tiny/sampl"}}, "did you mean tiny/sample?"),
        ("run_analysis", {"name": "head_types", "parameters": {"run": RUN, "layer": "x"}}, "give a whole number"),
        ("describe_view", {"view": "map_stat"}, "did you mean map_stats"),
        ("describe_analysis", {"name": "nothing"}, "There is no analysis 'nothing'"),
        ("describe_head", {"run": "tiny/other", "layer": 0, "head": 0}, "no run 'tiny/other'"),
        ("describe_head", {"run": RUN, "layer": 9, "head": 0}, "layer 9"),
        ("describe_head", {"run": RUN, "layer": "first", "head": 0}, "layer = 'first'"),
        ("show_map", {"run": RUN, "example": 10**6, "layer": 0, "head": 0}, "example 1000000"),
        ("show_map", {"run": RUN, "example": 0, "layer": 0}, "name the head"),
        ("show_map", {"run": RUN, "example": 0, "layer": 0, "head": 0, "kind": "norms"}, "did you mean norm"),
        ("show_heads", {"run": RUN, "by": "entrpy"}, "did you mean entropy"),
        ("show_heads", {"run": RUN, "parameters": {"layer": 1}}, "no parameter 'layer'"),
        ("show_heads", {"run": RUN, "part": "cls"}, "has no part 'cls'"),
        ("show_mean_maps", {"run": "tiny/none"}, "no run 'tiny/none'"),
        ("find", {"question": "nothing:here"}, "no filter"),
        ("find", {"question": "sep > 2"}, "below 1"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(
    here: Assistant, tool: str, arguments: dict[str, Any], sentence: str
) -> None:
    """What was found and what to do, of hostile SQL, wrong names, values and tools; the server goes on."""
    if arguments.get("example") == 0:
        arguments["example"] = here.ask("sql", query="SELECT min(example) FROM inputs")["rows"][0][
            0
        ]
    assert sentence in here.refused(tool, **arguments)
    assert here.ask("sql", query="SELECT 1 AS one")["rows"] == [[1]]


def test_a_map_is_drawn_with_its_tokens_and_its_largest_cells(
    here: Assistant, store: Store
) -> None:
    """The numbers beside the picture are those of the stored map, over tokens and over words."""
    example = int(store.sql("SELECT arg_max(example, length) FROM inputs").item())
    map_ = store.map(RUN, example, 1, 2)
    png, about = here.picture("show_map", run=RUN, example=example, layer=1, head=2)
    assert png.startswith(PNG)
    assert about["tokens"] == list(map_.texts)
    top = about["strongest"][0]
    at = np.unravel_index(np.argmax(map_.weights), map_.weights.shape)
    assert (top["from_pos"], top["to_pos"]) == tuple(map(int, at))
    assert top["value"] == pytest.approx(float(map_.weights.max()))
    _, words = here.picture(
        "show_map", run=RUN, example=example, layer=1, head=2, words=True, specials="renormalise"
    )
    assert "[CLS]" not in words["tokens"]
    assert 0 < len(words["tokens"]) < len(about["tokens"])
    merged = store.sql("SELECT position FROM tokens WHERE run = $run AND example = $e AND word IS NOT NULL ORDER BY position", run=RUN, e=example)  # fmt: skip
    assert len(merged) > len(words["tokens"]), "no word of several tokens"
    for cell in words[
        "strongest"
    ]:  # a position is that of a word's first token, as SQL numbers tokens
        for end in ("from", "to"):
            assert cell[f"{end}_text"].startswith(map_.texts[cell[f"{end}_pos"]].removeprefix("##"))
    _, norm = here.picture("show_map", run=RUN, example=example, layer=1, head=2, kind="norm")
    assert norm["strongest"] != about["strongest"]


def test_pictures_of_all_heads_have_the_values_of_sql(here: Assistant, store: Store) -> None:
    """A measure, an analysis with classes, and mean maps: one value or class per head beside the picture."""
    means = store.sql("SELECT layer, head, avg(previous) AS mean FROM map_stats GROUP BY ALL ORDER BY ALL")  # fmt: skip
    png, about = here.picture("show_heads", run=RUN, by="previous")
    assert png.startswith(PNG)
    assert [h["value"] for h in about["heads"]] == pytest.approx(means["mean"].to_list())
    _, kinds = here.picture("show_heads", run=RUN, by="head_types")
    assert [h["class_name"] for h in kinds["heads"]] == store.query("head_types", run=RUN)["type"].to_list()  # fmt: skip
    png, mean_maps = here.picture("show_mean_maps", run=RUN)
    assert png.startswith(PNG)
    shares = store.sql('SELECT layer, head, arg_max(target, share) AS t FROM offsets WHERE run = $run AND "offset" IS NULL GROUP BY ALL', run=RUN)  # fmt: skip
    assert len(mean_maps["heads"]) == len(shares)


def test_a_head_is_described_by_the_numbers_of_the_store(here: Assistant, store: Store) -> None:
    """Sentences of the explorer's page, and every measure with its interval."""
    told = here.ask("describe_head", run=RUN, layer=1, head=2)
    row = store.query("head_types", run=RUN, layer=1, head=2).row(0, named=True)
    assert told["sentences"][0]["text"].startswith("Layer 1, head 2 ")
    assert f"{row['mean']:.2f}" in told["sentences"][0]["text"]
    values = {m["name"]: m for m in told["measures"]}
    wanted = store.sql("SELECT avg(sep) FROM map_stats WHERE layer = 1 AND head = 2").item()
    assert values["sep"]["mean"] == pytest.approx(wanted)
    assert values["sep"]["low"] <= wanted <= values["sep"]["high"]
    assert any("--random-weights" in one["meaning"] for one in told["lacking"])


def test_find_answers_as_its_page(here: Assistant, store: Store) -> None:
    """Words give inputs, a threshold gives heads: those that an independent count gives, too."""
    word = here.ask("find", question='"the"')
    (dataset,) = word["datasets"]
    texts = store.sql("SELECT text, text_pair FROM examples SEMI JOIN inputs USING (dataset, example)")  # fmt: skip
    spoken = [f" {a} {b or ''} ".lower() for a, b in texts.iter_rows()]
    wanted = sum(" the " in "".join(c if c.isalpha() else " " for c in text) for text in spoken)
    assert dataset["inputs"] == wanted > 0
    heads = here.ask("find", question="sep > 0.01")
    assert len(heads["heads"]) == 8
    received = store.sql("SELECT count(*) FILTER (sep > 0.01) AS n FROM map_stats WHERE layer = 0 AND head = 1").item()  # fmt: skip
    first = next(h for h in heads["heads"] if (h["layer"], h["head"]) == (0, 1))
    assert received <= first["above"] <= first["pairs"]
    assert "Nothing in the store is so." in here.ask("find", question='"zzzz"')["notes"]
    assert "sep > 0.3" in here.ask("list_findable")["questions"]


def test_the_maps_of_one_head_come_a_page_at_a_time(here: Assistant, store: Store) -> None:
    """The pages together are every weight of the head above the threshold, once, the largest first."""
    text = "* -> [SEP] > 0 head:0.1"
    (first,) = here.ask("find", question=text)["heads"]
    assert first["above"] > 2 * len(first["best"]) > 4
    n_pages = -(-first["above"] // len(first["best"]))
    pages = [here.ask("find", question=text, page=n + 1)["heads"][0]["best"] for n in range(n_pages)]  # fmt: skip
    places = [(m["example"], m["from_positions"], m["to_positions"]) for p in pages for m in p]
    assert len(places) == len(set(map(str, places))) == first["above"]
    weights = [m["weight"] for p in pages for m in p]
    assert weights == sorted(weights, reverse=True)
    wanted = [
        float(store.map(RUN, e, 0, 1).weights[i, j]) for e, (i,), (j,) in places[:3] + places[-3:]
    ]
    assert [*weights[:3], *weights[-3:]] == pytest.approx(wanted)
    beyond = here.ask("find", question=text, page=n_pages + 1)
    assert beyond["notes"] == [f"There is no page {n_pages + 1} of the answers in the store; the last one is {n_pages}."]  # fmt: skip
    assert beyond["heads"][0]["above"] == first["above"]


def test_find_says_no_more_than_it_knows(here: Assistant, sample_store: Path) -> None:
    """A page beyond the last, pages of several heads and parts that were not asked are no "nothing"."""
    assert here.ask("find", question='"the"')["notes"] == []
    assert here.ask("find", question='"the"', page=9)["notes"] == ["There is no page 9 of the answers in the store."]  # fmt: skip
    (note,) = here.ask("find", question="sep > 0.01", page=2)["notes"]
    assert "Only answers of one head or one dataset have pages" in note
    with assistant(*limited(sample_store, seconds=0)) as hasty:
        notes = hasty.ask("find", question="sep > 0.01")["notes"]
    assert "ended after 0 of 1 parts" in notes[0]
    assert notes[1:] == ["Nothing in the parts that were asked is so."]


def test_resources_and_prompts_can_be_read(here: Assistant, store: Store) -> None:
    """Views and analyses as documents; a wrong name is one sentence; prompts name what was asked."""
    read = here.client.read_resource
    text = here.portal.call(read, "attnstore://analyses/head_types").contents[0].text
    assert text == store.named_analyses.find("head_types").sql
    assert "map_stats: " in here.portal.call(read, "attnstore://views").contents[0].text
    with pytest.raises(mcp.MCPError, match="did you mean map_stats"):
        here.portal.call(read, "attnstore://views/map_stat")
    prompt = here.portal.call(here.client.get_prompt, "explain_head", {"run": RUN, "layer": "1", "head": "2"})  # fmt: skip
    assert f"head 2 of layer 1 does in run {RUN}" in prompt.messages[0].content.text


def test_two_questions_are_answered_at_once(sample_store: Path) -> None:
    """The short one does not wait for one that runs until its limit, and gets its own rows."""
    endless = "SELECT sum(hash(a.range, b.range)) FROM range(10_000_000) a, range(10_000_000) b"
    said: list[str] = []
    with assistant(*limited(sample_store, seconds=30)) as here:
        first = threading.Thread(target=lambda: said.append(here.refused("sql", query=endless)))
        first.start()
        time.sleep(0.3)
        assert here.ask("sql", query="SELECT 41 + 1 AS n")["rows"] == [[42]]
        assert first.is_alive()
        first.join(120)
    assert "longer than 30 s, the limit here" in said[0]


def test_a_query_beyond_the_memory_is_refused_and_the_server_goes_on(sample_store: Path) -> None:
    """One sentence with the limit; the next question, whatever it is, has its answer."""
    with assistant(*limited(sample_store, memory=256)) as here:
        hungry = "SELECT len(list(range::VARCHAR || md5(range::VARCHAR))) FROM range(20000000)"
        assert "needs more than 256 MiB of memory, the limit here" in here.refused("sql", query=hungry)  # fmt: skip
        assert here.ask("sql", query="SELECT count(*) FROM runs")["rows"] == [[1]]


def test_a_query_ends_with_its_time_or_its_call(sample_store: Path) -> None:
    """After the limit it is a sentence; a call that the client gives up ends the worker's work."""
    endless = "SELECT sum(hash(a.range, b.range)) FROM range(10_000_000) a, range(10_000_000) b"
    with assistant(*limited(sample_store, seconds=2)) as here:
        assert "longer than 2 s, the limit here" in here.refused("sql", query=endless)
    with assistant(*limited(sample_store)) as here:

        async def given_up() -> bool:
            with anyio.move_on_after(2) as scope:
                await here.client.call_tool("sql", {"query": endless})
            return scope.cancelled_caught

        assert here.portal.call(given_up)
        for n in range(2):  # both turns are free again
            assert here.ask("sql", query=f"SELECT {n} AS n")["rows"] == [[n]]


NAMED = """\
-- title: Inputs of some text
-- source: The store's own
-- reads: inputs
-- param run VARCHAR: Run
-- param text VARCHAR = NULL: Text
-- param least BIGINT = 0: Tokens
-- column n BIGINT: Inputs
SELECT count(*) AS n FROM inputs WHERE run = $run AND length >= $least AND ($text IS NULL OR $text <> '')
"""


def test_the_command_for_a_long_analysis_can_be_typed(sample_store: Path, tmp_path: Path) -> None:
    """It names this store, and its values are those of the call, whatever letters they have."""
    root = shutil.copytree(sample_store, tmp_path / "a store")
    (root / "analysis").mkdir(exist_ok=True)
    (root / "analysis" / "named.sql").write_text(NAMED)
    values = {"run": RUN, "text": 'it\'s "not" $HOME', "least": None}
    with assistant(*limited(Path(root), seconds=0.001)) as hasty:
        said = hasty.refused("run_analysis", name="named", parameters=values)
    command = shlex.split(said.split("`")[-2])
    assert command[:5] == ["attnstore", "--store", str(root), "query", "named"]
    assert dict(word.split("=", 1) for word in command[6::2]) == values | {"least": "null"}
    ended = subprocess.run([sys.executable, "-m", *command, "--format", "csv"], capture_output=True, text=True, timeout=120)  # fmt: skip
    assert ended.stdout == "n\n0\n", ended.stderr


def test_a_parameter_that_is_null_is_not_given(here: Assistant) -> None:
    """A picture of an analysis has its defaults for them."""
    _, plain = here.picture("show_heads", run=RUN, by="head_types")
    _, given = here.picture("show_heads", run=RUN, by="head_types", parameters={"position": None})
    assert given == plain
    assert "no parameter 'lay'" in here.refused("show_heads", run=RUN, by="head_types", parameters={"lay": None})  # fmt: skip


def test_nothing_but_the_protocol_is_on_stdout_and_the_end_is_clean(sample_store: Path) -> None:
    """Every line is a message; when stdin ends the process ends, and its workers with it."""
    process = subprocess.Popen(
        [sys.executable, *served(sample_store)], stdin=-1, stdout=-1, stderr=-1, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}  # fmt: skip
    lines = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "list_runs", "arguments": {}}},
    ]  # fmt: skip
    for line in lines:
        process.stdin.write(json.dumps(line) + "\n")
        process.stdin.flush()
    answers = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert [a["id"] for a in answers] == [1, 2]
    assert answers[1]["result"]["structuredContent"]["runs"][0]["run"] == RUN
    workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()  # fmt: skip
    rest, said = process.communicate(timeout=60)
    assert (rest, process.returncode) == ("", 0), said
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_a_signal_ends_it_at_once(sample_store: Path) -> None:
    """SIGTERM, while a question is computed and stdin is open."""
    process = subprocess.Popen([sys.executable, *served(sample_store)], stdin=-1, stdout=-1, stderr=-1, text=True)  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}  # fmt: skip
    process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}) + "\n")  # fmt: skip
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    process.communicate()


def test_http_answers_this_machine_and_no_page_of_another_site(sample_store: Path) -> None:
    """The same tools over HTTP; another host name or origin is refused."""
    import httpx2

    process = subprocess.Popen([sys.executable, *served(sample_store), "--http", "0"], stderr=-1, text=True)  # fmt: skip
    try:
        assert process.stderr is not None
        address = process.stderr.readline().split(": ", 1)[1].split()[0]
        assert address.startswith("http://127.0.0.1:")
        body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        for _ in range(300):
            with contextlib.suppress(httpx2.TransportError):
                httpx2.get(address)
                break
            time.sleep(0.1)
        accept = {"Accept": "application/json, text/event-stream"}
        strange = httpx2.post(address, json=body, headers=accept | {"Host": "evil.example"})
        assert strange.status_code == 421
        page = httpx2.post(address, json=body, headers=accept | {"Origin": "https://evil.example"})
        assert page.status_code == 403

        async def runs() -> Any:
            async with mcp.Client(address) as client:
                return (await client.call_tool("list_runs")).structured_content

        with ThreadPoolExecutor(1) as pool:  # a browser of other tests has a loop in this thread
            assert pool.submit(anyio.run, runs).result()["runs"][0]["run"] == RUN
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_a_missing_store_or_package_is_one_sentence(tmp_path: Path) -> None:
    """Before the protocol begins, on stderr."""
    ended = subprocess.run([sys.executable, *served(tmp_path)], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)  # fmt: skip
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("attnstore: There is no attention store at ")
    assert extras.EXTRAS["mcp"] == "mcp"


def test_pictures_are_png_that_can_be_read(here: Assistant, store: Store) -> None:
    """No side is longer than an assistant sees whole."""
    example = int(store.sql("SELECT arg_max(example, length) FROM inputs").item())
    png, _ = here.picture("show_map", run=RUN, example=example, layer=0, head=0)
    width, height = (int.from_bytes(png[i : i + 4], "big") for i in (16, 20))
    assert 300 < width <= 1600
    assert 300 < height <= 1600
