"""The tables that fragments fill, as `sql/schema/index` declares them: the only place that lists them.

The SQL file of a table has its columns, and in the comment before it what it belongs to, how it is
ordered and copied, and what repairs it. `sql()` is these files with the declared statistics put in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from attnstore import resources
from attnstore.statistics import STATISTICS

AGAIN = "ingest the run again, which writes it anew"
"""What repairs the tables that ingesting writes."""
RULES = ("by name", "by plan", "latest")
"""Values of `Table.copy` that are no words for the rows."""

_TABLE = re.compile(r"((?:^--[^\n]*\n)*)^CREATE TABLE core\.(\w+) \((.*?)\n?\);$", re.M | re.S)
_KEY = re.compile(r"^-- (of|copy|order|after|without it|repair): (.+)$", re.M)
_NEEDED = re.compile(r'"?(\w+)"? \w+(?:\[\])? NOT NULL')
_REPEATED = re.compile(r"/\*\{\{statistics: (.*?)\}\}\*/")


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
    """Return the text of an SQL file with each `/*{{statistics: …}}*/` once for every statistic."""
    return _REPEATED.sub(lambda match: _for_each_statistic(match[1]), text)


def _for_each_statistic(template: str) -> str:
    """Fill in NAME, TEXT (as it stands in an SQL string) and OUT_OF_RANGE (a condition)."""
    separator = "\n" if template.endswith(";") else ""
    filled = []
    for statistic in STATISTICS:
        text = template.replace("OUT_OF_RANGE", statistic.out_of_range)
        text = text.replace("NAME", statistic.name)
        filled.append(text.replace("TEXT", statistic.text.replace("'", "''")))
    return separator.join(filled)


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
