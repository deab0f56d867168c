"""The files of `sql/analysis` as functions: one file is one analysis, its name the result's name.

A file opens with lines that say what it is, then holds one SELECT with `$name` for a parameter:

    -- title: What it tells
    -- source: Paper and section, or this project
    -- reads: views, by name
    -- param NAME TYPE [= default]: What it is
    -- column NAME TYPE: What it is (unit)

Dropping a file into the folder is all that a new analysis takes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from attnstore.errors import UnknownNameError, UsageError
from attnstore.naming import near
from attnstore.query import parameters
from attnstore.resources import sql_files


class Answering(Protocol):
    """What an analysis is asked of: an open store."""

    def kept(self, text: str, /, **params: Any) -> pl.DataFrame:
        """The answer to one SQL question, kept for the next time."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of an analysis. type: as in SQL; default: None where NULL is the default."""

    name: str
    type: str
    text: str
    required: bool
    default: Any


@dataclass(frozen=True)
class Column:
    """A column of an analysis's result. type: as in SQL; unit: '' for a name, number or key."""

    name: str
    type: str
    text: str
    unit: str


@dataclass(frozen=True)
class Analysis:
    """One file of `sql/analysis`. reads: the views it asks; sql: the whole file."""

    name: str
    title: str
    source: str
    reads: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    columns: tuple[Column, ...]
    sql: str

    @property
    def kinds(self) -> dict[str, str]:
        """The declared SQL type of each parameter, by name."""
        return {p.name: p.type for p in self.parameters}


def listing() -> dict[str, Analysis]:
    """Every analysis by name. Raises UsageError for a file whose header cannot be read."""
    return {
        name: parse(name, path.read_text("utf-8")) for name, path in sql_files("analysis").items()
    }


def find(name: str) -> Analysis:
    """One analysis. Raises UnknownNameError, or UsageError if its header cannot be read."""
    files = sql_files("analysis")
    if name not in files:
        raise UnknownNameError(
            f"There is no analysis {name!r}{near(name, files) or '; there are ' + ', '.join(files)}"
        )
    return parse(name, files[name].read_text("utf-8"))


def run(store: Answering, name: str, /, **params: object) -> pl.DataFrame:
    """The result of an analysis over a store; a parameter may be given as text.

    The same question again in the same session is answered from memory (`Store.kept`).

    Raises UsageError (a parameter is missing, unknown or of the wrong type), UnknownNameError (no
    such analysis or run).
    """
    analysis = find(name)
    return store.kept(analysis.sql, **arguments(analysis, params))


def parse(name: str, text: str) -> Analysis:
    """The analysis that a file's text holds. Raises UsageError, which names the line."""
    found: dict[str, list[tuple[str, ...]]] = {what: [] for what in _LINES}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("--"):
            break
        for what, (pattern, _) in _LINES.items():
            if match := pattern.fullmatch(line):
                found[what].append(match.groups(""))
                break
        else:
            raise UsageError(_unreadable(name, number, line))
    for what, lines in found.items():
        if len(lines) != 1 and not (what == "param" or (what == "column" and lines)):
            raise UsageError(
                f"The header of sql/analysis/{name}.sql has {len(lines)} lines of {what}; "
                f"write {_LINES[what][1]!r} {'for each column' if what == 'column' else 'once'}."
            )
    return Analysis(
        name,
        found["title"][0][0],
        found["source"][0][0],
        tuple(found["reads"][0][0].split(", ")),
        tuple(_parameter(name, *groups) for groups in found["param"]),
        tuple(Column(*groups) for groups in found["column"]),
        text,
    )


_LINES = {
    "title": (re.compile(r"-- title: (.+)"), "-- title: text"),
    "source": (re.compile(r"-- source: (.+)"), "-- source: text"),
    "reads": (re.compile(r"-- reads: (\w+(?:, \w+)*)"), "-- reads: view, view"),
    "param": (
        re.compile(r"-- param (\w+) (\w+)(?: = ([^:]+))?: (.+)"),
        "-- param NAME TYPE [= default]: text",
    ),
    "column": (
        re.compile(r"-- column (\w+) ([A-Z][^\s:]*): (.+?)(?: \(([^()]+)\))?"),
        "-- column NAME TYPE: text (unit)",
    ),
}
"""The lines of a header, and how each is written."""


def _unreadable(name: str, number: int, line: str) -> str:
    meant = [form for what, (_, form) in _LINES.items() if line.startswith(f"-- {what}")]
    forms = meant or [form for _, form in _LINES.values()]
    return (
        f"Line {number} of sql/analysis/{name}.sql cannot be read ({line!r}): "
        f"write {' or '.join(map(repr, forms))}."
    )


def _parameter(analysis: str, name: str, kind: str, default: str, text: str) -> Parameter:
    if kind not in parameters.TYPES:
        raise UsageError(
            f"Parameter {name} of sql/analysis/{analysis}.sql has type {kind}; "
            f"write one of {', '.join(parameters.TYPES)}."
        )
    value = None
    if default not in ("", "NULL"):
        value = parameters.converted(
            f"The default of {name} in sql/analysis/{analysis}.sql", kind, default
        )
    return Parameter(name, kind, text, not default, value)


def arguments(analysis: Analysis, given: Mapping[str, object]) -> dict[str, Any]:
    """A value for every parameter of an analysis: the given ones, and defaults.

    Raises UsageError for a parameter that is missing, unknown or of the wrong type.
    """
    known = {p.name: p for p in analysis.parameters}
    for name in given:
        if name not in known:
            raise UsageError(
                f"Analysis {analysis.name} has no parameter {name!r}"
                f"{near(name, known) or '; it takes ' + (', '.join(known) or 'none')}"
            )
    values = {name: p.default for name, p in known.items()} | dict(given)
    for name, parameter in known.items():
        if parameter.required and values[name] is None:
            raise UsageError(
                f"Analysis {analysis.name} needs {name} ({parameter.text}); give --param {name}=…"
            )
        if values[name] is not None:
            about = f"Parameter {name} of analysis {analysis.name}"
            values[name] = parameters.converted(about, parameter.type, values[name])
    return values
