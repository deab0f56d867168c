"""What is wrong with an attnstore.toml, in one sentence with its line and its key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic_core import ErrorDetails

from attnstore.declared import toml_lines
from attnstore.naming import near

Place = tuple[str | int, ...]
Keys = Callable[[Place], list[str]]
_SHOWN = 200
"""Characters of a value in a sentence."""


def sentence(file: Path, text: str, found: list[ErrorDetails], keys: Keys) -> str:
    """The mistake that stands first in the file. keys: those that the table of a place may have."""
    deeper = {e["loc"][:1] for e in found if len(e["loc"]) > 1}  # makes its list too short as well
    found = [e for e in found if e["type"] != "too_short" or e["loc"] not in deeper]
    absent = [e["type"] == "missing" and len(e["loc"]) == 1 for e in found]  # told last
    located = ((absent[i], toml_lines.line_of(text, e["loc"]), i) for i, e in enumerate(found))
    _, line, first = min(located)
    error = found[first]
    more = f" ({len(found) - 1} more to mend)" if len(found) > 1 else ""
    return f"{where(file, line, error['loc'])} {_what(error, keys)}{more}."


def where(file: Path, line: int, place: Place) -> str:
    """File, line and key, as a sentence begins."""
    return f"{file}, line {line}, {toml_lines.named(place)}:"


def _what(error: ErrorDetails, keys: Keys) -> str:
    """What pydantic found, in words that say what to do."""
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
    given = repr(error["input"])
    shown = given if len(given) <= _SHOWN else f"{given[:_SHOWN]}…"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}, and it is {shown}"
