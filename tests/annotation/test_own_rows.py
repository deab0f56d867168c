"""A user's own spans and links from CSV and Parquet files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tiny
from helpers import write_rows

import attnstore
from attnstore.annotation.annotate import annotate
from attnstore.errors import AttnstoreError
from attnstore.storage import fragments, location

TREEBANK = """# text = The dog saw Ann.
1\tThe\tthe\tDET\tDT\t_\t2\tdet\t_\t_
2\tdog\tdog\tNOUN\tNN\t_\t3\tnsubj\t_\t_
3\tsaw\tsee\tVERB\tVBD\t_\t0\troot\t_\t_
4\tAnn\tAnn\tPROPN\tNNP\t_\t3\tobj\t_\tSpaceAfter=No
5\t.\t.\tPUNCT\t.\t_\t3\tpunct\t_\t_

# text = She ran.
1\tShe\tshe\tPRON\tPRP\t_\t2\tnsubj\t_\t_
2\tran\trun\tVERB\tVBD\t_\t0\troot\t_\tSpaceAfter=No
3\t.\t.\tPUNCT\t.\t_\t2\tpunct\t_\t_

"""
PAIRS = [
    {"text": "The dog saw Ann.", "text_pair": "A dog saw her."},
    {"text": "She ran.", "text_pair": "He sat."},
    {"text": "It is not run.", "text_pair": ""},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.make(tmp_path_factory.mktemp("model") / "tiny", "bert"))


@pytest.fixture(scope="module")
def empty_stores(tmp_path_factory: pytest.TempPathFactory, model: str) -> Path:
    """A store with a treebank and one with pairs, neither annotated."""
    folder = tmp_path_factory.mktemp("stores")
    (folder / "gold.conllu").write_text(TREEBANK)
    pairs = write_rows(folder / "pairs.jsonl", PAIRS)
    attnstore.ingest(folder / "gold", model, str(folder / "gold.conllu"), max_length=32)
    attnstore.ingest(folder / "pairs", model, str(pairs), max_length=32)
    return folder


@pytest.fixture
def gold(empty_stores: Path, tmp_path: Path) -> Path:
    return copied(empty_stores / "gold", tmp_path)


@pytest.fixture
def store(empty_stores: Path, tmp_path: Path) -> Path:
    return copied(empty_stores / "pairs", tmp_path)


def copied(store: Path, folder: Path) -> Path:
    return Path(shutil.copytree(store, folder / "s"))


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def ask(store: Path, sql: str, **params: Any) -> pl.DataFrame:
    with attnstore.open(store) as opened:
        return opened.sql(sql, **params)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_export_of_spans_and_links_gives_the_same_rows_and_analyses(
    gold: Path, tmp_path: Path, kind: str
) -> None:
    """Rows of an annotator, exported and annotated again, are the same in every view and analysis."""
    annotate(gold, "gold", "conllu")
    for view in ("spans", "links"):
        rows = ask(gold, f"FROM {view} ORDER BY example")
        path = tmp_path / f"{view}.{kind}"
        rows.write_csv(path) if kind == "csv" else rows.write_parquet(path)
    assert annotate(gold, "gold", f"spans:{tmp_path}/spans.{kind}=mine").stored
    assert annotate(gold, "gold", f"links:{tmp_path}/links.{kind}=mine").stored
    for view in ("spans", "links", "token_features", "span_tokens", "link_tokens"):
        sql = f"SELECT * EXCLUDE source FROM {view} WHERE source = $source ORDER BY ALL"
        expected = ask(gold, sql, source="conllu")
        assert len(expected)
        assert ask(gold, sql, source="mine").equals(expected), view
    with attnstore.open(gold) as opened:
        run = opened.runs()["run"][0]
        for name, own in (("feature_attention", {}), ("token_pairs", {"relation": "nsubj"})):
            answers = [
                opened.query(name, run=run, annotation=source, **own)
                for source in ("conllu", "mine")
            ]
            drop = [c for c in ("source", "annotation") if c in answers[0].columns]
            assert len(answers[0])
            assert answers[0].drop(drop).equals(answers[1].drop(drop)), name


def test_spans_by_characters_need_no_numbers(store: Path, tmp_path: Path) -> None:
    """Labels of the same characters are labels of one span, numbered by first appearance."""
    path = written(
        tmp_path, "mine.csv",
        "example,segment,start,end,kind,label\n0,0,4,7,animal,dog\n0,1,2,5,animal,dog\n"
        "0,0,4,7,tag,NN\n1,0,0,3,person,She\n",
    )  # fmt: skip
    summary = annotate(store, "pairs", f"spans:{path}")
    assert (summary.source, summary.spans, summary.stored) == ("mine", 4, True)
    rows = ask(store, "SELECT example, span, segment, kind FROM spans ORDER BY ALL").rows()
    assert rows == [(0, 0, 0, "animal"), (0, 0, 0, "tag"), (0, 1, 1, "animal"), (1, 0, 0, "person")]


def test_spans_by_positions_of_tokens_have_just_these_tokens(store: Path, tmp_path: Path) -> None:
    """Positions of a run become characters, which align with the same tokens again."""
    run, tokens = ask(store, "SELECT run, len(tokens) FROM inputs WHERE example = 0").row(0)
    known = ask(
        store,
        "SELECT position FROM tokens WHERE example = 0 AND start IS NOT NULL ORDER BY position",
    )["position"].to_list()
    assert len(known) < tokens
    path = written(
        tmp_path, "mine.csv",
        "run,example,token,kind,label\n" + "".join(f"{run},0,{p},word,w{p}\n" for p in known),
    )  # fmt: skip
    annotate(store, "pairs", f"spans:{path}")
    rows = ask(
        store,
        "SELECT label, positions FROM span_tokens JOIN spans USING (example, source, span) ORDER BY span",
    ).rows()
    assert rows == [(f"w{p}", [p]) for p in known]


def test_first_and_last_token_make_one_span(store: Path, tmp_path: Path) -> None:
    """A span by its first and last token covers all tokens between them."""
    run = ask(store, "SELECT run FROM runs")["run"][0]
    path = written(
        tmp_path, "mine.csv",
        f"run,example,first_token,last_token,kind,label\n{run},0,1,4,phrase,x\n",
    )  # fmt: skip
    annotate(store, "pairs", f"spans:{path}")
    assert ask(store, "SELECT positions FROM span_tokens")["positions"].to_list() == [[1, 2, 3, 4]]


def test_a_text_stands_for_every_example_that_has_it(store: Path, tmp_path: Path) -> None:
    """Without example numbers, rows find their examples by the text."""
    path = written(tmp_path, "mine.csv", "text,start,end,kind,label\nShe ran.,0,3,who,She\n")
    annotate(store, "pairs", f"spans:{path}")
    assert ask(store, "SELECT example, label FROM spans").rows() == [(1, "She")]


def test_links_name_their_ends_by_number_or_by_characters(store: Path, tmp_path: Path) -> None:
    """Both ways give the same links."""
    spans = written(
        tmp_path, "mine.csv",
        "example,segment,start,end,kind,label\n0,0,4,7,mention,a\n0,1,2,5,mention,b\n",
    )  # fmt: skip
    numbers = written(tmp_path, "n.csv", "example,from_span,to_span,kind\n0,1,0,coreference\n")
    characters = written(
        tmp_path, "c.csv",
        "example,from_segment,from_start,from_end,to_segment,to_start,to_end,kind\n"
        "0,1,2,5,0,4,7,coreference\n",
    )  # fmt: skip
    annotate(store, "pairs", f"spans:{spans}")
    assert annotate(store, "pairs", f"links:{numbers}=mine").stored
    assert ask(store, "SELECT kind, from_span, to_span FROM links").rows() == [
        ("coreference", 1, 0)
    ]
    assert not annotate(store, "pairs", f"links:{characters}=mine").stored


def test_the_same_rows_again_write_nothing_and_links_stay(store: Path, tmp_path: Path) -> None:
    """Spans and links, each asked for again, are found; spans found again keep their links."""
    spans = written(tmp_path, "mine.csv", "example,start,end,kind,label\n0,4,7,m,a\n0,8,11,m,b\n")
    links = written(tmp_path, "links.csv", "example,from_span,to_span,kind,label\n0,0,1,next,\n")
    annotate(store, "pairs", f"spans:{spans}")
    annotate(store, "pairs", f"links:{links}=mine")
    before = [(f.path, f.modified) for f in fragments.listing(location.locate(store))]
    assert not annotate(store, "pairs", f"spans:{spans}").stored
    assert not annotate(store, "pairs", f"links:{links}=mine").stored
    assert [(f.path, f.modified) for f in fragments.listing(location.locate(store))] == before
    assert len(ask(store, "FROM links")) == 1


def test_changed_spans_take_the_place_of_the_old_ones_and_their_links(
    store: Path, tmp_path: Path
) -> None:
    """Numbers may mean other spans now, so no link of the old ones is left."""
    spans = written(tmp_path, "mine.csv", "example,start,end,kind,label\n0,4,7,m,a\n0,8,11,m,b\n")
    links = written(tmp_path, "links.csv", "example,from_span,to_span,kind,label\n0,0,1,next,\n")
    annotate(store, "pairs", f"spans:{spans}")
    annotate(store, "pairs", f"links:{links}=mine")
    written(tmp_path, "mine.csv", "example,start,end,kind,label\n0,0,3,m,c\n")
    assert annotate(store, "pairs", f"spans:{spans}").stored
    assert ask(store, "SELECT label FROM spans").rows() == [("c",)]
    assert len(ask(store, "FROM links")) == 0


HEADER = "example,segment,start,end,kind,label\n"
GOOD = "0,0,4,7,animal,dog\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("example,begin,end,kind,label\n0,4,7,a,b\n", "has no column 'start'"),
        ("start,end,kind,label\n4,7,a,b\n", "has no column 'example'"),
        ("example,start,end,label\n0,4,7,b\n", "has no column 'kind'"),
        (HEADER, "holds no rows"),
        (HEADER + GOOD + "99,0,4,7,a,b\n", r"Row 1 .* is about example 99, and pairs has 0 to 2"),
        (HEADER + "0,0,4,70,a,b\n", r"Row 0 .* characters 4 to 70 .* whose text has 16 characters"),
        (HEADER + "0,0,7,4,a,b\n", r"Row 0 .* characters 7 to 4"),
        (HEADER + "2,1,0,2,a,b\n", r"Row 0 .* segment 1, a text that it lacks"),
        (HEADER + "0,2,0,2,a,b\n", r"Row 0 .* segment 2, a text that it lacks"),
        (HEADER + GOOD + "0,0,NaN,7,a,b\n", r"Row 1 .* has 'NaN' as start, which is no whole"),
        (HEADER + "0,0,4.5,7,a,b\n", r"Row 0 .* has '4.5' as start"),
        (HEADER + "0,0,-1,7,a,b\n", r"Row 0 .* has '-1' as start"),
        (HEADER + "0,0,,7,a,b\n", r"Row 0 .* as start"),
        (HEADER + "0,0,4,7,,b\n", r"Row 0 .* as kind, which is no text"),
        (HEADER + GOOD + GOOD, r"Row 1 .* repeats an earlier row"),
        ("span," + HEADER + "0,0,0,4,7,a,b\n0,0,0,8,11,a,c\n", r"Row 1 .* gives span 0 .* other"),
        ("dataset," + HEADER + "rte,0,0,4,7,a,b\n", "no row of the dataset 'pairs'.* names rte"),
        ("source," + HEADER + "x,0,0,4,7,a,b\ny,0,0,4,7,a,c\n", r"several sources \(x, y\)"),
        ("text,start,end,kind,label\nNo.,0,2,a,b\n", r"Row 0 .* has the text 'No.', which no"),
        ("example,token,kind,label\n0,1,a,b\n", "has no column 'run'"),
        ("run,example,token,kind,label\nx/y,0,1,a,b\n", "holds no run 'x/y' of the dataset"),
        ("run,example,token,kind,label\ntiny/pairs,0,0,a,b\n", r"Row 0 .* tokens 0 to 0"),
        ("run,example,token,kind,label\ntiny/pairs,0,99,a,b\n", r"Row 0 .* which has \d+ tokens"),
    ],
)  # fmt: skip
def test_a_mistake_in_spans_is_one_sentence_with_file_and_row(
    store: Path, tmp_path: Path, text: str, said: str
) -> None:
    """Nothing is stored of a file with a mistake."""
    path = written(tmp_path, "mine.csv", text)
    with pytest.raises(AttnstoreError, match=said) as caught:
        annotate(store, "pairs", f"spans:{path}")
    assert "\n" not in str(caught.value)
    assert "mine.csv" in str(caught.value) or "x/y" in str(caught.value)
    assert not fragments.listing(location.locate(store), "spans")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("example,from_span,to_span\n0,0,1\n", "has no column 'kind'"),
        ("example,from_span,to_span,kind\n0,0,1,x\n0,0,9,x\n", r"Row 1 .* goes to span 9 of example 0"),
        ("example,from_span,to_span,kind\n1,0,1,x\n", r"Row 0 .* goes from span 0 of example 1"),
        ("example,from_span,to_span,kind\n0,x,1,x\n", r"Row 0 .* has 'x' as from_span"),
        (
            "example,from_start,from_end,to_start,to_end,kind\n0,4,7,0,3,x\n",
            r"Row 0 .* goes to characters 0 to 3 .*, where the source 'mine' has no span",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_links_is_one_sentence_with_file_and_row(
    store: Path, tmp_path: Path, text: str, said: str
) -> None:
    """A link must go from a span that is there to another."""
    spans = written(tmp_path, "mine.csv", "example,start,end,kind,label\n0,4,7,m,a\n0,8,11,m,b\n")
    annotate(store, "pairs", f"spans:{spans}")
    with pytest.raises(AttnstoreError, match=said) as caught:
        annotate(store, "pairs", f"links:{written(tmp_path, 'l.csv', text)}=mine")
    assert "\n" not in str(caught.value)


def test_links_need_the_spans_of_their_source(store: Path, tmp_path: Path) -> None:
    """Links of a source without spans are refused, with the sources that there are."""
    annotate(store, "pairs", "negation")
    path = written(tmp_path, "l.csv", "example,from_span,to_span,kind\n0,0,1,x\n")
    with pytest.raises(
        AttnstoreError, match=r"no spans of the source 'l' \(it has those of negation"
    ):
        annotate(store, "pairs", f"links:{path}")


@pytest.mark.parametrize("name", ["conllu", "spacy-x"])
def test_own_rows_cannot_take_the_name_of_an_annotator(
    store: Path, tmp_path: Path, name: str
) -> None:
    """Else they would take the place of its annotation."""
    path = written(tmp_path, "mine.csv", HEADER + GOOD)
    with pytest.raises(AttnstoreError, match=rf"cannot be called '{name}'.*=mine\.$"):
        annotate(store, "pairs", f"spans:{path}={name}")


def test_numbers_that_are_not_finite_are_refused(store: Path, tmp_path: Path) -> None:
    """NaN in a Parquet column of floats is said with its row; whole floats are numbers."""
    rows = {
        "example": [0, 0],
        "start": [4.0, float("nan")],
        "end": [7.0, 8.0],
        "kind": "a",
        "label": "b",
    }
    pl.DataFrame(rows).write_parquet(tmp_path / "mine.parquet")
    with pytest.raises(AttnstoreError, match=r"Row 1 .* has nan as start"):
        annotate(store, "pairs", f"spans:{tmp_path}/mine.parquet")
    pl.DataFrame(rows)[:1].write_parquet(tmp_path / "mine.parquet")
    assert annotate(store, "pairs", f"spans:{tmp_path}/mine.parquet").spans == 1


def test_spans_that_replace_others_are_aligned_with_the_tokens_anew(store: Path) -> None:
    """The tokens are those of the new characters, not those that the spans of before had."""
    rows = store.parent / "words.csv"
    for start, end, word in ((4, 7, "dog"), (8, 11, "saw")):
        rows.write_text(f"example,start,end,kind,label\n0,{start},{end},word,{word}\n")
        annotate(store, "pairs", f"spans:{rows}")
        with attnstore.open(store) as opened:
            tokens = opened.sql(
                "SELECT t.text FROM tokens t JOIN span_tokens s USING (run, example) "
                "WHERE list_contains(s.positions, t.position) ORDER BY position"
            )
        assert "".join(tokens["text"]) == word
