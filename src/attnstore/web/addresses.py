"""Addresses of this server: written, changed and read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from attnstore.errors import UsageError


def link(*parts: Any) -> str:
    """Return an address: parts of a path, each quoted."""
    return "/" + "/".join(quote(str(part), safe="/@") for part in parts)


def query_with(query: Mapping[str, str], **changed: str | int) -> str:
    """Return the part of an address after the question mark, with some of its values changed."""
    return urlencode({**query, **changed})


def whole(name: str, text: str) -> int:
    """Read a whole number of an address.

    Raises:
        UsageError: The text is no number from 0.
    """
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise UsageError(f"The address gives {name} as {text[:40]!r}; give a number from 0.")
    return int(text)
