"""One input as it is shown: its texts, its tokens, and its words over their word pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from attnstore.errors import UnknownNameError
from attnstore.naming import whole_number

Floats = npt.NDArray[np.float32]

_FIND = """
SELECT c.tokens, coalesce(c.texts, c.tokens) AS texts, c.words, c.segments, c.starts, c.ends, c.kinds, c.length, c.truncated, c.cell,
       r.layers, r.heads, e.text, e.text_pair, e.label
FROM idx.core.inputs c JOIN idx.core.runs r USING (run_key)
JOIN idx.core.blocks b USING (run_key, block)
JOIN idx.core.examples e ON e.dataset = r.dataset AND e.example = c.example
WHERE r.run = $run AND c.example = $example
"""


class Asked(Protocol):
    """What answers SQL, as a store does."""

    def sql(self, text: str, /, **params: Any) -> pl.DataFrame:
        """The answer to one question."""


def find(asked: Asked, run: str, example: int) -> dict[str, Any]:
    """An input of a run: its texts and label, lists of what its tokens are, where its maps lie, and
    as `data` what the viewer takes. Raises UnknownNameError for what the run does not hold."""
    example = whole_number("example", example)
    rows = asked.sql(_FIND, run=run, example=example)
    if rows.is_empty():
        raise UnknownNameError(
            f"Run {run} holds no example {example}; "
            f"`SELECT example FROM inputs WHERE run = '{run}'` lists those it holds."
        )
    found = rows.row(0, named=True)
    found["data"] = viewer_data(run, example, found)
    return found


def viewer_data(run: str, example: int, record: Mapping[str, Any]) -> dict[str, Any]:
    """An input as the viewer takes it.

    Args:
        run: what the maps are called.
        example: number of the input.
        record: as of `words`, with the numbers of its layers and heads.
    """
    starts, labels = words(record)
    return {
        "run": run,
        "example": example,
        "layers": record["layers"],
        "heads": record["heads"],
        "tokens": record["texts"],
        "segments": record["segments"],
        "words": labels,
        "starts": starts,
    }


def words(record: Mapping[str, Any]) -> tuple[list[int], list[str]]:
    """The first token of each word of an input, and the words as the text has them.

    record: lists texts, words, segments, starts, ends of an input, and its text and text_pair. A
    token that belongs to no word is one of its own; a word without a place is its tokens' texts.
    """
    starts: list[int] = []
    labels: list[str] = []
    before: tuple[int, int] | None = None
    for i, (shown, word, segment) in enumerate(
        zip(record["texts"], record["words"], record["segments"], strict=True)
    ):
        here = None if word is None else (segment, word)
        begins = here is None or here != before
        if begins:
            starts.append(i)
            labels.append(shown)
        if here is not None:
            first, last = record["starts"][starts[-1]], record["ends"][i]
            if first is not None and last is not None:
                text = (record["text_pair"] if segment else record["text"]) or ""
                labels[-1] = text[first:last] or labels[-1]
            elif not begins:
                labels[-1] += shown
        before = here
    return starts, labels


def merged(maps: Floats, starts: Sequence[int]) -> Floats:
    """Maps (…, L, L) of word pieces as maps of words, whose first pieces are `starts`.

    Attention from a word is the mean over its pieces, attention to a word the sum (Clark et al.
    2019, section 4.1), so that rows still sum to 1.
    """
    at = np.asarray(starts, np.intp)
    n = np.diff(np.append(at, maps.shape[-1])).astype(np.float32)
    to_words = np.add.reduceat(maps, at, axis=-1)
    found = np.add.reduceat(to_words, at, axis=-2) / n[:, None]
    return found.astype(np.float32)
