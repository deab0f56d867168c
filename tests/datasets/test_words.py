"""Words and places: a word ends where the text has white space, and no place includes any of it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny
import torch
from families import frame, save, sentencepiece_bpe, tokens
from helpers import write_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaModel

import attnstore
from attnstore.datasets.tokenize import tokenize
from attnstore.storage import fragments, location

WORDS = (
    "the",
    "dog",
    "does",
    "n't",
    "attention",
    "Zürich",
    "café",
    "猫",
    "😀👩‍👧",
    "—",
    "…",
    "e\u0301",
    "3.5",
)
FAMILIES = (*tiny.ARCHITECTURES, "llama")


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    made: dict[str, Any] = {name: tiny.make_tokenizer(name) for name in tiny.ARCHITECTURES}
    return made | {"llama": sentencepiece_bpe("the", "dog", "does", "attention")}


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=25, deadline=None)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=8), data=st.data())
def test_no_word_reaches_over_white_space(
    tokenizers: dict[str, Any], family: str, words: list[str], data: Any
) -> None:
    """Whatever stands between words, each has numbers of its own, and places without white space."""
    text = words[0]
    for word in words[1:]:
        text += data.draw(st.sampled_from((" ", "  ", "\n", "\t", " \n ", "\u3000"))) + word
    found = [t for t in tokens(tokenizers[family], text) if t["starts"] is not None]
    for token in found:
        part = text[token["starts"] : token["ends"]]
        assert part == part.strip()
        assert (token["words"] is None) <= (not part)
    solid = [t for t in found if t["starts"] < t["ends"]]
    for before, after in pairwise(solid):
        if any(c.isspace() for c in text[before["ends"] : after["starts"]]):
            assert after["words"] > before["words"]
    numbers = [t["words"] for t in found if t["words"] is not None]
    assert sorted(set(numbers)) == list(range(len(set(numbers))))


def test_sentencepiece_bpe_has_one_word_per_word(tokenizers: dict[str, Any]) -> None:
    """Also where the tokenizer itself calls the whole text one word, in both texts of a pair."""
    pair = ("the dog does", "attention  the\ndog")
    own = tokenizers["llama"](*pair).word_ids()
    assert {w for w in own if w is not None} == {0}
    found = tokens(tokenizers["llama"], *pair)
    words = {
        n: pair[t["segments"]][t["starts"] : t["ends"]]
        for t in found
        if (n := t["words"]) is not None and t["starts"] < t["ends"]
    }
    text_of = {
        n: "".join(t["texts"] for t in found if t["words"] == n and t["texts"].strip())
        for n in words
    }
    assert list(text_of.values()) == ["the", "dog", "does", "attention", "the", "dog"]


@pytest.mark.parametrize(
    ("family", "text", "expected"),
    [
        ("gpt2", "The dog", [("The", 0, 3), ("dog", 4, 7)]),
        ("llama", "the dog", [("the", 0, 3), ("dog", 4, 7)]),
        ("xlm-roberta", "The dog", [("The", 0, 3), ("dog", 4, 7)]),
    ],
)
def test_a_place_begins_after_the_space_before_a_word(
    tokenizers: dict[str, Any], family: str, text: str, expected: list[tuple[str, int, int]]
) -> None:
    """Though the piece (Ġdog, ▁dog) carries it."""
    found = [t for t in tokens(tokenizers[family], text) if t["starts"] is not None]
    assert [(t["texts"], t["starts"], t["ends"]) for t in found] == expected


def test_white_space_alone_belongs_to_no_word_unless_it_begins_one(
    tokenizers: dict[str, Any],
) -> None:
    """GPT-2's second space and its line breaks have none; SentencePiece's ▁ before 猫 is of 猫."""
    found = tokens(tokenizers["gpt2"], "dog  dog\ndog")
    assert [t["words"] for t in found if not t["texts"].strip()] == [None, None]
    assert max(t["words"] for t in found if t["words"] is not None) == 2
    for family in ("xlm-roberta", "llama"):
        blank, *rest = [t for t in tokens(tokenizers[family], "猫 dog") if t["kinds"] != "cls"][
            family == "llama" :
        ]
        assert (blank["tokens"], blank["starts"], blank["ends"]) == ("▁", 0, 0)
        assert blank["words"] == rest[0]["words"] == 0


@pytest.mark.parametrize(
    ("family", "text", "piece", "readable"),
    [
        ("bert", "attention", "##ntion", "ntion"),
        ("bert", "The", "the", "The"),
        ("bert", "😀", "[UNK]", "[UNK]"),
        ("bert", "[MASK]", "[MASK]", "[MASK]"),
        ("gpt2", "a dog", "Ġdog", "dog"),
        ("xlm-roberta", "a dog", "▁dog", "dog"),
        ("xlm-roberta", "猫", "<unk>", "<unk>"),
    ],
)
def test_a_token_reads_as_the_text_under_it(
    tokenizers: dict[str, Any], family: str, text: str, piece: str, readable: str
) -> None:
    """Without marks of a vocabulary; what the model does not know stays as it gets it."""
    assert {t["texts"] for t in tokens(tokenizers[family], text) if t["tokens"] == piece} == {
        readable
    }


@pytest.mark.parametrize("family", ["gpt2", "roberta", "llama"])
def test_each_byte_of_a_character_reads_as_the_character(
    tokenizers: dict[str, Any], family: str
) -> None:
    """And the raw pieces stay what they are: no two of them equal."""
    found = [t for t in tokens(tokenizers[family], "σ") if t["texts"] == "σ"]
    assert len({t["tokens"] for t in found}) == len(found) == 2
    assert not any("σ" in t["tokens"] for t in found)


def test_many_texts_give_what_each_gives_alone(tokenizers: dict[str, Any]) -> None:
    """Words are numbered from 0 in every input, places count in their own text."""
    texts = ["the dog", ("  does n't", "猫 the"), "attention", ("the", "the dog  "), "…"]
    for tokenizer in tokenizers.values():
        together = tokenize(frame(*texts), tokenizer, 9)
        alone = [tokenize(frame(text), tokenizer, 9) for text in texts]
        assert together.drop("example").equals(pl.concat(alone).drop("example"))


def test_padding_has_no_word_and_no_text_of_the_input(tokenizers: dict[str, Any]) -> None:
    """pad_to fills with [PAD], which reads as it is written."""
    found = tokens(tokenizers["bert"], "the dog", most=8, pad_to=8)
    assert [(t["texts"], t["kinds"], t["words"], t["starts"]) for t in found[4:]] == [
        ("[PAD]", "pad", None, None)
    ] * 4


# In a store --------------------------------------------------------------------------------------


PAIRS = (
    ("the dog does", "a dog attention"),
    ("attention the", "does attention dog"),
    ("dog", "the cat"),
)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a tokenizer that calls a text one word."""
    tokenizer = sentencepiece_bpe("the", "dog", "does", "attention", "cat", "a")
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    return save(LlamaModel(config), tokenizer, tmp_path_factory.mktemp("llama") / "llama")


@pytest.fixture(scope="module")
def root(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    texts = write_rows(folder / "t.jsonl", [{"text": a, "text_pair": b} for a, b in PAIRS])
    attnstore.ingest(folder / "s", str(llama), str(texts), max_length=32, precision="float32")
    return folder / "s"


def test_word_match_finds_the_words_of_a_sentencepiece_bpe_model(root: Path, llama: Path) -> None:
    """The mean weight from a word of the second text to its equal in the first, by the model itself."""
    tokenizer = sentencepiece_bpe("the", "dog", "does", "attention", "cat", "a")
    model = LlamaModel.from_pretrained(llama, attn_implementation="eager").eval()
    equal: list[np.ndarray[Any, Any]] = []
    for pair in PAIRS:
        encoded = tokenizer(*pair, return_tensors="pt")
        with torch.no_grad():
            maps = torch.stack(
                model(input_ids=encoded["input_ids"], output_attentions=True).attentions
            )[:, 0].numpy()
        pieces = tokenizer.convert_ids_to_tokens(encoded["input_ids"][0].tolist())
        second = pieces.index("<s>", 1)
        places = [(i, p.strip("▁")) for i, p in enumerate(pieces) if p != "<s>"]
        hits = [
            maps[:, :, i, j]
            for i, a in places
            if i > second
            for j, b in places
            if j < second and a == b
        ]
        if hits:
            equal.append(np.mean(hits, axis=0))
    with attnstore.open(root) as store:
        found = store.query("word_match", run="llama/t").filter(direction="second_to_first")
    assert found["n"].to_list() == [len(equal)] * 8
    assert found["mean"].to_numpy() == pytest.approx(np.mean(equal, axis=0).ravel(), abs=1e-6)


def test_every_view_has_the_readable_token(root: Path) -> None:
    """tokens, inputs, attention, received, a map and the page's input show the same."""
    with attnstore.open(root) as store:
        texts = store.sql("SELECT texts FROM inputs WHERE example = 0").item().to_list()
        assert texts == ["<s>", "the", "dog", "does", "<s>", "a", "dog", "attention"]
        rows = store.sql(
            "FROM attention WHERE example = 0 AND layer = 1 AND head = 2 ORDER BY from_pos, to_pos"
        )
        assert rows["from_text"].to_list() == [t for t in texts for _ in texts]
        assert rows["to_text"].to_list() == texts * len(texts)
        assert rows["to_token"][1] == "▁the"
        received = store.sql(
            "FROM received WHERE example = 0 AND layer = 0 AND head = 0 ORDER BY position"
        )
        assert received["text"].to_list() == texts
        assert (
            store.sql("SELECT text FROM tokens WHERE example = 0 ORDER BY position")[
                "text"
            ].to_list()
            == texts
        )
        one = store.map("llama/t", 0, 1, 2)
        assert list(one.texts) == texts
        assert "attention</text>" in one._repr_html_()
        assert "▁" not in one._repr_html_()
        assert "▁" not in store.view("llama/t", 0)._repr_html_()
        top = store.query("top_links", run="llama/t", example=0)
        assert set(top["from_text"]) <= set(texts)


def test_a_store_of_an_earlier_version_opens(root: Path, tmp_path: Path) -> None:
    """Without readable tokens the raw ones stand for them; the measure that it lacks is NULL."""
    import shutil

    old = tmp_path / "old"
    shutil.copytree(root, old)
    for table, column in (("inputs", "texts"), ("map_stats", "first")):
        for fragment in fragments.listing(location.locate(old), table):
            rows = fragments.read(location.locate(old), fragment)
            fragments.write(
                location.locate(old), table, fragment.owner, fragment.part, rows.drop(column)
            )
    with attnstore.open(old) as store:
        assert store.sql("SELECT count(*) FROM map_stats WHERE first IS NULL").item() == 24
        assert store.sql("SELECT bool_and(text = token) FROM tokens").item()
        assert store.sql("SELECT bool_and(from_text = from_token) FROM attention").item()
        kinds = store.query("special_tokens", run="llama/t")["kind"].unique().to_list()
        assert sorted(kinds) == ["other", "punctuation"]
        assert list(store.map("llama/t", 0, 0, 0).texts)[1] == "▁the"
