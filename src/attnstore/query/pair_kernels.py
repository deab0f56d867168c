"""Kernels over pairs: weights of tokens that reach a threshold, and spans of words that attend to spans.

As in `kernels`, every function takes `values`, maps laid end to end row by row, and `length`, the number of
tokens of each. Pure arithmetic.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from attnstore.query import kernels
from attnstore.query.kernels import Floats, Ints

Flags = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]


def reaching(
    values: Floats, length: Ints, least: Floats, kept: Flags, to_itself: Flags
) -> tuple[npt.NDArray[np.int32], Doubles]:
    """Count and sum the weights of each map that are `least` or more.

    Args:
        values, length: As above.
        least: Threshold of each map.
        kept: True for tokens that count, all maps' end to end; a weight counts between two of them.
        to_itself: Whether weights of tokens to themselves count, shape (maps,).

    Returns:
        How many there are in each map, and their sum; NaN reaches nothing.
    """
    counts, sums = np.empty(len(length), np.int32), np.empty(len(length))
    starts = np.cumsum(length) - length
    for rows, maps in kernels.stacks(values, length):
        k, n = maps.shape[:2]
        flat = maps.reshape(k, -1)
        at = np.flatnonzero(flat >= least[rows, None])
        owner, cell = np.divmod(at, n * n)
        sending, receiving = np.divmod(cell, n)
        start = starts[rows][owner]
        counted = kept[start + sending] & kept[start + receiving]
        counted &= to_itself[rows][owner] | (sending != receiving)
        counts[rows] = np.bincount(owner[counted], minlength=k)
        sums[rows] = np.bincount(owner[counted], flat.ravel()[at[counted]], k)
    return counts, sums


class Spans:
    """Spans of words, end to end. words: of each; counts: how many each has, 1 or more."""

    def __init__(self, words: Ints, counts: Ints) -> None:
        self.words, self.counts = words, counts
        self.ends = np.concatenate(([0], np.cumsum(counts)))

    def __getitem__(self, rows: slice) -> Spans:
        at = slice(self.ends[rows.start], self.ends[rows.stop])
        return Spans(self.words[at], self.counts[rows])

    def owners(self) -> Ints:
        """Return the number of the span of each word."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


def hits(
    values: Floats, length: Ints, words: tuple[Ints, Ints], pairs: Ints,
    spans: tuple[Spans, Spans], summed: Flags,
) -> npt.NDArray[np.int32]:  # fmt: skip
    """Find the pairs of spans of which the first attends most to the second.

    The attention to a word is the sum over its pieces, from a word the mean over its pieces, from a span the
    mean over its words. The attending span's own words cannot be attended to.

    Args:
        values, length: As above.
        words: The word of each token, all maps' end to end, -1 for tokens to leave out; and the words
            that rows count for: the same, or `word_kernels.first_pieces` of them.
        pairs: How many pairs each map has.
        spans: The attending and the attended span of each pair.
        summed: Of each map: False if the most attended word, of equal ones the first, has to be one of
            the attended span; True if its words together have to get more than any word outside.

    Returns:
        1 for each pair of which it is true, 0 for the others, such as those whose first span gives every word 0.
    """
    found = np.zeros(int(pairs.sum()), np.int32)
    ends, starts = np.concatenate(([0], np.cumsum(pairs))), np.cumsum(length) - length
    of_pairs = np.repeat(np.arange(len(length)), pairs)
    rows_read = np.bincount(of_pairs, spans[0].counts, len(length)).astype(np.int64)
    for stack, maps in kernels.stacks(values, length):
        n = maps.shape[1]
        for part in kernels.pieces(rows_read[stack] * n + 1, kernels.IN_CACHE):
            rows = slice(stack.start + part.start, stack.start + part.stop)
            at = slice(int(ends[rows.start]), int(ends[rows.stop]))
            tokens = slice(starts[rows.start], starts[rows.start] + n * (rows.stop - rows.start))
            if at.start < at.stop:
                owner = of_pairs[at] - rows.start
                of_words = tuple(numbers[tokens].reshape(-1, n) for numbers in words)
                weights = _span_rows(maps[part], of_words, owner, spans[0][at])
                found[at] = _largest_within(weights, spans[1][at], summed[rows][owner])
    return found


def _span_rows(maps: Floats, words: tuple[Ints, ...], owner: Ints, attending: Spans) -> Doubles:
    """Compute the rows of spans in maps of words; -inf for their own words and for words without tokens.

    Args:
        maps: (k, L, L).
        words: As in `hits`, (k, L) each.
        owner: The map of each span.
        attending: The spans.

    Returns:
        One row per span, (spans, words).
    """
    received, senders = words
    k, n = len(maps), int(max(received.max(), attending.words.max())) + 1
    firsts = np.arange(k)[:, None] * n
    places = np.repeat(owner, attending.counts) * n + attending.words
    needed, place = np.unique(places, return_inverse=True)
    number = np.full(k * n, -1)
    number[needed] = np.arange(len(needed))
    row = np.where(senders >= 0, number[firsts + np.maximum(senders, 0)], -1)
    of_map, position = np.nonzero(row >= 0)
    target = row[of_map, position]
    cells = target[:, None] * (n + 1) + received[of_map] + 1  # 0 takes what is left out
    sums = np.bincount(cells.ravel(), maps[of_map, position].ravel(), len(needed) * (n + 1))
    sent = np.bincount(target, minlength=len(needed))
    with np.errstate(invalid="ignore"):
        means = sums.reshape(-1, n + 1)[:, 1:] / sent[:, None]
    rows: Doubles = np.add.reduceat(means[place], attending.ends[:-1]) / attending.counts[:, None]
    lacking = np.ones((k, n), bool)
    of_map, position = np.nonzero(received >= 0)
    lacking[of_map, received[of_map, position]] = False
    rows[lacking[owner]] = -np.inf
    rows[attending.owners(), attending.words] = -np.inf
    return rows


def _largest_within(weights: Doubles, attended: Spans, summed: Flags) -> Flags:
    """Compare the words of spans with all others.

    Args:
        weights: Attention to each word, (spans, words); -inf where there is none.
        attended: The spans.
        summed: As in `hits`, of each span.
    """
    inside = np.zeros(weights.shape, bool)
    inside[attended.owners(), attended.words] = True
    within, others = np.where(inside, weights, -np.inf), np.where(inside, -np.inf, weights)
    first, second = within.argmax(axis=1), others.argmax(axis=1)
    at = np.arange(len(weights))
    most, rest = within[at, first], others[at, second]
    if summed.any():
        most = np.where(summed, np.where(within > -np.inf, within, 0).sum(axis=1), most)
    first_of_equal = ~summed & (most == rest) & (first < second) & (most > -np.inf)
    attends = ((weights != 0) & (weights > -np.inf)).any(axis=1)
    return np.asarray(attends & (first_of_equal | (most > rest)))
