"""A SQL text by DuckDB's own parser: its syntax tree, the runs it names, DuckDB's errors as sentences."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

import duckdb

from attnstore.errors import QueryError, UsageError

_PARAMETER = re.compile(r"\$([A-Za-z_]\w*)", re.ASCII)
MAP_MACROS = ("maps", "attention", "map_places", "word_attention")
"""Table macros that take a kind of maps, beside the views of the same names."""


def tree(con: duckdb.DuckDBPyConnection, text: str) -> dict[str, Any]:
    """Parse a SELECT into DuckDB's JSON tree; of anything else it has `error` and `error_message`.

    Raises:
        QueryError: The text is nested too deeply.
    """
    rows = con.execute("SELECT json_serialize_sql($text)", {"text": text}).fetchall()
    try:
        parsed: dict[str, Any] = json.loads(rows[0][0])
    except RecursionError:
        raise QueryError("The query is nested too deeply; write it flatter.") from None
    return parsed


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a syntax tree, in the order of the text."""
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting += reversed(item.values())
        elif isinstance(item, list):
            waiting += reversed(item)


def table_functions(tree: Any) -> set[str]:
    """Collect the names of the table functions that a syntax tree calls, in lower case."""
    return {function_name(node) for node in nodes(tree) if node.get("type") == "TABLE_FUNCTION"}


def function_name(node: dict[str, Any]) -> str:
    """Return the name of a node's table function, in lower case, with its schema if it has one."""
    function = node["function"]
    parts = (function.get("catalog"), function.get("schema"), function.get("function_name"))
    return ".".join(part.lower() for part in parts if part)


def named_runs(tree: Any, params: Mapping[str, Any]) -> Iterator[str]:
    """Yield every text that a syntax tree compares the column `run` with, by = or IN."""
    for node in nodes(tree):
        if node.get("type") not in ("COMPARE_EQUAL", "COMPARE_IN"):
            continue
        operands = [node.get("left"), node.get("right"), *(node.get("children") or [])]
        names = [o.get("column_names", [""])[-1] for o in operands if isinstance(o, dict)]
        if "run" in names:
            values = (value(operand, params) for operand in operands)
            yield from (run for run in values if isinstance(run, str))


def named_kinds(tree: Any, params: Mapping[str, Any]) -> Iterator[str]:
    """Yield every text that a syntax tree gives a macro over maps as its kind."""
    for node in nodes(tree):
        if node.get("type") == "TABLE_FUNCTION" and function_name(node) in MAP_MACROS:
            for name, argument in arguments(node["function"]):
                kind = value(argument, params)
                if name.lower() in ("", "kind") and isinstance(kind, str):
                    yield kind


def of_kind(view: str, kind: str) -> str:
    """Return the call that gives the rows of a view for a kind of maps. Raises UsageError."""
    if view not in MAP_MACROS:
        raise UsageError(f"View {view} has no kinds of maps; {', '.join(MAP_MACROS)} have.")
    return f"{view}(kind := {literal(kind)})"


def arguments(function: dict[str, Any]) -> list[tuple[str, Any]]:
    """List the arguments of a table function in a syntax tree, by name; '' for one without."""
    if "arguments" in function:  # DuckDB 2
        return [(a["name"], a["expression"]) for a in function["arguments"]]
    return [(a.get("alias") or "", a) for a in function.get("children") or []]


def value(operand: Any, params: Mapping[str, Any]) -> Any:
    """Return the constant or the parameter's value that an operand stands for, or None."""
    if not isinstance(operand, dict):
        return None
    if operand.get("type") == "VALUE_PARAMETER":
        return params.get(operand.get("identifier", ""))
    literal = operand.get("literal") or operand.get("value")  # DuckDB 2, DuckDB 1
    if not isinstance(literal, dict) or literal.get("kind", "STRING") != "STRING":
        return None
    return literal.get("text", literal.get("value"))


def sentence(message: str) -> str:
    """Put DuckDB's message on one line: what was wrong and its candidates, without the picture."""
    head = message.split("\n\nLINE ")[0].replace("idx.main.", "")
    head = head.removeprefix("Invalid Input Error: ")  # what `error('…')` in an analysis says
    return re.sub(r"\s+", " ", head).strip()


def identifier(name: str) -> str:
    """Return a name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def replaced(text: str, instead: Callable[[str], str | None]) -> str:
    """Return a SQL text without comments, its parameters replaced.

    Args:
        text: The text, with `$name` for a parameter.
        instead: Returns what stands instead of a parameter's name; None leaves it.
    """

    def replace(match: re.Match[str]) -> str:
        return instead(match[1]) or match[0]

    pieces = groupby(_pieces(text), key=itemgetter(1))
    texts = (("".join(piece for piece, _ in group), quoted) for quoted, group in pieces)
    return "".join(piece if quoted else _PARAMETER.sub(replace, piece) for piece, quoted in texts)


def used_values(text: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the values that a SQL text has a `$name` for."""
    names = set(_PARAMETER.findall(text))
    return {name: value for name, value in values.items() if name in names}


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Split a SQL text into (token with the space after it, True if it is a literal); no comments."""
    data = text.encode()
    tokens = duckdb.tokenize(text)
    ends = [start for start, _ in tokens[1:]] + [len(data)]
    for (start, kind), end in zip(tokens, ends, strict=True):
        if kind != duckdb.token_type.comment:
            yield data[start:end].decode(), kind == duckdb.token_type.string_const
