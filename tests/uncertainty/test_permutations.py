"""The permutation test against all exchanges, one by one, and its error rate under the null hypothesis."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from attnstore import permutation_p
from attnstore.uncertainty.permutations import permutation_p_values


def _gain(row: list[float], first: int) -> float:
    """One score less the mean of the others of its input."""
    return row[first] - float(np.mean(np.delete(row, first)))


def _exact(rows: list[list[float]]) -> float:
    """The share of all exchanges whose gain is at least as far from 0 as the measured one."""
    measured = abs(sum(_gain(row, 0) for row in rows))
    sums = [
        abs(sum(_gain(row, i) for row, i in zip(rows, choice, strict=True)))
        for choice in itertools.product(*(range(len(row)) for row in rows))
    ]
    return float(np.mean([s >= measured * (1 - 1e-9) for s in sums]))


@pytest.mark.parametrize("shift", [0.0, 0.4, -0.8])
def test_p_is_the_share_of_exchanges_with_as_large_a_gain(shift: float) -> None:
    """Every score of an input can be the measured one; inputs differ in how many they have."""
    draws = np.random.default_rng(1)
    rows = [draws.random(size).tolist() for size in (2, 3, 4, 3, 5, 2)]
    for row in rows:
        row[0] += shift
    assert permutation_p(rows) == pytest.approx(_exact(rows), abs=0.015)


def test_an_input_without_a_replacement_changes_nothing() -> None:
    """It cannot be exchanged; inputs that all lack one have no p-value."""
    assert permutation_p([[0.9, 0.1], [0.3, 0.2, 0.1]]) == permutation_p(
        [[0.9, 0.1], [5.0], [0.3, 0.2, 0.1]]
    )
    assert permutation_p([[0.9], [0.1]]) is None
    assert permutation_p([]) is None


def test_five_in_a_hundred_measures_without_an_effect_are_significant() -> None:
    """Scores of one distribution: p is at most 0.05 about as often as it says."""
    sizes = (3,) * 12
    scores = np.random.default_rng(2).exponential(size=(600, sum(sizes)))
    rate = np.mean(permutation_p_values(sizes, scores) <= 0.05)
    assert 0.025 <= rate <= 0.08


def test_a_measure_with_nan_has_no_p_value() -> None:
    """No exchange is as large as NaN, which is no significance."""
    values = np.array([[0.9, 0.1, 0.8, 0.2], [np.nan, np.nan, 0.8, 0.2]])
    assert np.isnan(permutation_p_values((2, 2), values)).tolist() == [False, True]
