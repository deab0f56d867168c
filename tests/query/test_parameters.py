"""Rules of `attnstore.query.parameters`: one meaning of a text, wherever it was typed."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnstore.errors import UsageError
from attnstore.query import parameters


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("-1.5", -1.5), ("1e3", 1000.0), ("true", True), ("null", None), ('"12"', "12"),
     ("[1, 2]", [1, 2]), ("007", "007"), ("", ""), ("plain words", "plain words"),
     ('{"a": 1}', '{"a": 1}'), ("NaN", "NaN"), ("-Infinity", "-Infinity"), ("1e999", "1e999"),
     ("[NaN]", "[NaN]"), ("[" * 100_000, "[" * 100_000)],
)  # fmt: skip
def test_undeclared_text_is_json_or_text(text: str, value: Any) -> None:
    """JSON where it is some, but for objects and numbers that JSON lacks, which stay texts."""
    read = parameters.from_text(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("text", ["1e3", "true", "007", "[1]", "NaN", "plain", ""])
def test_declared_text_stays_as_typed(text: str) -> None:
    """A VARCHAR is not read as a number first, so a run called 1e3 is found."""
    read = parameters.from_text(text, "VARCHAR")
    assert parameters.converted("It", "VARCHAR", read) == text


def test_declared_text_may_be_quoted_or_null() -> None:
    """`null` is no text, and `"null"` is the text."""
    assert parameters.from_text("null", "VARCHAR") is None
    assert parameters.from_text('"null"', "VARCHAR") == "null"
    assert parameters.from_text('"half', "VARCHAR") == '"half'


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [("SMALLINT", "3", 3), ("BIGINT", "-1", -1), ("DOUBLE", "0.5", 0.5), ("DOUBLE", "-inf", -math.inf),
     ("BOOLEAN", "True", True), ("BOOLEAN", "false", False)],
)  # fmt: skip
def test_declared_type_decides(kind: str, text: str, value: Any) -> None:
    """A text becomes a value of the type."""
    read = parameters.converted("It", kind, parameters.from_text(text, kind))
    assert read == value
    assert type(read) is type(value)


def test_nan_is_a_number_where_one_is_declared() -> None:
    """As in DuckDB."""
    assert math.isnan(parameters.converted("It", "DOUBLE", parameters.from_text("NaN", "DOUBLE")))


@pytest.mark.parametrize(
    ("kind", "value"),
    [("SMALLINT", 1.5), ("SMALLINT", True), ("SMALLINT", "x"), ("BOOLEAN", 1), ("DOUBLE", "many"),
     ("VARCHAR", ["a"]), ("BIGINT", [1])],
)  # fmt: skip
def test_value_of_another_type_is_refused(kind: str, value: object) -> None:
    """The sentence says what it was given and what to give."""
    with pytest.raises(UsageError, match=r"It is .*; give "):
        parameters.converted("It", kind, value)


@given(st.one_of(st.integers(-(2**15), 2**15 - 1), st.floats(allow_nan=False), st.booleans()))
def test_what_python_writes_is_read_back(value: float) -> None:
    """The text of a number or truth value stands for it."""
    kind = {bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE"}[type(value)]
    assert parameters.converted("It", kind, parameters.from_text(str(value), kind)) == value
