"""Named analyses inside SQL: `FROM drift(run := 'a/b') ORDER BY mean LIMIT 10`.

An analysis becomes two table macros of DuckDB's session database, made when a text first names it:

    drift$body(p$run, p$base_run, …)      the file's SELECT, `$run` replaced by p$run
    drift(run, base_run := NULL, …)       FROM drift$body(run, base_run, …)

Two, since inside a macro a parameter hides the columns of its name: `run` is both. The outer one is made
over a stub, because DuckDB binds a macro's body when it is made, with parameters that are no constants yet.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import duckdb

from attnstore.errors import AttnstoreError, QueryError, UsageError
from attnstore.query import bands, sql_text
from attnstore.query.analyses import Analyses
from attnstore.query.analysis_file import Analysis, require_known
from attnstore.query.session_objects import SessionObjects

_RUNS = ("run", "base_run")
"""Parameters whose value is the name of a run."""
_CALLED = re.compile(r'(?<![\w$])"?([A-Za-z_]\w*)"?\s*\(', re.ASCII)
_TABLE_FUNCTIONS = ("unnest", "range", "generate_series", *sql_text.MAP_MACROS)
"""Table functions that an own analysis may use: they read nothing but maps."""
_TABLES = (
    "BASE_TABLE", "TABLE_FUNCTION", "SUBQUERY", "JOIN", "EXPRESSION_LIST", "EMPTY", "PIVOT", "CTE",
)  # fmt: skip
"""Kinds of tables in a syntax tree that an own analysis may have."""
_QUERIES = ("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE")
"""Kinds of queries in a syntax tree that an own analysis may have."""


class Macros:
    """The analyses that a session's texts can call."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        analyses: Analyses,
        objects: SessionObjects,
        twins: Callable[[], bands.Twins] = dict,
    ) -> None:
        self._con = con
        self._analyses = analyses
        self._objects = objects
        self._twins = twins
        self._made: dict[str, str] = {}

    def make(
        self, text: str, params: Mapping[str, Any], banded: bool = True
    ) -> tuple[Any, list[str]]:
        """Make the macros of every analysis that a text calls, and of those that these call.

        An analysis of attnstore shows no band of those that it calls, so none is computed there.

        Args:
            text: One SQL statement. Of one that DuckDB cannot turn into a syntax tree (it is no
                SELECT), analyses are known by their names before a parenthesis.
            params: Values of its parameters.
            banded: The answer may show the bands of what the text calls.

        Returns:
            The syntax tree, and the runs that calls of analyses name in it.

        Raises:
            QueryError: An analysis calls itself, or an own one does more than read the views.
                A required argument is missing, or there are too many.
            UsageError: An own one has a name that DuckDB has, or a file that cannot be read; there
                is no such parameter.
        """
        tree = sql_text.tree(self._con, text)
        if not tree.get("error"):
            called = self._called(sql_text.table_functions(tree))
            runs = list(self._named_runs(tree, called, params))
            self._make(called, set(runs) if banded else set())
            return tree, [run for run in runs if run is not None]
        for word in set(_CALLED.findall(text)):
            with contextlib.suppress(AttnstoreError):  # it may be another function's name
                self._make(self._called({word.lower()}), {None})
        return tree, []

    def _called(self, functions: set[str]) -> dict[str, Analysis]:
        """Return those of some table functions that are analyses, by name."""
        names = [n for n in self._analyses.names() if n.lower() in functions] if functions else []
        return {name: self._analyses.find(name) for name in names}

    def _make(self, called: dict[str, Analysis], runs: set[str | None]) -> None:
        """Make the macros of analyses with the bands of those runs; None stands for any run."""
        needed: dict[str, tuple[Analysis, set[str | None]]] = {}
        self._need(needed, called, (), runs)
        for name, (analysis, of_runs) in needed.items():
            twins = self._twins() if analysis.band and of_runs else {}
            if None not in of_runs:
                twins = {run: twins[run] for run in of_runs if run is not None and run in twins}
            text = analysis.select(twins)
            if self._made.get(name) != text:
                self.require_allowed(analysis)
                self._define(analysis, text)
                self._made[name] = text

    def _define(self, analysis: Analysis, text: str) -> None:
        """Make the two macros of an analysis over its text. Raises QueryError, which names the file."""
        self._objects.make(text)
        try:
            self._objects.enough(lambda: _create(self._con, analysis, text))
        except duckdb.Error as error:
            raise QueryError(f"{analysis.file}: {sql_text.sentence(str(error))}") from error

    def _need(
        self,
        needed: dict[str, tuple[Analysis, set[str | None]]],
        called: dict[str, Analysis],
        calling: tuple[str, ...],
        runs: set[str | None],
    ) -> None:
        """Add analyses to `needed`, after those that they call, each with the runs whose bands it shows.

        Raises:
            QueryError: An analysis calls itself.
        """
        for name, analysis in called.items():
            if name in calling:
                raise QueryError(f"{analysis.file} calls itself; an analysis cannot.")
            functions = sql_text.table_functions(sql_text.tree(self._con, analysis.sql))
            inner: set[str | None] = set() if analysis.shipped else {None}
            self._need(needed, self._called(functions), (*calling, name), inner)
            needed.setdefault(name, (analysis, set()))[1].update(runs)

    def require_allowed(self, analysis: Analysis) -> None:
        """Hold an analysis that is not attnstore's own to one SELECT over the views.

        Raises:
            QueryError: It is something else, or reads something else.
            UsageError: It has the name of a function of DuckDB.
        """
        if analysis.shipped:
            return
        for note in analysis.notes:
            self.require_allowed(replace(analysis, sql=note, notes=()))
        tree = sql_text.tree(self._con, analysis.sql)
        if tree.get("error") or len(tree["statements"]) != 1:
            raise QueryError(
                f"{analysis.file} holds no single SELECT ({tree.get('error_message', 'several statements')}); "
                "an analysis is one SELECT over the views."
            )
        self._objects.make_all()
        known = set(_views(self._con)) | set(_defined(tree))
        functions = {*_TABLE_FUNCTIONS, *(name.lower() for name in self._analyses.names())}
        for what in _foreign(tree, known, functions):
            raise QueryError(
                f"{analysis.file} reads {what}; an analysis of your own or of a store reads only views "
                "and other analyses."
            )
        if analysis.name.lower() in sql_text.MAP_MACROS:
            raise UsageError(
                f"{analysis.file} has the name of a function of attnstore; give the file another name."
            )
        taken = self._con.execute(
            "SELECT count(*) FROM duckdb_functions() WHERE function_name = $name AND internal "
            "AND function_type IN ('table', 'table_macro')",
            {"name": analysis.name.lower()},
        ).fetchone()
        if taken and taken[0]:
            raise UsageError(
                f"{analysis.file} has the name of a function of DuckDB; give the file another name."
            )

    def definitions(self, analysis: Analysis) -> list[str]:
        """The texts of an analysis and of all that it calls, which together decide its answers."""
        texts, waiting = {}, [analysis]
        while waiting:
            following = waiting.pop()
            if following.name not in texts:
                texts[following.name] = following.sql
                functions = sql_text.table_functions(sql_text.tree(self._con, following.sql))
                waiting += [
                    self._analyses.find(name)
                    for name in self._analyses.names()
                    if name.lower() in functions
                ]
        return list(texts.values())

    def _named_runs(
        self, tree: Any, called: dict[str, Analysis], params: Mapping[str, Any]
    ) -> Iterator[str | None]:
        """Yield the runs that calls of analyses name in a syntax tree; check the calls' arguments.

        Yields None for a run that only the query itself tells.

        Raises:
            QueryError: A required argument is missing, or there are too many.
            UsageError: There is no such parameter.
        """
        names = {name.lower(): analysis for name, analysis in called.items()}
        for node in sql_text.nodes(tree) if called else ():
            if node.get("type") == "TABLE_FUNCTION" and (
                analysis := names.get(sql_text.function_name(node))
            ):
                arguments = _arguments(analysis, node["function"])
                if analysis.band is not None and bands.RUN not in arguments:
                    yield None  # every run
                for name in _RUNS:
                    if name in arguments:
                        run = sql_text.value(arguments[name], params)
                        yield run if isinstance(run, str) else None


def _create(con: duckdb.DuckDBPyConnection, analysis: Analysis, text: str) -> None:
    name, inner = f'"{analysis.name}"', f'"{analysis.name}$body"'
    hidden = ", ".join(f'"p${p.name}"' for p in analysis.parameters)
    shown = ", ".join(
        f'"{p.name}"' if p.required else f'"{p.name}" := {p.default_sql}'
        for p in analysis.parameters
    )
    passed = ", ".join(f'"{p.name}"' for p in analysis.parameters)
    con.execute(f"CREATE OR REPLACE MACRO {inner}({hidden}) AS TABLE SELECT 1")
    con.execute(f"CREATE OR REPLACE MACRO {name}({shown}) AS TABLE FROM {inner}({passed})")
    beginning = f"CREATE OR REPLACE MACRO {inner}({hidden}) AS TABLE "
    try:
        con.execute(beginning + _body(analysis, text, "CAST({} AS {})"))
    except duckdb.BinderException:  # a parameter beside GROUP BY is no constant yet
        con.execute(beginning + _body(analysis, text, "(SELECT CAST({} AS {}))"))


def _body(analysis: Analysis, text: str, form: str) -> str:
    """Return the SELECT of an analysis with the hidden parameters of its macro."""
    kinds = analysis.kinds

    def hidden(name: str) -> str | None:
        return form.format(f'"p${name}"', kinds[name]) if name in kinds else None

    return sql_text.replaced(text, hidden)


def _arguments(analysis: Analysis, function: dict[str, Any]) -> dict[str, Any]:
    pairs = sql_text.arguments(function)
    wanted = [p.name for p in analysis.parameters]
    unnamed = [expression for name, expression in pairs if not name]
    if len(pairs) > len(wanted):
        raise QueryError(
            f"{analysis.name}() has {len(pairs)} arguments; it takes {', '.join(wanted) or 'none'}."
        )
    spelled = {name.lower(): name for name in wanted}
    arguments = dict(zip(wanted, unnamed, strict=False))
    arguments |= {spelled.get(name.lower(), name): e for name, e in pairs if name}
    require_known(analysis, arguments)
    for parameter in analysis.parameters:
        if parameter.required and parameter.name not in arguments:
            raise QueryError(
                f"Analysis {analysis.name} needs {parameter.name} ({parameter.text}); write "
                f"{analysis.name}({parameter.name} := …)."
            )
    return arguments


def _views(con: duckdb.DuckDBPyConnection) -> list[str]:
    rows = con.execute(
        "SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'main' "
        "AND database_name = 'memory'"
    ).fetchall()
    return [name for (name,) in rows]


def _defined(tree: Any) -> Iterator[str]:
    """Names that WITH defines anywhere in a syntax tree."""
    for node in sql_text.nodes(tree):
        for entry in (node.get("cte_map") or {}).get("map", []):
            if re.fullmatch(r"\w+", entry["key"]):  # no file's name
                yield entry["key"].lower()


def _foreign(tree: Any, known: set[str], functions: set[str]) -> Iterator[str]:
    """What a syntax tree reads that is no view, no table of its own and no analysis."""
    for node in sql_text.nodes(tree):
        kind = str(node.get("type"))
        if kind.endswith("_NODE") and kind not in _QUERIES:
            yield f"by a statement of kind {kind.removesuffix('_QUERY_NODE')}"
        if "sample" not in node or "alias" not in node:
            continue  # no table: every one has these
        if kind not in _TABLES:
            yield f"a table of kind {kind}"
        elif kind == "BASE_TABLE":
            name = str(node.get("table_name", ""))
            if node.get("schema_name") or node.get("catalog_name") or name.lower() not in known:
                yield f"the table {name!r}"
        elif kind == "TABLE_FUNCTION" and sql_text.function_name(node) not in functions:
            yield f"the function {sql_text.function_name(node)}"
