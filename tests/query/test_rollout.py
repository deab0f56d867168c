"""Attention rollout against what an eager model returns, computed anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

import attnstore
from attnstore.errors import QueryError, UnknownNameError

RUN = "tiny/sample"


@pytest.fixture(scope="module")
def store(sample_store: Path) -> Iterator[attnstore.Store]:
    with attnstore.open(sample_store) as opened:
        yield opened


@pytest.fixture(scope="module")
def rollouts(store: attnstore.Store, tiny_bert: Path) -> dict[int, list[np.ndarray]]:
    """Of each example, the rollout up to each layer, from the model's own output."""
    model = AutoModel.from_pretrained(tiny_bert, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    rows = store.sql(
        "SELECT example, text, text_pair FROM examples JOIN inputs USING (dataset, example)"
    )
    products = {}
    for example, text, pair in rows.iter_rows():
        encoding = tokenizer(text, pair, truncation=True, max_length=64, return_tensors="pt")
        with torch.no_grad():
            attentions = model(**encoding, output_attentions=True).attentions
        product, of_layers = None, []
        for weights in attentions:
            mean = weights[0].double().mean(dim=0).numpy()
            mixed = 0.5 * mean + 0.5 * np.eye(len(mean))
            product = mixed if product is None else mixed @ product
            of_layers.append(product)
        products[example] = of_layers
    return products


def test_rollout_multiplies_the_layers_so_far(
    store: attnstore.Store, rollouts: dict[int, list[np.ndarray]]
) -> None:
    """Half attention, half residual; rows sum to 1; layers in any order, several inputs at once."""
    rows = store.sql(
        "SELECT example, layer, length, attention_rollout(run_key, layer, cell, length) AS reach "
        "FROM map_places WHERE run = $run AND head = 0 ORDER BY layer DESC, hash(example)",
        run=RUN,
    )
    assert len(rows) == 2 * len(rollouts)
    for example, layer, length, reach in rows.iter_rows():
        product = np.array(reach).reshape(length, length)
        np.testing.assert_allclose(product, rollouts[example][layer], atol=1e-6)
        np.testing.assert_allclose(product.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("from_kind", ["cls", "word", "all"])
def test_the_analysis_sums_what_reaches_each_kind_of_token(
    store: attnstore.Store, rollouts: dict[int, list[np.ndarray]], from_kind: str
) -> None:
    """Mean over inputs of the mean over attending tokens; beside it the layer's own weights."""
    kinds = dict(
        store.sql(
            "SELECT example, list(kind ORDER BY position) FROM tokens GROUP BY ALL"
        ).iter_rows()
    )
    own = {maps.example: maps.weights.mean(axis=1) for maps in store.maps(RUN)}
    for row in store.query("rollout", run=RUN, from_kind=from_kind).iter_rows(named=True):
        reached, weights = [], []
        for example, of_layers in rollouts.items():
            to = np.array(kinds[example]) == row["kind"]
            sender = (np.array(kinds[example]) == from_kind) | (from_kind == "all")
            if to.any() and sender.any():
                reached.append(of_layers[row["layer"]][np.ix_(sender, to)].sum(axis=1).mean())
                weights.append(own[example][row["layer"]][np.ix_(sender, to)].sum(axis=1).mean())
        assert row["n"] == len(reached)
        assert row["mean"] == pytest.approx(np.mean(reached), abs=1e-6)
        assert row["weight"] == pytest.approx(np.mean(weights), abs=1e-5)


def test_a_run_of_some_heads_has_no_rollout(tiny_bert: Path, tmp_path: Path) -> None:
    """The analysis says what is missing; the function names a layer that the run does not hold."""
    attnstore.ingest(tmp_path, str(tiny_bert), "sample", limit=2, max_length=64, layers=(1,))
    with attnstore.open(tmp_path) as opened:
        run = opened.sql("SELECT run FROM runs").item()
        with pytest.raises(QueryError, match=r"holds 1 of 2 layers and 4 of 4 heads"):
            opened.query("rollout", run=run)
        with pytest.raises(UnknownNameError, match="holds no layer 0"):
            opened.sql("SELECT attention_rollout(run_key, 1, cell, length) FROM map_places")


@pytest.mark.parametrize(
    ("layer", "cell", "length"), [(-1, "cell", "length"), (0, "cell", "0"), (0, "-1", "length"),
                                  (0, "cell", "3000000000"), (0, "1000000000000", "length")],
)  # fmt: skip
def test_places_that_are_none_are_refused(
    store: attnstore.Store, layer: int, cell: str, length: str
) -> None:
    """One sentence, before anything of that size is made."""
    with pytest.raises(QueryError):
        store.sql(
            f"SELECT attention_rollout(run_key, {layer}, {cell}, {length}) FROM map_places WHERE run = $run",
            run=RUN,
        )
