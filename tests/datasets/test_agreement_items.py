"""The bundled dataset of subjects, verbs and nouns between them, and its annotation."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from helpers import write_rows

import attnstore
from attnstore.datasets import agreement, corpora
from attnstore.errors import AttnstoreError


@pytest.fixture(scope="module")
def items() -> tuple[agreement.Item, ...]:
    return agreement.items()


def test_every_kind_of_sentence_is_there_equally_often(items: tuple[agreement.Item, ...]) -> None:
    """0 to 4 attractors, of the subject's number or of the other, in phrases or clauses; subjects of both numbers."""
    kinds = Counter((i.construction, len(i.attractors), i.agreement, i.subject.number) for i in items)  # fmt: skip
    assert set(kinds.values()) == {agreement.EACH // 2}
    assert {k[1] for k in kinds} == {0, 1, 2, 3, 4}
    assert {k[0] for k in kinds if k[1]} == {"pp", "rc"}
    assert len(kinds) == 2 * (1 + 2 * 4 * 2)
    assert len({i.text for i in items}) == len(items)


def test_verb_and_nouns_stand_where_the_item_says(items: tuple[agreement.Item, ...]) -> None:
    """Attractors between subject and verb; forms that end in s are plural nouns and singular verbs."""
    for item in items:
        nouns = (item.subject, *item.attractors)
        places = [(n.start, n.end) for n in nouns] + [item.verb]
        assert places == sorted(places)
        words = [item.text[a:b] for a, b in places]
        assert all(re.search(rf"\b{word}\b", item.text) for word in words)
        *forms, verb = words
        assert [form.endswith("s") for form in forms] == [n.number == "plural" for n in nouns]
        assert verb.endswith("s") == (item.subject.number == "singular")
        numbers = {n.number for n in item.attractors}
        wanted = {"none": set(), "match": {item.subject.number}}
        assert numbers == wanted.get(item.agreement, {"singular", "plural"} - {item.subject.number})
        assert (" who " in item.text or " that " in item.text) == (item.construction == "rc")


def test_a_seed_gives_the_same_sentences_always(items: tuple[agreement.Item, ...]) -> None:
    """And another seed others."""
    agreement.items.cache_clear()
    assert agreement.items() == items
    assert agreement.items("agreement:0") == items
    others = {i.text for i in agreement.items("agreement:1")} - {i.text for i in items}
    assert len(others) > len(items) / 2


def test_it_is_a_dataset_by_its_name() -> None:
    """Labeled with the kind of sentence; with a seed it is another one."""
    both = corpora.load("agreement"), corpora.load("agreement:7")
    assert [d.name for d in both] == ["agreement", "agreement-7"]
    assert both[0].fingerprint != both[1].fingerprint
    assert "pp 2 mismatch" in both[0].frame["label"].to_list()
    for spec, sentence in (
        ("agreement:x", "The seed of 'agreement:x' is no whole number"),
        ("agreemnt", "did you mean agreement"),
    ):
        with pytest.raises(AttnstoreError, match=sentence):
            corpora.load(spec)
    with pytest.raises(AttnstoreError, match="has no splits"):
        corpora.load("agreement", split="train")


@pytest.fixture(scope="module")
def store(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> attnstore.Store:
    root = tmp_path_factory.mktemp("items")
    texts = write_rows(root / "t.jsonl", [{"text": "The fox near the dogs jumps."}])
    attnstore.ingest(root / "s", f"{tiny_bert}=tiny", str(texts), max_length=64)
    attnstore.ingest(root / "s", f"{tiny_bert}=tiny", "agreement:7", limit=9, max_length=64)
    return attnstore.open(root / "s")


def test_spans_and_links_are_those_of_the_items(store: attnstore.Store) -> None:
    """Of the examples that runs hold, by the seed that the dataset was read with."""
    store.annotate("agreement-7", "agreement")
    found = store.sql(
        "SELECT example, l.label, substr(text, w.\"start\" + 1, w.\"end\" - w.\"start\") AS verb, substr(text, s.\"start\" + 1, s.\"end\" - s.\"start\") AS noun, "
        "s.label AS number FROM links l JOIN examples USING (dataset, example) JOIN spans s USING (dataset, example, source) JOIN spans w USING (dataset, example, source) "
        "WHERE l.to_span = s.span AND l.from_span = w.span AND s.kind = 'number' AND w.kind = 'agreement'"
    )  # fmt: skip
    items = agreement.items("agreement:7")
    wanted = [
        (e, "right" if n is items[e].subject else "distractor", items[e].text[slice(*items[e].verb)], items[e].text[n.start : n.end], n.number)
        for e in found["example"].unique()
        for n in (items[e].subject, *items[e].attractors)
    ]  # fmt: skip
    assert len(found["example"].unique()) == 9
    assert sorted(found.rows()) == sorted(wanted)


def test_another_dataset_needs_a_file(store: attnstore.Store) -> None:
    with pytest.raises(AttnstoreError, match="give your own items as agreement:FILE"):
        store.annotate("t", "agreement")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"role": "subject"}, "Row 0 of .* has the role 'subject'; write right or distractor"),
        ({"end": 90}, "Row 0 of .* is characters 4 to 90 of example 0"),
        ({"source_start": None}, "no whole number from 0 on"),
        ({"role": None}, "Row 0 of .* as role, which is no text"),
    ],
)
def test_a_row_that_does_not_fit_is_one_sentence(
    store: attnstore.Store, tmp_path: Path, change: dict[str, object], sentence: str
) -> None:
    """With the file and the row, and nothing is stored."""
    row = {"example": 0, "source_start": 22, "source_end": 27, "start": 4, "end": 7, "role": "right"}  # fmt: skip
    pl.DataFrame([row | change]).write_csv(tmp_path / "own.csv")
    with pytest.raises(AttnstoreError, match=sentence):
        store.annotate("t", f"agreement:{tmp_path / 'own.csv'}")
    assert store.sql("SELECT count(*) FROM spans WHERE dataset = 't'").item() == 0
