"""Rules of `attnstore.datasets.tokenize`: every column is the fast tokenizer's own, aligned by offsets."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from attnstore.datasets.tokenize import is_punctuation, tokenize

PAIR = ("The lazy dog, he jumps.", "The dog jumps!")
SPECIAL = {"cls", "sep", "special"}
LISTS = ("tokens", "token_ids", "words", "segments", "starts", "ends", "kinds")


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """The tokenizer of any architecture as its checkpoint's folder holds it."""
    root = tmp_path_factory.mktemp("tokenizers")
    made: dict[str, Any] = {}
    for architecture in tiny.ARCHITECTURES:
        tiny.make_tokenizer(architecture).save_pretrained(root / architecture)
        made[architecture] = AutoTokenizer.from_pretrained(root / architecture)
    return made.__getitem__


def frame(*texts: tuple[str, str | None]) -> pl.DataFrame:
    columns = {"text": [a for a, _ in texts], "text_pair": [b for _, b in texts]}
    types = {"example": pl.Int64, "text": pl.String, "text_pair": pl.String}
    return pl.DataFrame({"example": range(len(texts)), **columns}, schema=types)


def one(tokenizer: Any, text: str, pair: str | None = None, max_length: int = 64) -> dict[str, Any]:
    """The row of a single input."""
    return tokenize(frame((text, pair)), tokenizer, max_length).row(0, named=True)


def rows(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The row of an input as one row per token."""
    return [
        dict(zip(LISTS, values, strict=True))
        for values in zip(*(row[c] for c in LISTS), strict=True)
    ]


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_the_tokens_are_what_the_model_gets(
    tokenizers: Callable[[str], Any], architecture: str
) -> None:
    """Numbers and types as the tokenizer itself gives them; every list has `length` items."""
    tokenizer = tokenizers(architecture)
    for texts in (PAIR[:1], PAIR):
        row, expected = one(tokenizer, *texts), tokenizer(*texts)
        assert row["token_ids"] == expected["input_ids"]
        assert row["type_ids"] == expected.get("token_type_ids")
        assert row["tokens"] == tokenizer.convert_ids_to_tokens(expected["input_ids"])
        assert {len(row[c]) for c in LISTS} == {row["length"]}
        assert not row["truncated"]


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_offsets_cut_each_token_out_of_its_own_text(
    tokenizers: Callable[[str], Any], architecture: str
) -> None:
    """start and end count characters in the text of the token's segment; special tokens have none."""
    for token in rows(one(tokenizers(architecture), *PAIR)):
        if token["kinds"] in SPECIAL:
            assert token["starts"] is None
            assert token["ends"] is None
            assert token["words"] is None
        else:
            cut = PAIR[token["segments"]][token["starts"] : token["ends"]]
            piece = token["tokens"].lstrip("\u2581\u0120").removeprefix("##")
            assert cut.strip().lower() == piece.lower()


@pytest.mark.parametrize(
    ("architecture", "kinds"),
    [
        ("bert", "cls …1 sep …2 sep"),
        ("distilbert", "cls …1 sep …2 sep"),
        ("electra", "cls …1 sep …2 sep"),
        ("albert", "cls …1 sep …2 sep"),
        ("modernbert", "cls …1 sep …2 sep"),
        ("roberta", "cls …1 sep sep …2 sep"),
        ("xlm-roberta", "cls …1 sep sep …2 sep"),
        ("gpt2", "…1 …2"),
    ],
)
def test_a_pair_has_two_segments_between_special_tokens(
    tokenizers: Callable[[str], Any], architecture: str, kinds: str
) -> None:
    """A [SEP] belongs to the text that it ends, also where the model itself has no segments."""
    found: list[str] = []
    for token in rows(one(tokenizers(architecture), *PAIR)):
        kind = token["kinds"]
        name = kind if kind in SPECIAL else f"…{token['segments'] + 1}"
        if not found or name != found[-1] or kind in SPECIAL:
            found.append(name)
    assert " ".join(found) == kinds
    places = one(tokenizers(architecture), *PAIR)["segments"]
    assert places == sorted(places)
    assert set(places) == {0, 1}


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_pieces_of_one_word_share_its_number(
    tokenizers: Callable[[str], Any], architecture: str
) -> None:
    """Words are numbered from 0 without a gap, and go on in the second text."""
    tokens = [t for t in rows(one(tokenizers(architecture), *PAIR)) if t["words"] is not None]
    numbers = [t["words"] for t in tokens]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(max(numbers) + 1))
    first = {t["words"] for t in tokens if t["segments"] == 0}
    second = {t["words"] for t in tokens if t["segments"] == 1}
    assert max(first) + 1 == min(second)
    for before, after in pairwise(tokens):
        if after["tokens"].startswith("##"):
            assert after["words"] == before["words"]


def test_a_repeated_word_has_its_own_place(tokenizers: Callable[[str], Any]) -> None:
    """The second "the" is where it stands, not where the first one was found."""
    row = one(tokenizers("bert"), "the dog the fox the")
    places = [t["starts"] for t in rows(row) if t["tokens"] == "the"]
    assert places == [0, 8, 16]


@pytest.mark.parametrize(
    ("text", "expected"),
    [(",", True), ("##.", True), ("…", True), ("$", True), ("’", True), (" !", True), ("«»", True),
     ("a", False), ("a.", False), ("", False), (" ", False), ("3", False), ("é", False), ("😀", False)],
)  # fmt: skip
def test_punctuation_is_a_token_of_nothing_else(text: str, expected: bool) -> None:
    """Unicode punctuation and ASCII symbols, whatever marks a word's start or middle."""
    assert is_punctuation(text) is expected


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_kinds_tell_punctuation_from_words(
    tokenizers: Callable[[str], Any], architecture: str
) -> None:
    """By what a token's text is, also where the vocabulary writes a space into it."""
    for token in rows(one(tokenizers(architecture), "Did he? Yes, he did; it rose.")):
        if token["kinds"] not in SPECIAL:
            text = "Did he? Yes, he did; it rose."[token["starts"] : token["ends"]].strip()
            assert token["kinds"] == ("punctuation" if text and text in "?,;." else "word")


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_a_text_that_is_cut_says_so(tokenizers: Callable[[str], Any], architecture: str) -> None:
    """`truncated` where a token was left out, and only there; the length is max_length then."""
    tokenizer = tokenizers(architecture)
    whole = one(tokenizer, *PAIR)
    n = whole["length"]
    assert not one(tokenizer, *PAIR, max_length=n)["truncated"]
    cut = one(tokenizer, *PAIR, max_length=n - 1)
    assert (cut["truncated"], cut["length"]) == (True, n - 1)
    assert cut["token_ids"] == tokenizer(*PAIR, truncation=True, max_length=n - 1)["input_ids"]


HARD = {
    "emoji": "dog 😀👩‍👩‍👧 fox",
    "accents": "Zürich café naïve ﬁne",
    "combining": "e\u0301 a\u0308 dog",
    "right to left": "שלום dog مرحبا",
    "spaces": "  dog \t\n  fox \u00a0 ",
    "long word": "antidisestablishmentarianism" * 4,
    "control": "dog\u0000fox\u200b!",
}


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_hard_texts_keep_their_places(
    tokenizers: Callable[[str], Any], architecture: str, case: str
) -> None:
    """Offsets lie in the text and ascend, whatever the normaliser does to it."""
    text = HARD[case]
    row = one(tokenizers(architecture), text, None, 64)
    places = [(t["starts"], t["ends"]) for t in rows(row) if t["kinds"] not in SPECIAL]
    assert all(0 <= a <= b <= len(text) for a, b in places)
    assert [a for a, _ in places] == sorted(a for a, _ in places)
    assert row["truncated"] == (len(tokenizers(architecture)(text)["input_ids"]) > 64)


def test_an_empty_second_text_is_still_a_pair(tokenizers: Callable[[str], Any]) -> None:
    """'' is framed as a pair is, None as a single sentence."""
    kinds = [one(tokenizers("bert"), "dog", pair)["kinds"] for pair in ("", None)]
    assert [" ".join(k) for k in kinds] == ["cls word sep sep", "cls word sep"]


def test_rows_keep_their_order_where_pairs_and_singles_mix(
    tokenizers: Callable[[str], Any],
) -> None:
    """One row per input as given, each as if it came alone."""
    texts = [("dog", None), PAIR, ("fox fox", None), ("the", "he"), ("", None)]
    found = tokenize(frame(*texts), tokenizers("bert"), 64)
    assert found["example"].to_list() == list(range(len(texts)))
    for row, (text, pair) in zip(found.iter_rows(named=True), texts, strict=True):
        alone = one(tokenizers("bert"), text, pair)
        assert {k: v for k, v in row.items() if k != "example"} == {
            k: v for k, v in alone.items() if k != "example"
        }


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_no_rows_give_the_same_columns(tokenizers: Callable[[str], Any], architecture: str) -> None:
    """An empty frame has the types of a full one."""
    tokenizer = tokenizers(architecture)
    full, empty = (tokenize(frame(*t), tokenizer, 64) for t in ([PAIR], []))
    assert empty.schema == full.schema
    assert empty.is_empty()


@settings(deadline=None, max_examples=60)
@given(text=st.text(min_size=1, max_size=60), pair=st.none() | st.text(max_size=30))
def test_any_text_becomes_whole_rows(
    tokenizers: Callable[[str], Any], text: str, pair: str | None
) -> None:
    """Whatever Unicode brings: lists of one length, offsets inside the text, at most 16 tokens."""
    row = one(tokenizers("bert"), text, pair, max_length=16)
    assert {len(row[c]) for c in LISTS} == {row["length"]}
    assert row["length"] <= 16
    for token in rows(row):
        if token["starts"] is not None:
            assert 0 <= token["starts"] <= token["ends"] <= len((text, pair)[token["segments"]])
