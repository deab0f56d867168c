"""On which line of a TOML file a key stands: what its parser does not tell."""

from __future__ import annotations

import re
from collections.abc import Sequence

Place = tuple[str | int, ...]
"""A key inside a file: ("models", 1, "glob") is `glob` of the second [[models]]."""

_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\-\"']+)\s*\]")
_KEY = re.compile(r"\s*([\w\-]+|\"[^\"]*\"|'[^']*')\s*(?:\.[\w\-.]+\s*)?=")


def places(text: str) -> dict[Place, int]:
    """The line (from 1) of every table and of every key that begins a line."""
    found: dict[Place, int] = {}
    table: Place = ()
    count: dict[str, int] = {}
    inside = ""  # the quotes of a text of several lines
    for number, line in enumerate(text.splitlines(), 1):
        if inside:
            inside = "" if inside in line else inside
            continue
        if header := _HEADER.match(line):
            name = header[2].strip("\"'")
            table = (name,)
            if header[1] == "[[":
                found.setdefault(table, number)  # of the list, where its first table begins
                count[name] = count.get(name, -1) + 1
                table = (name, count[name])
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault((*table, key[1].strip("\"'")), number)
        for quotes in ('"""', "'''"):
            if line.count(quotes) % 2:
                inside = quotes
    return found


def line_of(text: str, place: Sequence[str | int]) -> int:
    """The line of a key; where it does not stand there, of the innermost table that it belongs to."""
    found = places(text)
    for end in range(len(place), 0, -1):
        if tuple(place[:end]) in found:
            return found[tuple(place[:end])]
    return 1


def named(place: Sequence[str | int]) -> str:
    """A key as people write it: models[1].glob, counted from 0 as in Python."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.lstrip(".")
