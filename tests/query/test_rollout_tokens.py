"""Rollout of one input, token by token, against products of the maps that an eager model returns."""

from __future__ import annotations

import eager_runs
import numpy as np
import pytest
from eager_runs import EagerRun

from attnstore.errors import QueryError


@pytest.fixture(scope="module", params=eager_runs.MODELS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> EagerRun:
    """A run of short inputs beside the model's own maps."""
    return eager_runs.make(tmp_path_factory.mktemp(request.param), request.param)


def products(layers: np.ndarray) -> list[np.ndarray]:
    """Multiply the layers so far: half the mean map of the heads, half the identity."""
    product, so_far = np.eye(layers.shape[-1]), []
    for mean in layers:
        product = (0.5 * mean + 0.5 * np.eye(len(mean))) @ product
        so_far.append(product)
    return so_far


@pytest.mark.parametrize("by", ["weight", "norm"])
@pytest.mark.parametrize("from_pos", [None, 1])
def test_rollout_from_one_token_to_each(case: EagerRun, from_pos: int | None, by: str) -> None:
    """From [CLS], or the last token where there is none, or the one that is named."""
    example = max(case.kinds, key=lambda e: len(case.kinds[e]))
    at = case.sender(example) if from_pos is None else from_pos
    rows = case.store.query(
        "rollout_tokens", run=case.run, example=example, from_pos=from_pos, by=by
    )
    maps, shape = case.of(example, by), (len(case.maps[example]), len(case.kinds[example]))
    expected = [product[at] for product in products(case.of_layers(example, by))]
    np.testing.assert_allclose(rows["rollout"].to_numpy().reshape(shape), expected, atol=1e-6)
    weights = maps.mean(axis=1)[:, at]
    np.testing.assert_allclose(rows["weight"].to_numpy().reshape(shape), weights, atol=1e-6)
    assert rows["text"].to_list() == case.texts[example] * shape[0]
    assert set(rows["from_pos"]) == {at}


@pytest.mark.parametrize("by", ["weight", "norm"])
@pytest.mark.parametrize("from_kind", ["cls", "first", "last"])
def test_the_token_that_rollout_begins_at(case: EagerRun, from_kind: str, by: str) -> None:
    """[CLS] or, where there is none, the last token; first and last by name."""
    rows = case.store.query("rollout", run=case.run, from_kind=from_kind, by=by).to_dicts()
    for row in rows:
        shares = []
        for example, kinds in case.kinds.items():
            at = {"cls": case.sender(example), "first": 0, "last": len(kinds) - 1}[from_kind]
            if row["kind"] in kinds:
                product = products(case.of_layers(example, by))[row["layer"]]
                shares.append(product[at][np.array(kinds) == row["kind"]].sum())
        assert row["n"] == len(shares)
        assert row["mean"] == pytest.approx(np.mean(shares), abs=1e-6)
    assert rows


def test_a_position_that_the_input_lacks_is_one_sentence(case: EagerRun) -> None:
    """With the number of its tokens."""
    with pytest.raises(QueryError, match="from_pos is 99; positions count from 0"):
        case.store.query("rollout_tokens", run=case.run, example=0, from_pos=99)
