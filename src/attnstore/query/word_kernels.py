"""Kernels at the level of words: the attention to a word is the sum over its pieces, from a word their mean.

Clark et al. 2019, section 4.1. Words are given as one number per token, from 0, -1 for tokens to leave
out. Every function takes `values`, maps laid end to end row by row, `length`, the number of tokens of
each, and `words`, all maps' tokens end to end. Pure arithmetic, as in `kernels`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from attnstore.query import arborescences, kernels
from attnstore.query.kernels import Floats, Ints

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def sizes(length: Ints, words: Ints) -> Ints:
    """Return how many words each map has: its largest number and one."""
    counts: Ints = np.maximum.reduceat(words, np.cumsum(length) - length) + 1
    return counts


def first_pieces(length: Ints, words: Ints) -> Ints:
    """Return the words with -1 for every piece but the first of its word."""
    owner = np.repeat(np.arange(len(length)), length)
    _, first = np.unique(owner * (words.max(initial=0) + 2) + words, return_index=True)
    kept = np.full_like(words, -1)
    kept[first] = words[first]
    return kept


def units(length: Ints, words: Ints) -> Ints:
    """Number the words of each input anew, from 0; a token of no word (-1) becomes one of its own."""
    starts = np.cumsum(length) - length
    begins = words < 0
    begins[1:] |= words[1:] != words[:-1]
    begins[starts] = True
    count = np.cumsum(begins)
    numbers: Ints = count - np.repeat(count[starts], length)
    return numbers


def argmax(
    values: Floats, length: Ints, words: Ints, senders: Ints, to_itself: Flags
) -> tuple[npt.NDArray[np.int32], Flags]:
    """Find the word that each word attends to most, the first of equal ones.

    Args:
        values, length, words: As above.
        senders: The words that rows count for: `words`, or `first_pieces` of them.
        to_itself: Whether a word of the map may be its own, shape (maps,).

    Returns:
        One word per word, all maps' end to end, and True where there is none: the word has no token,
        no other word has one, it gives all of them 0, or its weights are no numbers.
    """
    found, missing = [], []
    for part in _word_maps(values, length, words, senders):
        weights = np.where(part.received[:, None, :] > 0, part.sums, -np.inf)
        others = np.flatnonzero(~to_itself[part.rows])
        diagonal = np.arange(weights.shape[1])
        weights[others[:, None], diagonal, diagonal] = -np.inf
        best = weights.argmax(axis=2)
        largest = np.take_along_axis(weights, best[:, :, None], axis=2)[:, :, 0]
        found.append(best[part.within])
        attends = ((weights != 0) & (weights > -np.inf)).any(axis=2)
        missing.append(((part.sent == 0) | ~attends | np.isnan(largest))[part.within])
    return np.concatenate(found).astype(np.int32), np.concatenate(missing)


def maps(values: Floats, length: Ints, words: Ints, senders: Ints) -> Floats:
    """Compute the maps of words, n² weights each, row by row, end to end.

    Args:
        values, length, words: As above.
        senders: As in `argmax`.
    """
    parts = []
    for part in _word_maps(values, length, words, senders):
        means = part.sums / np.maximum(part.sent, 1)[:, :, None]
        parts.append(means[part.within[:, :, None] & part.within[:, None, :]])
    return np.concatenate(parts).astype(np.float32)


def trees(
    values: Floats, length: Ints, words: Ints, senders: Ints, root: Ints, heads_attend: Flags
) -> tuple[npt.NDArray[np.int32], Flags]:
    """Find the head of each word in the maximum spanning arborescence of each map of words.

    Args:
        values, length, words: As above.
        senders: As in `argmax`.
        root: The word that has no head, shape (maps,); -1 for whichever gives the largest sum.
        heads_attend: True if an edge has the weight from head to dependent, False for the other.

    Returns:
        One word per word, all maps' end to end, and True where there is none: for the root, for a word
        without a token, and for all words of a map whose weights are no numbers.
    """
    found, missing = [], []
    for part in _word_maps(values, length, words, senders):
        means = part.sums / np.maximum(part.sent, 1)[:, :, None]
        broken = np.asarray(np.isnan(means).any(axis=(1, 2)))
        means[broken] = 0
        from_heads = np.where(heads_attend[part.rows, None, None], means, means.swapaxes(1, 2))
        heads = arborescences.heads(from_heads, root[part.rows], part.sent > 0)
        found.append(heads[part.within])
        missing.append(((heads < 0) | broken[:, None])[part.within])
    return np.concatenate(found).astype(np.int32), np.concatenate(missing)


def rows(values: Floats, length: Ints, pieces: Ints, words: Ints) -> Floats:
    """Compute one row of a map of words from the rows of its pieces: their mean, summed over words.

    Args:
        values: The rows of the pieces, end to end.
        length: Tokens of each row's map.
        pieces: How many rows each word has.
        words: As above, for each of the words.
    """
    counts = sizes(length, words)
    tokens, ends = np.cumsum(length) - length, np.cumsum(counts + 1) - counts
    lengths = np.repeat(length, pieces)
    shift = np.repeat(tokens, pieces) - (np.cumsum(lengths) - lengths)
    target = words[np.arange(len(values)) + np.repeat(shift, lengths)]
    target += np.repeat(
        np.repeat(ends, pieces), lengths
    )  # a slot before each row takes what is left out
    sums = np.bincount(target, values, int((counts + 1).sum()))
    kept = np.ones(len(sums), bool)
    kept[ends - 1] = False
    return (sums[kept] / np.repeat(pieces, counts)).astype(np.float32)


class _Part(NamedTuple):
    """Maps of words, k of them, of up to n words.

    Attributes:
        rows: Which maps of the batch they are.
        sums: Weights summed over the pieces of both words, (k, n, n).
        sent, received: Tokens of each word as row and as column, (k, n).
        within: True for the words that a map has, (k, n).
    """

    rows: slice
    sums: Doubles
    sent: Ints
    received: Ints
    within: Flags


def _word_maps(values: Floats, length: Ints, words: Ints, senders: Ints) -> Iterator[_Part]:
    """Sum maps over the pieces of words, few maps at a time."""
    token, counts = np.concatenate(([0], np.cumsum(length))), sizes(length, words)
    for stack, weights in kernels.stacks(values, length):
        tokens = weights.shape[1]
        step = max(1, kernels.IN_CACHE // tokens**2)
        for start in range(stack.start, stack.stop, step):
            rows = slice(start, min(start + step, stack.stop))
            at, k = slice(token[rows.start], token[rows.stop]), rows.stop - rows.start
            n = max(1, int(counts[rows].max()))
            sending, receiving = (x[at].reshape(k, tokens) + 1 for x in (senders, words))
            here = weights[start - stack.start : rows.stop - stack.start]
            yield _Part(
                rows,
                _summed(here, sending, receiving, n + 1),
                _tallied(sending, n + 1),
                _tallied(receiving, n + 1),
                np.arange(n) < counts[rows, None],
            )


def _summed(weights: Floats, sending: Ints, receiving: Ints, n: int) -> Doubles:
    """Sum maps (k, tokens, tokens) over tokens with one number of n; number 0 is left out."""
    k = len(weights)
    target = ((np.arange(k)[:, None] * n + sending) * n)[:, :, None] + receiving[:, None, :]
    sums = np.bincount(target.ravel(), weights.ravel(), k * n * n)
    return np.asarray(sums, np.float64).reshape(k, n, n)[:, 1:, 1:]


def _tallied(numbers: Ints, n: int) -> Ints:
    """Count how often each of n numbers occurs in each row (k, tokens); number 0 is left out."""
    k = len(numbers)
    tally = np.bincount((np.arange(k)[:, None] * n + numbers).ravel(), minlength=k * n)
    return tally.reshape(k, n)[:, 1:]
