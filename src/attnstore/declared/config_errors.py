"""Say in one sentence what is wrong with an attnstore.toml, and at which key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic_core import ErrorDetails

from attnstore.naming import near

Location = tuple[str | int, ...]
"""A key inside a file: ("models", 1, "glob") is `glob` of the second [[models]]."""
Keys = Callable[[Location], list[str]]
_SHOWN = 200
"""Characters of a value in a sentence."""


def sentence(file: Path, errors: list[ErrorDetails], keys: Keys) -> str:
    """Describe the first error and count the others.

    Args:
        file: The file that was read.
        errors: What pydantic found, in the order of the declaration's fields.
        keys: Gives the keys that the table of a location may have.
    """
    deeper = {e["loc"][:1] for e in errors if len(e["loc"]) > 1}  # makes its list too short as well
    errors = [e for e in errors if e["type"] != "too_short" or e["loc"] not in deeper]
    first = min(errors, key=lambda error: len(error["loc"]) == 1 and error["type"] == "missing")
    more = f" ({len(errors) - 1} more to fix)" if len(errors) > 1 else ""
    return f"{at(file, first['loc'])} {_advice(first, keys)}{more}."


def at(file: Path, location: Sequence[str | int]) -> str:
    """Begin a sentence with a file and a key, as in `attnstore.toml, models[1].glob:` (from 0)."""
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return f"{file}, {key.lstrip('.')}:"


def _advice(error: ErrorDetails, keys: Keys) -> str:
    """Turn an error of pydantic into words that say what to do."""
    kind, key = error["type"], error["loc"][-1]
    if kind == "extra_forbidden":
        known = keys(error["loc"])
        return f"there is no such key{near(str(key), known) or '; there are ' + ', '.join(known)}"
    if kind == "tuple_type" and len(error["loc"]) == 1 and isinstance(error["input"], dict):
        return f"there may be several of it: write [[{key}]], in two pairs of brackets"
    if kind == "model_type" and isinstance(key, str):
        return f"it is a table: write [{key}] on a line of its own, and its keys below it"
    if kind in ("missing", "too_short"):
        return "it is missing; give it"
    if kind == "value_error":
        return str(error["ctx"]["error"]).rstrip(".")
    value = repr(error["input"])
    shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}, and it is {shown}"
