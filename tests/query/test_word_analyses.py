"""Analyses over words of a CoNLL-U file: which words count under each scheme, and which tokens are theirs.

Computed a second time from the file's lines, the tokenizer's offsets and the model's own output.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny
import torch
from transformers import AutoModel, AutoTokenizer

import attnstore
from attnstore.annotation.annotate import annotate
from attnstore.datasets import annotations
from attnstore.errors import AttnstoreError

WORDS = [
    # form, upos, xpos, head, relation; a multiword token before its words: form, number of words
    [("She", "PRON", "PRP", 3, "nsubj"), ("can", "AUX", "MD", 3, "aux"), ("look", "VERB", "VB", 0, "root"),
     ("at", "ADP", "IN", 5, "case"), ("it", "PRON", "PRP", 3, "obl"), ("dog", 2), ("do", "VERB", "VBP", 3, "conj"),
     ("g", "PRON", "PRP", 6, "obj")],
    [("attention", 2), ("Atte", "PRON", "WP", 3, "nsubj"), ("ntion", "AUX", "VBZ", 3, "aux"),
     ("learn", "NOUN", "VB", 0, "root"), ("that", "PRON", "DT", 3, "obj"), ("there", "PRON", "EX", 3, "expl")],
    [("zum", 2), ("zu", "VERB", "VB", 0, "root"), ("dem", "PRON", "PRP", 1, "obj"), ("fox", "NOUN", "NN", 1, "nsubj"),
     ("her", "PRON", "PRP$", 5, "nmod"), ("report", "NOUN", "NN", 1, "obj")],
    [("It", "PRON", "PRP", 2, "nsubj:cop"), ("was", "VERB", "VBD", 0, "root"), ("said", "VERB", "VBN", 2, "agent")],
]  # fmt: skip
"""The words of sentences. Of `dog` the tokenizer has no parts, `zum` is not what its words spell."""
PARTS = {
    "upos": {"noun": ("NOUN", "PROPN"), "verb": ("VERB", "AUX"), "pronoun": ("PRON",)},
    "penn": {
        "noun": ("NN",), "verb": ("VB", "VBD", "VBN", "VBP", "VBZ", "MD"), "pronoun": ("PRP", "PRP$", "WP"),
    },
    "as_published": {
        "noun": ("NN",), "verb": ("VB", "VBD", "VBN", "VBP", "VBZ"), "pronoun": ("PRP", "PRP$"),
    },
}  # fmt: skip
CORE = {"subject": {"nsubj", "nsubj:cop"}, "object": {"obj"}}
PUBLISHED = {"subject": CORE["subject"] | {"expl", "agent"}, "object": {"obj"}}


@dataclass
class Word:
    """A word: its labels, its characters, and its tokens; shared: those of another word, too."""

    upos: str
    xpos: str
    head: int
    relation: str
    start: int
    end: int
    tokens: list[int] = field(default_factory=list)
    shared: set[int] = field(default_factory=set)

    def has(self, feature: str, scheme: str) -> bool:
        """True if the word has a feature under a scheme."""
        if feature in CORE:
            return self.relation in (PUBLISHED if scheme == "as_published" else CORE)[feature]
        return (self.upos if scheme == "upos" else self.xpos) in PARTS[scheme][feature]


@dataclass
class Sentence:
    """A sentence. maps: (layer, head, L, L), the model's own."""

    text: str
    words: list[Word]
    maps: np.ndarray[Any, Any]


def conllu() -> str:
    """WORDS as a file."""
    lines = []
    for words in WORDS:
        number, covered = 0, 0
        for word in words:
            if len(word) == 2:
                lines.append(f"{number + 1}-{number + 2}\t{word[0]}" + "\t_" * 8)
                covered = number + 2
                continue
            number += 1
            form, upos, xpos, head, relation = word
            lines.append(f"{number}\t{form}\t_\t{upos}\t{xpos}\t_\t{head}\t{relation}\t_\t_")
        assert covered <= number
        lines.append("")
    return "\n".join(lines) + "\n"


def sentences(folder: Path) -> list[Sentence]:
    """Every sentence, its words with their tokens, and its maps: from the lines of the file alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    result = []
    for rows in WORDS:
        text, words, inside = "", [], 0
        for row in rows:
            form = str(row[0])
            if len(row) == 2:
                text += f" {form}" if text else form
                at, inside, whole = len(text) - len(form), 2, form
                continue
            if inside:
                inside -= 1
                start, end = (at, at + len(form)) if whole != "zum" else (at, at + len(whole))
                at = end if whole != "zum" else at
            else:
                text += f" {form}" if text else form
                start, end = len(text) - len(form), len(text)
            words.append(Word(*row[1:], start, end))  # type: ignore[arg-type]
        encoded = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
        offsets = encoded.pop("offset_mapping")[0].tolist()
        for word in words:
            word.tokens = [p for p, (a, b) in enumerate(offsets) if a < word.end and word.start < b]
        owners = Counter(p for word in words for p in word.tokens)
        for word in words:
            word.shared = {p for p in word.tokens if owners[p] > 1}
        with torch.no_grad():
            attentions = model(**encoded, output_attentions=True).attentions
        result.append(Sentence(text, words, torch.stack([a[0] for a in attentions]).numpy()))
    return result


@dataclass
class Case:
    """A store with two models over the file, and the sentences read apart."""

    store: attnstore.Store
    base: list[Sentence]
    tuned: list[Sentence]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("words")
    (folder / "gold.conllu").write_text(conllu(), encoding="utf-8")
    models = [tiny.make(folder / name, "bert", seed=n) for n, name in enumerate(("base", "tuned"))]
    attnstore.ingest(
        folder / "s", [str(m) for m in models], str(folder / "gold.conllu"), max_length=64,
        precision="float32",
    )  # fmt: skip
    annotate(folder / "s", "gold", "conllu")
    return Case(attnstore.open(folder / "s"), *map(sentences, models))


def featured(sentence: Sentence, feature: str, scheme: str) -> list[int]:
    """Positions of the tokens that have a feature and are one word's alone."""
    words = [w for w in sentence.words if w.has(feature, scheme)]
    return sorted({p for w in words for p in w.tokens if p not in w.shared})


def test_the_file_has_what_the_rules_are_about(case: Case) -> None:
    """Words with common characters, words with a common token, and a word split between tokens."""
    one, two, three, _ = case.base
    assert [w.shared == set(w.tokens) != set() for w in one.words[-2:]] == [True, True]
    assert [w.tokens for w in two.words[:2]] == [[1], [2]]
    assert three.words[0].tokens == three.words[1].tokens
    assert not two.words[0].shared


@pytest.mark.parametrize("scheme", PARTS)
def test_features_are_the_words_of_the_scheme_and_their_own_tokens(case: Case, scheme: str) -> None:
    """token_features_by_scheme keeps shared tokens and marks them."""
    rows = case.store.sql(
        "SELECT example, position, feature, shared FROM token_features_by_scheme "
        "WHERE run = 'base/gold' AND source = 'conllu' AND scheme = $scheme", scheme=scheme,
    )  # fmt: skip
    expected = {
        (n, p, feature, p in w.shared)
        for n, sentence in enumerate(case.base)
        for w in sentence.words
        for feature in (*PARTS[scheme], *CORE)
        if w.has(feature, scheme)
        for p in w.tokens
    }
    assert sorted(rows.iter_rows()) == sorted(expected)


@pytest.mark.parametrize("scheme", PARTS)
def test_analyses_of_features_follow_the_scheme_and_leave_out_shared_tokens(
    case: Case, scheme: str
) -> None:
    """feature_attention, feature_change and cls_attention, against the model's own output."""
    tables = {
        "feature_attention": case.store.query("feature_attention", run="tuned/gold", scheme=scheme),
        "feature_change": case.store.query(
            "feature_change", run="tuned/gold", base_run="base/gold", scheme=scheme
        ),
        "cls_attention": case.store.query("cls_attention", run="tuned/gold", scheme=scheme),
    }
    for feature in (*PARTS[scheme], *CORE):
        places = [(n, p) for n, s in enumerate(case.tuned) if (p := featured(s, feature, scheme))]
        for layer, head in np.ndindex(case.tuned[0].maps.shape[:2]):
            values = {"feature_attention": [], "feature_change": [], "cls_attention": []}
            for n, at in places:
                one, other = (s[n].maps[layer, head] for s in (case.tuned, case.base))
                values["feature_attention"].append(one.mean(0)[at].max())
                values["feature_change"].append(one.mean(0)[at].max() - other.mean(0)[at].max())
                values["cls_attention"].append(one[0][at].sum())
            for name, table in tables.items():
                row = table.filter(layer=layer, head=head, feature=feature)
                if name == "cls_attention" and layer < table["layer"].max():
                    continue
                assert row["n"].to_list() == [len(places)], (name, feature)
                assert row["mean"].item() == pytest.approx(np.mean(values[name]), abs=2e-6)


@pytest.mark.parametrize("scheme", PARTS)
@pytest.mark.parametrize("relation", ["subject", "object", "obj"])
def test_links_go_from_words_of_the_scheme_to_its_verbs(
    case: Case, scheme: str, relation: str
) -> None:
    """token_pairs leaves out a link one of whose words has a token of another word."""
    table = case.store.query("token_pairs", run="base/gold", relation=relation, scheme=scheme)
    expected = []
    for sentence in case.base:
        pairs = []
        for word in sentence.words:
            head = sentence.words[word.head - 1] if word.head else None
            if head is None or word.shared or head.shared:
                continue
            if word.relation == relation or (
                word.has(relation, scheme) and head.has("verb", scheme)
                if relation in CORE
                else False
            ):
                pairs += [(p, q) for p in word.tokens for q in head.tokens]
        if pairs:
            expected.append(np.max([sentence.maps[:, :, p, q] for p, q in pairs], axis=0))
    if not expected:
        assert len(table) == 0
        return
    means = np.mean(expected, axis=0)
    assert table["n"].unique().to_list() == [len(expected)]
    for layer, head, mean in table.select("layer", "head", "mean").iter_rows():
        assert mean == pytest.approx(means[layer, head], abs=2e-6)


def test_an_unknown_scheme_is_one_sentence(case: Case) -> None:
    for name in ("feature_attention", "cls_attention", "token_pairs"):
        with pytest.raises(AttnstoreError, match=r"The scheme is ptb; give upos, penn or as_pub"):
            case.store.query(name, run="base/gold", scheme="ptb")


def test_penns_scheme_needs_penns_tags(tmp_path: Path) -> None:
    """Words tagged otherwise would be left out without a word; upos takes them."""
    text = (
        conllu()
        .replace("\tPRP\t", "\tV1\t")
        .replace("\tNN\t", "\tV2\t")
        .replace("\tMD\t", "\tV3\t")
    )
    (tmp_path / "gold.conllu").write_text(text, encoding="utf-8")
    model = tiny.make(tmp_path / "base", "bert")
    attnstore.ingest(tmp_path / "s", str(model), str(tmp_path / "gold.conllu"), max_length=64)
    annotate(tmp_path / "s", "gold", "conllu")
    store = attnstore.open(tmp_path / "s")
    assert len(store.query("feature_attention", run="base/gold").filter(feature="pronoun"))
    for scheme in ("penn", "as_published"):
        with pytest.raises(
            AttnstoreError, match=r"gold have no Penn tags, which the scheme .* give"
        ):
            store.query("feature_attention", run="base/gold", scheme=scheme)


def test_an_older_annotation_of_words_answers_and_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that kept Penn's tag alone and does not say which words are shared; made again, it does."""
    (tmp_path / "gold.conllu").write_text(conllu(), encoding="utf-8")
    model = tiny.make(tmp_path / "base", "bert")
    attnstore.ingest(tmp_path / "s", str(model), str(tmp_path / "gold.conllu"), max_length=64)
    tables = annotations.Annotation.tables

    def older(self: Any, dataset: str, source: str) -> tuple[pl.DataFrame, pl.DataFrame]:
        spans, links = tables(self, dataset, source)
        return spans.filter(pl.col("kind") != "upos").drop("shared"), links

    with monkeypatch.context() as patch:
        patch.setattr(annotations.Annotation, "tables", older)
        patch.setattr("attnstore.annotation.annotators.conllu.WORDS_VERSION", 1)
        assert annotate(tmp_path / "s", "gold", "conllu").stored
    ask = "SELECT count(*) FILTER (kind = 'upos') > 0, bool_or(shared) FROM spans"
    with attnstore.open(tmp_path / "s") as store:
        assert store.sql(ask).rows() == [(False, False)]
        features = store.query("feature_attention", run="base/gold")["feature"].unique()
        assert {"noun", "verb", "pronoun", "subject", "object"} <= set(features)
    assert annotate(tmp_path / "s", "gold", "conllu").stored
    with attnstore.open(tmp_path / "s") as store:
        assert store.sql(ask).rows() == [(True, True)]
