"""Texts to tokens: everything the index says of a token, in one row per input.

Segments, words, character offsets and kinds come from the tokenizer's own encoding, never from
searching strings, so that a repeated word or an accent cannot hit the wrong position.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from attnstore.datasets import words
from attnstore.datasets.encodings import Bools, Encoded, Ints, encode
from attnstore.errors import DatasetError
from attnstore.naming import KINDS

_CLS, _SEP, _SPECIAL, _PUNCTUATION, _WORD, _PAD = range(len(KINDS))
_AT_ONCE = 10_000
_CHARACTERS_AT_ONCE = 2_000_000
"""Of a batch of rows, unless one row has more: a tokenizer takes up to a kilobyte for each."""

Strings = npt.NDArray[np.object_]


def tokenize(
    frame: pl.DataFrame, tokenizer: Any, max_length: int, pad_to: int | None = None
) -> pl.DataFrame:
    """Return one row per input, in the order of `frame` (columns example, text, text_pair).

    Columns: example, length, truncated, empty (a text of it gives no token), then one list per
    input with L items each: tokens, texts (readable tokens), token_ids, type_ids (NULL if the model
    takes none), words, segments, starts, ends, kinds.
    pad_to: fill every input up to that many tokens with [PAD] (kind pad), as some notebooks do.
    Raises UsageError and ModelError as `encodings.encode` does.
    """
    parts = [_tokenize(part, tokenizer, max_length, pad_to) for part in _batches(frame)]
    return pl.concat(parts) if parts else _tokenize(frame, tokenizer, max_length, pad_to)


def _batches(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield the rows in order, in parts that fit into memory while they are tokenized."""
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


def refuse_tokenless(inputs: pl.DataFrame) -> pl.DataFrame:
    """Return the inputs, if each has a token to run a model on; DatasetError otherwise."""
    without = inputs.filter(pl.col("length") == 0)["example"]
    if len(without):
        raise DatasetError(
            f"The text of example {without[0]} gives no token with the model's tokenizer; leave "
            "that row out of the data."
        )
    return inputs


def _tokenize(
    frame: pl.DataFrame, tokenizer: Any, max_length: int, pad_to: int | None
) -> pl.DataFrame:
    encoded = encode(frame, tokenizer, max_length, pad_to)
    vocabulary = _Vocabulary.of(encoded.ids, tokenizer)
    texts = words.Texts.of(frame["text"].to_list(), frame["text_pair"].to_list())
    special = (encoded.sequence < 0) | vocabulary.special
    white = _white(encoded, texts)
    blank = ~special & (vocabulary.blank | white)
    places = words.Places.of(encoded, texts, blank)
    number = words.numbers(
        encoded, texts, places, special, blank, vocabulary.blank & vocabulary.space
    )
    under = _under(texts, places, ~special)
    readable = np.where((under != "") & ~vocabulary.unknown, under, vocabulary.readable)
    readable[special] = vocabulary.pieces[special]
    offsets = pa.array(np.concatenate(([0], np.cumsum(encoded.length))).astype(np.int32))
    n = len(encoded.length)

    def lists(values: Any, kind: pa.DataType, mask: Any = None) -> pa.ListArray:
        return pa.ListArray.from_arrays(offsets, pa.array(values, kind, mask=mask))

    hidden = special | ~places.known
    columns = {
        "example": pa.array(frame["example"].to_numpy(), pa.int64()),
        "length": pa.array(encoded.length, pa.int32()),
        "truncated": pa.array(encoded.truncated, pa.bool_()),
        "empty": pa.array(encoded.empty, pa.bool_()),
        "tokens": lists(vocabulary.pieces, pa.string()),
        "texts": lists(readable, pa.string()),
        "token_ids": lists(encoded.ids, pa.int32()),
        "type_ids": lists(encoded.types, pa.int8())
        if "token_type_ids" in tokenizer.model_input_names
        else pa.nulls(n, pa.list_(pa.int8())),
        "words": lists(number, pa.int32(), number < 0),
        "segments": lists(_segments(encoded), pa.int8()),
        "starts": lists(places.first - places.base, pa.int32(), hidden),
        "ends": lists(places.last - places.base, pa.int32(), hidden),
        "kinds": lists(_kinds(encoded, special, under, vocabulary), pa.string()),
    }
    return pl.DataFrame(pl.from_arrow(pa.table(columns)))


@dataclass(frozen=True)
class _Vocabulary:
    """Properties of each of N tokens in the vocabulary.

    pieces: as written there; readable: the piece decoded, without marks of a word's start or middle;
    special: tokens for a role of their own, also where a text writes them; unknown: the token for
    what the vocabulary lacks; cls, sep; blank: white space alone; space: nothing but spaces.
    """

    pieces: Strings
    readable: Strings
    special: Bools
    unknown: Bools
    cls: Bools
    sep: Bools
    blank: Bools
    space: Bools

    @classmethod
    def of(cls, ids: Ints, tokenizer: Any) -> _Vocabulary:
        unique, place = np.unique(ids, return_inverse=True)
        pieces = tokenizer.convert_ids_to_tokens(unique.tolist())
        decoded = [
            tokenizer.decode([number], clean_up_tokenization_spaces=False)
            for number in unique.tolist()
        ]
        special = special_ids(tokenizer)

        def per_token(values: Any, kind: Any = bool) -> Any:
            return np.array(values, kind)[place] if len(unique) else np.zeros(0, kind)

        def role(name: str) -> Bools:
            number = getattr(tokenizer, name, None)
            has_role: Bools = per_token([u == number and u in special for u in unique.tolist()])
            return has_role

        return cls(
            pieces=per_token(pieces, object),
            readable=per_token(list(map(_plain, pieces, decoded)), object),
            special=per_token([u in special for u in unique.tolist()]),
            unknown=per_token([p == tokenizer.unk_token for p in pieces]),
            cls=role("cls_token_id"),
            sep=role("sep_token_id"),
            blank=per_token([not d.strip() for d in decoded]),
            space=per_token([not d.strip(" ") for d in decoded]),
        )


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Return numbers of the tokens that have a role of their own ([CLS], [MASK], entity markers, …).

    The token for unknown words is none of them: it stands for a text's own characters, unless it has
    another role too, as GPT-2's <|endoftext|>.
    """
    unknown = tokenizer.unk_token
    roles = [value for role, value in tokenizer.special_tokens_map.items() if role != "unk_token"]
    named = {str(t) for r in roles for t in (r if isinstance(r, list) else [r])}
    named |= set(tokenizer.all_special_tokens) - {unknown}
    known = {t: tokenizer.convert_tokens_to_ids(t) for t in named}
    numbers = {
        n for t, n in known.items() if n is not None and tokenizer.convert_ids_to_tokens(n) == t
    }
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(numbers | {n for n, t in added if t.special and str(t) != unknown})


def _plain(piece: str, decoded: str) -> str:
    """Return a decoded piece as people read it; never empty."""
    if piece.startswith("##") and len(piece) > 2:
        decoded = decoded.removeprefix("##")
    for mark in ("@@", "</w>"):
        if piece.endswith(mark) and len(piece) > len(mark):
            decoded = decoded.removesuffix(mark)
    return decoded.strip() or decoded or (piece if piece.strip("▁") else " ")


def _white(encoded: Encoded, texts: words.Texts) -> Bools:
    """Return tokens whose characters are all white space, though the vocabulary does not say so."""
    places = words.Places.of(encoded, texts, np.zeros(len(encoded.ids), bool))
    has_characters = encoded.spans[:, 1] > encoded.spans[:, 0]
    white: Bools = places.known & has_characters & (places.first == places.last)
    return white


def _under(texts: words.Texts, places: words.Places, chosen: Bools) -> Strings:
    """Return the characters of the text that each token stands for; '' where it stands for none."""
    characters = np.full(len(chosen), "", object)
    at = np.flatnonzero(chosen & places.known & (places.last > places.first))
    pairs = zip(places.first[at].tolist(), places.last[at].tolist(), strict=True)
    characters[at] = [texts.whole[first:last] for first, last in pairs]
    return characters


def _segments(encoded: Encoded) -> Ints:
    """0 or 1 per token; a special token belongs to the text before it."""
    position = np.arange(len(encoded.sequence))
    own = np.where(encoded.sequence >= 0, position, -1)
    start = np.repeat(np.cumsum(encoded.length) - encoded.length, encoded.length)
    last = np.maximum.accumulate(own) if len(own) else own
    return np.where(last >= start, encoded.sequence[last], 0)


def _kinds(encoded: Encoded, special: Bools, under: Strings, vocabulary: _Vocabulary) -> list[str]:
    """Return the kind of each token: by its number, else by the text under it."""
    shown = np.where(under != "", under, vocabulary.readable)
    known = {text: is_punctuation(text) for text in set(shown[~special].tolist())}
    stops = np.fromiter((known.get(text, False) for text in shown.tolist()), bool, len(shown))
    kind = np.where(stops, _PUNCTUATION, _WORD)
    kind[special] = _SPECIAL
    kind[vocabulary.sep] = _SEP
    kind[vocabulary.cls] = _CLS
    kind[encoded.padding] = _PAD
    return [KINDS[k] for k in kind.tolist()]


def is_punctuation(text: str) -> bool:
    """Check whether a token's text is nothing but punctuation (Unicode P, and ASCII's symbols)."""
    text = text.strip().removeprefix("##")
    return bool(text) and all(
        c in string.punctuation or unicodedata.category(c).startswith("P") for c in text
    )
