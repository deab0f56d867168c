"""Ensembles of heads that find the words of dependencies: greedy choice over the mean of their maps of words.

Limisiewicz et al. 2020, "Universal Dependencies according to BERT: both more specific and more general". Pure
arithmetic over maps of words that `ensemble_functions` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from attnstore.query.kernels import Floats, Ints

Flags = npt.NDArray[np.bool_]


class Links(NamedTuple):
    """Links between words, one number each, (links,).

    Attributes:
        input: Which input it is of, from 0.
        attending, attended: Its two words, from 0.
        item: What it is a link of, such as a relation in one direction.
        half: 0 or 1, the part of the inputs that it belongs to.
    """

    input: Ints
    attending: Ints
    attended: Ints
    item: Ints
    half: Ints

    def at(self, rows: Ints) -> Links:
        """Return some of the links."""
        return Links(*(column[rows] for column in self))


class Rows(NamedTuple):
    """The rows of maps that links are about, for m links.

    Attributes:
        cells: The cells of other words than the attended, those before it and those after it, end to end; each of
            the 2m stretches begins with a cell of -inf, so that none is empty.
        starts: Where each stretch begins, (2m,).
        attended: The cell of the attended word, (m,).
    """

    cells: Ints
    starts: Ints
    attended: Ints


def rows_of(links: Links, n_words: Ints, begins: Ints, to_itself: bool) -> Rows:
    """Find the cells of the rows of links.

    Args:
        links: The links, k of them.
        n_words: Words of each input.
        begins: Where the n² cells of each input begin; the cell behind the last holds -inf.
        to_itself: Whether a word may attend most to itself.
    """
    last = int(begins[-1] + n_words[-1] ** 2) if len(begins) else 0
    n = n_words[links.input]
    row = begins[links.input] + links.attending * n
    size = n + 2
    slots = np.cumsum(size) - size
    within = np.arange(int(size.sum())) - np.repeat(slots, size)
    column = within - 1 - (within > np.repeat(links.attended, size) + 1)
    cells = np.repeat(row, size) + column
    cells[slots] = last
    cells[slots + links.attended + 1] = last
    cells[slots + links.attended + 2] = last
    if not to_itself:
        own = links.attending + 1 + (links.attending > links.attended)
        cells[slots + own] = last
    starts = np.stack((slots, slots + links.attended + 1), axis=1).ravel()
    return Rows(cells, starts, row + links.attended)


def hits(maps: Floats, heads: Sequence[int], rows: Rows) -> Flags:
    """Return True for each link whose attending word attends most to the attended, of equal words the first.

    A word that gives all others 0 attends to none.

    Args:
        maps: Maps of words by head, (heads, cells).
        heads: Which heads' mean is asked.
        rows: The rows of the links.
    """
    others = reduce(np.add, (maps[head][rows.cells] for head in heads))
    weight = reduce(np.add, (maps[head][rows.attended] for head in heads))
    return _right(others, weight, rows.starts)


def greedy(maps: Floats, candidates: Sequence[int], rows: Rows, most: int) -> list[int]:
    """Choose the heads whose mean map has most links right.

    A candidate is added if that makes more links right; once there are `most`, it takes the place of the head
    where that makes most links right, if they are more than before.

    Args:
        maps: Maps of words by head, (heads, cells).
        candidates: Heads, the best first, which is always chosen.
        rows: The rows of the links.
        most: Largest number of heads.
    """
    others = [maps[head][rows.cells] for head in candidates]
    weights = [maps[head][rows.attended] for head in candidates]
    chosen: list[int] = []
    best = -1
    for candidate in range(len(candidates)):
        if len(chosen) < most:
            trials = [[*chosen, candidate]]
        else:
            trials = [[*chosen[:k], candidate, *chosen[k + 1 :]] for k in range(most)]
        for trial in trials:
            row, weight = (reduce(np.add, (part[k] for k in trial)) for part in (others, weights))
            right = int(_right(row, weight, rows.starts).sum())
            if right > best:
                best, chosen = right, trial
    return [candidates[k] for k in chosen]


def _right(others: Floats, weight: Floats, starts: Ints) -> Flags:
    most = np.maximum.reduceat(others, starts).reshape(-1, 2) if len(starts) else np.empty((0, 2))
    right: Flags = (most[:, 0] < weight) & (most[:, 1] <= weight)
    if (right & (weight == 0)).any():
        some = np.logical_or.reduceat((others != 0) & (others > -np.inf), starts).reshape(-1, 2)
        right &= (weight != 0) | some.any(axis=1)
    return right


def divided(maps: Floats, n_words: Ints) -> Floats:
    """Divide the rows of maps of words, end to end, by their sums; a row without any weight stays as it is."""
    sizes = np.repeat(n_words, n_words)
    sums = np.add.reduceat(maps, np.cumsum(sizes) - sizes)
    shares: Floats = maps / np.repeat(np.where(sums == 0, np.float32(1), sums), sizes)
    return shares
