"""The schema of the index, made from the package's SQL files, and its comparison with a database.

A database file may hold more than rows: views, macros and defaults are code. Queries
therefore take them from here, never from the file, and a file that holds anything else is not used.
"""

from __future__ import annotations

import contextlib
import re

import duckdb

from attnstore.storage import files, tables

CONFINED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}
"""Settings of DuckDB for a file of a store: no other file, no network, no extension."""


def version() -> str:
    """Fingerprint the schema, so that an index of another version is rebuilt."""
    return f"{files.crc32c(tables.sql().encode()):08x}"


def views() -> list[str]:
    """Return the names of the views for queries."""
    return re.findall(r"^CREATE VIEW (\w+) AS", tables.sql(), re.MULTILINE)


def create(con: duckdb.DuckDBPyConnection) -> None:
    """Make the schema in an empty database."""
    con.execute(f"BEGIN;\n{tables.sql()}\nCOMMIT")  # at once: one sync, not one a comment
    con.execute("CREATE TABLE core.made_by AS SELECT $sum AS schema", {"sum": version()})


def made_by_this_version(con: duckdb.DuckDBPyConnection) -> bool:
    """Return True if an index that this machine made has this version's schema."""
    tables = con.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    made_by = con.execute("FROM core.made_by").fetchall() if ("made_by",) in tables else []
    return made_by == [(version(),)]


def nothing_else(con: duckdb.DuckDBPyConnection) -> bool:
    """Return True if a database, whoever made it, holds this schema and nothing else but rows."""
    with contextlib.closing(duckdb.connect(":memory:", config=CONFINED)) as own:
        create(own)
        return contents(con) == contents(own)


def contents(con: duckdb.DuckDBPyConnection) -> list[tuple[str, ...]]:
    """List everything in a database but rows: its name and the SQL that makes it, in order."""
    return con.execute(
        "SELECT 'view', schema_name, view_name, sql FROM duckdb_views() WHERE NOT internal UNION ALL "
        "SELECT 'table', schema_name, table_name, sql FROM duckdb_tables() UNION ALL "
        "SELECT 'index', schema_name, index_name, coalesce(sql, '') FROM duckdb_indexes() UNION ALL "
        "SELECT 'sequence', schema_name, sequence_name, coalesce(sql, '') FROM duckdb_sequences() UNION ALL "
        "SELECT 'type', schema_name, type_name, '' FROM duckdb_types() WHERE NOT internal UNION ALL "
        "SELECT 'function', schema_name, function_name, coalesce(macro_definition, '') "
        "FROM duckdb_functions() WHERE NOT internal ORDER BY ALL"
    ).fetchall()
