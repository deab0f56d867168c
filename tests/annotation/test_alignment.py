"""Spans meet tokens: the views that align characters with any tokenizer's tokens."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator
from typing import Any

import duckdb
import polars as pl
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from attnstore.datasets.annotations import Annotation
from attnstore.datasets.tokenize import tokenize
from attnstore.storage import tables
from attnstore.storage.index_rows import align

ARCHITECTURES = ("bert", "albert", "xlm-roberta", "roberta", "gpt2", "modernbert")
"""WordPiece, Unigram with and without capitals, byte-level BPE with offsets trimmed and not."""
WORDS = (
    "The", "attention", "attention", "separator", "quick", "quick", "does", "n't", "doesn", "'t", "naïve",
    "re\u0301sume\u0301", "Straße", "🙂", "👩\u200d🔬", "日本", "3.5", "—", ".", "…", "ﬁne", "İ", "\u00a0",
)  # fmt: skip
tokenizer = functools.cache(tiny.make_tokenizer)


class Index:
    """The index's schema with one run in it, whose inputs and spans a test puts in."""

    def __init__(self) -> None:
        self.con = duckdb.connect()
        self.next = 0
        self.con.execute(tables.sql())
        self.con.execute(
            "INSERT INTO core.runs BY NAME SELECT 'r' AS run, 1 AS run_key, 'i' AS identity, "
            "'m' AS model, 'd' AS dataset, 'float16' AS precision, 64 AS max_length, "
            "[0] AS layers, [0] AS heads"
        )
        self.con.execute(
            "INSERT INTO core.blocks BY NAME SELECT 1 AS run_key, 0 AS block, 0 AS n_cells, "
            "[]::UINTEGER[] AS maps_crc32c, []::UINTEGER[] AS received_crc32c"
        )

    def fill(self, inputs: pl.DataFrame, annotation: Annotation) -> None:
        spans, links = annotation.tables("d", "s")
        rows = inputs.drop("empty").with_columns(
            run_key=pl.lit(1, pl.UInt64), block=pl.lit(0, pl.Int32), cell=0, token_cell=0
        )
        for number, (table, frame) in enumerate(
            {"inputs": rows, "spans": spans, "links": links}.items(), start=self.next
        ):
            self.con.execute(f"DELETE FROM core.{table}")
            self.con.execute('DELETE FROM core.fragments WHERE "table" = $table', {"table": table})
            self.con.execute("INSERT INTO core.fragments VALUES (?, ?, ?)", [number, table, table])
            self.con.register(
                "frame", frame.with_columns(fragment=pl.lit(number, pl.Int32)).to_arrow()
            )
            self.con.execute(f"INSERT INTO core.{table} BY NAME FROM frame")
        self.next += 3
        align(self.con)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.con.execute(sql).fetchall()


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    index = Index()
    yield index
    index.con.close()


def frame(*texts: tuple[str, str | None]) -> pl.DataFrame:
    schema = {"text": pl.String, "text_pair": pl.String}
    rows = pl.DataFrame(list(texts), schema=schema, orient="row")
    return rows.with_columns(example=pl.int_range(len(texts), dtype=pl.Int64))


def marked(
    architecture: str, texts: tuple[str, str | None], most: int, segment: int, start: int, end: int
) -> tuple[list[int], str]:
    """Token positions that share a character with text[start:end], and the characters they hold.

    By the tokenizer's own encoding, character by character, without the white space around a token.
    """
    text, pair = texts
    own_text = text if segment == 0 else pair or ""
    found = tokenizer(architecture)(text, pair, truncation=True, max_length=most).encodings[0]
    owned: dict[int, set[int]] = {}
    for position, (number, special, sequence, (first, last)) in enumerate(
        zip(found.ids, found.special_tokens_mask, found.sequence_ids, found.offsets, strict=True)
    ):
        if not special and sequence == segment:
            solid = [c for c in range(first, last) if not own_text[c].isspace()]
            if solid and tokenizer(architecture).decode([number]).strip():
                owned[position] = set(range(solid[0], solid[-1] + 1))
    wanted = set(range(start, end))
    positions = [position for position, own in owned.items() if own & wanted]
    covered = set().union(*(owned[p] for p in positions)) & wanted if positions else set()
    return positions, "".join(own_text[c] for c in sorted(covered))


@st.composite
def annotated(
    draw: st.DrawFn,
) -> tuple[list[tuple[str, str | None]], list[tuple[int, int, int, int]]]:
    """Some inputs, single or pairs, and spans in them: example, segment, start, end."""
    texts: list[tuple[str, str | None]] = []
    spans: list[tuple[int, int, int, int]] = []
    for example in range(draw(st.integers(1, 3))):
        both: list[str] = []
        for segment in range(draw(st.integers(1, 2))):
            text = ""
            for word in draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=9)):
                text += draw(st.sampled_from((" ", "", "  "))) if text else ""
                spans.append((example, segment, len(text), len(text) + len(word)))
                text += word
            first = draw(st.integers(0, len(text) - 1))
            spans.append((example, segment, first, draw(st.integers(first + 1, len(text)))))
            both.append(text)
        texts.append((both[0], both[1] if len(both) > 1 else None))
    return texts, spans


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(max_examples=25, deadline=None)
@given(case=annotated(), most=st.integers(4, 40))
def test_a_span_marks_exactly_the_tokens_that_share_its_characters(
    index: Index, architecture: str, case: Any, most: int
) -> None:
    """In span_tokens, token_features and link_tokens, whatever the tokenizer and the truncation."""
    texts, spans = case
    annotation = Annotation()
    numbers = [annotation.span(e, g, a, b, negation="x") for e, g, a, b in spans]
    links = [(e, n - 1, n) for (e, *_), n in zip(spans, numbers, strict=True) if n]
    for example, first, second in links:
        annotation.link(example, "frame", "l", first, second)
    index.fill(tokenize(frame(*texts), tokenizer(architecture), most), annotation)
    expected = {
        (e, n): found
        for (e, g, a, b), n in zip(spans, numbers, strict=True)
        if (found := marked(architecture, texts[e], most, g, a, b)[0])
    }
    held = index.rows("SELECT example, span, positions FROM span_tokens WHERE run = 'r'")
    assert {(e, n): p for e, n, p in held} == expected
    features = index.rows("SELECT example, position FROM token_features WHERE feature = 'negation'")
    assert sorted(features) == sorted({(e, p) for (e, _), own in expected.items() for p in own})
    both = [
        (e, expected[e, a], expected[e, b])
        for e, a, b in links
        if {(e, a), (e, b)} <= set(expected)
    ]
    linked = index.rows("SELECT example, from_positions, to_positions FROM link_tokens")
    assert sorted(linked) == sorted(both)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(max_examples=25, deadline=None)
@given(case=annotated())
def test_marked_tokens_cover_the_span(architecture: str, case: Any) -> None:
    """Untruncated, every character of a span lies in a marked token, unless no token holds it.

    Tokenizers drop white space, controls and marks that they strip from letters.
    """
    texts, spans = case
    for example, segment, start, end in spans:
        _, covered = marked(architecture, texts[example], 512, segment, start, end)
        text = texts[example][segment] or ""
        solid = [c for c in text[start:end] if unicodedata.category(c)[0] not in "MCZ"]
        assert [c for c in covered if unicodedata.category(c)[0] not in "MCZ"] == solid


def positions(
    index: Index, architecture: str, text: str, part: str, nth: int = 0, most: int = 64
) -> Any:
    """Tokens that the nth occurrence of `part` in `text` marks."""
    start = -1
    for _ in range(nth + 1):
        start = text.index(part, start + 1)
    annotation = Annotation()
    annotation.span(0, 0, start, start + len(part), negation="x")
    index.fill(tokenize(frame((text, None)), tokenizer(architecture), most), annotation)
    return [t for (t,) in index.rows("SELECT t.token FROM tokens t JOIN token_features f USING (run, example, position) WHERE feature = 'negation' ORDER BY position")]  # fmt: skip


def test_a_split_word_marks_all_its_pieces(index: Index) -> None:
    assert positions(index, "bert", "The attention heads", "attention") == ["atte", "##ntion"]


def test_a_repeated_word_marks_only_itself(index: Index) -> None:
    """The notebook's search by string would hit the first one."""
    positions(index, "bert", "the dog or the dog", "dog", nth=1)
    assert index.rows("SELECT position FROM token_features WHERE feature = 'negation'") == [(5,)]


def test_a_spaced_contraction_marks_both_of_its_parts(index: Index) -> None:
    found = positions(index, "bert", "he does n't look", "does n't")
    assert found == ["d", "##o", "##es", "n", "[UNK]", "t"]


def test_a_byte_level_token_belongs_to_the_word_after_its_space(index: Index) -> None:
    """GPT-2's tokens begin with the white space; the word before does not get them."""
    assert positions(index, "gpt2", "The dog", "The") == ["The"]
    assert positions(index, "gpt2", "The dog", "dog")[0].startswith("Ġ")


def test_a_span_in_the_truncated_part_has_no_tokens(index: Index) -> None:
    assert positions(index, "bert", "The quick dog or the fox", "fox", most=5) == []
    assert index.rows("SELECT count(*) FROM span_tokens") == [(0,)]
    assert index.rows("SELECT count(*) FROM spans") == [(1,)]


def test_a_link_with_one_end_truncated_has_no_tokens(index: Index) -> None:
    annotation = Annotation()
    near = annotation.span(0, 0, 0, 3, mention="The")
    far = annotation.span(0, 0, 14, 17, mention="far")
    annotation.link(0, "coreference", "", near, far)
    index.fill(tokenize(frame(("The quick dog far", None)), tokenizer("bert"), 4), annotation)
    assert index.rows("SELECT count(*) FROM links") == [(1,)]
    assert index.rows("FROM link_tokens") == []


def test_the_second_text_has_characters_of_its_own(index: Index) -> None:
    annotation = Annotation()
    annotation.span(0, 1, 0, 3, negation="dog")
    index.fill(tokenize(frame(("The fox", "dog fox")), tokenizer("bert"), 64), annotation)
    assert index.rows(
        "SELECT t.token, t.segment FROM tokens t JOIN token_features f USING (run, example, position) "
        "WHERE feature = 'negation'"
    ) == [("dog", 1)]


@pytest.mark.parametrize(
    ("kind", "label", "feature"),
    [
        *((("dep", x, "subject")) for x in ("nsubj", "nsubjpass", "csubj", "agent", "nsubj:pass", "obl:agent")),
        *((("dep", x, "object")) for x in ("dobj", "dative", "attr", "oprd", "obj", "iobj", "obl:arg")),
        *((("tag", x, "noun")) for x in ("NN", "NNP", "NNPS", "NNS")),
        *((("tag", x, "verb")) for x in ("VB", "VBD", "VBG", "VBN", "VBP", "VBZ")),
        *((("tag", x, "pronoun")) for x in ("PRP", "PRP$")),
        ("tag", "MD", None), ("tag", "WP", None), ("dep", "obl", None), ("dep", "pobj", None),
        ("upos", "PROPN", "noun"), ("upos", "AUX", "verb"), ("upos", "PRON", "pronoun"),
        ("negation", "not", "negation"),
    ],
)  # fmt: skip
def test_labels_of_both_schemes_make_features(
    index: Index, kind: str, label: str, feature: str | None
) -> None:
    annotation = Annotation()
    annotation.span(0, 0, 0, 3, **{kind: label})
    index.fill(tokenize(frame(("dog.", None)), tokenizer("bert"), 64), annotation)
    found = index.rows("SELECT position, feature, source FROM token_features ORDER BY ALL")
    tokens = [(0, "cls", "tokens"), (2, "punctuation", "tokens"), (3, "sep", "tokens")]
    assert found == sorted([*tokens, *([(1, feature, "s")] if feature else [])])
