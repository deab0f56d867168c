"""Maps of an input between some of its tokens: without special tokens, from one text of a pair to the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from attnstore.errors import UsageError

Floats = npt.NDArray[np.float32]

SPECIALS = ("keep", "drop", "renormalise")
"""All tokens; special tokens neither attend nor are attended to; so, and the rest of each row is divided by its sum."""
SENTENCES = ("", "ab", "ba", "aa", "bb")
"""All tokens, or from which text of a pair to which; a special token belongs to the text before it."""


def part(
    maps: Floats, data: Mapping[str, Any], words: bool, specials: str = "keep", sentences: str = ""
) -> Floats:
    """Return maps between the tokens that are asked for.

    Args:
        maps: (…, L, L), over word pieces or words.
        data: Of `inputs.viewer_data`.
        words: True for maps over words; a word is special, and of a text, as its first piece is.
        specials: One of `SPECIALS`. A row that gives other tokens nothing stays 0.
        sentences: One of `SENTENCES`.

    Returns:
        (…, rows, columns), in the order of the tokens.

    Raises:
        UsageError: There is no such choice, or no token is left.
    """
    for name, value, allowed in (
        ("specials", specials, SPECIALS),
        ("sentences", sentences, SENTENCES),
    ):
        if value not in allowed:
            listed = ", ".join(choice for choice in allowed if choice)
            raise UsageError(f"The choice of {name} is {value!r}; give one of {listed}.")
    starts = data["starts"] if words else range(len(data["special"]))
    special, segments = (
        np.array([data[name][i] for i in starts]) for name in ("special", "segments")
    )
    shown = np.ones(len(special), bool) if specials == "keep" else ~special
    if specials == "renormalise":
        sums = maps[..., ~special].sum(-1, keepdims=True)
        maps = np.divide(maps, sums, out=np.zeros_like(maps), where=sums != 0)
    rows, columns = (
        np.flatnonzero(shown & ((segments == "ab".index(letter)) if letter else True))
        for letter in (sentences[:1], sentences[1:])
    )
    if not len(rows) or not len(columns):
        raise UsageError("No token is left to show; show special tokens, or all texts.")
    return np.ascontiguousarray(maps[..., rows[:, None], columns])
