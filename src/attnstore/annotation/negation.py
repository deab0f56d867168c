"""Negation words as whole words, with the contractions that GLUE's texts write with spaces.

The list is Kovaleva et al. 2019's; where it names some contractions with n't, every auxiliary's
counts. The notebook's substrings ("not" in "another") do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

WORDS = ("neither", "nor", "not", "never", "none", "nothing", "nowhere")
AUXILIARIES = (
    "do", "does", "did", "have", "has", "had", "is", "are", "was", "were", "ai", "ca", "could",
    "wo", "would", "sha", "should", "might", "must", "may", "need", "dare", "ought",
)  # fmt: skip
"""What stands before n't."""

_APOSTROPHE = "['’‘ʼ`´＇]"
_CONTRACTED = rf"(?:{'|'.join(AUXILIARIES)}) ?n ?{_APOSTROPHE} ?t"  # does n't, doesn 't, don ' t
_NEGATION = re.compile(rf"(?<!\w)(?:{'|'.join(WORDS)}|{_CONTRACTED})(?!\w)", re.IGNORECASE)


def find(text: str) -> Iterator[tuple[int, int]]:
    """Start and end, in characters, of each negation word; of a contraction as a whole."""
    return (match.span() for match in _NEGATION.finditer(text))
