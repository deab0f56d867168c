"""What the site changes in the pages of docs/, which stand as they are on a code host too."""

from __future__ import annotations

import re
from typing import Any

_MARKED = re.compile(r"^(\s*```\w+) (?:norun|hub|store|after)$", re.MULTILINE)
"""A block of code with a word for the tests, which the site's reader of Markdown does not know."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Take the words for the tests off blocks of code."""
    return _MARKED.sub(r"\1", markdown)
