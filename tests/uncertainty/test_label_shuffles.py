"""The test of labels against every way to give them, and its error rate where labels say nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from attnstore.uncertainty.label_shuffles import label_tests


def _gap(distances: np.ndarray, labels: np.ndarray) -> float:
    """Mean distance between labels less that within."""
    pairs = np.triu_indices(len(labels), 1)
    equal = (labels[:, None] == labels)[pairs]
    return float(distances[pairs][~equal].mean() - distances[pairs][equal].mean())


@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_p_is_the_share_of_all_labelings_that_reach_the_gap(apart: float) -> None:
    """Of 7 things with labels of 3 and 4, as often as there are ways."""
    labels = np.array([0, 1, 0, 1, 1, 0, 1])
    points = np.random.default_rng(3).normal(size=(7, 2)) + apart * labels[:, None]
    distances = squareform(pdist(points))
    gaps = [_gap(distances, np.array(order)) for order in set(itertools.permutations(labels))]
    measured = _gap(distances, labels)
    share = np.mean(np.abs(gaps) >= abs(measured) - 1e-12)
    tests = label_tests(distances, labels)
    assert tests.between[-1] - tests.within[-1] == pytest.approx(measured)
    assert tests.p[-1] == pytest.approx(share, abs=0.015)


def test_labels_that_say_nothing_are_seldom_significant() -> None:
    """In about one of twenty draws p is below 0.05, for each label and for all together."""
    draw, labels = np.random.default_rng(0), np.repeat(np.arange(3), 6)
    found = np.array(
        [label_tests(squareform(pdist(draw.normal(size=(18, 2)))), labels).p for _ in range(60)]
    )
    assert ((found < 0.05).mean(axis=0) <= 0.15).all()
    assert 0.35 < found.mean() < 0.65


def test_a_label_of_one_thing_has_no_test() -> None:
    """Nor have labels that are all the same; the others have theirs."""
    distances = squareform(pdist(np.random.default_rng(1).normal(size=(5, 2))))
    tests = label_tests(distances, np.array([4, 4, 7, 9, 9]))
    assert np.isnan(tests.p).tolist() == [False, True, False, False]
    assert np.isnan(label_tests(distances, np.zeros(5, np.int64)).p).all()
