"""Choose how the view `attention` is computed for a text: its rows are the same either way.

sql/schema/session/1-weights.sql has both ways.
"""

from __future__ import annotations

import re

import duckdb

from attnstore.query.session_objects import SessionObjects

_NAMED = re.compile(r"\battention\b", re.IGNORECASE)
_COMMENT = re.compile(r"--.*")
_BY_ROW = re.compile(r"\bfrom_(?:pos|token|text)\b", re.IGNORECASE)
"""Columns of the attending token, by which a question may leave out rows of maps before they are read."""


class WeightViews:
    """The way of one session. con: its connection; objects: its views and macros."""

    def __init__(self, con: duckdb.DuckDBPyConnection, objects: SessionObjects) -> None:
        self._con, self._objects = con, objects
        self._way = "row"

    def choose(self, text: str) -> None:
        """Choose the way for a text: strip by strip if it names no column of the attending token."""
        code = _COMMENT.sub("", text)
        way = "strip" if _NAMED.search(code) and not _BY_ROW.search(code) else "row"
        if way != self._way:
            self._objects.make(f"attention, weights_by_{way}")
            # A cursor is in no transaction of a user's connection, and writes to no other database.
            with self._con.cursor() as cursor:
                cursor.execute(
                    "CREATE OR REPLACE MACRO attention(kind := 'weights') AS TABLE "
                    f"FROM weights_by_{way}(kind)"
                )
            self._way = way
