"""Sum maps by relative position, for the profiles of `attnstore.offsets`.

Sums are over the inputs of a stretch, so that a block keeps a few numbers per head. They are exact up to
rounding of float32: of one stretch there, over stretches in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from attnstore.offsets import N_GROUPS, OFFSETS, REACH, TARGETS

Sums = npt.NDArray[np.float64]
_SPAN = len(OFFSETS)
_FAR, _OTHER = (_SPAN + TARGETS.index(name) for name in ("far", "other_text"))


@dataclass(frozen=True)
class Places:
    """The groups of pairs of n inputs of one length L, for R of their from-tokens.

    near: (n, offsets, R) 1 where a pair at that offset counts; cells: (offsets R) its cell among the R L of
    a map's rows; texts: (n, 2, R) 1 where an ordinary from-token is of the first, of the second text;
    targets: (n, 2 L, TARGETS) turns column sums by text into sums by target, `far` with what is near.
    """

    near: torch.Tensor
    cells: torch.Tensor
    texts: torch.Tensor
    targets: torch.Tensor

    @classmethod
    def of(cls, tokens: torch.Tensor, rows: slice = slice(None)) -> Places:
        """tokens: (5, n, L), see `token_marks`; rows: those of the maps that are summed together."""
        segments, to_cls, sep, special, ordinary = tokens
        first = torch.zeros_like(ordinary)
        first[:, 0] = ordinary[:, 0]
        ordinary = ordinary - first
        by_text = torch.stack((ordinary * (1 - segments), ordinary * segments), dim=1)
        apart = torch.stack((to_cls, sep, special, first), dim=-1)
        both = [
            torch.cat((apart, by_text[:, own, :, None], by_text[:, 1 - own, :, None]), dim=-1)
            for own in range(2)
        ]
        near, cells = _near(by_text, rows)
        return cls(near, cells, by_text[:, :, rows].contiguous(), torch.cat(both, dim=1))

    def pairs(self) -> npt.NDArray[np.int64]:
        """Count the pairs of each group: (N_GROUPS,)."""
        near = self.near.double().sum((0, 2))
        per_text = self.targets.double().view(len(self.targets), 2, -1, len(TARGETS)).sum(2)
        by_target = torch.einsum("nt,ntk->k", self.texts.double().sum(-1), per_text)
        counts = torch.cat((near, by_target))
        counts[_FAR] -= near.sum()
        return counts.round().long().cpu().numpy()

    def n_tokens(self) -> int:
        """Count the ordinary from-tokens."""
        return int(self.texts.double().sum())

    def sums(self, weights: torch.Tensor) -> torch.Tensor:
        """Sum weights (n, heads, R, L) by group, over from-tokens and inputs: (heads, N_GROUPS) float32."""
        n, heads, rows, length = weights.shape
        flat = weights.reshape(n * heads, rows * length)
        near = flat.index_select(1, self.cells).view(n, heads, _SPAN, rows)
        near = near.mul_(self.near.unsqueeze(1)).sum((0, 3))
        columns = torch.matmul(self.texts.unsqueeze(1), weights).view(n, heads, 2 * length)
        sums = torch.cat((near, torch.bmm(columns, self.targets).sum(0)), dim=1)
        sums[:, _FAR] -= near.sum(1)
        return sums


def _near(by_text: torch.Tensor, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute `near` and `cells` of Places. by_text: (n, 2, L)."""
    n, _, length = by_text.shape
    from_tokens = torch.arange(length, device=by_text.device)[rows]
    to = from_tokens + torch.arange(-REACH, REACH + 1, device=by_text.device)[:, None]
    inside = (to >= 0) & (to < length)
    to = to.clamp(0, length - 1)
    reached = by_text.index_select(2, to.flatten()).view(n, 2, _SPAN, -1)
    near = (reached * by_text[:, :, None, rows]).sum(1) * inside
    cells = torch.arange(len(from_tokens), device=by_text.device) * length + to
    return near.contiguous(), cells.flatten()


def token_marks(rows: pl.DataFrame, device: torch.device) -> torch.Tensor:
    """Mark the tokens of inputs, end to end: (5, tokens) float32, 1 where one is so.

    In the second text, [CLS], [SEP], another special token, ordinary. rows: of the plan.
    """
    kinds = rows["kinds"].explode().to_numpy()
    segments = rows["segments"].explode().to_numpy()
    masks = [
        segments == 1, kinds == "cls", kinds == "sep", kinds == "special",
        (kinds == "word") | (kinds == "punctuation"),
    ]  # fmt: skip
    return torch.from_numpy(np.stack(masks).astype(np.float32)).to(device)


@dataclass(frozen=True)
class Profile:
    """The profile of a block. sums: (layers, heads, N_GROUPS); pairs: (N_GROUPS,); tokens: that attend."""

    sums: Sums
    pairs: npt.NDArray[np.int64]
    tokens: int

    @classmethod
    def of(cls, sums: Sums, places: Sequence[Places]) -> Profile:
        """Return the profile of one stretch. places: of all its rows, in one piece or several."""
        pairs = np.sum([place.pairs() for place in places], axis=0)
        return cls(sums, pairs, sum(place.n_tokens() for place in places))

    @classmethod
    def joined(cls, parts: Sequence[Profile]) -> Profile:
        """Add up the profiles of stretches, in their order."""
        sums = np.sum([part.sums for part in parts], axis=0)
        sums[..., _FAR] = np.maximum(
            sums[..., _FAR], 0
        )  # a difference, which rounding may move below 0
        pairs = np.sum([part.pairs for part in parts], axis=0)
        return cls(sums, pairs, sum(part.tokens for part in parts))

    def rows(
        self, key: int, block: int, layers: Sequence[int], heads: Sequence[int]
    ) -> pl.DataFrame:
        """Return the rows of the block's fragment, one per head. key: run_key of the run."""
        n = len(layers) * len(heads)
        columns: dict[str, Any] = {
            "run_key": pl.repeat(key, n, dtype=pl.UInt64, eager=True),
            "block": pl.repeat(block, n, dtype=pl.Int32, eager=True),
            "layer": np.repeat(np.array(layers, np.int16), len(heads)),
            "head": np.tile(np.array(heads, np.int16), len(layers)),
            "sums": pl.Series(self.sums.reshape(n, N_GROUPS).tolist(), dtype=pl.List(pl.Float64)),
            "pairs": pl.Series([self.pairs.tolist()] * n, dtype=pl.List(pl.Int64)),
            "tokens": pl.repeat(self.tokens, n, dtype=pl.Int64, eager=True),
        }
        return pl.DataFrame(columns)
