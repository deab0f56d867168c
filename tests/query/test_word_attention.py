"""Attention between words against numpy on what an eagerly loaded model returns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import norms
import numpy as np
import polars as pl
import pytest
import tiny
from helpers import write_rows
from transformers import AutoModel, AutoTokenizer

import attnstore
from attnstore.errors import QueryError

TEXTS = (
    ("The quickest foxes don't jump; nobody believed unbelievable separators!", None),
    ("She said: not at home.", "Did shareholders report earnings? Yes, naïve ones did…"),
    ("diagonal", "The previous token — 3.5 percent"),
)
PLACE = "run_key, layer, head, cell, length"


@dataclass(frozen=True, repr=False)
class Words:
    """An input read apart. maps: (layer, head, L, L); units: tokens of each word; special: has no word."""

    maps: np.ndarray[Any, Any]
    units: list[list[int]]
    special: list[bool]

    def at_words(self, first: bool = False) -> np.ndarray[Any, Any]:
        """Maps of words by loops: summed over the pieces attended to, the mean over those attending."""
        rows = [self.maps[:, :, u[:1] if first else u].mean(2) for u in self.units]
        return np.stack([np.stack([row[:, :, u].sum(2) for u in self.units], 2) for row in rows], 2)


def _read(folder: Path, norm: bool = False) -> list[Words]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    found = []
    for row in TEXTS:
        encoded = tokenizer(*filter(None, row), return_tensors="pt")
        moved = norms.moved(model, encoded)
        words = encoded.word_ids(0)
        keys = [
            (s, w) if w is not None else (i, "special")
            for i, (s, w) in enumerate(zip(encoded.sequence_ids(0), words, strict=True))
        ]
        units = [[i for i, _ in group] for _, group in groupby(enumerate(keys), lambda x: x[1])]
        special = [words[u[0]] is None for u in units]
        found.append(Words(moved.shares if norm else moved.maps, units, special))
    return found


@dataclass(frozen=True, repr=False)
class Case:
    store: attnstore.Store
    inputs: list[Words]
    moved: list[Words]


@pytest.fixture(scope="module", params=["bert", "roberta"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    place = tmp_path_factory.mktemp(request.param)
    model = tiny.make(place / "tiny", request.param, seed=4)
    rows = [{"text": a, "text_pair": b} for a, b in TEXTS]
    texts = write_rows(place / "texts.jsonl", rows)  # type: ignore[arg-type]
    attnstore.ingest(place / "s", str(model), str(texts), max_length=64, precision="float32")
    inputs = _read(model)
    assert any(len(u) > 1 for i in inputs for u in i.units)
    with attnstore.open(place / "s") as store:
        yield Case(store, inputs, _read(model, norm=True))


def _stored(store: attnstore.Store, source: str, example: int, **values: Any) -> Any:
    """The weights of an example in the order of the map of words, and its rows."""
    return store.sql(
        f"SELECT * FROM {source} WHERE example = $example ORDER BY layer, head, from_pos, to_pos",
        example=example, **values,
    )  # fmt: skip


@pytest.mark.parametrize("pieces", ["mean", "first"])
def test_weights_are_summed_over_the_attended_and_averaged_over_the_attending_pieces(
    case: Case, pieces: str
) -> None:
    """Each special token is a word of its own."""
    for example, words in enumerate(case.inputs):
        rows = _stored(case.store, "word_attention(pieces := $pieces)", example, pieces=pieces)
        wanted = words.at_words(first=pieces == "first")
        np.testing.assert_allclose(rows["weight"], wanted.ravel(), atol=1e-6)


@pytest.mark.parametrize("specials", ["keep", "drop", "renormalise"])
def test_words_by_norm(case: Case, specials: str) -> None:
    """Weights times the lengths of the model's own value vectors, as shares of their rows, are summed and averaged."""
    for example, words in enumerate(case.moved):
        source = "word_attention(kind := 'norm', specials := $s)"
        rows = _stored(case.store, source, example, s=specials)
        kept = np.flatnonzero([specials == "keep" or not x for x in words.special])
        wanted = words.at_words()[:, :, kept][:, :, :, kept]
        if specials == "renormalise":
            wanted = wanted / wanted.sum(3, keepdims=True)
        np.testing.assert_allclose(rows["weight"], wanted.ravel(), atol=1e-6)
        assert not np.allclose(wanted, case.inputs[example].at_words()[:, :, kept][:, :, :, kept])


def test_the_view_is_the_macro_with_its_defaults(case: Case) -> None:
    """Row for row, and its rows sum to 1."""
    for example in range(len(TEXTS)):
        rows = _stored(case.store, "word_attention", example)
        assert rows.equals(_stored(case.store, "word_attention()", example).drop("kind"))
        sums = rows.group_by("layer", "head", "from_pos").agg(pl.col("weight").sum())["weight"]
        np.testing.assert_allclose(sums, 1, atol=1e-5)


@pytest.mark.parametrize("specials", ["drop", "renormalise"])
def test_special_tokens_can_be_left_out(case: Case, specials: str) -> None:
    """Without them weights are as they are, or rows sum to 1 again."""
    for example, words in enumerate(case.inputs):
        rows = _stored(case.store, "word_attention(specials := $s)", example, s=specials)
        kept = np.flatnonzero(~np.array(words.special))
        wanted = words.at_words()[:, :, kept][:, :, :, kept]
        if specials == "renormalise":
            wanted = wanted / wanted.sum(3, keepdims=True)
        np.testing.assert_allclose(rows["weight"], wanted.ravel(), atol=1e-6)


def test_words_have_the_number_and_the_characters_that_tokens_have(case: Case) -> None:
    """NULL for special tokens, whose position and name tell them apart."""
    rows = case.store.sql(
        "SELECT DISTINCT example, to_pos, to_word, to_text FROM word_attention ORDER BY ALL"
    )
    for example, (words, texts) in enumerate(zip(case.inputs, TEXTS, strict=True)):
        found = rows.filter(example=example)
        assert found["to_pos"].to_list() == [u[0] for u in words.units]
        assert found["to_word"].is_null().to_list() == words.special
        assert found["to_word"].drop_nulls().to_list() == list(
            range(len(found["to_word"].drop_nulls()))
        )
        written = "".join(found.filter(found["to_word"].is_not_null())["to_text"])
        text = "".join("".join(filter(None, texts)).split())
        assert re.fullmatch(".+".join(map(re.escape, written.split("[UNK]"))), text)


@pytest.mark.parametrize("pieces", ["mean", "first"])
@pytest.mark.parametrize("to_itself", [False, True])
def test_the_most_attended_word(case: Case, pieces: str, to_itself: bool) -> None:
    """The first of equal ones; without special tokens, and maybe without the word itself."""
    rows = case.store.sql(
        f"SELECT example, layer, head, attention_word_argmax({PLACE}, words, $pieces, $itself) AS best "
        "FROM map_places JOIN (SELECT example, list(coalesce(word, -1) ORDER BY position) AS words "
        "FROM tokens GROUP BY example) USING (example)",
        pieces=pieces, itself=to_itself,
    )  # fmt: skip
    assert len(rows) == len(TEXTS) * 8
    for example, layer, head, best in rows.iter_rows():
        words = case.inputs[example]
        kept = np.flatnonzero(~np.array(words.special))
        weights = words.at_words(pieces == "first")[layer, head][np.ix_(kept, kept)]
        if not to_itself:
            np.fill_diagonal(weights, -1)
        np.testing.assert_array_equal(best, weights.argmax(1))


def test_words_of_any_numbering_are_summed(case: Case) -> None:
    """Pieces need not be neighbors, numbers may be missing: such a word attends to none and gets nothing."""
    n = case.inputs[0].maps.shape[-1]
    numbers = [-1, *(2 * (i % 3) for i in range(n - 1))]
    rows = case.store.sql(
        f"SELECT layer, head, attention_words({PLACE}, $w, 'mean') AS weights, "
        f"attention_word_argmax({PLACE}, $w, 'mean', true) AS best, "
        f"attention_word_row({PLACE}, $w, 4, 'first') AS row FROM map_places WHERE example = 0",
        w=numbers,
    )
    for layer, head, weights, best, row in rows.iter_rows():
        found = np.array(weights).reshape(5, 5)
        for a, b in np.ndindex(5, 5):
            senders, receivers = (np.flatnonzero(np.array(numbers) == x) for x in (a, b))
            block = case.inputs[0].maps[layer, head][np.ix_(senders, receivers)]
            assert found[a, b] == pytest.approx(block.sum() / max(len(senders), 1), abs=1e-6)
        assert [best[1], best[3]] == [None, None]
        assert [best[k] for k in (0, 2, 4)] == found[[0, 2, 4]].argmax(1).tolist()
        first = case.inputs[0].maps[layer, head][numbers.index(4)]
        np.testing.assert_allclose(
            row, [first[np.array(numbers) == x].sum() for x in range(5)], atol=1e-6
        )


def test_a_word_that_is_alone_attends_to_no_other(case: Case) -> None:
    """NULL, unless a word may attend to itself."""
    rows = case.store.sql(
        f"SELECT attention_word_argmax({PLACE}, list_transform(range(length), lambda i: 0), 'mean', false) AS a, "
        f"attention_word_argmax({PLACE}, list_transform(range(length), lambda i: 0), 'mean', true) AS b, "
        f"attention_word_argmax({PLACE}, list_transform(range(length), lambda i: -1), 'mean', true) AS c "
        "FROM map_places"
    )
    assert rows.unique().rows() == [([None], [0], [])]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("attention_words({}, [0, 0], 'mean')", "words of 2 tokens for an input of .*; give one number per token"),
        ("attention_words({}, list_transform(range(length), lambda i: -2), 'mean')", "given the word -2"),
        ("attention_words({}, list_transform(range(length), lambda i: i + 1), 'mean')", "number the words of each input from 0"),
        ("attention_words({}, list_transform(range(length), lambda i: NULL), 'mean')", "given the word NULL"),
        ("attention_words({}, range(length), 'last')", "pieces is last; give mean or first"),
        ("attention_word_row({}, range(length), -1, 'mean')", "word -1, which no token"),
        ("attention_word_row({}, range(length), 99, 'mean')", "word 99, which no token"),
    ],
)  # fmt: skip
def test_words_that_cannot_be_are_refused(case: Case, call: str, sentence: str) -> None:
    """In a sentence that says what to give."""
    with pytest.raises(QueryError, match=sentence):
        case.store.sql(f"SELECT {call.format(PLACE)} FROM map_places")


def test_an_unknown_rule_for_special_tokens_is_refused(case: Case) -> None:
    """The sentence lists those that there are."""
    with pytest.raises(QueryError, match="specials is none; give keep, drop or renormalise"):
        case.store.sql("FROM word_attention(specials := 'none')")


def test_only_the_rows_that_are_asked_for_are_read(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conditions on layer, head, example and from_word are settled before the arrays are read."""
    from attnstore.query.map_reader import MapReader

    read: list[int] = []
    slices = MapReader.slices

    def counted(self: MapReader, array: str, *at: Any) -> Any:
        read.append(int(at[-1].sum()))
        return slices(self, array, *at)

    monkeypatch.setattr(MapReader, "slices", counted)
    case.store.sql(
        "FROM word_attention WHERE example = 1 AND layer = 1 AND head = 2 AND from_word = 0"
    )
    words = case.inputs[1]
    assert sum(read) == len(words.units[1]) * words.maps.shape[-1]
