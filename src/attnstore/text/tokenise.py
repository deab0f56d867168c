"""Texts to tokens: everything the index says of a token, in one row per input.

Segments, words, character offsets and kinds come from the fast tokenizer's own encoding, never
from searching strings, so that a repeated word or an accent cannot hit the wrong position.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from attnstore.names import KINDS

_CLS, _SEP, _SPECIAL, _PUNCTUATION, _WORD, _PAD = range(len(KINDS))
_AT_ONCE = 10_000
_CHARACTERS_AT_ONCE = 2_000_000
"""Of a batch of rows, unless one row has more: a tokenizer takes up to a kilobyte for each."""


def tokenise(
    frame: pl.DataFrame, tokenizer: Any, max_length: int, pad_to: int | None = None
) -> pl.DataFrame:
    """One row per input, in the order of `frame` (columns example, text, text_pair).

    Columns: example, length, truncated, then one list per input with L items each: tokens,
    token_ids, type_ids (NULL if the model takes none), words, segments, starts, ends, kinds.
    pad_to: fill every input up to that many tokens with [PAD] (kind pad), as some notebooks do.
    """
    parts = [_tokenise(part, tokenizer, max_length, pad_to) for part in _batches(frame)]
    return pl.concat(parts) if parts else _tokenise(frame, tokenizer, max_length, pad_to)


def _batches(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows in order, in parts that fit into memory while they are tokenised."""
    both = (frame[column].str.len_chars().fill_null(0) for column in ("text", "text_pair"))
    before = np.concatenate(
        ([0], np.cumsum(sum(lengths.to_numpy().astype(np.int64) for lengths in both)))
    )
    at = 0
    while at < len(frame):
        fits = int(np.searchsorted(before, before[at] + _CHARACTERS_AT_ONCE, side="right")) - 1
        end = min(max(fits, at + 1), at + _AT_ONCE)
        yield frame[at:end]
        at = end


def _tokenise(
    frame: pl.DataFrame, tokenizer: Any, max_length: int, pad_to: int | None
) -> pl.DataFrame:
    encodings = _encode(frame, tokenizer, max_length)
    for encoding in encodings if pad_to else ():
        encoding.pad(
            pad_to, pad_id=tokenizer.pad_token_id or 0, pad_token=tokenizer.pad_token or "[PAD]"
        )
    lengths = np.array([len(e.ids) for e in encodings], np.int64)
    offsets = pa.array(np.concatenate(([0], np.cumsum(lengths))).astype(np.int32))
    ids = np.fromiter(chain.from_iterable(e.ids for e in encodings), np.int64, lengths.sum())
    specials = np.fromiter(
        chain.from_iterable(e.special_tokens_mask for e in encodings), bool, lengths.sum()
    )
    spans = np.array(list(chain.from_iterable(e.offsets for e in encodings)), np.int32).reshape(
        -1, 2
    )
    takes_types = "token_type_ids" in tokenizer.model_input_names

    def lists(values: Any, kind: pa.DataType, mask: Any = None) -> pa.ListArray:
        return pa.ListArray.from_arrays(offsets, pa.array(values, kind, mask=mask))

    def flat(name: str) -> npt.NDArray[Any]:
        return np.fromiter(chain.from_iterable(getattr(e, name) for e in encodings), np.int64)

    columns = {
        "example": pa.array(frame["example"].to_numpy(), pa.int64()),
        "length": pa.array(lengths, pa.int32()),
        "truncated": pa.array([bool(e.overflowing) for e in encodings], pa.bool_()),
        "tokens": lists(list(chain.from_iterable(e.tokens for e in encodings)), pa.string()),
        "token_ids": lists(ids, pa.int32()),
        "type_ids": lists(flat("type_ids"), pa.int8())
        if takes_types
        else pa.nulls(len(encodings), pa.list_(pa.int8())),
        "words": lists(list(chain.from_iterable(map(_words, encodings))), pa.int32()),
        "segments": lists(list(chain.from_iterable(map(_segments, encodings))), pa.int8()),
        "starts": lists(spans[:, 0], pa.int32(), specials),
        "ends": lists(spans[:, 1], pa.int32(), specials),
        "kinds": lists(_kinds(ids, specials, flat("attention_mask") == 0, tokenizer), pa.string()),
    }
    return pl.DataFrame(pl.from_arrow(pa.table(columns)))


def _encode(frame: pl.DataFrame, tokenizer: Any, max_length: int) -> list[Any]:
    """The tokenizers library's encodings, pairs and single sentences told apart row by row."""
    if frame.is_empty():
        return []
    pairs = frame["text_pair"].to_list()
    texts: list[Any] = frame["text"].to_list()
    found: list[Any] = [None] * len(texts)
    for is_pair in (False, True):
        rows = [i for i, pair in enumerate(pairs) if (pair is not None) == is_pair]
        if not rows:
            continue
        second = [pairs[i] for i in rows] if is_pair else None
        batch = tokenizer(
            [texts[i] for i in rows], second, truncation=True, max_length=max_length,
            return_attention_mask=False,
        )  # fmt: skip
        for i, encoding in zip(rows, batch.encodings, strict=True):
            found[i] = encoding
    return found


def _words(encoding: Any) -> list[int | None]:
    """Word numbers that go on from the first text to the second; None for special tokens."""
    words: Sequence[int | None] = encoding.word_ids
    first = [
        w for w, s in zip(words, encoding.sequence_ids, strict=True) if s == 0 and w is not None
    ]
    after = max(first, default=-1) + 1
    return [
        None if w is None or s is None else w + (after if s else 0)
        for w, s in zip(words, encoding.sequence_ids, strict=True)
    ]


def _segments(encoding: Any) -> list[int]:
    """0 or 1 per token; a special token belongs to the text before it."""
    found, current = [], 0
    for sequence in encoding.sequence_ids:
        current = current if sequence is None else sequence
        found.append(current)
    return found


def _kinds(
    ids: npt.NDArray[np.int64],
    special: npt.NDArray[np.bool_],
    padding: npt.NDArray[np.bool_],
    tokenizer: Any,
) -> list[str]:
    """The kind of each token; [CLS] and [SEP] are what the tokenizer calls so."""
    if not ids.size:
        return []
    unique, place = np.unique(ids, return_inverse=True)
    kind = np.array(
        [
            _PUNCTUATION if is_punctuation(t) else _WORD
            for t in map(_decoder(tokenizer), unique.tolist())
        ]
    )[place]
    kind[special] = _SPECIAL
    for name, value in (("sep_token_id", _SEP), ("cls_token_id", _CLS)):
        number = getattr(tokenizer, name, None)
        if number is not None:
            kind[special & (ids == number)] = value
    kind[padding] = _PAD
    return [KINDS[k] for k in kind.tolist()]


def _decoder(tokenizer: Any) -> Any:
    return lambda number: tokenizer.decode([number], clean_up_tokenization_spaces=False)


def is_punctuation(text: str) -> bool:
    """Whether a token's text is nothing but punctuation (Unicode P, and ASCII's symbols)."""
    text = text.strip().removeprefix("##")
    return bool(text) and all(
        c in string.punctuation or unicodedata.category(c).startswith("P") for c in text
    )
