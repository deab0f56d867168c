"""How a user writes things on the command line: a model or dataset as `PATH` or `PATH=name`,
layers and heads as `0,2-5`."""

from __future__ import annotations

import os
import re

from attnstore.errors import UsageError
from attnstore.naming import LONGEST_NAME, NAME

_RANGE = re.compile(r"(\d{1,6})(?:\s*-\s*(\d{1,6}))?", re.ASCII)


def split_spec(spec: str) -> tuple[str, str | None]:
    """Path and name (or None) of `PATH=name`; a '=' in a path that exists belongs to the path.

    Raises UsageError when the path is empty or the name is not one.
    """
    path, equals, name = spec.rpartition("=")
    if not equals or os.path.exists(os.path.expanduser(spec)):
        path, equals, name = spec, "", ""
    if not path:
        raise UsageError(f"{spec!r} names no path or id; write PATH or PATH=name")
    return path, (check_name(name) if equals else None)


def check_name(name: str) -> str:
    """`name` itself when a model or dataset may be called so, else UsageError."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a name: use letters, digits and . _ + -, beginning with a letter"
            " or digit (a '=' splits PATH=name unless the whole is an existing path)"
        )
    if len(name) > LONGEST_NAME:
        raise UsageError(
            f"The name {name[:40]}… has {len(name)} characters; give one of at most {LONGEST_NAME}."
        )
    return name


def parse_numbers(text: str) -> tuple[int, ...]:
    """The numbers of a list like `0,2-5`: (0, 2, 3, 4, 5), in the order given.

    Raises UsageError for anything else, also for an empty list and for a range that runs down.
    """
    numbers: list[int] = []
    for part in text.split(","):
        found = _RANGE.fullmatch(part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if last < first:
            raise UsageError(
                f"{part.strip()!r} in {text!r} is no number and no range from low to high; "
                "write numbers from 0 on, as in 0,2-5"
            )
        numbers.extend(range(first, last + 1))
    return tuple(numbers)
