"""Rules of texts in files: UTF-8 wherever they are read or written, whatever the locale says."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import attnstore

ROOT = Path(__file__).parents[2]
SOURCES = [*sorted((ROOT / "src").rglob("*.py")), *sorted((ROOT / "flows").rglob("*.py"))]
_PLACES = {"read_text": 0, "write_text": 1}
"""Which positional argument of a method of Path is the encoding."""


def unnamed_encodings(source: str) -> list[int]:
    """Lines of the calls that read or write text in the encoding of the locale."""
    return sorted(
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and _by_locale(node)
    )


def _by_locale(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    keywords = {k.arg: k.value for k in call.keywords}
    receiver = getattr(getattr(call.func, "value", None), "id", "")
    if "encoding" in keywords or receiver == "formatter":  # click's, which writes no file
        return False
    if name in _PLACES:
        return len(call.args) <= _PLACES[name]
    if name in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile"):
        return any("b" not in mode for mode in _modes(call, keywords))
    return any(
        isinstance(value := keywords.get(word), ast.Constant) and value.value is True
        for word in ("text", "universal_newlines")
    ) and name in ("run", "Popen", "check_output", "call")


def _modes(call: ast.Call, keywords: dict[str | None, ast.expr]) -> Iterator[str]:
    """The mode that a call of `open` (a function, or a method of a path) names."""
    place = 1 if isinstance(call.func, ast.Name) else 0
    if place and len(call.args) == 1 and "mode" not in keywords:
        yield "r"
    for argument in (*call.args[place : place + 1], keywords.get("mode")):
        mode = getattr(argument, "value", None)
        if isinstance(mode, str) and mode and set(mode) <= set("rwxabt+"):
            yield mode


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_name_their_encoding(path: Path) -> None:
    """Every call that reads or writes text says which encoding it means."""
    assert unnamed_encodings(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("path.read_text()", [1]),
        ("path.read_text('utf-8')", []),
        ("path.write_text(a)", [1]),
        ("path.write_text(a, encoding='utf-8')", []),
        ("formatter.write_text(a)", []),
        ("open(path)", [1]),
        ("path.open('w')", [1]),
        ("path.open('rb')", []),
        ("store.open(path)", []),
        ("subprocess.run(a, text=True)", [1]),
        ("subprocess.run(a)", []),
    ],
)
def test_the_rule_sees_the_calls_it_is_about(source: str, lines: list[int]) -> None:
    """A call without an encoding is found, one with an encoding or of bytes is not."""
    assert unnamed_encodings(source) == lines


def ascii_only(*command: str | bytes, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run attnstore where the locale knows ASCII only."""
    env = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "attnstore", *command], env=env, input=stdin, capture_output=True, check=False
    )  # fmt: skip


def test_commands_do_not_depend_on_the_locale(sample_store: Path, tmp_path: Path) -> None:
    """In an ASCII locale a question from a file, from stdin and a named one give what they always give."""
    asked = "SELECT 'naïve – ☃' AS text"
    (tmp_path / "q.sql").write_text(asked, "utf-8")
    store = ("--store", str(sample_store))
    for text in (f"@{tmp_path / 'q.sql'}", "-"):
        done = ascii_only(*store, "sql", text, "--format", "json", stdin=asked.encode())
        assert done.returncode == 0, done.stderr.decode()
        assert json.loads(done.stdout) == [{"text": "naïve – ☃"}]
    asked = "SELECT $word || ' – ☃' AS text"
    done = ascii_only(*store, "sql", asked, "--param", "word=naïve", "--format", "csv")
    assert done.stdout.decode() == "text\nnaïve – ☃\n", done.stderr.decode()
    example = str(attnstore.open(sample_store).sql("SELECT min(example) FROM inputs").item())
    for command in (["runs"], ["query", "special_tokens", "--param", "run=tiny/sample"], ["query"],
                    ["verify"], ["show", "tiny/sample", example, "0", "0"], ["figure"]):  # fmt: skip
        done = ascii_only(*store, *command)
        assert done.returncode == 0, done.stderr.decode()
    failed = ascii_only(*store, "sql", "FROM runs WHERE run = 'naïve'")
    assert failed.returncode == 2
    assert failed.stderr.decode().startswith("attnstore: The store holds no run 'naïve'")
    failed = ascii_only(*store, "sql", b"SELECT '\xff'")
    assert failed.returncode == 2
    assert failed.stderr.startswith(b"attnstore: ")
