"""Rules of what the explorer is sent: whatever stands in an address or a body, a page or a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from helpers import contents
from webtools import Browser

VALUES = (
    "", "²", "٣", "-1", "+1", " 1", "1_0", "1.5", "0x1", "1e999", "nan", "9" * 30, "9" * 5000, "²-1-1",
    "1-1", "٣-1-1", "9999999999999999999-1-1", "a" * 5000, "'", '"', "<b>", "{}", "[]", "null",
    "\x00", "%00", "\u202e", "../..", "\ufffd",
)  # fmt: skip
"""Values of parameters and of parts of an address; halves of characters come as bytes beside them."""
ADDRESSES = (
    "/run?run={}", "{run}?by={}", "{run}?page={}", "{run}?find={}", "{run}?by=analysis:{}",
    "{run}?part={}", "{run}/grid?by={}", "{run}/grid?by=analysis:head_types&position={}",
    "{run}/head/{}/0", "{run}/head/0/{}", "{run}/head/0/0?by={}", "{run}/features/{}/0",
    "{run}/example/{}", "{example}?against={}", "{example}?layer={}&head=0&unit={}",
    "/maps/tiny/sample/{}/all", "{maps}/all?unit={}&against={}", "{maps}/{}/0", "{maps}/0/{}.png",
    "{maps}/0/0?unit={}", "/sql?analysis={}", "/sql?q={}", "/sql?p.x={}&show={}", "/questions/{}",
    "/questions/{}/table", "/questions/{}/result.csv", "/annotate?annotator={}", "/annotate?run={}",
    "/annotate?pick={}", "/annotate/next?annotator={}&run=tiny/sample",
    "/annotate/next?annotator=ann&run={}", "/annotate/next?annotator=ann&run=tiny/sample&pick={}",
    "/annotate/next?annotator=ann&run=tiny/sample&without={}", "/annotate/agreement?run={}",
    "/run/{}/sample", "/run/tiny/{}", "/static/{}", "/{}", "/compare?left={}", "/compare?left=tiny/sample&right={}",
    "/compare/head/{}/0?left=tiny/sample&right=tiny/sample", "/compare/movement?left={}&right={}",
    "/compare/shares?left=tiny/sample&right={}", "{maps}/0/0/difference.png?less={}", "{maps}/{}/0/difference.png",
    "{run}/relations/{}/0", "{run}/near/0/{}", "{run}/kin/0/0?by={}",
)  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_address_has_an_answer(pages: Browser, example: int, address: str) -> None:
    """No value of any parameter ends in an error of the server; a refusal is a page or a sentence."""
    places = {
        "run": "/run/tiny/sample",
        "example": f"/run/tiny/sample/example/{example}",
        "maps": f"/maps/tiny/sample/{example}",
    }
    for name, place in places.items():
        address = address.replace(f"{{{name}}}", place)
    for value in (*(quote(v, safe="") for v in VALUES), "%ed%a0%80", "%ff"):
        answer = pages.get(address.replace("{}", value))
        assert answer.status_code < 500, (address, value)
        assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "value", ["²", "٣", "1_0", " 1", "+1", "-1", "1.5", "9" * 30, "9" * 5000, "1e3"]
)
def test_a_number_of_an_address_is_digits(pages: Browser, value: str) -> None:
    """What Python also takes for a number, and what none can hold, is refused with a sentence."""
    for address in (
        f"/run/tiny/sample?page={quote(value)}",
        f"/run/tiny/sample/head/{quote(value)}/0",
    ):
        answer = pages.get(address)
        assert answer.status_code == 400
        assert "give a number from 0" in answer.text


@pytest.mark.parametrize(
    "without", ["²-1-1", "1-²-1", "1-1", "1-1-1-1", "٣-1-1", "-1-1-1", "9" * 30 + "-1-1"]
)
def test_maps_to_leave_out_are_three_numbers(pages: Browser, without: str) -> None:
    answer = pages.get(f"/annotate/next?annotator=ann&run=tiny/sample&without={quote(without)}")
    assert answer.status_code == 400
    assert "example-layer-head" in answer.text


NO_NUMBERS = (
    "1e999",
    "-1e999",
    "NaN",
    "true",
    "null",
    "[]",
    "{}",
    "1.5",
    "1.0",
    '"1"',
    "-1",
    "9" * 30,
    "1" * 5000,
)
NO_TEXTS = ("1", "1e999", "NaN", "true", "null", "[]", '{"a": 1}', '"\\ud800"')
NO_LABELS = [
    *[(field, value) for field in ("example", "layer", "head") for value in NO_NUMBERS],
    *[(field, value) for field in ("run", "label", "annotator") for value in NO_TEXTS],
    *[("note", value) for value in NO_TEXTS if value != "null"],
    *[("confidence", value) for value in NO_NUMBERS if value != "null"],
]


def test_a_label_of_anything_else_is_refused(pages: Browser, root: Path, example: int) -> None:
    """Numbers are whole, texts are texts: nothing is taken for something near it, nothing written."""
    good = {
        "run": "tiny/sample", "example": example, "layer": 0, "head": 0, "label": "block",
        "annotator": "ann",
    }  # fmt: skip
    before = contents(root, "fragments")
    for field, value in NO_LABELS:
        rest = json.dumps({k: v for k, v in good.items() if k != field})
        body = f'{rest[:-1]}, "{field}": {value}}}'
        answer = pages.client.post("/labels", content=body, headers=pages.headers)
        assert answer.status_code == 400, (field, value, answer.text)
        assert answer.text.endswith("."), (field, value, answer.text)
        if field == "annotator":
            answer = pages.client.post("/labels/undo", content=body, headers=pages.headers)
            assert answer.status_code == 400, (value, answer.text)
    assert contents(root, "fragments") == before


BODIES: tuple[Any, ...] = (
    "", "null", "[]", "1", '"x"', "{", "[" * 100_000, '{"a":' * 100_000, "[" * 3000 + "]" * 3000, b"\xff\xfe",
    b"\x00", "{}", '{"sql": ["a"], "params": {}}', '{"sql": null, "params": {}}', '{"sql": "SELECT 1"}',
    '{"sql": "SELECT 1", "params": []}', '{"sql": "SELECT 1", "params": {"a": {}}}',
    '{"sql": "SELECT 1", "params": null}', '{"sql": "SELECT 1 \\ud800", "params": {}}',
    '{"sql": "SELECT 1", "params": {"\\ud800": "x"}}', '{"sql": "SELECT $a", "params": {"a": "\\udfff"}}',
    '{"sql": 1e999, "params": {}}', '{"sql": "SELECT 1", "params": {"a": ' + "1" * 5000 + "}}",
    '{"sql": "SELECT 1", "params": ' + '{"a": ' * 3000 + "1" + "}" * 3001,
)  # fmt: skip


@pytest.mark.parametrize("url", ["/questions", "/labels", "/labels/undo"])
def test_a_body_that_is_no_object_of_the_kind_is_refused(pages: Browser, url: str) -> None:
    """Nested, cut, endless or of other types: 400 and a sentence."""
    for body in BODIES:
        answer = pages.client.post(url, content=body, headers=pages.headers)
        assert answer.status_code == 400, (body[:60], answer.text)
        assert answer.text.endswith("."), answer.text
    assert (
        pages.client.post(url, content="x" * (20 << 20), headers=pages.headers).status_code == 413
    )


def test_a_parameter_of_a_query_may_be_any_text(pages: Browser) -> None:
    """What looks like JSON and is none that can be read stays a text."""
    for text in ("[" * 5000, "1" * 5000, '{"a": 1}', "²"):
        told = pages.ask("SELECT length($t::VARCHAR) AS n", t=text)
        assert told["state"] == "done", told
    assert pages.get("/sql?q=" + quote("SELECT '\ufffd'")).status_code == 200


def test_headers_of_any_bytes_have_an_answer(pages: Browser) -> None:
    """Neither a cookie nor a token of other letters ends in an error of the server."""
    for header in ("Cookie", "X-Page-Token", "Accept", "Host"):
        answer = pages.client.post(
            "/labels", headers={header: "évil\xff".encode("latin-1")}, content="{}"
        )  # type: ignore[dict-item]
        assert answer.status_code in (400, 403, 421)
