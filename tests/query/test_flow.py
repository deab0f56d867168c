"""Attention flow against networkx over the maps that an eager model returns."""

from __future__ import annotations

import eager_runs
import networkx as nx
import numpy as np
import pytest
from eager_runs import EagerRun
from hypothesis import given, settings
from hypothesis import strategies as st

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


@pytest.fixture(scope="module", params=eager_runs.MODELS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> EagerRun:
    """A run of short inputs beside the model's own maps."""
    return eager_runs.make(tmp_path_factory.mktemp(request.param), request.param, 4, 7)


def test_flow_is_the_maximum_flow_through_the_layers(case: EagerRun) -> None:
    """To each token, from the first and the last token of every layer, in any order of rows."""
    rows = case.store.sql(
        "SELECT example, layer, p, attention_flow(run_key, layer, cell, length, p) AS flow "
        "FROM (SELECT *, unnest([0, length - 1]) AS p FROM map_places WHERE run = $run AND head = 0) "
        "ORDER BY hash(example), p, layer DESC",
        run=case.run,
    )
    assert len(rows) == sum(2 * len(maps) for maps in case.maps.values())
    for example, layer, from_pos, flow in rows.rows():
        np.testing.assert_allclose(
            flow,
            by_networkx(list(case.maps[example][: layer + 1].mean(axis=1)), from_pos),
            atol=1e-6,
        )


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.floats(0.05, 20), st.integers(0, 2**32 - 1))
def test_flow_through_any_dense_maps(n_layers: int, n: int, evenness: float, seed: int) -> None:
    """Even and peaked rows, one token and several, one layer and several."""
    draw = np.random.default_rng(seed)
    layers = [draw.dirichlet(np.full(n, evenness), size=n) for _ in range(n_layers)]
    from_pos = int(draw.integers(n))
    np.testing.assert_allclose(max_flow(layers, from_pos), by_networkx(layers, from_pos), atol=1e-6)


def test_flow_of_one_layer_is_its_row(case: EagerRun) -> None:
    """One edge leads from the token to each token of the input."""
    rows = case.store.sql(
        "SELECT example, attention_flow(run_key, 0, cell, length, 1) FROM map_places "
        "WHERE run = $run AND layer = 0 AND head = 0",
        run=case.run,
    )
    for example, flow in rows.rows():
        row = (case.maps[example][0].mean(axis=0)[1] + np.eye(len(flow))[1]) / 2
        np.testing.assert_allclose(flow, row, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [("run_key, 0, cell, length, length", "positions count from 0"), ("run_key, 0, cell, length, -1", "positions count from 0"),
     ("run_key, 0, cell, 257, 0", "256 at most"), ("run_key, -1, cell, length, 0", "layer = -1"),
     ("run_key, 0, cell, 0, 0", "an input of 0 tokens"), ("run_key, 9, cell, length, 0", "no layer")],
)  # fmt: skip
def test_what_flow_cannot_be_asked_is_one_sentence(
    case: EagerRun, arguments: str, sentence: str
) -> None:
    """Positions, lengths and layers that an input does not have, and inputs that would take hours."""
    with pytest.raises(AttnstoreError, match=sentence):
        case.store.sql(
            f"SELECT attention_flow({arguments}) FROM map_places WHERE run = $run", run=case.run
        )


@pytest.mark.parametrize("by", ["weight", "norm"])
def test_the_analysis_gives_each_kind_its_share_of_the_flows(case: EagerRun, by: str) -> None:
    """From [CLS], or the last token, of the last layer; longer inputs are left out and counted in a note."""
    longest = int(np.median([len(kinds) for kinds in case.kinds.values()]))
    rows = case.store.query("flow", run=case.run, longest=longest, by=by).to_dicts()
    shares: dict[str, list[float]] = {}
    for example, kinds in case.kinds.items():
        if len(kinds) <= longest:
            flows = np.array(by_networkx(list(case.of_layers(example, by)), case.sender(example)))
            for kind in set(kinds):
                share = flows[np.array(kinds) == kind].sum() / flows.sum()
                shares.setdefault(kind, []).append(share)
    assert {row["kind"] for row in rows} == set(shares)
    for row in rows:
        assert (row["layer"], row["n"]) == (len(case.maps[0]) - 1, len(shares[row["kind"]]))
        assert row["mean"] == pytest.approx(np.mean(shares[row["kind"]]), abs=1e-6)
    left_out = sum(len(kinds) > longest for kinds in case.kinds.values())
    (note,) = case.store.notes("flow", run=case.run, longest=longest)
    assert note.startswith(
        f"{left_out} of the 4 inputs of run {case.run} have over {longest} tokens"
    )
