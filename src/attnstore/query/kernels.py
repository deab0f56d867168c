"""Kernels that reduce attention maps to numbers, so that no map has to leave numpy.

Every function takes `values`, maps laid end to end row by row, and `length`, the number of tokens
of each. Pure arithmetic; `functions` chooses the maps and reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from attnstore.storage.layout import stretches

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

IN_CACHE = 1 << 17
"""Cells per step of an operation with many passes, so that they stay in a core's cache."""
_TINY = np.float32(1e-37)
CONSTANT = np.float32(1e-10)
"""Variance of a map's weights, as a share of their mean square, from which on it is rounding."""


def pieces(cells: Ints, limit: int) -> Iterator[slice]:
    """Cut maps of the given sizes into runs of at most `limit` cells, and at least one map."""
    ends, start = np.cumsum(cells), 0
    while start < len(cells):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + limit, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


def pick(values: Floats, length: Ints, counts: Ints, from_pos: Ints, to_pos: Ints) -> Floats:
    """Pick single weights: `counts` of each map, from row `from_pos` to column `to_pos`."""
    base = np.repeat(np.cumsum(length**2) - length**2, counts)
    weights: Floats = values[base + from_pos * np.repeat(length, counts) + to_pos]
    return weights


def between(values: Floats, length: Ints, from_share: Floats, to_share: Floats) -> Floats:
    """Compute per map the sum over i and j of from_share[i] * weight(i, j) * to_share[j].

    from_share, to_share: one number per token, all maps' tokens end to end.
    """
    out = np.empty(len(length), np.float32)
    token = np.concatenate(([0], np.cumsum(length)))
    for rows, maps in stacks(values, length):
        k, n = maps.shape[:2]
        at = slice(token[rows.start], token[rows.start] + k * n)
        sent = np.matvec(maps, to_share[at].reshape(k, n))
        out[rows] = np.vecdot(sent, from_share[at].reshape(k, n))
    return out


def column_means(values: Floats, length: Ints) -> Floats:
    """Compute the mean of each column; all maps' columns end to end."""
    columns = [maps.mean(axis=1).ravel() for _, maps in stacks(values, length)]
    return np.concatenate(columns)


def move(maps: Floats, norms: Floats, shares: bool) -> None:
    """Multiply weights by the norms of the tokens they go to, in place.

    Args:
        maps: (k, rows, L), rows of weights.
        norms: (k, L).
        shares: Divide each row by its sum, which is NaN where all of it is 0.
    """
    step = max(1, IN_CACHE // max(maps[0].size, 1)) if len(maps) else 1
    for start in range(0, len(maps), step):
        part, lengths = maps[start : start + step], norms[start : start + step]
        sums = (
            np.matvec(part, lengths) if shares else None
        )  # in half the time of summing rows later
        part *= lengths[:, None]
        if sums is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                part *= (1 / sums)[:, :, None]


def row_max(values: Floats, length: Ints) -> Floats:
    """Find the largest weight of each from-token; all maps' rows end to end."""
    rows = [maps.max(axis=2).ravel() for _, maps in stacks(values, length)]
    return np.concatenate(rows)


def row_argmax(values: Floats, length: Ints) -> npt.NDArray[np.int32]:
    """Find the position that each from-token attends to most, the first of equal ones; -1 in a row of NaN."""
    rows = []
    for _, maps in stacks(values, length):
        best = maps.argmax(axis=2)
        largest = np.take_along_axis(maps, best[:, :, None], axis=2)[:, :, 0]
        rows.append(np.where(np.isnan(largest), -1, best).ravel())
    return np.concatenate(rows).astype(np.int32)


def count_above(values: Floats, length: Ints, threshold: Floats) -> npt.NDArray[np.int32]:
    """Count per map the weights above its threshold."""
    out = np.empty(len(length), np.int32)
    for rows, maps in stacks(values, length):
        flat = maps.reshape(len(maps), -1)
        out[rows] = np.count_nonzero(flat > threshold[rows, None], axis=1)
    return out


def columns(values: Floats, length: Ints, first: Ints, below: npt.NDArray[np.bool_]) -> Floats:
    """Compute the mean weight that each of the first tokens of a map receives from these tokens.

    first: how many tokens count; below: True for the mean over the rows from the token's own on (Gu et
    al. 2025), False for the mean over all of them. Returns `first` numbers of each map, end to end.
    """
    means = []
    for rows, maps in stacks(values, length):
        for weights, n, own_on in zip(maps, first[rows].tolist(), below[rows], strict=True):
            part = weights[:n, :n]
            means.append(
                np.tril(part).sum(axis=0) / np.arange(n, 0, -1) if own_on else part.mean(axis=0)
            )
    return np.concatenate(means).astype(np.float32)


def top_k(values: Floats, length: Ints, k: Ints) -> tuple[Ints, Floats, Ints]:
    """Find the k largest weights of each map, the largest first, of equal ones the first cell first.

    Returns:
        Their cells (from * L + to) and weights, end to end, and how many each map has: k, or L² if
        it has fewer.
    """
    counts, cells, weights = np.minimum(k, length**2), [], []
    for rows, maps in stacks(values, length):
        for flat, count in zip(maps.reshape(len(maps), -1), counts[rows].tolist(), strict=True):
            best = _largest(flat, count)
            cells.append(best)
            weights.append(flat[best])
    return np.concatenate(cells), np.concatenate(weights), counts


def _largest(flat: Floats, count: int) -> Ints:
    """Return the indices of the `count` largest numbers, by size, then by index; NaN comes last."""
    if count == 0:
        return np.empty(0, np.int64)
    largest = np.partition(flat, len(flat) - count)[len(flat) - count :]
    if np.isnan(largest).any():  # they count as the largest there
        flat = np.where(np.isnan(flat), np.float32(-np.inf), flat)
        largest = np.partition(flat, len(flat) - count)[len(flat) - count :]
    least = largest[0]
    above = np.flatnonzero(flat > least)
    equal = np.flatnonzero(flat == least)[: count - len(above)]
    return np.concatenate((above[np.argsort(-flat[above], kind="stable")], equal))


def cosine(values: Floats, others: Floats, length: Ints) -> Floats:
    """Compute per map the cosine between its flattened weights and those of the other map."""
    out = np.empty(len(length), np.float32)
    for (rows, maps), (_, other_maps) in zip(
        stacks(values, length), stacks(others, length), strict=True
    ):
        a, b = (x.reshape(len(x), -1) for x in (maps, other_maps))
        out[rows] = np.vecdot(a, b) / np.sqrt(np.vecdot(a, a) * np.vecdot(b, b))
    return np.minimum(out, np.float32(1))


def jensen_shannon(values: Floats, others: Floats, length: Ints) -> Floats:
    """Compute per map the mean over from-tokens of the Jensen-Shannon distance between the two rows.

    The distance is the root of the divergence to base 2: 0 for equal rows, 1 for disjoint ones.
    """
    out = np.empty(len(length), np.float32)
    for (rows, maps), (_, other_maps) in zip(
        stacks(values, length), stacks(others, length), strict=True
    ):
        step = max(1, IN_CACHE // maps[0].size)
        for at in range(0, len(maps), step):
            distance = _distance(maps[at : at + step], other_maps[at : at + step])
            out[rows.start + at : rows.start + at + len(distance)] = distance
    return out


def compare_pairs(maps: Floats, one: Ints, other: Ints) -> tuple[Floats, Floats, Floats]:
    """Compare pairs of maps of one input.

    Args:
        maps: (n, L, L).
        one, other: Which of the maps each pair is.

    Returns:
        Per pair the cosine, the mean Jensen-Shannon distance over from-tokens, and Pearson's
        correlation of the flattened weights: NaN where all weights of a map are equal.
    """
    flat = maps.reshape(len(maps), -1)
    products = flat @ flat.T
    squares = np.diag(products)
    cosines = products[one, other] / np.sqrt(squares[one] * squares[other])
    centered = flat - flat.mean(axis=1, keepdims=True)
    products = centered @ centered.T
    variances = np.where(np.diag(products) > CONSTANT * squares, np.diag(products), np.nan)
    pearson = products[one, other] / np.sqrt(variances[one] * variances[other])
    distances, step = np.empty(len(one), np.float32), max(1, IN_CACHE // maps[0].size)
    for start in range(0, len(one), step):
        at = slice(start, start + step)
        distances[at] = _distance(maps[one[at]], maps[other[at]])
    return np.minimum(cosines, np.float32(1)), distances, np.clip(pearson, -1, 1)


def rollout(layers: Iterable[npt.NDArray[np.float64]]) -> Iterator[npt.NDArray[np.float64]]:
    """Give attention rollout up to each layer (Abnar and Zuidema 2020, section 3).

    Half of what reaches a token comes through attention, half through the residual connection:
    A = (W + I) / 2, and rollout is the product of A over the layers so far. Its rows sum to 1.

    Args:
        layers: The mean map over heads of each layer, (L, L).
    """
    product = None
    for weights in layers:
        mixed = (weights + np.eye(len(weights))) / 2
        product = mixed if product is None else mixed @ product
        yield product


def _distance(maps: Floats, others: Floats) -> Floats:
    """Compute per map the mean over from-tokens of the Jensen-Shannon distance between the two rows."""
    distance: Floats = np.sqrt(np.maximum(divergence(maps, others), 0)).mean(axis=1)
    return distance


def divergence(p: Floats, q: Floats) -> Floats:
    """Compute the Jensen-Shannon divergence (base 2) along the last axis."""
    middle = p + q
    middle *= np.float32(0.5)
    np.maximum(middle, _TINY, out=middle)
    total = _surprise(p, middle)
    total += _surprise(q, middle)
    total *= np.float32(0.5 / np.log(2))
    return total


def negative_entropy(p: Floats) -> Floats:
    """Sum p ln p along the last axis."""
    logs = np.maximum(p, _TINY)
    np.log(logs, out=logs)
    total: Floats = np.vecdot(p, logs)
    return total


def _surprise(p: Floats, middle: Floats) -> Floats:
    """Sum p ln(p / middle) along the last axis; the ratio keeps small differences exact."""
    ratio = p / middle
    np.maximum(ratio, _TINY, out=ratio)
    np.log(ratio, out=ratio)
    total: Floats = np.vecdot(ratio, p)
    return total


def stacks(values: Floats, length: Ints) -> Iterator[tuple[slice, Floats]]:
    """Yield neighboring maps of equal length as one (k, L, L) array, with their slice of the batch."""
    start = 0
    for rows in stretches(length):
        k, n = rows.stop - rows.start, int(length[rows.start])
        yield rows, values[start : start + k * n * n].reshape(k, n, n)
        start += k * n * n
