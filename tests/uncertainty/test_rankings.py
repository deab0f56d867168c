"""Rank correlations of many lists at once, against scipy one list at a time."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from attnstore.uncertainty import rankings

VALUES = st.sampled_from([-2.0, -0.5, 0.0, 1e-9, 0.5, 1.0, 3.0, float("nan")])
LISTS = st.lists(st.lists(st.tuples(VALUES, VALUES), max_size=9), max_size=8)
MEASURES = [
    (rankings.kendall, scipy.stats.kendalltau),
    (rankings.spearman, scipy.stats.spearmanr),
]


def flat(lists: list[list[tuple[float, float]]]) -> tuple[np.ndarray, np.ndarray, list[int]]:
    pairs = np.array([pair for each in lists for pair in each], np.float64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1], [len(each) for each in lists]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("ours", "scipys"), MEASURES)
@given(lists=LISTS)
def test_coefficients_are_those_of_scipy(ours, scipys, lists) -> None:  # type: ignore[no-untyped-def]
    """With ties; without the pairs that hold a NaN; NaN where a side is constant or one pair is left."""
    found = ours(*flat(lists))
    assert len(found) == len(lists)
    for each, coefficient in zip(lists, found, strict=True):
        known = np.array([pair for pair in each if not np.isnan(pair).any()]).reshape(-1, 2)
        wanted = scipys(known[:, 0], known[:, 1])[0] if len(known) > 1 else np.nan
        np.testing.assert_allclose(coefficient, wanted, atol=1e-12)


@pytest.mark.parametrize(("ours", "scipys"), MEASURES)
def test_many_lists_are_computed_a_part_at_a_time(ours, scipys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """The parts of memory change nothing."""
    draw = np.random.default_rng(0)
    counts = draw.integers(0, 40, 60)
    x, y = (np.round(draw.normal(size=counts.sum()), 1) for _ in range(2))
    whole = ours(x, y, counts)
    monkeypatch.setattr(rankings, "_CELLS", 1)
    assert np.array_equal(ours(x, y, counts), whole, equal_nan=True)
    ends = np.cumsum(counts)
    longest = int(counts.argmax())
    at = slice(ends[longest] - counts[longest], ends[longest])
    assert whole[longest] == pytest.approx(scipys(x[at], y[at])[0])
