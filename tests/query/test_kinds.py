"""Kinds of tokens, by number first, then by the text under them; and the measures that follow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from families import sentencepiece_bpe, tokens
from helpers import write_rows
from transformers import AutoModel, AutoTokenizer

import attnstore
from attnstore.datasets.tokenize import special_ids

FAMILIES = (*tiny.ARCHITECTURES, "llama")


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    made: dict[str, Any] = {name: tiny.make_tokenizer(name) for name in tiny.ARCHITECTURES}
    return made | {"llama": sentencepiece_bpe("the", "dog")}


def kinds(found: list[dict[str, Any]], piece: str) -> list[str]:
    return [t["kinds"] for t in found if t["tokens"] == piece]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mark", ["—", "…", "«", "’", "!", "。"])
def test_a_mark_is_punctuation_in_every_family(
    tokenizers: dict[str, Any], family: str, mark: str
) -> None:
    """Whether it is a piece, a few bytes or unknown; the words beside it are words."""
    text = f"dog {mark} dog"
    found = [t for t in tokens(tokenizers[family], text) if t["starts"] is not None]
    under = {text[t["starts"] : t["ends"]]: t["kinds"] for t in found if t["starts"] < t["ends"]}
    assert under[mark] == "punctuation"
    assert {kind for part, kind in under.items() if part != mark} == {"word"}


@pytest.mark.parametrize(
    ("family", "text", "piece", "expected"),
    [
        ("bert", "a [SEP] dog", "[SEP]", ["sep", "sep"]),
        ("bert", "[CLS] dog", "[CLS]", ["cls", "cls"]),
        ("bert", "a [MASK] dog", "[MASK]", ["special"]),
        ("roberta", "a</s>dog", "</s>", ["sep", "sep"]),
        ("roberta", "a <mask> dog", "<mask>", ["special"]),
        ("gpt2", "dog<|endoftext|>the dog", "<|endoftext|>", ["special"]),
        ("llama", "dog</s>", "</s>", ["special"]),
        ("bert", "a [PAD] dog", "[PAD]", ["special"]),
    ],
)
def test_a_special_token_that_a_text_writes_is_special(
    tokenizers: dict[str, Any], family: str, text: str, piece: str, expected: list[str]
) -> None:
    """By its number, as those that the tokenizer adds; it is no word and ends the one before."""
    found = tokens(tokenizers[family], text)
    assert kinds(found, piece) == expected
    assert {(t["words"], t["starts"], t["ends"]) for t in found if t["tokens"] == piece} == {
        (None, None, None)
    }


def test_added_entity_markers_are_special_and_added_words_are_words() -> None:
    """As the one who added them says."""
    tokenizer = tiny.make_tokenizer("bert")
    tokenizer.add_special_tokens({"additional_special_tokens": ["[E1]", "[/E1]"]})
    tokenizer.add_tokens(["covid"])
    found = tokens(tokenizer, "the [E1] dog [/E1] covid")
    assert [t["kinds"] for t in found] == [
        "cls",
        "word",
        "special",
        "word",
        "special",
        "word",
        "sep",
    ]


def test_an_unknown_word_is_no_special_token() -> None:
    """[UNK] stands for a text's own characters; a token that has another role too is special."""
    bert, gpt2 = tiny.make_tokenizer("bert"), tiny.make_tokenizer("gpt2")
    assert bert.unk_token_id not in special_ids(bert)
    assert gpt2.unk_token_id in special_ids(gpt2)  # <|endoftext|> ends texts too
    assert kinds(tokens(bert, "😀 [UNK] —"), "[UNK]") == ["word", "word", "punctuation"]


def test_a_piece_is_what_the_model_gets() -> None:
    """Also where the tokenizers library names an unknown piece by the text's own characters."""
    tokenizer = tiny.make_tokenizer("xlm-roberta")
    found = tokens(tokenizer, "猫 dog")
    assert [t["tokens"] for t in found] == ["<s>", "▁", "<unk>", "▁dog", "</s>"]


# Measures ----------------------------------------------------------------------------------------


TEXTS = ("Did he? Yes, the dog — it rose.", "— dog the dog", "The quick fox said so", "[SEP] dog")


def ingested(folder: Path, architecture: str) -> tuple[attnstore.Store, list[np.ndarray[Any, Any]]]:
    """A store of a tiny model over TEXTS, and the maps (layer, head, L, L) of the model itself."""
    model = tiny.make(folder / architecture, architecture)
    texts = write_rows(folder / "t.jsonl", [{"text": text} for text in TEXTS])
    attnstore.ingest(folder / "s", str(model), str(texts), max_length=48, precision="float32")
    tokenizer = AutoTokenizer.from_pretrained(model)
    eager = AutoModel.from_pretrained(model, attn_implementation="eager").eval()
    maps = []
    for text in TEXTS:
        with torch.no_grad():
            output = eager(**tokenizer(text, return_tensors="pt"), output_attentions=True)
        maps.append(torch.cat(output.attentions).numpy())
    return attnstore.open(folder / "s"), maps


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    store, maps = ingested(tmp_path_factory.mktemp("kinds"), "gpt2")
    with store:
        yield store, maps


def test_no_weight_to_a_kind_that_a_run_has_not(gpt2: tuple[Any, Any]) -> None:
    """NULL, and not 0, for [CLS] and [SEP] of GPT-2; 0 to punctuation where an input has none."""
    store, _ = gpt2
    assert store.sql("SELECT count(cls) + count(sep) FROM map_stats").item() == 0
    found = store.sql("SELECT DISTINCT punctuation FROM map_stats WHERE example = 2")
    assert found["punctuation"].to_list() == [0]


def test_first_is_the_weight_to_the_first_token(gpt2: tuple[Any, Any]) -> None:
    """Mean over from-tokens, by the model's own maps."""
    store, maps = gpt2
    found = store.sql("SELECT first FROM map_stats ORDER BY example, layer, head")["first"]
    expected = np.concatenate([m[..., 0].mean(-1).ravel() for m in maps])
    assert found.to_numpy() == pytest.approx(expected, abs=1e-6)


def test_head_types_know_the_first_token(gpt2: tuple[Any, Any]) -> None:
    """In a model without [CLS], by the threshold for special tokens; mixed with another above its."""
    store, maps = gpt2
    rows = store.sql("SELECT example, position, kind FROM tokens ORDER BY ALL")
    first = np.mean([m[..., 0].mean(-1) for m in maps], axis=0).ravel()
    stops = [rows.filter(example=e)["kind"].to_numpy() == "punctuation" for e in range(len(TEXTS))]
    to_stops = [m[..., s].sum(-1).mean(-1) for m, s in zip(maps, stops, strict=True)]
    stop = np.mean(to_stops, axis=0).ravel()
    most = int((first - stop).argmax())
    limit = float(first[most] + stop[most]) / 2
    expected = [
        "mixed" if f > limit and s > limit else "first" if f > limit else "punctuation" if s > limit else "none"
        for f, s in zip(first, stop, strict=True)
    ]  # fmt: skip
    found = store.query("head_types", run="gpt2/t", special=limit, position=1.0, entropy=99.0)
    assert found["type"].to_list() == expected
    assert "first" in expected


def test_special_tokens_share_out_all_attention(gpt2: tuple[Any, Any]) -> None:
    """Without [CLS] the first token is a kind of its own, unless it is punctuation; all shares of
    an input sum to 1."""
    store, maps = gpt2
    found = store.query("special_tokens", run="gpt2/t")
    assert set(found["kind"]) == {"punctuation", "first", "other"}
    rows = store.sql("SELECT example, position, kind FROM tokens ORDER BY ALL")
    stops = [
        np.array([k == "punctuation" for k in rows.filter(example=e)["kind"]])
        for e in range(len(TEXTS))
    ]
    assert stops[1][0]  # a text that begins with a dash
    for layer in range(2):
        part = {r["kind"]: r for r in found.filter(layer=layer).iter_rows(named=True)}
        to_stops = [m[layer][..., s].sum(-1).mean() for m, s in zip(maps, stops, strict=True)]
        first = [m[layer][..., 0].mean() for m, s in zip(maps, stops, strict=True) if not s[0]]
        rest = [
            1 - p - (0 if s[0] else m[layer][..., 0].mean())
            for p, m, s in zip(to_stops, maps, stops, strict=True)
        ]
        for kind, values in (("punctuation", to_stops), ("first", first), ("other", rest)):
            assert part[kind]["n"] == len(values)
            assert part[kind]["mean"] == pytest.approx(np.mean(values), abs=1e-6)


def test_with_cls_the_first_token_is_no_type_of_its_own(tmp_path: Path) -> None:
    """It is [CLS], whose measure says the same; and a written [SEP] counts in `sep`."""
    store, maps = ingested(tmp_path, "bert")
    with store:
        assert set(store.query("special_tokens", run="bert/t")["kind"]) == {
            "cls", "sep", "punctuation", "other"
        }  # fmt: skip
        types = store.query("head_types", run="bert/t", special=0.0)
        assert "first" not in types["type"].to_list()
        same = store.sql("SELECT max(abs(cls - first)) FROM map_stats").item()
        assert same == pytest.approx(0, abs=1e-6)
        found = store.sql("SELECT sep FROM map_stats WHERE example = 3 ORDER BY layer, head")["sep"]
        expected = maps[3][..., [1, -1]].sum(-1).mean(-1).ravel()
        assert found.to_numpy() == pytest.approx(expected, abs=1e-6)
