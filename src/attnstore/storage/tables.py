"""The tables that fragments fill, as `sql/schema/index` declares them: the only place that lists them.

The SQL file of a table has its columns, and in the comment before it its owner, its order, the rule for
copies and the repair. Placeholders are filled from declarations elsewhere: `{{classes}}` in a
comment lists the pattern classes, `/*{{statistics: …}}*/` is repeated for every statistic.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from attnstore import map_kinds, resources
from attnstore.naming import BATCHINGS, CAPTURED, CLASSES, KIND_TEXTS, column_of
from attnstore.statistics import STATISTICS
from attnstore.storage.precision import PRECISIONS

AGAIN = "ingest the run again, which rewrites it"
"""Repair of the tables that ingesting writes."""
RULES = ("by name", "by plan", "latest")
"""Values of `Table.copy` that are rules; other values are words for the rows."""

_TABLE = re.compile(r"((?:^--[^\n]*\n)*)^CREATE TABLE core\.(\w+) \((.*?)\n?\);$", re.M | re.S)
_KEY = re.compile(r"^-- (of|copy|order|after|without it|repair): (.+)$", re.M)
_NEEDED = re.compile(r'"?(\w+)"? \w+(?:\[\])? NOT NULL')
_REPEATED = re.compile(r"/\*\{\{(\w+): (.*?)\}\}\*/")
_LISTED = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Table:
    """One table of schema `core`, filled by the fragments of `fragments/<name>`.

    needed: columns that must have a value in every row of a fragment; of: store, model, dataset or
    run; copy: see RULES, else the word for its rows; order: SQL, order of the rows in the index;
    after: the table whose same part is committed first; without: message about a part whose
    `after` is gone; repair: how to restore a damaged fragment.
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
    return _joined(tuple(resources.sql_files("schema/index").values()))


@cache
def _joined(files: tuple[Path, ...]) -> str:
    return expanded("\n".join(path.read_text(encoding="utf-8") for path in files))


def expanded(text: str) -> str:
    """Fill the placeholders in the text of an SQL file."""
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
    """Escape a text for an SQL string."""
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
    "map_kinds": _listed(f"{kind.name} ({kind.text})" for kind in map_kinds.KINDS),
    "stored_kinds": map_kinds.STORED,
    "kinds_per_layer": "|".join(map_kinds.PER_LAYER),
}  # fmt: skip


@cache
def tables() -> dict[str, Table]:
    """Return the tables that fragments fill, by name, in the order in which they are loaded."""
    by_name = {}
    for comment, name, columns in _TABLE.findall(sql()):
        settings = dict(_KEY.findall(comment))
        if "of" in settings:
            by_name[name] = Table(
                name, tuple(_NEEDED.findall(columns)), settings["of"], settings.get("copy", name),
                settings.get("order"), settings.get("after"), settings.get("without it"),
                settings.get("repair", AGAIN),
            )  # fmt: skip
    return by_name


TABLES = tuple(tables())
"""Their names."""
OF_RUNS = tuple(table.name for table in tables().values() if table.of == "run")
"""The tables whose rows count only with their run's record."""
NEEDS = {table.name: table.after for table in tables().values() if table.after}
"""Tables whose every part is committed after the same part of another table."""
