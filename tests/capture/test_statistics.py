"""Rules of `attnstore.capture.statistics`: each measure against a plain loop in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnstore.capture.statistics import Marks, Measured, measure
from attnstore.statistics import NAMES

Floats = np.ndarray[Any, Any]


def random_maps(n: int, heads: int, length: int, seed: int, sharp: float = 0.3) -> torch.Tensor:
    """Maps whose rows sum to 1, some weights exactly 0, as softmax gives them."""
    draw = np.random.default_rng(seed)
    rows = draw.dirichlet(np.full(length, sharp), (n, heads, length))
    return torch.tensor(rows.astype(np.float32)).contiguous()


def random_marks(n: int, length: int, seed: int) -> list[torch.Tensor]:
    """Segments, then which tokens are [CLS], [SEP], punctuation: (n, L) each."""
    draw = np.random.default_rng(seed)
    return [torch.tensor(draw.integers(0, 2, (n, length)).astype(np.float32)) for _ in range(4)]


def by_hand(
    weights: Floats, segments: Floats, cls: Floats, sep: Floats, stop: Floats
) -> dict[str, float]:
    """The measures of one map (L, L), cell by cell, as `sql/schema/index/2-views.sql` words them."""
    length = len(weights)
    sums = dict.fromkeys(NAMES, 0.0)
    for i in range(length):
        for j in range(length):
            w = float(weights[i, j])
            sums["entropy"] -= w * math.log(w) if w > 0 else 0
            sums["self"] += w * (i == j)
            sums["previous"] += w * (j == i - 1)
            sums["next"] += w * (j == i + 1)
            sums["cls"] += w * cls[j]
            sums["sep"] += w * sep[j]
            sums["punctuation"] += w * stop[j]
            sums["same_segment"] += w * (segments[i] == segments[j])
            sums["mean_distance"] += w * abs(i - j)
            sums["first"] += w * (j == 0)
    means = {name: value / length for name, value in sums.items()}
    for name in ("previous", "next"):  # only tokens that have a neighbour count
        means[name] = sums[name] / (length - 1) if length > 1 else math.nan
    for name, tokens in (
        ("cls", cls),
        ("sep", sep),
    ):  # without such a token there is no weight to it
        means[name] = means[name] if tokens.any() else math.nan
    return means | {"max": float(weights.max()), "sink": math.nan}


def assert_as_by_hand(found: Measured, weights: torch.Tensor, marks: list[torch.Tensor]) -> None:
    for n, h in np.ndindex(*weights.shape[:2]):
        one = weights[n, h].double().numpy()
        expected = by_hand(one, *(m[n].numpy() for m in marks))
        for i, name in enumerate(NAMES):
            value = float(found.statistics[n, h, i])
            assert value == pytest.approx(expected[name], rel=2e-5, abs=2e-6, nan_ok=True), name
        assert found.received[n, h].numpy() == pytest.approx(one.mean(0), rel=1e-5, abs=1e-7)
        assert float(found.off[n, h]) == pytest.approx(abs(one.sum(1) - 1).max(), abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 17), st.integers(0, 99))
def test_every_measure_is_what_a_loop_gives(n: int, heads: int, length: int, seed: int) -> None:
    """For any number of inputs, heads and tokens, whichever tokens are special."""
    weights, marks = random_maps(n, heads, length, seed), random_marks(n, length, seed)
    assert_as_by_hand(measure(weights, Marks.of(*marks)), weights, marks)


def test_one_token_has_no_neighbour() -> None:
    """L = 1: previous and next are undefined, everything else is."""
    one, zero = torch.ones((1, 1)), torch.zeros((1, 1))
    found = measure(torch.ones((1, 1, 1, 1)), Marks.of(zero, one, zero, zero)).statistics[0, 0]
    values = dict(zip(NAMES, found.tolist(), strict=True))
    assert math.isnan(values.pop("previous"))
    assert math.isnan(values.pop("next"))
    assert math.isnan(values.pop("sep"))
    assert math.isnan(values.pop("sink"))
    expected = {"self": 1, "cls": 1, "max": 1, "same_segment": 1, "first": 1}
    assert values == {name: expected.get(name, 0) for name in values}


def test_two_tokens_have_one_neighbour_each() -> None:
    """L = 2: previous is the weight below the diagonal, next the one above it."""
    weights = torch.tensor([[[[0.75, 0.25], [0.125, 0.875]]]])
    zero = torch.zeros((1, 2))
    found = measure(weights, Marks.of(torch.tensor([[0.0, 1.0]]), zero, zero, zero)).statistics[
        0, 0
    ]
    values = dict(zip(NAMES, found.tolist(), strict=True))
    assert (values["previous"], values["next"]) == (0.125, 0.25)
    assert values["self"] == values["same_segment"] == 0.8125
    assert values["mean_distance"] == 0.1875


def test_a_single_sentence_without_special_tokens_keeps_all_in_its_segment() -> None:
    """As of GPT-2: no weight to [CLS] or [SEP], not 0, as there are none; all within the one segment."""
    zero = torch.zeros((2, 9))
    found = measure(random_maps(2, 3, 9, seed=1), Marks.of(zero, zero, zero, zero)).statistics
    values = dict(zip(NAMES, found.unbind(-1), strict=True))
    assert values["cls"].isnan().all()
    assert values["sep"].isnan().all()
    assert (values["punctuation"] == 0).all()
    assert torch.allclose(values["same_segment"], torch.ones(()), atol=1e-6)


@pytest.mark.parametrize(("map_", "entropy"), [("uniform", math.log(64)), ("one-hot", 0.0)])
def test_entropy_runs_from_one_token_to_all(map_: str, entropy: float) -> None:
    """0 nats where a row is one weight of 1, ln L where all are equal."""
    weights = torch.full((64, 64), 1 / 64) if map_ == "uniform" else torch.eye(64)
    marks = [torch.zeros((1, 64))] * 4
    found = measure(weights.view(1, 1, 64, 64), Marks.of(*marks)).statistics[
        0, 0, NAMES.index("entropy")
    ]
    assert float(found) == pytest.approx(entropy, abs=1e-5)


def test_attention_sinks_take_what_rows_lack() -> None:
    """`sink` is the mean of 1 - a row's sum, and rows between 0 and 1 are right; others are not."""
    weights, marks = random_maps(1, 2, 5, seed=3), Marks.of(*random_marks(1, 5, seed=3))
    weights[0, 0, 1] *= 0.5
    weights[0, 1, 2] *= 1.25
    found = measure(weights, marks, sinks=True)
    sink = found.statistics[0, :, NAMES.index("sink")]
    assert sink.tolist() == pytest.approx([0.1, -0.05], abs=1e-6)
    assert found.off[0].tolist() == pytest.approx([0, 0.25], abs=1e-6)
    weights[0, 0, 0, 0] = math.nan
    assert not float(measure(weights, marks, sinks=True).off[0, 0]) <= 0.5


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 0.0])
def test_a_row_that_does_not_sum_to_one_shows(wrong: float) -> None:
    """`off` is its distance from 1, and NaN or infinity never look like nothing."""
    weights = random_maps(1, 2, 5, seed=3)
    weights[0, 1, 2] = wrong
    off = measure(weights, Marks.of(*random_marks(1, 5, seed=3))).off
    assert float(off[0, 0]) < 1e-6
    assert not float(off[0, 1]) <= 0.5
