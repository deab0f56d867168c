"""Numbers that describe an attention map of any length, from which the network knows its pattern.

Nothing tells which head a map is of. The numbers are of the map as it is, and of the map scaled to its
0.995 quantile, as the annotators saw it: how bright it is, which columns there are and how steady they
are over rows, what lies on diagonals beside them, how far from its own token a row looks, whether two
stretches of tokens attend within themselves, and how smooth the rest is.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch.nn.functional import pad

SHARE = 0.005
"""Share of a map's weights that are clipped to white."""
OFFSETS = range(-5, 6)
"""Diagonals, to - from in tokens."""
_QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.95, 0.98)
_COLUMNS, _STEADY = 6, 4
_NEAR = (0, 1, 2, 3, 5)
_TINY = 1e-9


def features(weights: torch.Tensor) -> torch.Tensor:
    """Describe maps (n, L, L) of one length: (n, N_FEATURES) float32.

    Each number is replaced by its square root, with its sign: many are small for most maps.
    """
    n, length, _ = weights.shape
    flat = torch.from_numpy(np.sort(weights.reshape(n, -1).numpy(), 1))
    by_row = torch.from_numpy(np.sort(weights.numpy(), 1))  # each column's weights, ascending
    white = _quantile(flat, 1 - SHARE).clamp_min(_TINY)
    x = (weights / white[:, None, None]).clamp_(max=1)
    steady = [_quantile(by_row, q) for q in (0.5, 0.2)]
    steady_scaled = [(column / white[:, None]).clamp(max=1) for column in steady]
    brightness = [(_quantile(flat, q) / white).clamp(max=1) for q in _QUANTILES]
    parts = [
        torch.full((n,), float(length)).log(),
        *_rows(weights), *brightness,
        *_structure(weights, *steady), *_structure(x, *steady_scaled),
        *_most_attended(weights), _blocks(x), *_texture(x - x.mean(1, keepdim=True)),
    ]  # fmt: skip
    found = torch.stack(parts, 1).nan_to_num(0)
    return found.sign() * found.abs().sqrt()


def _quantile(ascending: torch.Tensor, share: float) -> torch.Tensor:
    """Return a quantile of sorted values (n, k, …) over the second axis, interpolated."""
    rank = share * (ascending.shape[1] - 1)
    lower = int(rank)
    upper = min(lower + 1, ascending.shape[1] - 1)
    return ascending[:, lower] + (ascending[:, upper] - ascending[:, lower]) * (rank - lower)


def _rows(weights: torch.Tensor) -> list[torch.Tensor]:
    """Describe how concentrated the rows are: entropy, its spread, largest weight, sum of squares."""
    entropy = -torch.special.xlogy(weights, weights.clamp_min(1e-12)).sum(2)
    entropy = entropy / np.log(max(weights.shape[1], 2))
    spread = entropy.std(1, correction=0)
    return [
        entropy.mean(1),
        spread,
        weights.amax(2).mean(1),
        torch.linalg.vecdot(weights, weights).mean(1),
    ]


def _structure(x: torch.Tensor, median: torch.Tensor, low: torch.Tensor) -> list[torch.Tensor]:
    """Describe columns and diagonals of maps. median, low: of each column over rows, (n, L)."""
    column = x.mean(1)
    flat = x.reshape(len(x), -1)
    mean = column.mean(1)
    variance = (torch.linalg.vecdot(flat, flat) / flat.shape[1] - mean**2).clamp_min(0) + _TINY
    left = (variance - column.var(1, correction=0)).clamp_min(0)  # what columns do not explain
    over = (x - median[:, None]).clamp_min_(0)
    return [
        mean, variance.sqrt(), left / variance, left.sqrt(),
        *_columns(column), *_steadiness(median, column), *_steadiness(low, column),
        *_diagonals(x, column, median, variance), *_band(x, column, left, variance),
        *_distances(x)[:1], *_distances(over),
    ]  # fmt: skip


def _columns(column: torch.Tensor) -> list[torch.Tensor]:
    """Describe the means of columns, (n, L): shares of the strongest ones, of the first and the last."""
    total = column.sum(1) + _TINY
    largest = column.sort(1, descending=True).values
    top = pad(largest, (0, _COLUMNS))[:, :_COLUMNS].cumsum(1) / total[:, None]
    first, last = column[:, 0], column[:, -1]
    return [*top.T, largest[:, 0], first, last, first / total, last / total]


def _steadiness(steady: torch.Tensor, column: torch.Tensor) -> list[torch.Tensor]:
    """Describe the strongest columns by what most rows give them, and the share of all that is steady."""
    top = steady.topk(min(_STEADY, steady.shape[1]), 1).values
    return [*pad(top, (0, _STEADY - top.shape[1])).T, steady.sum(1) / (column.sum(1) + _TINY)]


def _diagonals(
    x: torch.Tensor, column: torch.Tensor, median: torch.Tensor, variance: torch.Tensor
) -> list[torch.Tensor]:
    """Return the mean of each diagonal, and by how much it exceeds the columns that it crosses."""
    of_map = torch.stack([_mean_of(x, k) for k in OFFSETS], 1)
    found = []
    for crossed in (0 * column, column, median):
        over = of_map - torch.stack([_crossed(crossed, k) for k in OFFSETS], 1)
        found += [*over.T, over.amax(1), over[:, 4:7].amax(1), over.amax(1) / variance.sqrt()]
    return found


def _mean_of(x: torch.Tensor, offset: int) -> torch.Tensor:
    """Return the mean of a diagonal, (n,); 0 where a map is too small for it."""
    return x.diagonal(offset, 1, 2).mean(1) if abs(offset) < x.shape[1] else x.new_zeros(len(x))


def _crossed(column: torch.Tensor, offset: int) -> torch.Tensor:
    """Return the mean of the columns (n, L) that a diagonal crosses, (n,)."""
    length = column.shape[1]
    if abs(offset) >= length:
        return column.new_zeros(len(column))
    return column[:, max(0, offset) : length + min(0, offset)].mean(1)


def _band(
    x: torch.Tensor, column: torch.Tensor, left: torch.Tensor, variance: torch.Tensor
) -> list[torch.Tensor]:
    """Describe what columns leave within two tokens of the main diagonal, and outside."""
    length = x.shape[1]
    near = [k for k in range(-2, 3) if abs(k) < length]
    rest = [x.diagonal(k, 1, 2) - column[:, max(0, k) : length + min(0, k)] for k in near]
    band = torch.cat(rest, 1)
    inside = band.square().sum(1)
    outside = (left * length**2 - inside).clamp_min(0) / max(1, length**2 - band.shape[1])
    return [inside / band.shape[1] / variance, outside / variance, outside.sqrt(), band.mean(1)]


def _distances(x: torch.Tensor) -> list[torch.Tensor]:
    """Return the mean distance of weights from their own token, over L, and the shares that are near."""
    length = x.shape[1]
    flat = x.reshape(len(x), -1)
    total = flat.sum(1) + _TINY
    far = flat @ _distance(length) / total / length
    sums = torch.stack([_sum_at(x, k) for k in range(max(_NEAR) + 1)], 1).cumsum(1)
    return [far, *(sums[:, list(_NEAR)] / total[:, None]).T]


def _sum_at(x: torch.Tensor, distance: int) -> torch.Tensor:
    """Sum the weights at a distance from the main diagonal, (n,)."""
    if distance >= x.shape[1]:
        return x.new_zeros(len(x))
    sums = x.diagonal(distance, 1, 2).sum(1)
    return sums + x.diagonal(-distance, 1, 2).sum(1) if distance else sums


def _most_attended(weights: torch.Tensor) -> list[torch.Tensor]:
    """Return shares of rows that look most at the commonest tokens, and at neighbors, also beside two columns."""
    n, length, _ = weights.shape
    place = torch.arange(length)
    first = weights.argmax(2)
    counts = torch.zeros(n, length).scatter_add_(1, first, torch.ones(n, length))
    modes = pad(counts.sort(1, descending=True).values, (0, 3))[:, :3] / length
    strongest = weights.mean(1).topk(min(2, length), 1).indices
    others = weights.scatter(2, strongest[:, None].expand(-1, length, -1), -1.0)
    offset, beside = first - place, others.argmax(2) - place
    return [
        *modes.T,
        *((offset == k).float().mean(1) for k in (-1, 0, 1)),
        *((beside == k).float().mean(1) for k in range(-2, 3)),
        (beside.abs() <= 3).float().mean(1),
    ]


def _blocks(x: torch.Tensor) -> torch.Tensor:
    """Return the contrast of two stretches that attend within themselves, of the best cut, (n,)."""
    length = x.shape[1]
    if length < 7:
        return x.new_full((len(x),), -1.0)
    sums = x.cumsum(1).cumsum(2)
    total = sums[:, -1, -1, None]
    first = sums.diagonal(0, 1, 2)[:, 2:-4]
    inside = total - sums[:, 2:-4, -1] - sums[:, -1, 2:-4] + 2 * first
    size = torch.arange(3.0, length - 3)
    inner = inside / (size**2 + (length - size) ** 2)
    outer = (total - inside) / (2 * size * (length - size))
    return ((inner - outer) / (inner + outer + _TINY)).amax(1)


def _texture(rest: torch.Tensor) -> list[torch.Tensor]:
    """Return how alike neighbors are in what columns leave: below, beside, along the diagonal."""
    length = rest.shape[1]
    flat = rest.reshape(len(rest), -1)
    power = torch.linalg.vecdot(flat, flat) / length**2 + _TINY
    pairs = (
        (rest[:, 1:], rest[:, :-1]), (rest[:, :, 1:], rest[:, :, :-1]), (rest[:, 1:, 1:], rest[:, :-1, :-1])
    )  # fmt: skip
    return [
        torch.linalg.vecdot(a, b).sum(1) / max(1, length * (length - 1)) / power for a, b in pairs
    ]


@lru_cache(maxsize=1024)
def _distance(length: int) -> torch.Tensor:
    """Return the distance of each weight from the main diagonal, (L * L,)."""
    at = torch.arange(float(length))
    return (at - at[:, None]).abs().reshape(-1)


N_FEATURES = features(torch.full((1, 8, 8), 0.125)).shape[1]
"""Number of features of a map."""
