"""Faithfulness against scipy over what an eager model returns, and over stored importance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.stats
import tiny
import torch
from helpers import write_texts
from polars.testing import assert_frame_equal
from transformers import AutoModel, AutoTokenizer

import attnstore
from attnstore.errors import AttnstoreError, QueryError

RUN, TWINS = "bert/pairs", ("bert-random-0/pairs", "bert-random-1/pairs")
LAYERS, HEADS, INPUTS = 3, 4, 14
BAND = ["random_low", "random_high"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faithfulness")
    tiny.make_classifier(root / "bert", "bert", 2, seed=1)
    write_texts(root / "pairs.jsonl", INPUTS, seed=5, longest=9, pairs=True)
    return root


@pytest.fixture(scope="module")
def store(place: Path) -> Iterator[attnstore.Store]:
    """A run of a classifier, two random-weights twins, and the importance of its tokens."""
    root, bert, pairs = place / "store", str(place / "bert"), str(place / "pairs.jsonl")
    options: dict[str, Any] = {"max_length": 64, "precision": "float32"}
    attnstore.ingest(root, bert, pairs, **options)
    attnstore.ingest(root, bert, pairs, random_weights=True, seeds=(0, 1), **options)
    attnstore.attribute(
        root, bert, pairs, methods=("gradient_x_input", "leave_one_out"), max_length=64
    )
    with attnstore.open(root) as opened:
        yield opened


@pytest.fixture(scope="module")
def maps(place: Path, store: attnstore.Store) -> list[tuple[list[int], np.ndarray, np.ndarray]]:
    """Of each example its token ids, its maps (layers, heads, L, L), and the lengths of what each head
    moves from each token (layers, heads, L), from transformers alone."""
    model = AutoModel.from_pretrained(place / "bert", attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(place / "bert")
    rows = store.sql("SELECT text, text_pair FROM examples ORDER BY example")
    found = []
    for text, pair in rows.iter_rows():
        encoding = tokenizer(text, pair, return_tensors="pt", return_token_type_ids=True)
        with torch.no_grad():
            output = model(**encoding, output_attentions=True, output_hidden_states=True)
            lengths = [
                moved(layer, hidden[0])
                for layer, hidden in zip(model.encoder.layer, output.hidden_states, strict=False)
            ]
        ids = encoding["input_ids"][0].tolist()
        weights = torch.cat(output.attentions).double().numpy()
        found.append((ids, weights, np.stack(lengths)))
    return found


def moved(layer: Any, hidden: torch.Tensor) -> np.ndarray:
    """The length of (x W_V + b_V) W_O of each head and token, (heads, L)."""
    value = layer.attention.self.value(hidden).view(len(hidden), HEADS, -1)
    out = layer.attention.output.dense.weight.view(hidden.shape[1], HEADS, -1)
    vectors = torch.einsum("lhd,ohd->hlo", value, out)
    return vectors.norm(dim=-1).double().numpy()


def measured(
    maps: np.ndarray, lengths: np.ndarray | None
) -> dict[tuple[str, int, int | None], np.ndarray]:
    """The numbers of each token by measure, layer and head, of weights or by norm."""
    numbers, product = {}, np.eye(maps.shape[-1])
    for layer, heads in enumerate(maps):
        mean = heads.mean(0)
        if lengths is not None:
            heads = heads * lengths[layer][:, None]
            mean = heads.sum(0) / heads.sum(0).sum(-1, keepdims=True)
            heads = heads / heads.sum(-1, keepdims=True)
        product = (mean + np.eye(len(product))) / 2 @ product
        numbers["rollout", layer, None] = product[0]
        for head, weights in enumerate(heads):
            numbers["cls", layer, head] = weights[0]
            numbers["received", layer, head] = weights.mean(0)
    return numbers


def values(store: attnstore.Store, method: str) -> dict[int, np.ndarray]:
    rows = store.sql(
        "SELECT example, list(value ORDER BY position) FROM token_importance WHERE method = $m GROUP BY ALL",
        m=method,
    )
    return {example: np.array(of_tokens) for example, of_tokens in rows.iter_rows()}


CASES: list[dict[str, Any]] = [
    {},
    {"method": "leave_one_out"},
    {"signed": True},
    {"specials": "keep"},
    {"method": "leave_one_out", "signed": True, "specials": "keep"},
    {"by": "norm"},
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("params", CASES)
def test_means_are_those_of_scipy_over_dense_maps(
    place: Path, store: attnstore.Store, maps: list[Any], params: dict[str, Any]
) -> None:
    """τ-b and ρ over the tokens of each input, mean over inputs; of all heads, and of rollout."""
    special = set(AutoTokenizer.from_pretrained(place / "bert").all_special_ids)
    importance = values(store, params.get("method", "gradient_x_input"))
    wanted: dict[Any, list[tuple[float, float]]] = {}
    for example, (ids, weights, lengths) in enumerate(maps):
        kept = [params.get("specials") == "keep" or i not in special for i in ids]
        of_tokens = importance[example] if params.get("signed") else abs(importance[example])
        for key, numbers in measured(
            weights, lengths if params.get("by") == "norm" else None
        ).items():
            pair = numbers[kept], of_tokens[kept]
            coefficients = scipy.stats.kendalltau(*pair)[0], scipy.stats.spearmanr(*pair)[0]
            wanted.setdefault(key, []).append(coefficients)
    rows = store.query("faithfulness", run=RUN, **params)
    assert len(rows) == len(wanted) == 2 * LAYERS * HEADS + LAYERS
    for row in rows.iter_rows(named=True):
        expected = np.array(wanted[row["measure"], row["layer"], row["head"]])
        expected = expected[~np.isnan(expected[:, 0])]
        assert row["n"] == len(expected) > 10
        np.testing.assert_allclose([row["kendall"], row["spearman"]], expected.mean(0), atol=2e-3)
        assert row["kendall_low"] < row["kendall"] < row["kendall_high"]
        assert row["spearman_low"] < row["spearman"] < row["spearman_high"]


def test_q_is_corrected_over_the_rows_of_a_measure(store: attnstore.Store) -> None:
    """Benjamini and Hochberg over heads."""
    rows = store.query("faithfulness", run=RUN)
    for _, of_measure in rows.group_by("measure"):
        wanted = scipy.stats.false_discovery_control(of_measure["p"])
        np.testing.assert_allclose(of_measure["q"], wanted)


def test_twins_are_compared_with_the_importance_of_the_trained_model(
    store: attnstore.Store,
) -> None:
    """The band is that of the twins' attention, also for rollout, which has no head."""
    rows = store.query("faithfulness", run=RUN)
    twins = [store.query("faithfulness", run=twin, attributed=RUN) for twin in TWINS]
    keys = ["measure", "layer", "head"]
    band = (
        pl.concat(twins)
        .group_by(keys)
        .agg(random_low=pl.col("kendall").min(), random_high=pl.col("kendall").max())
    )
    wanted = rows.select(keys).join(band, on=keys, nulls_equal=True, maintain_order="left")
    assert wanted[BAND].null_count().row(0) == (0, 0)
    assert_frame_equal(rows.select(*keys, *BAND), wanted)
    assert store.query("faithfulness", run=TWINS[0]).is_empty()
    assert "has no token importance by gradient_x_input" in store.notes("faithfulness", run=TWINS[0])[0]  # fmt: skip


def test_inputs_with_other_tokens_are_left_out_and_counted(
    place: Path, store: attnstore.Store, tmp_path: Path
) -> None:
    """A run that truncates elsewhere has other tokens at the same positions."""
    bert, pairs = str(place / "bert"), str(place / "pairs.jsonl")
    attnstore.ingest(tmp_path, bert, pairs, max_length=16, precision="float32")
    attnstore.attribute(tmp_path, bert, pairs, max_length=64, limit=INPUTS - 2)
    cut = attnstore.open(tmp_path)
    both = cut.sql(
        "SELECT count(*) FILTER (i.token_ids = a.token_ids), count(*) FILTER (i.token_ids <> a.token_ids) "
        "FROM inputs i JOIN attributions a USING (dataset, example)"
    ).row(0)
    assert min(both) > 0
    assert max(cut.query("faithfulness", run=RUN)["n"]) == both[0]
    (note,) = cut.notes("faithfulness", run=RUN)
    assert f"{2 + both[1]} are left out: 2 have no importance, {both[1]} have other tokens" in note


def test_a_run_of_some_heads_has_no_rollout(place: Path, tmp_path: Path) -> None:
    """Rollout goes through all layers and heads; the other measures are those of the heads it holds."""
    bert, pairs = str(place / "bert"), str(place / "pairs.jsonl")
    attnstore.ingest(tmp_path, bert, pairs, max_length=64, heads=[1], layers=[2])
    attnstore.attribute(tmp_path, bert, pairs, max_length=64)
    rows = attnstore.open(tmp_path).query("faithfulness", run=RUN)
    assert rows.select("measure", "layer", "head").rows() == [("cls", 2, 1), ("received", 2, 1)]


def test_disabled_heads_are_said(place: Path, tmp_path: Path) -> None:
    """The importance is of the whole model, the attention of one without some heads."""
    bert, pairs = str(place / "bert"), str(place / "pairs.jsonl")
    attnstore.ingest(tmp_path, bert, pairs, max_length=64, disable="0.1")
    attnstore.attribute(tmp_path, bert, pairs, max_length=64)
    opened = attnstore.open(tmp_path)
    run = opened.sql("SELECT run FROM runs").item()
    (note,) = opened.notes("faithfulness", run=run)
    assert note == f"Run {run} has heads disabled (0.1), and the importance is that of the whole model."  # fmt: skip


def test_mistakes_are_sentences(store: attnstore.Store) -> None:
    """An unknown rule for special tokens, and lists of two lengths."""
    with pytest.raises(AttnstoreError, match="specials is some; give drop or keep"):
        store.query("faithfulness", run=RUN, specials="some")
    with pytest.raises(QueryError, match="list_kendall was given lists of 2 and 1 items"):
        store.sql("SELECT list_kendall([1, 2], [1])")


def test_functions_leave_out_pairs_with_a_null(store: attnstore.Store) -> None:
    """NULL where nothing can be ranked."""
    row = store.sql(
        "SELECT list_kendall([1, 2, NULL, 4], [1, 3, 5, 2]) AS tau, list_spearman([1, 1], [1, 2]) AS rho, "
        "list_kendall(NULL, NULL) AS none"
    ).row(0)
    assert row == (pytest.approx(1 / 3), None, None)
