"""One input as it is shown: its texts, its tokens, and its words over their word pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from attnstore.errors import UnknownNameError
from attnstore.naming import require_held, whole_number

Floats = npt.NDArray[np.float32]

ORDINARY = ("word", "punctuation")
"""Kinds of tokens that are not special."""

_FIND = """
SELECT c.tokens, coalesce(c.texts, c.tokens) AS texts, c.words, c.segments, c.starts, c.ends, c.kinds, c.length, c.truncated, c.cell,
       r.layers, r.heads, r.dataset, e.text, e.text_pair, e.label
FROM idx.core.inputs c JOIN idx.core.runs r USING (run_key)
JOIN idx.core.blocks b USING (run_key, block)
JOIN idx.core.examples e ON e.dataset = r.dataset AND e.example = c.example
WHERE r.run = $run AND c.example = $example
"""


class Stored(Protocol):
    """A store, as far as an input is read from it."""

    def sql(self, text: str, /, **params: Any) -> pl.DataFrame:
        """Answer one question."""


def find(store: Stored, run: str, example: int) -> dict[str, Any]:
    """Read an input of a run.

    Returns:
        Its texts and label, lists of what its tokens are, the place of its maps, the run's layers and
        heads, and as `data` what the viewer takes.

    Raises:
        UnknownNameError: The store does not hold the run or the example.
    """
    example = whole_number("example", example)
    rows = store.sql(_FIND, run=run, example=example)
    if rows.is_empty():
        raise UnknownNameError(
            f"Run {run} holds no example {example}; "
            f"`SELECT example FROM inputs WHERE run = '{run}'` lists those it holds."
        )
    record = rows.row(0, named=True)
    record["data"] = viewer_data(run, example, record)
    return record


class StoredMaps(Stored, Protocol):
    """A store, as far as an input and its maps are read from it."""

    def maps(self, run: str, example: int) -> Floats:
        """Read every map of an input."""


def restricted(
    store: StoredMaps,
    run: str,
    example: int,
    layers: Sequence[int] | None,
    heads: Sequence[int] | None,
) -> tuple[dict[str, Any], Floats]:
    """Read an input as `find` does, and its maps, both of some layers and heads.

    Args:
        store: The store.
        run: The run.
        example: The input.
        layers: Their numbers; None for all.
        heads: Their numbers; None for all.

    Raises:
        UnknownNameError: The store does not hold the run, the example, a layer or a head.
    """
    record = find(store, run, example)
    indices = []
    for what, wanted in (("layer", layers), ("head", heads)):
        stored = record[f"{what}s"]
        for number in wanted or ():
            require_held(run, what, number, stored)
        chosen = stored if wanted is None else sorted(set(wanted))
        record["data"][f"{what}s"] = chosen
        indices.append([stored.index(number) for number in chosen])
    return record, store.maps(run, example)[np.ix_(*indices)]


def viewer_data(run: str, example: int, record: Mapping[str, Any]) -> dict[str, Any]:
    """Collect what the viewer takes of an input.

    Args:
        run: what the maps are called.
        example: number of the input.
        record: as of `words`, with the kinds of its tokens and the numbers of its layers and heads.
    """
    starts, labels = words(record)
    places = zip(record["starts"], record["ends"], strict=True)
    return {
        "run": run,
        "example": example,
        "layers": record["layers"],
        "heads": record["heads"],
        "tokens": record["texts"],
        "segments": record["segments"],
        "special": [kind not in ORDINARY for kind in record["kinds"]],
        "words": labels,
        "starts": starts,
        "texts": [text for text in (record["text"], record["text_pair"]) if text is not None],
        "places": [None if None in place else place for place in places],
    }


def words(record: Mapping[str, Any]) -> tuple[list[int], list[str]]:
    """Find the first token of each word of an input, and the words as the text has them.

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
    """Merge maps (…, L, L) of word pieces into maps of words, whose first pieces are `starts`.

    Attention from a word is the mean over its pieces, attention to a word the sum (Clark et al.
    2019, section 4.1), so that rows still sum to 1.
    """
    at = np.asarray(starts, np.intp)
    n = np.diff(np.append(at, maps.shape[-1])).astype(np.float32)
    to_words = np.add.reduceat(maps, at, axis=-1)
    of_words = np.add.reduceat(to_words, at, axis=-2) / n[:, None]
    return of_words.astype(np.float32)
