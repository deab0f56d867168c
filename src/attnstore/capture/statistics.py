"""Compute the statistics of maps from float32 weights, on their device.

`attnstore.statistics` declares them. Most come from one fused kernel, a few matrix products for all;
a statistic with a formula of its own (`per_row`) is computed beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import linear

from attnstore.statistics import NAMES, STATISTICS, Statistic

_LARGEST = [number for number, statistic in enumerate(STATISTICS) if statistic.largest]
STRIPE_CELLS = 1 << 20
"""Weights of a long map that are measured at once."""
_CACHED = 1 << 16  # weights whose logarithms are computed at once: they stay in a core's cache
_TINY = 1e-38  # keeps log finite where a weight is 0; 0 * log(tiny) is 0


@dataclass(frozen=True)
class Marks:
    """The tokens of n inputs of one length L, as `measure` takes them: made once for all layers.

    by_segment: (n, 2, L) 1 where a token is of the first, of the second text; columns: (n, 2 L, 4)
    turns column sums by text into attention to [CLS], to [SEP], to punctuation, within a text, NaN
    to [CLS] or [SEP] where an input has none;
    cells: (4, L²) turn a map into attention to the token itself, to the previous, to the next,
    and the mean distance. Of some rows of long maps alone, R of L: (n, 2, R) and (4, R L).

    tokens: (4, n, L) what `of` was given: 1 where a token is of the second text, is [CLS], [SEP],
    punctuation; rows: of the maps, a slice of range(L).
    """

    by_segment: torch.Tensor
    columns: torch.Tensor
    cells: torch.Tensor
    tokens: torch.Tensor
    rows: slice

    @classmethod
    def of(
        cls,
        segments: torch.Tensor,
        to_cls: torch.Tensor,
        sep: torch.Tensor,
        stop: torch.Tensor,
        *,
        rows: slice = slice(None),
    ) -> Marks:
        """segments: (n, L) 0 or 1; then 1 where a token is [CLS], [SEP], punctuation; float32.

        rows: those of the maps that are measured together; `joined` puts their measures together.
        """
        length = segments.shape[1]
        by_segment = torch.stack((1 - segments, segments), dim=1)
        nothing = torch.where(torch.stack((to_cls, sep)).any(-1), 0.0, torch.nan).unsqueeze(-1)
        kinds = torch.stack((to_cls + nothing[0], sep + nothing[1], stop), dim=-1).repeat(1, 2, 1)
        columns = torch.cat((kinds, by_segment.flatten(1).unsqueeze(-1)), dim=-1) / length
        cells = _cells(length, rows, segments.device)
        tokens = torch.stack((segments, to_cls, sep, stop))
        return cls(by_segment[:, :, rows], columns, cells, tokens, rows)


@dataclass(frozen=True)
class Measured:
    """Of n inputs of one length L, over H heads.

    statistics: (n, H, len(NAMES)) float32; received: (n, H, L) float32, the mean of each
    column; off: (n, H) float32, the largest distance of a row's sum from 1, or with sinks from the
    range 0 to 1 (NaN if any is NaN).
    """

    statistics: torch.Tensor
    received: torch.Tensor
    off: torch.Tensor


def _cells(length: int, rows: slice, device: torch.device) -> torch.Tensor:
    """The `cells` of `Marks`, for some rows of maps of one length."""
    at = torch.arange(length, dtype=torch.float32, device=device)
    distance = (at - at[rows, None]).abs_().div_(length)
    cells = torch.zeros((3, *distance.shape), device=device)
    first = rows.start or 0
    for cell, (to, count) in zip(
        cells, ((0, length), (-1, length - 1), (1, length - 1)), strict=True
    ):
        if count:
            cell.diagonal(first + to).fill_(1 / count)
        else:
            cell.fill_(torch.nan)  # a single token has no neighbour
    return torch.cat((cells, distance[None])).view(4, -1)


def measure(weights: torch.Tensor, marks: Marks, sinks: bool = False) -> Measured:
    """Measure maps of one length, (n, H, L, L) float32, contiguous, or the rows of `marks` of them.

    sinks: whether rows may sum to less than 1, what is missing being the share of attention sinks;
    without them that share is no number (NaN). Every measure is a sum over rows with its divisor in
    it, but for the largest weight, so that `joined` can put those of some rows together.
    """
    n, heads, _, length = weights.shape
    flat = weights.view(n * heads, -1)
    sums = torch.matmul(marks.by_segment.unsqueeze(1), weights)  # (n, H, 2, L)
    columns = torch.bmm(sums.view(n, heads, 2 * length), marks.columns)
    cells = linear(flat, marks.cells).view(n, heads, 4)
    entropy = _entropy(weights).view(n, heads, 1) / length
    largest = flat.amax(1).view(n, heads, 1)
    received = sums.sum(2) / length
    missing = 1 - weights.sum(-1)
    sink = missing.sum(-1, keepdim=True) / length if sinks else torch.full_like(largest, torch.nan)
    first = received[..., :1]
    fused = (entropy, cells[..., :3], columns, cells[..., 3:], largest, first, sink)
    others = [of_rows(s, weights, marks) for s in STATISTICS if s.per_row is not None]
    off = torch.maximum(-missing, missing - 1).clamp_min_(0) if sinks else missing.abs_()
    return Measured(torch.cat((*fused, *others), dim=-1), received, off.amax(-1))


def of_rows(statistic: Statistic, weights: torch.Tensor, marks: Marks) -> torch.Tensor:
    """Compute a statistic with a formula of its own over rows of maps, (n, H, R, L) to (n, H, 1).

    Of all rows it is the mean, of some their share of it, which `joined` adds up; or the largest.
    """
    assert statistic.per_row is not None
    values: torch.Tensor = statistic.per_row(weights, marks)
    if statistic.largest:
        return values.amax(-1, keepdim=True)
    return values.sum(-1, keepdim=True) / weights.shape[-1]


def compute(
    statistic: Statistic, weights: torch.Tensor, tokens: Sequence[torch.Tensor], sinks: bool
) -> torch.Tensor:
    """Compute one statistic of whole maps (n, H, L, L), some rows at a time: (n, H).

    tokens: what `Marks.of` takes; sinks: see `measure`.
    """
    at, length = NAMES.index(statistic.name), weights.shape[-1]
    step = max(1, STRIPE_CELLS // length)
    parts = []
    for start in range(0, length, step):
        rows = slice(start, start + step)
        marks, stripe = Marks.of(*tokens, rows=rows), weights[:, :, rows].contiguous()
        if statistic.per_row is None:
            parts.append(measure(stripe, marks, sinks).statistics[..., at])
        else:
            parts.append(of_rows(statistic, stripe, marks)[..., 0])
    stacked = torch.stack(parts)
    return stacked.amax(0) if statistic.largest else stacked.sum(0)


def joined(parts: Sequence[Measured]) -> Measured:
    """The measures of whole maps from those of their rows, each row in one part."""
    statistics = torch.stack([part.statistics for part in parts])
    whole = statistics.sum(0)
    whole[..., _LARGEST] = statistics[..., _LARGEST].amax(0)
    received = torch.stack([part.received for part in parts]).sum(0)
    return Measured(whole, received, torch.stack([part.off for part in parts]).amax(0))


def _entropy(weights: torch.Tensor) -> torch.Tensor:
    """Sum -w ln w over each map, in nats: (n, H, R, L), contiguous, to (n, H)."""
    if weights.device.type != "cpu":
        return weights.clamp_min(_TINY).log_().mul_(weights).sum((2, 3)).neg_()
    # numpy's log takes a third of the time of torch's.
    rows = weights.view(-1, weights.shape[-1]).numpy()
    sums = np.empty(len(rows), np.float32)
    step = max(1, _CACHED // rows.shape[1])
    logs = np.empty((step, rows.shape[1]), np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            ln, of_part = logs[: len(part)], sums[start : start + step]
            np.vecdot(np.log(part, out=ln), part, out=of_part)
            if np.isnan(of_part.sum()):  # a weight is 0, as few are
                np.log(np.maximum(part, np.float32(_TINY), out=ln), out=ln)
                np.vecdot(ln, part, out=of_part)
    return torch.from_numpy(sums).view(weights.shape[:3]).sum(2).neg_()
