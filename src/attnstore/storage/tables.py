"""The tables that fragments fill, as `sql/schema/index` declares them: the only place that lists them.

The SQL file of a table has its columns, and in the comment before it what it belongs to, how it is
ordered and copied, and what repairs it. What is declared elsewhere is filled in: `{{classes}}` in a
comment lists the pattern classes, `/*{{statistics: …}}*/` is repeated for every statistic.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from attnstore import resources
from attnstore.naming import BATCHINGS, CAPTURED, CLASSES, KIND_TEXTS, column_of
from attnstore.statistics import STATISTICS
from attnstore.storage.precision import PRECISIONS

AGAIN = "ingest the run again, which rewrites it"
"""What repairs the tables that ingesting writes."""
RULES = ("by name", "by plan", "latest")
"""Values of `Table.copy` that are no words for the rows."""

_TABLE = re.compile(r"((?:^--[^\n]*\n)*)^CREATE TABLE core\.(\w+) \((.*?)\n?\);$", re.M | re.S)
_KEY = re.compile(r"^-- (of|copy|order|after|without it|repair): (.+)$", re.M)
_NEEDED = re.compile(r'"?(\w+)"? \w+(?:\[\])? NOT NULL')
_REPEATED = re.compile(r"/\*\{\{(\w+): (.*?)\}\}\*/")
_LISTED = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Table:
    """One table of schema `core`, filled by the fragments of `fragments/<name>`.

    needed: columns with a value in every row, without which nothing can be done with a fragment; of:
    store, model, dataset or run; copy: see RULES, else what people call its rows; order: SQL, how
    rows lie in the index; after: the table whose same part is committed first; without: said of a
    part whose `after` is gone; repair: what brings a damaged fragment back.
    """

    name: str
    needed: tuple[str, ...]
    of: str
    copy: str
    order: str | None
    after: str | None
    without: str | None
    repair: str


def sql() -> str:
    """Return the SQL that makes the tables and views of the index."""
    files = resources.sql_files("schema/index").values()
    return expanded("\n".join(path.read_text(encoding="utf-8") for path in files))


def expanded(text: str) -> str:
    """Return the text of an SQL file with what is declared elsewhere filled in."""
    text = _REPEATED.sub(lambda match: _repeated(_REPEATS[match[1]], match[2]), text)
    return _LISTED.sub(lambda match: _quoted(_LISTS[match[1]]), text)


def _repeated(declared: list[dict[str, str]], template: str) -> str:
    separator = "\n" if template.endswith(";") else ""
    filled = []
    for words in declared:
        text = template
        for word, value in words.items():
            text = text.replace(word, value)
        filled.append(text)
    return separator.join(filled)


def _quoted(text: str) -> str:
    """Return a text as it stands in an SQL string."""
    return text.replace("'", "''")


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}"


_REPEATS = {
    "statistics": [
        {"OUT_OF_RANGE": s.out_of_range, "NAME": s.name, "TEXT": _quoted(s.text)}
        for s in STATISTICS
    ],
    "classes": [{"NAME": column_of(name), "TEXT": name} for name in CLASSES],
}
_LISTS = {
    "precisions": _listed(PRECISIONS), "classes": _listed(CLASSES), "batchings": _listed(BATCHINGS),
    "kinds": _listed(f"{name} ({text})" for name, text in KIND_TEXTS.items()),
    "captured": _listed(f"{name} ({text})" for name, text in CAPTURED.items()),
}  # fmt: skip


@cache
def tables() -> dict[str, Table]:
    """Return the tables that fragments fill, by name, in the order in which they are loaded."""
    found = {}
    for comment, name, columns in _TABLE.findall(sql()):
        said = dict(_KEY.findall(comment))
        if "of" in said:
            found[name] = Table(
                name, tuple(_NEEDED.findall(columns)), said["of"], said.get("copy", name),
                said.get("order"), said.get("after"), said.get("without it"),
                said.get("repair", AGAIN),
            )  # fmt: skip
    return found


TABLES = tuple(tables())
"""Their names."""
OF_RUNS = tuple(table.name for table in tables().values() if table.of == "run")
"""The tables whose rows count only with their run's record."""
NEEDS = {table.name: table.after for table in tables().values() if table.after}
"""Tables whose every part is committed after the same part of another table."""
