"""Views, macros and functions of a session, each made when a text first names it.

Making all of them takes a tenth of a second and most questions name one. A word of a text that is the name of
an object makes it, with what its own definition names. Words in other places make an object too many, which
changes no answer; where a text reads the catalog, or DuckDB misses a name, everything is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TypeVar

import duckdb

from attnstore import resources
from attnstore.storage import tables

_T = TypeVar("_T")
_NAMED = re.compile(r"CREATE (?:MACRO|VIEW) \"?((?:core\.)?\w+)", re.ASCII)
_COMMENT = re.compile(r"^\s*--.*\n?", re.MULTILINE)
_WORD = re.compile(r"(?:\bcore\.)?\w+")
"""A word that may name an object; one in `core` is a table or a view inside the index."""
_CATALOG = re.compile(
    r"duckdb_|information_schema|pg_|sqlite_|pragma|\b(?:show|describe|summarize|query|query_table)\b",
    re.IGNORECASE,
)
"""Words of a text that may list the objects of a session, or name one that the text does not spell."""


@dataclass(frozen=True)
class Statement:
    """One statement that makes a session.

    Attributes:
        sql: Its text, without comments before it; empty for a view inside the index.
        name: Of the view or macro that it makes, in lower case; None where it describes one.
        index_sql: Text of the view in the index that it shows, which needs no function; empty for another.
    """

    sql: str
    name: str | None
    index_sql: str = ""


class Definitions:
    """The statements that make a whole session, each after those that it needs.

    Args:
        index_sql: What makes the index.
        files: SQL files with further views and macros.
    """

    def __init__(self, index_sql: str, files: tuple[Path, ...]) -> None:
        own = "".join(tables.expanded(file.read_text(encoding="utf-8")) for file in files)
        self.statements = [
            Statement(
                "" if "." in name else f'CREATE VIEW "{name}" AS FROM idx.main."{name}"', name, text
            )
            for text, name in _statements(index_sql)
            if name is not None
        ] + [Statement(text, name) for text, name in _statements(own)]

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        """The numbers of the statements that make the objects of each name."""
        numbers: dict[str, list[int]] = {}
        for number, statement in enumerate(self.statements):
            if statement.name is not None:
                numbers.setdefault(statement.name, []).append(number)
        return numbers

    def named(self, text: str) -> set[int]:
        """Return the numbers of the statements that make what a text names, and what that needs."""
        numbers: set[int] = set()
        waiting = [text]
        while waiting:
            for word in set(_WORD.findall(waiting.pop().lower())) & self._by_name.keys():
                new = set(self._by_name[word]) - numbers
                numbers |= new
                made = [self.statements[number] for number in new]
                waiting += [statement.index_sql or statement.sql for statement in made]
        return numbers


def _statements(sql: str) -> Iterator[tuple[str, str | None]]:
    """Yield each statement of a SQL file, and the name of the view or macro that it makes."""
    for part in sql.split(";\n"):
        text = _COMMENT.sub("", part).strip()
        if text:
            name = _NAMED.match(text)
            yield text, name[1].lower() if name else None


_definitions = cache(Definitions)


class SessionObjects:
    """What a session has made of its views, macros and functions.

    Args:
        con: Its connection, with the index attached wherever a method is called.
        register: Registers the functions.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, register: Callable[[], None]) -> None:
        self._con, self._register = con, register
        self._made: set[int] = set()
        self._has_functions = self._has_all = False
        self.is_whole = True  # False while statements run, and if one failed

    @cached_property
    def _defined(self) -> Definitions:
        files = resources.sql_files("schema/session").values()
        return _definitions(tables.sql(), tuple(files))

    def make(self, text: str) -> None:
        """Make what a text names."""
        if self._has_all:
            return
        if _CATALOG.search(text):
            self.make_all()
        else:
            self._execute(self._defined.named(text))

    def make_all(self) -> None:
        """Make everything, with the comments of views and columns."""
        if not self._has_all:
            self._execute(set(range(len(self._defined.statements))))
            self._has_all = True

    def enough(self, ask: Callable[[], _T]) -> _T:
        """Return what `ask` returns; where DuckDB misses a name, make the functions, then everything, and ask again."""
        for more in (self._make_functions, self.make_all):
            if self._has_all:
                break
            try:
                return ask()
            except (duckdb.BinderException, duckdb.CatalogException):
                more()
        return ask()

    def _make_functions(self) -> None:
        if not self._has_functions:
            self.is_whole = False
            self._register()
            self._has_functions = self.is_whole = True

    def _execute(self, wanted: set[int]) -> None:
        """Run those statements that have not run, in their order, after the functions that they may call."""
        statements = self._defined.statements
        numbers = sorted(wanted - self._made)
        if any(not statements[n].index_sql for n in numbers):
            self._make_functions()
        self.is_whole = False
        for number in numbers:
            if statements[number].sql:
                self._con.execute(statements[number].sql)
            self._made.add(number)
        self.is_whole = True
