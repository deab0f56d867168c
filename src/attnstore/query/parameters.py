"""Values of parameters: one rule for the command line, the browser, a declaration and Python.

A text of the command line or of a form becomes a value by `from_text`: by the SQL type that an analysis
declares, otherwise as JSON, where it is some. A value of Python becomes one of a declared type by
`converted`. NaN and infinities are numbers where a DOUBLE is declared; elsewhere they are texts, since
JSON has no such numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from attnstore.errors import UsageError


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


_TYPES: dict[str, tuple[Callable[[str], Any], str]] = {
    "VARCHAR": (str, "a text"),
    "SMALLINT": (int, "a whole number"),
    "BIGINT": (int, "a whole number"),
    "DOUBLE": (float, "a number"),
    "BOOLEAN": (_boolean, "true or false"),
}
TYPES = tuple(_TYPES)
"""SQL types that a parameter of an analysis may declare."""


def from_text(text: str, kind: str | None = None) -> Any:
    """Read a parameter's value from a text.

    Args:
        text: As typed: `3`, `true`, `null`, `[1, 2]`, `"12"` (a text for sure), or plain text.
        kind: The declared SQL type, one of TYPES; None where nothing is declared.

    Returns:
        None for `null`; with a declared VARCHAR the text itself, without quotes that JSON would take
        off; with another declared type the text, for `converted`; otherwise the JSON value, or the
        text where it is no JSON or an object.
    """
    if kind is None:
        return _json(text)
    value = _json(text) if text == "null" or text.startswith('"') else text
    return text if value is not None and not isinstance(value, str) else value


def from_texts(texts: Mapping[str, str | list[str]], kinds: Mapping[str, str]) -> dict[str, Any]:
    """Read several values, each by the type that `kinds` declares under its name, if any.

    A list of texts becomes a list of values.
    """
    return {
        name: from_text(text, kinds.get(name))
        if isinstance(text, str)
        else [from_text(item, kinds.get(name)) for item in text]
        for name, text in texts.items()
    }


def converted(about: str, kind: str, value: object) -> Any:
    """Convert a value, or the text of one, to a declared type.

    Args:
        about: Subject of the error's sentence: `Parameter layer of analysis drift`.
        kind: One of TYPES.
        value: A text, a number, a truth value; None stays None.

    Raises:
        UsageError: The value does not fit the type.
    """
    if value is None:
        return None
    convert, noun = _TYPES[kind]
    try:
        if isinstance(value, list | tuple | dict | set):
            raise ValueError("a collection")
        return convert(str(value).lower() if isinstance(value, bool) else str(value))
    except (ValueError, KeyError):
        raise UsageError(f"{about} is {value!r}; give {noun}.") from None


def _json(text: str) -> Any:
    """The JSON value of a text, or the text where it is no JSON, an object, or no finite number."""
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, dict) else value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number of JSON")
    return number
