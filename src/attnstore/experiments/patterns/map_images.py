"""Maps of any length as pictures of one size, for the network that classifies their pattern.

A map is scaled to its 0.995 quantile, as the annotators saw it. Area-averaging to SIDE x SIDE is
two matrix products with a matrix that depends on L alone. Further channels: contrast, residual
after removing column means, the map sheared so that diagonals become columns, and the profiles of
columns and of diagonals.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch.nn.functional import pad

SIDE = 32
"""Height and width of a picture, in pixels."""
CHANNELS = (
    "mean", "rms", "residual", "sheared", "sheared_rms", "column", "column_steadiness", "diagonal",
)  # fmt: skip
SHARE = 0.005
"""Share of a map's weights that are clipped to white."""
_TINY = 1e-9


def pictures(weights: torch.Tensor) -> torch.Tensor:
    """Convert maps (n, L, L) of one length to pictures (n, len(CHANNELS), SIDE, SIDE), float32.

    mean, rms, residual: of the scaled weights under each pixel (residual: root mean square
    after subtracting each column's mean); sheared, sheared_rms: column k shows the
    diagonal to - from = k - SIDE / 2, in tokens; column, column_steadiness: mean of a column, and
    that over its root mean square, in every row; diagonal: mean of the diagonal, in every row.
    """
    x = scaled(weights)
    pooling = _pooling(x.shape[-1])
    square = x * x
    column = x.mean(1, keepdim=True)
    steadiness = column / (square.mean(1, keepdim=True) + _TINY).sqrt()
    sheared = shear(x)
    diagonal = sheared.sum(1, keepdim=True) / _cells_of_diagonals(x.shape[-1])
    profiles = [column @ pooling.T, steadiness @ pooling.T, diagonal]
    planes = [
        _pooled(x, pooling),
        _pooled(square, pooling).sqrt(),
        _pooled((x - column).square_(), pooling).sqrt(),
        pooling @ sheared,
        (pooling @ shear(square)).sqrt(),
        *(profile.expand(-1, SIDE, -1) for profile in profiles),
    ]
    return torch.stack(planes, 1)


def scaled(weights: torch.Tensor) -> torch.Tensor:
    """Divide maps (n, L, L) by their own quantile of 1 - SHARE; clip at 1."""
    flat = weights.reshape(len(weights), -1)
    rank = SHARE * (flat.shape[1] - 1)
    lower = int(rank)
    largest = flat.topk(min(lower + 2, flat.shape[1]), 1).values
    upper_weight, lower_weight = largest[:, lower], largest[:, -1]
    white = upper_weight + (lower_weight - upper_weight) * (rank - lower)
    return (weights / white.clamp_min(_TINY)[:, None, None]).clamp_(max=1)


def shear(x: torch.Tensor) -> torch.Tensor:
    """Turn diagonals into columns: (n, L, L) to (n, L, SIDE), the main one at SIDE / 2, 0 outside."""
    n, length, _ = x.shape
    wide = pad(x, (SIDE // 2, SIDE // 2))
    return wide.as_strided((n, length, SIDE), (wide.stride(0), wide.stride(1) + 1, 1))


def _pooled(x: torch.Tensor, pooling: torch.Tensor) -> torch.Tensor:
    return pooling @ x @ pooling.T


@lru_cache(maxsize=1024)
def _pooling(length: int) -> torch.Tensor:
    """Return the share of each token in each pixel, (SIDE, L); rows sum to 1."""
    edges = torch.arange(SIDE + 1, dtype=torch.float64) * length / SIDE
    tokens = torch.arange(length, dtype=torch.float64)
    begin = torch.maximum(edges[:-1, None], tokens)
    end = torch.minimum(edges[1:, None], tokens + 1)
    return ((end - begin).clamp_min(0) * SIDE / length).float()


@lru_cache(maxsize=1024)
def _cells_of_diagonals(length: int) -> torch.Tensor:
    """Return the number of weights on each diagonal of a map, (1, SIDE), at least 1."""
    return shear(torch.ones(1, length, length)).sum(1).clamp_min(1)
