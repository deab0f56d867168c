"""Kernels over some of the tokens of maps: the largest weight of each row, and what tokens send and receive.

Every function takes `values`, maps laid end to end row by row, `length`, the number of tokens of each, and
marks, 1 or 0 per token, all maps' end to end. Pure arithmetic, as in `kernels`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from attnstore.query import kernels
from attnstore.query.kernels import Floats, Ints

Marks = npt.NDArray[np.bool_]


class Best(NamedTuple):
    """The largest weight of each row among the marked columns, all maps' rows end to end.

    Attributes:
        place: Its position, of equal ones the first; -1 where all of them are 0.
        weight: The weight.
        total: The sum of the row's weights to the marked columns.

    A row that is not marked, or has no numbers or no marked column, has -1, NaN and NaN.
    """

    place: npt.NDArray[np.int32]
    weight: Floats
    total: Floats


class Within(NamedTuple):
    """What the marked tokens of maps give each other.

    Attributes:
        sent, received: Sum of each token's row and of its column over the marked tokens, all maps' end
            to end; 0 for a token that is not marked, NaN throughout a map whose weights are no numbers.
        distance: Per map the sum of the weights times |from - to|, in tokens; NaN as these.
    """

    sent: Floats
    received: Floats
    distance: npt.NDArray[np.float64]


def best(values: Floats, length: Ints, rows: Marks, columns: Marks) -> Best:
    """Find the largest weight of each marked row among the marked columns."""
    parts = []
    for maps, sending, receiving in _stacks(values, length, rows, columns):
        weights = np.where(receiving[:, None, :], maps, np.float32(-1))
        place = weights.argmax(axis=2)
        largest = np.take_along_axis(weights, place[:, :, None], axis=2)[:, :, 0]
        total = np.matvec(maps, receiving.astype(np.float32))
        known = sending & (largest >= 0)
        parts.append(
            (
                np.where(known & (largest > 0), place, -1),
                np.where(known, largest, np.nan),
                total,
                known,
            )
        )
    place, weight, total, known = (
        np.concatenate([x.ravel() for x in column]) for column in zip(*parts, strict=True)
    )
    total[~known] = np.nan
    return Best(place.astype(np.int32), weight.astype(np.float32), total)


def within(values: Floats, length: Ints, tokens: Marks, shares: Marks) -> Within:
    """Sum the weights among the marked tokens of each map, by row, by column and by distance.

    Args:
        values, length: As above.
        tokens: The marks.
        shares: True for a map whose rows are divided by their sums over the marked tokens first; a row
            whose sum is 0 stays.
    """
    sent, received, distance = [], [], []
    start = 0
    for maps, marked, _ in _stacks(values, length, tokens, tokens):
        k, n = marked.shape
        kept = marked.astype(np.float32)
        rows = np.matvec(maps, kept) * kept
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where(shares[start : start + k, None] & (rows != 0), kept / rows, kept)
        columns = np.vecmat(scale, maps) * kept
        apart = np.abs(np.subtract.outer(np.arange(n), np.arange(n))).astype(np.float32)
        far = np.matvec(maps * apart, kept)
        distance.append((far.astype(np.float64) * scale).sum(axis=1))
        sent.append((rows * np.where(kept > 0, scale, 0)).ravel())
        received.append(columns.ravel())
        start += k
    return Within(
        np.concatenate(sent).astype(np.float32),
        np.concatenate(received).astype(np.float32),
        np.concatenate(distance),
    )


def even(length: Ints, tokens: Marks, looks_back: Marks) -> Floats:
    """Make maps of even attention: each row gives every marked token the same, or each up to itself.

    Args:
        length: As above.
        tokens: The marks.
        looks_back: True for a map whose tokens attend to themselves and those before.

    Returns:
        Weights, end to end; a row that can attend to no marked token is 0 throughout.
    """
    parts, start = [], 0
    for n, back in zip(length.tolist(), looks_back.tolist(), strict=True):
        allowed = np.broadcast_to(tokens[start : start + n], (n, n)).astype(np.float32)
        allowed = np.tril(allowed) if back else allowed
        parts.append((allowed / np.maximum(allowed.sum(axis=1, keepdims=True), 1)).ravel())
        start += n
    return np.concatenate(parts).astype(np.float32)


def _stacks(
    values: Floats, length: Ints, rows: Marks, columns: Marks
) -> Iterator[tuple[Floats, Marks, Marks]]:
    """Yield neighboring maps of one length as (k, L, L) with their marks (k, L), few at a time."""
    token = np.cumsum(length) - length
    for stack, maps in kernels.stacks(values, length):
        n = maps.shape[1]
        step = max(1, kernels.IN_CACHE // n**2)
        for start in range(0, len(maps), step):
            part = maps[start : start + step]
            first = token[stack.start + start]
            at = slice(first, first + len(part) * n)
            yield part, rows[at].reshape(-1, n), columns[at].reshape(-1, n)
