"""Spans meet tokens: the views that align characters with any tokenizer's tokens."""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Any

import duckdb
import polars as pl
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from attnstore.datasets.annotations import Annotation, Word
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


ALL = ("upos", "penn", "as_published")


@pytest.mark.parametrize(
    ("kind", "label", "feature", "schemes"),
    [
        *(("dep", x, "subject", ALL) for x in ("nsubj", "nsubjpass", "csubj", "nsubj:pass", "nsubj:cop")),
        *(("dep", x, "subject", ("as_published",)) for x in ("agent", "expl", "obl:agent")),
        *(("dep", x, "object", ALL) for x in ("dobj", "dative", "obj", "iobj", "obj:lvc")),
        *(("dep", x, "object", ("as_published",)) for x in ("attr", "oprd", "obl:arg")),
        *(("dep", x, None, ()) for x in ("obl", "pobj", "expl:pv", "obl:tmod", "nmod:gobj")),
        *(("tag", x, "noun", ALL) for x in ("NN", "NNP", "NNPS", "NNS")),
        *(("tag", x, "verb", ALL) for x in ("VB", "VBD", "VBG", "VBN", "VBP", "VBZ")),
        *(("tag", x, "pronoun", ALL) for x in ("PRP", "PRP$")),
        ("tag", "MD", "verb", ("upos", "penn")), ("tag", "WP", "pronoun", ("upos", "penn")),
        ("tag", "WDT", None, ()), ("xpos", "NN", None, ()),
        *(("upos", x, y, ("upos",)) for x, y in (("PROPN", "noun"), ("AUX", "verb"), ("PRON", "pronoun"))),
        ("negation", "not", "negation", ALL),
    ],
)  # fmt: skip
def test_labels_make_features_under_their_schemes(
    index: Index, kind: str, label: str, feature: str | None, schemes: tuple[str, ...]
) -> None:
    """Penn's tags count under upos, too, where a word has no universal part of speech."""
    annotation = Annotation()
    annotation.span(0, 0, 0, 3, **{kind: label})
    index.fill(tokenize(frame(("dog.", None)), tokenizer("bert"), 64), annotation)
    features = index.rows(
        "SELECT position, feature, source, scheme FROM token_features_by_scheme ORDER BY ALL"
    )
    tokens = [(0, "cls"), (2, "punctuation"), (3, "sep")]
    assert features == sorted(
        [(p, k, "tokens", s) for p, k in tokens for s in ALL]
        + [(1, feature, "s", scheme) for scheme in schemes]
    )
    shown = index.rows("SELECT position, feature, source FROM token_features ORDER BY ALL")
    assert shown == [row[:3] for row in features if row[3] == "upos"]


def test_a_word_has_one_part_of_speech_in_each_scheme(index: Index) -> None:
    """Its universal one under upos, though Penn calls it otherwise; Penn's where it has none."""
    words = [Word(0, 3, "NN", "VERB", "", None), Word(4, 7, "VBZ", "", "", None)]
    words.append(Word(8, 11, "DT", "PRON", "", None))
    annotation = Annotation()
    annotation.words(0, 0, words)
    index.fill(tokenize(frame(("dog fox The", None)), tokenizer("bert"), 64), annotation)
    features = index.rows(
        "SELECT scheme, position, feature FROM token_features_by_scheme WHERE source = 's' ORDER BY ALL"
    )
    penn = [(1, "noun"), (2, "verb")]
    assert features == sorted(
        [("upos", 1, "verb"), ("upos", 2, "verb"), ("upos", 3, "pronoun")]
        + [(scheme, *row) for scheme in ("penn", "as_published") for row in penn]
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(max_examples=25, deadline=None)
@given(case=annotated(), cuts=st.lists(st.integers(1, 60), max_size=8))
def test_a_token_is_shared_if_it_has_characters_of_two_words(
    index: Index, architecture: str, case: Any, cuts: list[int]
) -> None:
    """Wherever words begin and end, and also where two words are the same characters."""
    ((text, _), *_), spans = case
    ends = sorted({0, len(text), *(c for c in cuts if c < len(text))})
    stretches = [
        *itertools.pairwise(ends),
        *((a, b) for e, g, a, b in spans[:1] if (e, g) == (0, 0)),
    ]
    annotation = Annotation()
    annotation.words(0, 0, [Word(a, b, "", "NOUN", "", None) for a, b in stretches])
    index.fill(tokenize(frame((text, None)), tokenizer(architecture), 64), annotation)
    places = [marked(architecture, (text, None), 64, 0, a, b)[0] for a, b in stretches]
    overlapping = [
        any(a < d and c < b for m, (c, d) in enumerate(stretches) if m != n)
        for n, (a, b) in enumerate(stretches)
    ]
    owners = Counter(p for own in places for p in own)
    expected = {
        n: (own, [overlapping[n] or owners[p] > 1 for p in own])
        for n, own in enumerate(places)
        if own
    }
    rows = index.rows("SELECT span, positions, shared FROM span_tokens")
    assert {n: (positions, shared) for n, positions, shared in rows} == expected
    features = index.rows("SELECT position, shared FROM token_features WHERE source = 's'")
    assert dict(features) == {
        p: any(
            flag
            for own, flags in expected.values()
            for q, flag in zip(own, flags, strict=True)
            if q == p
        )
        for p in owners
    }


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), max_size=7))
def test_words_are_shared_if_they_have_a_character_in_common(
    stretches: list[tuple[int, int]],
) -> None:
    """In any order, nested or not; a word without characters is no span."""
    places = [(start, start + length) for start, length in stretches]
    annotation = Annotation()
    annotation.words(0, 0, [Word(a, b, "", "X", "", None) for a, b in places])
    spans, _ = annotation.tables("d", "s")
    own = [set(range(a, b)) for a, b in places]
    assert dict(spans.select("span", "shared").iter_rows()) == {
        n: any(own[n] & other for m, other in enumerate(own) if m != n)
        for n, characters in enumerate(own)
        if characters
    }


def test_a_link_of_a_word_with_a_shared_token_says_so(index: Index) -> None:
    """`dog` is one piece here, of the words `do` and `g`."""
    words = [(0, 3), (4, 6), (6, 7)]
    annotation = Annotation()
    annotation.words(0, 0, [Word(a, b, "NN", "", "obj", 0) for a, b in words])
    index.fill(tokenize(frame(("fox dog", None)), tokenizer("bert"), 64), annotation)
    assert index.rows("SELECT from_positions, shared FROM link_tokens ORDER BY ALL") == [
        ([1], False), ([2], True), ([2], True),
    ]  # fmt: skip


def test_spans_that_are_no_words_share_nothing(index: Index) -> None:
    """A frame element may lie around a target, and people's own spans as they like."""
    annotation = Annotation()
    for a, b in ((0, 3), (0, 7), (4, 6)):
        annotation.span(0, 0, a, b, upos="NOUN")
    index.fill(tokenize(frame(("fox dog", None)), tokenizer("bert"), 64), annotation)
    assert index.rows("SELECT shared FROM span_tokens ORDER BY span") == [
        ([False],),
        ([False, False],),
        ([False],),
    ]
    assert index.rows("SELECT DISTINCT shared FROM spans") == [(False,)]
