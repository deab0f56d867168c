"""Maps of an input between some of its tokens: without special tokens, from one text of a pair to the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from attnstore.errors import UsageError

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]

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
    rows, columns = kept(data, words, specials, sentences)
    if specials == "renormalise":
        sums = maps[..., ~_special(data, words)].sum(-1, keepdims=True)
        maps = np.divide(maps, sums, out=np.zeros_like(maps), where=sums != 0)
    return np.ascontiguousarray(maps[..., rows[:, None], columns])


def kept(
    data: Mapping[str, Any], words: bool, specials: str = "keep", sentences: str = ""
) -> tuple[Places, Places]:
    """Return which tokens `part` keeps, those that attend and those that are attended to.

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
    special = _special(data, words)
    segments = _of_units(data, words, "segments")
    shown = np.ones(len(special), bool) if specials == "keep" else ~special
    rows, columns = (
        np.flatnonzero(shown & ((segments == "ab".index(letter)) if letter else True))
        for letter in (sentences[:1], sentences[1:])
    )
    if not len(rows) or not len(columns):
        raise UsageError("No token is left to show; show special tokens, or all texts.")
    return rows, columns


def _special(data: Mapping[str, Any], words: bool) -> npt.NDArray[np.bool_]:
    return _of_units(data, words, "special").astype(bool)


def _of_units(data: Mapping[str, Any], words: bool, name: str) -> npt.NDArray[Any]:
    """Return a value of each token, or of the first piece of each word."""
    starts = data["starts"] if words else range(len(data["special"]))
    return np.array([data[name][i] for i in starts])
