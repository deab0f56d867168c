"""A permutation test of whether things of one label lie closer together than those of different labels.

Under the null hypothesis a label says nothing about where its things lie, so labels could be shuffled over
them. The statistic is the mean distance between labels less that within (Mantel 1967; Clarke 1993 with ranks).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from attnstore.uncertainty.permutations import PERMUTATIONS, SEED

Doubles = npt.NDArray[np.float64]
_AT_ONCE = 500
"""Shuffles that are counted together."""


class LabelTests(NamedTuple):
    """Distances within and between labels. Arrays: one entry per label in order, then one over all.

    Attributes:
        within: Mean distance of two things of the label; NaN for a label of one thing.
        between: Mean distance of a thing of the label and one of another; NaN where there is no other.
        p: Two-sided p-value that within and between differ as much by chance.
    """

    within: Doubles
    between: Doubles
    p: Doubles


def label_tests(distances: Doubles, labels: npt.NDArray[np.int64]) -> LabelTests:
    """Test whether things of one label lie closer together than by chance.

    Args:
        distances: Symmetric, (n, n), 0 on the diagonal.
        labels: The label of each thing, (n,).
    """
    numbers = np.unique(labels, return_inverse=True)[1]
    sizes = np.bincount(numbers).astype(np.float64)
    within, between = _means(distances, numbers[None], sizes)
    measured = (between - within)[0]
    least = np.abs(measured) * (1 - 1e-9)  # sums in another order differ in their last digits
    draws, larger = np.random.default_rng(SEED), np.zeros(len(measured))
    for start in range(0, PERMUTATIONS, _AT_ONCE):
        count = min(_AT_ONCE, PERMUTATIONS - start)
        shuffled = draws.permuted(np.tile(numbers, (count, 1)), axis=1)
        within_drawn, between_drawn = _means(distances, shuffled, sizes)
        larger += (np.abs(between_drawn - within_drawn) >= least).sum(axis=0)
    p = np.where(np.isnan(measured), np.nan, (larger + 1) / (PERMUTATIONS + 1))
    return LabelTests(within[0], between[0], p)


def _means(
    distances: Doubles, numbers: npt.NDArray[np.int64], sizes: Doubles
) -> tuple[Doubles, Doubles]:
    """Give the mean distances within and between labels of several labelings.

    Args:
        distances: (n, n).
        numbers: The labels, (labelings, n), counted from 0.
        sizes: How many things each label has.

    Returns:
        Two of (labelings, labels + 1): the last column is that over all pairs.
    """
    of_label = (numbers[:, :, None] == np.arange(len(sizes))).astype(np.float64)
    inside = (of_label * (distances @ of_label)).sum(axis=1)  # each pair twice
    outside = distances.sum(axis=1) @ of_label - inside
    pairs_inside, pairs_outside = sizes * (sizes - 1), sizes * (sizes.sum() - sizes)
    sums = [np.column_stack((x, x.sum(axis=1))) for x in (inside, outside)]
    counts = [np.append(x, x.sum()) for x in (pairs_inside, pairs_outside)]
    with np.errstate(invalid="ignore"):
        return sums[0] / counts[0], sums[1] / counts[1]
