"""Annotating a dataset: what each annotator says, and how it gets into the store."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny
from flow_runs import flow
from helpers import write_rows
from hypothesis import given
from hypothesis import strategies as st

import attnstore
from attnstore.annotation import annotate as annotation
from attnstore.annotation.annotate import annotate
from attnstore.annotation.annotators import gap, negation
from attnstore.annotation.annotators import spacy_pipeline as spacy_annotator
from attnstore.datasets import conllu, readers
from attnstore.datasets.annotations import Annotation, Word
from attnstore.errors import AttnstoreError, DatasetError
from attnstore.storage import fragments, location

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
PAIRS = [
    {
        "text": "He does n't know that another dog was bought .",
        "text_pair": "Mary gave him nothing.",
    },
    {
        "text": "Nobody won't sing; she didn’t.",
        "text_pair": "It was never sold by him , nor by Ann .",
    },
    {"text": "", "text_pair": "The knot is not here."},
]


@functools.cache
def shared(path: str) -> Path:
    if not (SHARED / path).exists():
        pytest.skip(f"{SHARED / path} is not on this machine")
    return SHARED / path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.make(tmp_path_factory.mktemp("model") / "tiny", "bert"))


def ingested(folder: Path, model: str, dataset: Path | str, **settings: Any) -> Path:
    """A store with one run of the tiny model over a dataset."""
    attnstore.ingest(folder / "s", model, str(dataset), max_length=64, **settings)
    return folder / "s"


@pytest.fixture
def store(tmp_path: Path, model: str) -> Path:
    return ingested(tmp_path, model, write_rows(tmp_path / "pairs.jsonl", PAIRS))


def ask(store: Path, sql: str) -> list[tuple[Any, ...]]:
    with attnstore.open(store) as found:
        return found.sql(sql).rows()


# In the store ------------------------------------------------------------------------------------


def test_an_annotation_is_one_fragment_of_spans_and_one_of_links(store: Path) -> None:
    found = annotate(store, "pairs", "negation")
    assert (found.examples, found.spans, found.links, found.stored) == (2, 6, 0, True)
    held = {
        f.table: f.part
        for f in fragments.listing(location.locate(store))
        if f.table in ("spans", "links")
    }
    assert held["spans"] == held["links"]
    assert held["spans"].startswith("negation.")
    assert ask(store, "SELECT count(*) FROM spans") == [(6,)]


def test_the_same_annotation_again_writes_nothing(store: Path) -> None:
    annotate(store, "pairs", "negation")
    before = [(f.path, f.modified) for f in fragments.listing(location.locate(store))]
    assert not annotate(store, "pairs", "negation").stored
    assert [(f.path, f.modified) for f in fragments.listing(location.locate(store))] == before


def test_another_annotation_of_a_source_takes_the_place_of_the_first(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotate(store, "pairs", "negation")
    monkeypatch.setattr(annotation, "VERSION", 2)
    assert annotate(store, "pairs", "negation").stored
    assert (
        len(fragments.listing(location.locate(store), "spans"))
        == len(fragments.listing(location.locate(store), "links"))
        == 1
    )
    assert ask(store, "SELECT count(*) FROM spans") == [(6,)]


def test_further_examples_are_annotated_once_a_run_holds_them(tmp_path: Path, model: str) -> None:
    rows = write_rows(tmp_path / "x.jsonl", [{"text": f"not {n}"} for n in range(6)])
    store = ingested(tmp_path, model, rows, limit=2)
    assert annotate(store, "x", "negation").spans == 2
    ingested(tmp_path, model, rows, limit=5)
    assert annotate(store, "x", "negation").spans >= 5
    held = ask(store, "SELECT count(DISTINCT example) FROM inputs SEMI JOIN spans USING (example)")
    assert held == ask(store, "SELECT count(DISTINCT example) FROM inputs")


@pytest.mark.parametrize("writes", [0, 1])
def test_an_annotation_that_is_cut_short_is_not_seen_and_can_be_done_again(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """After any of its writes: neither the new one nor half of the old one shows."""
    store = ingested(tmp_path, model, gold(tmp_path, SENTENCE))
    annotate(store, "gold", "conllu")
    links = ask(store, "SELECT count(*) FROM links")
    monkeypatch.setattr(annotation, "VERSION", 2)
    left = [writes]

    def cut(*arguments: Any) -> Path:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return whole(*arguments)

    whole = fragments.write
    monkeypatch.setattr(fragments, "write", cut)
    with pytest.raises(KeyboardInterrupt):
        annotate(store, "gold", "conllu")
    assert ask(store, "SELECT (SELECT count(*) FROM spans), (SELECT count(*) FROM links)") == [
        (0, 0)
    ]
    monkeypatch.setattr(fragments, "write", whole)
    assert annotate(store, "gold", "conllu").stored
    assert ask(store, "SELECT count(*) FROM links") == links


def test_a_damaged_annotation_is_written_again(store: Path) -> None:
    annotate(store, "pairs", "negation")
    (spans,) = fragments.listing(location.locate(store), "spans")
    (store / spans.path).write_bytes(b"PAR1")
    assert annotate(store, "pairs", "negation").stored
    assert ask(store, "SELECT count(*) FROM spans") == [(6,)]


@pytest.mark.parametrize(
    ("dataset", "with_", "said"),
    [
        ("pair", "negation", "holds no dataset 'pair'; did you mean pairs?"),
        ("zzz", "negation", "holds no dataset 'zzz'; it holds pairs"),
        ("pairs", "negatoin", "Nothing annotates with 'negatoin'.*; did you mean negation?"),
        ("pairs", "framenet", "framenet:FOLDER"),
        ("pairs", "framenet:/nowhere", "no FrameNet release: it has no lu/"),
        ("pairs", "conllu", "which is no .conllu file; name the file .* as conllu:FILE"),
        ("pairs", "conllu:/nowhere.conllu", "There is no file /nowhere.conllu"),
        (
            "pairs",
            "spacy:no_such_model",
            "neither the folder of a spaCy pipeline nor an installed one",
        ),
        ("pairs", "spacy:json", "holds no spaCy pipeline: its meta.json"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_next_step(
    store: Path, dataset: str, with_: str, said: str
) -> None:
    with pytest.raises(AttnstoreError, match=said) as caught:
        annotate(store, dataset, with_)
    assert "\n" not in str(caught.value)


def test_as_published_is_for_framenet_alone(store: Path) -> None:
    with pytest.raises(AttnstoreError, match="as-published is a choice of framenet:FOLDER"):
        annotate(store, "pairs", "negation", as_published=True)


@pytest.mark.slow
def test_the_flow_annotates_and_says_so(store: Path) -> None:
    """A mistake ends with code 2 and one sentence, before Prefect starts anything."""

    done = flow("annotate", "--store", store, "--dataset", "pairs", "--with", "negation")
    assert done.exit_code == 0, done.stderr
    assert "pairs by negation: 2 examples, 6 labels of spans, 0 links, stored in" in done.stdout
    wrong = flow("annotate", "--store", store, "--dataset", "pears", "--with", "negation")
    assert wrong.exit_code == 2
    assert wrong.stderr.strip().splitlines()[-1].endswith("did you mean pairs?")
    assert "Traceback" not in wrong.stderr


# Negation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("another knot, a note, notable; snot", []),
        ("Not now. NEVER! neither-nor", ["Not", "NEVER", "neither", "nor"]),
        (
            "I do n't, he does n't, she doesn 't, we don ' t",
            ["do n't", "does n't", "doesn 't", "don ' t"],
        ),
        ("won't didn’t hadn`t ca n't WASN'T", ["won't", "didn’t", "hadn`t", "ca n't", "WASN'T"]),
        ("can 'tell', undone n't", []),
        ("nothing's none_of nowhere", ["nothing", "nowhere"]),
    ],
)
def test_negation_is_whole_words_and_their_spaced_forms(text: str, words: list[str]) -> None:
    assert [text[a:b] for a, b in negation.find(text)] == words


@given(st.text(alphabet="abnot n'’", max_size=30))
def test_negation_never_stands_inside_a_word(text: str) -> None:
    for start, end in negation.find(text):
        assert not re.search(r"\w$", text[:start])
        assert not re.match(r"\w", text[end:])


def test_negation_is_found_in_both_texts_of_used_rows(store: Path) -> None:
    annotate(store, "pairs", "negation")
    found = ask(store, "SELECT example, segment, label FROM spans ORDER BY example, segment, start")
    assert found == [
        (0, 0, "does n't"), (0, 1, "nothing"), (1, 0, "won't"), (1, 0, "didn’t"), (1, 1, "never"),
        (1, 1, "nor"),
    ]  # fmt: skip


# CoNLL-U -----------------------------------------------------------------------------------------

SENTENCE = """# text = You don't like "dogs".
1\tYou\tyou\tPRON\tPRP\t_\t4\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\t_\t4\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_
4\tlike\tlike\tVERB\tVB\t_\t0\troot\t_\t_
4.1\tlike\tlike\tVERB\tVB\t_\t_\t_\t_\t_
5\t"\t"\tPUNCT\t``\t_\t6\tpunct\t_\tSpaceAfter=No
6\tdogs\tdog\tNOUN\tNNS\t_\t4\tobj\t_\tSpaceAfter=No
7\t"\t"\tPUNCT\t''\t_\t6\tpunct\t_\tSpaceAfter=No
8\t.\t.\tPUNCT\t.\t_\t4\tpunct\t_\t_

"""


def gold(folder: Path, content: str) -> Path:
    (folder / "gold.conllu").write_text(content, encoding="utf-8")
    return folder / "gold.conllu"


def test_words_of_a_multiword_token_have_the_characters_that_they_spell() -> None:
    (tree,) = conllu.trees(SENTENCE.split("\n"), "x")
    texts = [tree.text[w.start : w.end] for w in tree.words]
    assert texts == ["You", "do", "n't", "like", '"', "dogs", '"', "."]
    assert [w.head for w in tree.words] == [3, 3, 3, None, 5, 3, 5, 3]


@pytest.mark.parametrize(
    ("token", "forms", "texts"),
    [
        ("zum", ("zu", "dem"), ["zum", "zum"]),
        ("Don't", ("do", "n't"), ["Do", "n't"]),
        ("DÁMELO", ("dá", "me", "lo"), ["DÁ", "ME", "LO"]),
        ("dámelo", ("da", "me", "lo"), ["dámelo"] * 3),
        ("don’t", ("do", "n't"), ["don’t"] * 2),
        ("İn", ("i\u0307", "n"), ["İn"] * 2),
        ("au", ("_", "_"), ["au"] * 2),
        ("a b", ("a", "b"), ["a b"] * 2),
    ],
)
def test_a_multiword_token_is_split_only_where_its_words_spell_it(
    token: str, forms: tuple[str, ...], texts: list[str]
) -> None:
    """Case aside, which moves no character; other words share all characters, and say so."""
    rows = [f"1-{len(forms)}\t{token}" + "\t_" * 8]
    rows += [f"{n}\t{form}\t_\tX\t_\t_\t0\troot\t_\t_" for n, form in enumerate(forms, 1)]
    (tree,) = conllu.trees([*rows, ""], "x")
    assert [tree.text[w.start : w.end] for w in tree.words] == texts
    annotation = Annotation()
    annotation.words(0, 0, tree.words)
    spans, _ = annotation.tables("d", "s")
    assert spans["shared"].unique().to_list() == [len(set(texts)) == 1]


@pytest.mark.parametrize(
    "name", ["en_ewt-ud-dev", "en_ewt-ud-test", "ja_gsd-ud-dev", "ru_gsd-ud-dev", "fi_tdt-ud-dev"]
)
def test_words_of_real_treebanks_stand_where_their_forms_are(name: str) -> None:
    path = shared(f"ud/{name}.conllu")
    trees = conllu.trees(readers.lines(path), str(path))
    rows = [line.split("\t") for line in readers.lines(path) if line and line[0].isdigit()]
    single = [r for r in rows if r[0].isdecimal()]
    words = [(t.text[w.start : w.end], w) for t in trees for w in t.words]
    assert len(words) == len(single)
    multiword = sum(
        int(r[0].split("-")[1]) - int(r[0].split("-")[0]) + 1 for r in rows if "-" in r[0]
    )
    same = sum(text == row[1] for (text, _), row in zip(words, single, strict=True))
    assert same >= len(single) - (0 if name.startswith("en") else multiword)
    assert [w.relation for _, w in words] == [r[7] for r in single]
    assert [w.head is None for _, w in words] == [r[6] == "0" for r in single]


def test_gold_annotation_needs_no_file_to_be_named(tmp_path: Path, model: str) -> None:
    """The dataset says where it was read from; links lead from word to head."""
    store = ingested(tmp_path, model, gold(tmp_path, SENTENCE))
    annotate(store, "gold", "conllu")
    features = ask(
        store,
        "SELECT feature, count(*), min(position) FROM token_features WHERE source = 'conllu' GROUP BY ALL ORDER BY ALL",
    )
    assert [f for f, *_ in features] == ["noun", "object", "pronoun", "subject", "verb"]
    (subject,) = ask(
        store,
        "SELECT from_positions, list_select(tokens, list_transform(to_positions, lambda p: p + 1)) "
        "FROM link_tokens JOIN inputs USING (run, example) WHERE kind = 'dep' AND label = 'nsubj'",
    )
    assert subject[0][0] == 1
    assert "".join(subject[1]).replace("##", "") == "like"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (SENTENCE * 2, "holds 2 texts and the dataset 1; give the file that"),
        (SENTENCE.replace("= You", "= We"), "form 'You' .* is not in its text"),
        (SENTENCE.replace('"dogs".', '"dogs". No.'), "Example 0 is .* and text 0 of .* No"),
        (SENTENCE.replace("\t6\tpunct", "\t66\tpunct"), "has no word 66, the head of its word 5"),
    ],
)
def test_a_file_that_does_not_fit_is_said(
    tmp_path: Path, model: str, content: str, said: str
) -> None:
    store = ingested(tmp_path, model, gold(tmp_path, SENTENCE))
    other = tmp_path / "other.conllu"
    other.write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError, match=said):
        annotate(store, "gold", f"conllu:{other}")


# GAP ----------------------------------------------------------------------------------------------

GAP = "\t".join(["ID", *gap.COLUMNS, "URL"])
PASSAGE = "Ann told Bea that she won."


def gap_row(text: str = PASSAGE, **other: str) -> str:
    row = {"Text": text, "Pronoun": "she", "Pronoun-offset": "18", "A": "Ann", "A-offset": "0",
           "A-coref": "TRUE", "B": "Bea", "B-offset": "9", "B-coref": "FALSE"} | other  # fmt: skip
    return "\t".join(["x", *row.values(), "u"])


def test_gap_links_a_pronoun_to_the_name_that_it_means(tmp_path: Path, model: str) -> None:
    path = tmp_path / "gap.tsv"
    path.write_text("\n".join([GAP, gap_row(), gap_row(**{"A-coref": "FALSE"})]) + "\n")
    store = ingested(tmp_path, model, path, text="Text")
    found = annotate(store, "gap", "gap")
    assert (found.examples, found.spans, found.links) == (2, 6, 1)
    said = ask(store, 'SELECT label, start, "end" FROM spans WHERE example = 0 ORDER BY start')
    assert said == [("antecedent", 0, 3), ("candidate", 9, 12), ("pronoun", 18, 21)]
    with attnstore.open(store) as opened:
        run = opened.runs()["run"][0]
        (ends,) = opened.sql(
            "SELECT example, t.from_positions[1] AS f, t.to_positions[1] AS t FROM link_tokens t WHERE kind = 'coreference'"
        ).rows()
        maps = opened.maps(run, 0)
        pairs = opened.query("token_pairs", run=run, relation="coreference")
        both = opened.sql("FROM link_tokens WHERE kind = 'coreference'").row(0, named=True)
    assert ends[0] == 0
    cells = np.ix_(both["from_positions"], both["to_positions"])
    expected = [maps[layer, head][cells].max() for layer, head in np.ndindex(maps.shape[:2])]
    assert pairs["n"].unique().to_list() == [1]
    assert pairs["mean"].to_list() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        (GAP.replace("A-coref", "A-corf"), gap_row(), "no column 'A-coref', so it is no GAP file"),
        (GAP, gap_row(**{"B-offset": "10"}), "Row 0 of .* says that 'Bea' begins at character 10"),
        (GAP, gap_row(PASSAGE + "!"), "Example 0 is .* and text 0 of .* is .*; give the file"),
    ],
)
def test_a_gap_file_that_does_not_fit_is_said(
    tmp_path: Path, model: str, header: str, row: str, said: str
) -> None:
    path, other = tmp_path / "gap.tsv", tmp_path / "other.tsv"
    path.write_text(f"{GAP}\n{gap_row()}\n")
    other.write_text(f"{header}\n{row}\n")
    store = ingested(tmp_path, model, path, text="Text")
    with pytest.raises(DatasetError, match=said):
        annotate(store, "gap", f"gap:{other}")


def test_the_published_passages_are_read() -> None:
    """2000 passages; every offset is where its word is; pronouns by what they mean (GAP, table 3)."""
    passages = gap.passages(shared("gap/gap-development.tsv"))
    assert len(passages) == 2000
    assert Counter(map(sum, (p.meant for p in passages))).keys() == {0, 1}
    assert {p.text[slice(*p.pronoun)].lower() for p in passages} <= {"he", "him", "his", "she", "her", "hers"}  # fmt: skip


def test_a_word_has_its_fine_tag_and_its_universal_one() -> None:
    """`tag` is Penn's in every source; a treebank's own is xpos."""

    def kinds(*words: tuple[str, str]) -> list[tuple[str, str]]:
        found = Annotation()
        found.words(
            0, 0, [Word(n, n + 1, tag, upos, "dep", None) for n, (tag, upos) in enumerate(words)]
        )
        spans = found.tables("d", "s")[0].filter(pl.col("kind") != "dep")
        return list(spans.select("kind", "label").iter_rows())

    assert kinds(("NN", "NOUN"), (".", "PUNCT")) == [
        ("tag", "NN"), ("upos", "NOUN"), ("tag", "."), ("upos", "PUNCT"),
    ]  # fmt: skip
    assert kinds(("NN", "NOUN"), ("", "VERB")) == [
        ("tag", "NN"),
        ("upos", "NOUN"),
        ("upos", "VERB"),
    ]
    assert kinds(("PRP", "ADP"), ("V", "VERB")) == [
        ("xpos", "PRP"), ("upos", "ADP"), ("xpos", "V"), ("upos", "VERB"),
    ]  # fmt: skip


# spaCy -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline() -> str:
    if util.find_spec("spacy") is None:
        pytest.skip("spaCy is not installed (extra spacy)")
    return f"spacy:{shared('models/en_ud_sm')}"


@pytest.mark.slow
def test_spacy_annotates_both_texts(store: Path, pipeline: str) -> None:
    """Spaced contractions are one word and its negation; characters are those of their own text."""
    found = annotate(store, "pairs", pipeline)
    assert found.source == "spacy:en_ud_sm"
    rows = ask(
        store,
        'SELECT example, CASE segment WHEN 0 THEN text ELSE text_pair END["start" + 1:"end"], feature '
        "FROM spans s JOIN examples USING (dataset, example) "
        "JOIN feature_labels f ON f.kind = s.kind AND f.label = s.label",
    )
    assert {
        (0, "He", "subject"),
        (0, "know", "verb"),
        (0, "Mary", "subject"),
        (0, "nothing", "object"),
    } <= set(rows)
    assert {(1, "It", "subject"), (1, "him", "pronoun"), (1, "sold", "verb")} <= set(rows)
    words = ask(
        store,
        "SELECT label FROM spans WHERE kind = 'tag' AND example = 0 AND segment = 0 ORDER BY start",
    )
    assert len(words) == 10
    assert found.links == ask(store, "SELECT count(*) FROM link_tokens")[0][0]


@pytest.mark.slow
def test_spacys_words_are_what_its_own_call_says(store: Path, pipeline: str) -> None:
    spacy = pytest.importorskip("spacy")
    annotate(store, "pairs", pipeline)
    nlp = spacy.load(shared("models/en_ud_sm"))
    expected = [
        (e, s, t.idx, t.idx + len(t), t.tag_, t.dep_)
        for e, row in enumerate(PAIRS[:2])
        for s, text in enumerate(row.values())
        for t in nlp(text)
    ]
    held = ask(
        store,
        "SELECT example, segment, \"start\", \"end\", max(label) FILTER (kind = 'tag'), max(label) FILTER (kind = 'dep') "
        "FROM spans GROUP BY ALL ORDER BY ALL",
    )
    assert held == sorted(expected)


def test_missing_spacy_is_said_with_the_command(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_name: str) -> str:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(spacy_annotator.metadata, "version", missing)
    with pytest.raises(
        AttnstoreError, match=r"spaCy is not installed: `pip install 'attnstore\[spacy\]'`"
    ):
        annotate(store, "pairs", "spacy")


@pytest.mark.slow
def test_a_pipeline_that_only_splits_words_is_refused(store: Path, tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy")
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(AttnstoreError, match="neither tags nor parses"):
        annotate(store, "pairs", f"spacy:{tmp_path / 'blank'}")
    meta = json.loads((tmp_path / "blank" / "meta.json").read_text())
    assert meta["lang"] == "en"
