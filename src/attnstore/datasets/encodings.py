"""A batch of texts as the tokenizer gives it: flat arrays over all tokens of all inputs.

A fast tokenizer says everything of a token itself. A slow one (written in Python: ESM, BERTweet,
Japanese BERT) gives pieces alone; `pieces` finds their places in the text where these follow.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from attnstore.datasets import subwords
from attnstore.errors import ModelError, UsageError

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Encoded:
    """n inputs with N tokens in all.

    length: (n,) tokens of each; truncated: (n,) cut at max_length; empty: (n,) one of its texts
    gives no token at all. Of each token, (N,): ids; types: segment numbers for the model; sequence:
    0 or 1 for the text it is from, -1 for tokens that the tokenizer adds; words: the tokenizer's
    own word numbers, -1 for none; padding; spans: (N, 2) first and last + 1 character in its text,
    -1 where the tokenizer does not say.
    """

    length: Ints
    truncated: Bools
    empty: Bools
    ids: Ints
    types: Ints
    sequence: Ints
    words: Ints
    padding: Bools
    spans: Ints


@dataclass
class _Sequence:
    """One input, with the fields of the tokenizers library's Encoding that are read here."""

    ids: list[int]
    type_ids: list[int]
    sequence_ids: list[int | None]
    word_ids: list[int | None]
    offsets: list[tuple[int, int]]
    attention_mask: list[int]
    overflowing: list[Any]

    def pad(self, length: int, pad_id: int, pad_token: str) -> None:
        """Append padding up to `length` tokens."""
        more = length - len(self.ids)
        self.ids += [pad_id] * more
        self.type_ids += [0] * more
        self.sequence_ids += [None] * more
        self.word_ids += [None] * more
        self.offsets += [(-1, -1)] * more
        self.attention_mask += [0] * more


def encode(frame: pl.DataFrame, tokenizer: Any, max_length: int, pad_to: int | None) -> Encoded:
    """Encode the texts of `frame` (columns example, text, text_pair).

    Raises UsageError where max_length leaves no room for the special tokens, ModelError where the
    tokenizer fails on a text or gives numbers that no vocabulary has.
    """
    encodings = _encodings(frame, tokenizer, max_length)
    _refuse_too_long(encodings, max_length)
    empty = [_empty(e, p is not None) for e, p in zip(encodings, frame["text_pair"], strict=True)]
    truncated = [bool(e.overflowing) for e in encodings]
    for encoding in encodings if pad_to else ():
        encoding.pad(
            pad_to, pad_id=tokenizer.pad_token_id or 0, pad_token=tokenizer.pad_token or "[PAD]"
        )

    def flat(name: str) -> Ints:
        """Return one number per token, -1 for None."""
        values = list(chain.from_iterable(getattr(e, name) for e in encodings))
        numbers: Ints = pa.array(values, pa.int64()).fill_null(-1).to_numpy()
        return numbers

    spans = np.array(list(chain.from_iterable(e.offsets for e in encodings)), np.int64)
    return Encoded(
        length=np.array([len(e.ids) for e in encodings], np.int64),
        truncated=np.array(truncated, bool),
        empty=np.array(empty, bool),
        ids=_checked(flat("ids")),
        types=flat("type_ids"),
        sequence=flat("sequence_ids"),
        words=flat("word_ids"),
        padding=flat("attention_mask") == 0,
        spans=spans.reshape(-1, 2),
    )


def _encodings(frame: pl.DataFrame, tokenizer: Any, max_length: int) -> list[Any]:
    """Pairs and single sentences told apart row by row, in the order of `frame`."""
    pairs, texts = frame["text_pair"].to_list(), frame["text"].to_list()
    give = _fast if tokenizer.is_fast else _slow
    encodings: list[Any] = [None] * len(texts)
    for is_pair in (False, True):
        rows = [i for i, pair in enumerate(pairs) if (pair is not None) == is_pair]
        if not rows:
            continue
        second = [pairs[i] for i in rows] if is_pair else None
        first = [texts[i] for i in rows]
        try:
            batch = give(tokenizer, first, second, max_length)
        except BaseException as error:
            if not _of_tokenizer(error):
                raise
            at = _failing(tokenizer, first, second, max_length, give)
            number = "" if at is None else f" {frame['example'][rows[at]]}"
            reason = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
            raise ModelError(
                f"The tokenizer ({type(tokenizer).__name__}) fails on the text of example{number} "
                f"({reason}): leave that row out of the data, or give a model with another tokenizer."
            ) from error
        for i, encoding in zip(rows, batch, strict=True):
            encodings[i] = encoding
    return encodings


def _of_tokenizer(error: BaseException) -> bool:
    """Check whether an error says that a text cannot be tokenized; a panic in Rust is no Exception."""
    panic = type(error).__name__ == "PanicException"
    return panic or (isinstance(error, Exception) and not isinstance(error, MemoryError))


def _failing(
    tokenizer: Any, first: list[str], second: list[str] | None, max_length: int, give: Any
) -> int | None:
    """Return the first text that fails alone."""
    for i, text in enumerate(first):
        try:
            give(tokenizer, [text], None if second is None else [second[i]], max_length)
        except BaseException as error:
            if not _of_tokenizer(error):
                raise
            return i
    return None


def _fast(tokenizer: Any, first: list[str], second: list[str] | None, max_length: int) -> list[Any]:
    """Return the tokenizers library's own encodings."""
    batch = tokenizer(
        first, second, truncation=True, max_length=max_length, return_attention_mask=False
    )
    return list(batch.encodings)


def _slow(tokenizer: Any, first: list[str], second: list[str] | None, max_length: int) -> list[Any]:
    """Return the same from a tokenizer without encodings.

    It is given numbers below 0 in place of tokens, so that what it cuts, orders and adds shows.
    """
    marker = subwords.marker(tokenizer.get_vocab())
    with _silent(type(tokenizer)):
        return [
            _one(tokenizer, text, None if second is None else second[i], max_length, marker)
            for i, text in enumerate(first)
        ]


def _one(
    tokenizer: Any, text: str, pair: str | None, max_length: int, marker: subwords.Marker
) -> _Sequence:
    texts = (text,) if pair is None else (text, pair)
    split = [tokenizer.tokenize(t) for t in texts]
    own = list(chain.from_iterable(split))
    numbers = tokenizer.convert_tokens_to_ids(own)
    spans = [
        subwords.spans(t, s, marker, tokenizer.unk_token) for t, s in zip(texts, split, strict=True)
    ]
    places, words = list(chain.from_iterable(spans)), subwords.words(split, marker)
    sides = [side for side, s in enumerate(split) for _ in s]
    first = list(range(-1, -1 - len(split[0]), -1))
    second = None if pair is None else list(range(-1 - len(split[0]), -1 - len(own), -1))
    room = max_length - tokenizer.num_special_tokens_to_add(pair=pair is not None)
    cut = max(0, len(own) - room)
    first, second, _ = tokenizer.truncate_sequences(
        first, second, min(cut, len(own)), "longest_first"
    )
    order = tokenizer.build_inputs_with_special_tokens(first, second)
    at = [None if x >= 0 else -1 - x for x in order]
    types = [0] * len(order)
    if "token_type_ids" in tokenizer.model_input_names:
        types = tokenizer.create_token_type_ids_from_sequences(first, second)
    return _Sequence(
        ids=[x if k is None else numbers[k] for x, k in zip(order, at, strict=True)],
        type_ids=list(types),
        sequence_ids=[None if k is None else sides[k] for k in at],
        word_ids=[None if k is None else words[k] for k in at],
        offsets=[(-1, -1) if k is None else places[k] for k in at],
        attention_mask=[1] * len(order),
        overflowing=[_Cut({s for s, t in enumerate(split) if t})] if cut else [],
    )  # fmt: skip


@dataclass(frozen=True)
class _Cut:
    """Tokens cut from an input. sequence_ids: texts (0, 1) that lost some."""

    sequence_ids: Iterable[int]


@contextlib.contextmanager
def _silent(kind: type) -> Iterator[None]:
    """No advice of transformers meanwhile: a pair that is cut gives some of it each time."""
    logger = logging.getLogger(kind.truncate_sequences.__module__)  # type: ignore[attr-defined]
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _empty(encoding: Any, is_pair: bool) -> bool:
    """Check whether a text gives no token of its own; one whose tokens were all cut does."""
    needed = {0, 1} if is_pair else {0}
    present = set(encoding.sequence_ids)
    if needed <= present:
        return False
    return not needed <= present.union(*(cut.sequence_ids for cut in encoding.overflowing))


def _refuse_too_long(encodings: list[Any], max_length: int) -> None:
    """Raise UsageError for inputs that stay too long: tokenizers never cut special tokens."""
    longest = max((len(e.ids) for e in encodings), default=0)
    if longest > max_length:
        raise UsageError(
            f"The max-length is {max_length} and leaves no room beside the special tokens of the "
            f"inputs; give --max-length {max_length + 2} or more."
        )


def _checked(ids: Ints) -> Ints:
    """ids, if they are numbers of tokens; ModelError for one beyond 32 bits."""
    if ids.size and int(ids.max()) > np.iinfo(np.int32).max:
        raise ModelError(
            f"The tokenizer gives token {int(ids.max())}, a number that no vocabulary has; copy the "
            "tokenizer files from the model's own checkpoint."
        )
    return ids
