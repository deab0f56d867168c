"""The SQL and the Python that make the numbers of a picture, for its reader to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attnstore.query.sql_text import literal
from attnstore.web.site import Site


@dataclass(frozen=True)
class Recipe:
    """SQL for a terminal, and a Python program, that give the same rows."""

    sql: str
    python: str


def of_sql(site: Site, sql: str, given: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe of a query; given: values of its parameters."""
    return Recipe(sql, _program(site, f"rows = store.sql({_text(sql)}{_arguments(given or {})})"))


def of_analysis(site: Site, name: str, given: Mapping[str, Any], sql: str = "") -> Recipe:
    """Return the recipe of an analysis with a name; sql: its own text instead of a call of it."""
    call = ", ".join(f"{key} := {_value(value)}" for key, value in given.items())
    python = _program(site, f"rows = store.query({name!r}{_arguments(given)})")
    return Recipe(sql or f"SELECT * FROM {name}({call})", python)


def _program(site: Site, line: str) -> str:
    return f"import attnstore\n\nstore = attnstore.open({site.store.backend.name!r})\n{line}"


def _text(sql: str) -> str:
    """Return SQL as a text of Python, over several lines where it has some."""
    plain = "\\" not in sql and '"""' not in sql and not sql.endswith('"')
    return f'"""\n{sql}\n"""' if "\n" in sql and plain else repr(sql)


def _value(value: Any) -> str:
    """Return a value as SQL writes it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return literal(value) if isinstance(value, str) else str(value)


def _arguments(given: Mapping[str, Any]) -> str:
    return "".join(f", {name}={value!r}" for name, value in given.items())
