"""One file of an analysis: a header that says what it is, then one SELECT with `$name` for a parameter.

-- title: What it shows
-- question: The question that it answers, for docs/analyses.md (if it has one)
-- example: options of `attnstore query NAME` that docs/analyses.md shows (if it has one)
-- needs: What the store has to hold for it, for docs/analyses.md, where that does not follow from its SQL
-- source: Paper and section, or this project
-- reads: views, by name
-- param NAME TYPE [= default]: What it is
-- column NAME TYPE: What it is (unit)
-- note: SELECT of one column of sentences to show beside the result, with `$name` for a parameter; NULL for none
-- band: COLUMN BY column, column [KEEP parameter]    (if it has one: `bands`)
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from attnstore.errors import UsageError
from attnstore.naming import near
from attnstore.query import bands, parameters
from attnstore.query.bands import Band

PARTS = (
    "SELECT format('Run {} holds {} of {} layers and {} of {} heads of its model: a mean or rank over layers or "
    "heads is one of these alone.', r.run, r.n_layers, m.n_layers, r.n_heads, m.n_heads) "
    "FROM runs r JOIN models m USING (model) "
    "WHERE r.run = $run AND (r.n_layers < m.n_layers OR r.n_heads < m.n_heads)"
)
"""SQL of the note of every analysis of a run that was ingested with some layers or heads only."""
SHIPPED = "sql/analysis/{name}.sql"
"""Where an analysis of attnstore itself lies."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of an analysis. type: as in SQL; default: None where NULL is the default."""

    name: str
    type: str
    text: str
    required: bool
    default: Any

    @property
    def default_text(self) -> str:
        """The default as SQL has it: `NULL`, `false`, `sum`; empty for a required parameter."""
        if self.required:
            return ""
        return "NULL" if self.default is None else str(self.default).lower()

    @property
    def default_sql(self) -> str:
        """The default as a SQL literal: `NULL`, `false`, `'sum'`."""
        if isinstance(self.default, str):
            return "'" + self.default.replace("'", "''") + "'"
        if isinstance(self.default, float) and not math.isfinite(self.default):
            return f"'{self.default}'::DOUBLE"
        return "NULL" if self.default is None else str(self.default).lower()

    @property
    def shown(self) -> str:
        """The parameter in a list: `run`, `layer=null`, `statistic="sum"`."""
        return self.name if self.required else f"{self.name}={json.dumps(self.default)}"


@dataclass(frozen=True)
class Column:
    """A column of an analysis's result. type: as in SQL; unit: '' for a name, number or key."""

    name: str
    type: str
    text: str
    unit: str


@dataclass(frozen=True)
class Analysis:
    """An analysis.

    Attributes:
        reads: The views that it asks.
        sql: The whole file.
        band: The band of random weights that its result has, which gives it two columns; or None.
        file: Where it lies, for people: `sql/analysis/drift.sql`.
        notes: SQL texts that give sentences to show beside the result.
        shipped: True for an analysis that comes with attnstore.
        question: The question that it answers; '' where the header has none.
        example: Options of the command that the documentation shows; '' for none.
        needs: What the store has to hold, in words; '' where its SQL says it.
    """

    name: str
    title: str
    source: str
    reads: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    columns: tuple[Column, ...]
    sql: str
    file: str
    shipped: bool = True
    notes: tuple[str, ...] = ()
    band: Band | None = None
    question: str = ""
    example: str = ""
    needs: str = ""

    def select(self, twins: bands.Twins) -> str:
        """Return its SELECT, with the band of those twins if it has one."""
        if self.band is None:
            return self.sql
        every_run = not next(p.required for p in self.parameters if p.name == bands.RUN)
        return bands.text(self.sql, self.band, twins, every_run)

    @property
    def kinds(self) -> dict[str, str]:
        """The declared SQL type of each parameter, by name."""
        return {p.name: p.type for p in self.parameters}


@lru_cache(512)
def parse(name: str, text: str, file: str = "", shipped: bool = True) -> Analysis:
    """Read the text of an analysis.

    Args:
        name: The analysis's name.
        text: The whole file.
        file: Where it lies, for errors; of attnstore itself if it is left out.
        shipped: True for an analysis that comes with attnstore.

    Raises:
        UsageError: The header cannot be read; the sentence names file and line.
    """
    file = file or SHIPPED.format(name=name)
    lines: dict[str, list[tuple[str, ...]]] = {what: [] for what in _LINES}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("--"):
            break
        for what, (pattern, _) in _LINES.items():
            if match := pattern.fullmatch(line):
                lines[what].append(match.groups(""))
                break
        else:
            raise UsageError(_unreadable(file, number, line))
    for what, groups in lines.items():
        least, most = _COUNTS.get(what, (1, 1))
        if not least <= len(groups) <= most:
            raise UsageError(
                f"The header of {file} has {len(groups)} lines of {what}; "
                f"write {_LINES[what][1]!r} {'for each column' if what == 'column' else 'once'}."
            )
    columns = tuple(Column(*groups) for groups in lines["column"])
    taken = tuple(_parameter(file, *groups) for groups in lines["param"])
    band = _band(file, columns, taken, *lines["band"][0]) if lines["band"] else None
    return Analysis(
        name,
        lines["title"][0][0],
        lines["source"][0][0],
        tuple(lines["reads"][0][0].split(", ")),
        taken,
        columns if band is None else (*columns, *_of_band(band, columns)),
        text,
        file,
        shipped,
        tuple(sql for (sql,) in lines["note"]),
        band,
        *("".join(text for (text,) in lines[what]) for what in ("question", "example", "needs")),
    )


_LINES = {
    "title": (re.compile(r"-- title: (.+)"), "-- title: text"),
    "question": (re.compile(r"-- question: (.+\?)"), "-- question: text?"),
    "example": (re.compile(r"-- example: (--.+)"), "-- example: --run RUN --sort COLUMN"),
    "needs": (re.compile(r"-- needs: (.+)"), "-- needs: text"),
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
    "note": (re.compile(r"-- note: (.+)"), "-- note: SELECT …"),
    "band": (
        re.compile(r"-- band: (\w+) BY (\w+(?:, \w+)*)(?: KEEP (\w+))?"),
        "-- band: COLUMN BY column, column",
    ),
}
"""The lines of a header, and how each is written."""
_COUNTS = {"param": (0, 1000), "column": (1, 1000), "note": (0, 1000), "band": (0, 1)}
_COUNTS |= dict.fromkeys(("question", "example", "needs"), (0, 1))
"""How many lines there may be of each, where that is not one."""


def _band(
    file: str,
    columns: tuple[Column, ...],
    parameters: tuple[Parameter, ...],
    column: str,
    by: str,
    keep: str,
) -> Band:
    """Read a band. Raises UsageError where its columns, or the parameter run, are missing."""
    band, known = Band(column, tuple(by.split(", ")), keep or None), {c.name for c in columns}
    for name in (column, *band.keys):
        if name not in known:
            raise UsageError(
                f"The band of {file} names {name}, which is no column of it{near(name, known)}."
            )
    if bands.RUN not in {p.name for p in parameters}:
        raise UsageError(
            f"{file} has a band and no parameter run, which random weights stand in for."
        )
    optional = {p.name for p in parameters if not p.required}
    if keep and keep not in optional:
        raise UsageError(
            f"The band of {file} keeps {keep}, which is no parameter with a default{near(keep, optional)}."
        )
    return band


def _of_band(band: Band, columns: tuple[Column, ...]) -> list[Column]:
    """Describe the two columns of a band."""
    unit = next(c.unit for c in columns if c.name == band.column)
    ends = ((bands.LOW, "Lowest"), (bands.HIGH, "Highest"))
    return [
        Column(
            name,
            "DOUBLE",
            f"{word} {band.column} over the run's random-weights twins; NULL where none has such a row",
            unit,
        )
        for name, word in ends
    ]


def _unreadable(file: str, number: int, line: str) -> str:
    meant = [form for what, (_, form) in _LINES.items() if line.startswith(f"-- {what}")]
    forms = meant or [form for _, form in _LINES.values()]
    return (
        f"Line {number} of {file} cannot be read ({line[:80]!r}): "
        f"write {' or '.join(map(repr, forms))}."
    )


def _parameter(file: str, name: str, kind: str, default: str, text: str) -> Parameter:
    if kind not in parameters.TYPES:
        raise UsageError(
            f"Parameter {name} of {file} has type {kind}; write one of {', '.join(parameters.TYPES)}."
        )
    value = None
    if default not in ("", "NULL"):
        value = parameters.converted(f"The default of {name} in {file}", kind, default)
    return Parameter(name, kind, text, not default, value)


def arguments(analysis: Analysis, values: Mapping[str, object]) -> dict[str, Any]:
    """Complete the values for an analysis: those given, converted to their types, and defaults.

    Raises:
        UsageError: A parameter is missing, unknown or of the wrong type.
    """
    require_known(analysis, values)
    known = {p.name: p for p in analysis.parameters}
    complete = {name: p.default for name, p in known.items()} | dict(values)
    for name, parameter in known.items():
        if parameter.required and complete[name] is None:
            raise UsageError(
                f"Analysis {analysis.name} needs {name} ({parameter.text}); give --param {name}=…"
            )
        about = f"Parameter {name} of analysis {analysis.name}"
        complete[name] = parameters.converted(about, parameter.type, complete[name])
    return complete


def require_known(analysis: Analysis, names: Mapping[str, object] | set[str]) -> None:
    """Raise UsageError for a name that is no parameter of an analysis."""
    known = [p.name for p in analysis.parameters]
    for name in names:
        if name not in known:
            raise UsageError(
                f"Analysis {analysis.name} has no parameter {name!r}"
                f"{near(name, known) or '; it takes ' + (', '.join(known) or 'none')}"
            )
