"""Inputs to examine a model with, and parts of their maps, to compare passes."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl
import torch

KEPT_BYTES = 16 << 20
"""Of each input's maps, so much is compared: all rows of short inputs, some of long ones."""
_HEAD_BYTES = 4 * 12  # of a cell in all heads of a layer, as many as BERT has


@dataclass(frozen=True)
class Item:
    """One input. types: segment numbers, or None; real: how many of its tokens are no padding."""

    ids: tuple[int, ...]
    types: tuple[int, ...] | None
    real: int

    def __len__(self) -> int:
        return len(self.ids)

    def turned(self) -> Item:
        """Another input of the same length: its inner tokens moved on by one."""
        first, inner, last = self.ids[:1], self.ids[1 : self.real - 1], self.ids[self.real - 1 :]
        return Item((*first, *inner[1:], *inner[:1], *last), self.types, self.real)


def items(inputs: pl.DataFrame) -> list[Item]:
    """Choose inputs of a run to examine its model with: the shortest, the longest, and two in between.

    Of a run that mixes pairs and single sentences both kinds are chosen, since they share batches.
    inputs: columns length, token_ids, type_ids, segments, kinds.
    """
    lengths = inputs["length"].unique().sort()
    last = len(lengths) - 1
    chosen = {lengths[at] for at in (0, last // 2, max(last - 1, 0), last)}
    first = inputs.unique("length", keep="first", maintain_order=True).filter(
        pl.col("length").is_in(list(chosen))
    )
    if len(first) < 2:
        first = inputs.unique("token_ids", maintain_order=True)[:2]
    is_pair = pl.col("segments").list.max() == 1
    for kind in (is_pair, ~is_pair):
        if first.filter(kind).is_empty():
            first = pl.concat([first, inputs.filter(kind)[:1]])
    rows = first.sort("length", maintain_order=True).select("token_ids", "type_ids", "kinds")
    return [
        Item(tuple(ids), None if types is None else tuple(types), len(ids) - kinds.count("pad"))
        for ids, types, kinds in rows.iter_rows()
    ]


@dataclass
class Maps:
    """Parts of the maps of one pass over some inputs, to compare it with another.

    rows: per input and layer, the compared rows (heads, rows, L); sums: per layer and input, the
    least and the largest sum of a row of each head (2, heads).
    """

    lengths: list[int]
    n_layers: int
    layers: list[int] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    rows: list[list[torch.Tensor]] = field(default_factory=list)
    sums: list[tuple[int, torch.Tensor]] = field(default_factory=list)

    def take(self, layer: int, weights: torch.Tensor) -> None:
        """Keep of one layer what is compared."""
        self.layers.append(layer)
        self.shapes.append(tuple(weights.shape))
        self.rows = self.rows or [[] for _ in self.lengths]
        longest = max(self.lengths)
        if weights.ndim != 4 or weights.shape[::2] != (len(self.lengths), longest):
            return
        for n, rows, maps in zip(self.lengths, self.rows, weights, strict=True):
            real = maps[:, :n, :n]
            sums = real.sum(-1)
            self.sums.append((layer, torch.stack((sums.amin(-1), sums.amax(-1))).cpu()))
            step = -(-self.n_layers * n * n * _HEAD_BYTES // KEPT_BYTES)
            rows.append(real[:, ::step].clone())

    def take_heads(self, layer: int, first: int, weights: torch.Tensor) -> None:
        """Keep the same of one input's layer that comes some heads after another, from head 0 on."""
        if first == 0:
            self.take(layer, weights)
            return
        turn = Maps(self.lengths, self.n_layers)
        turn.take(layer, weights)
        batch, heads, *cells = self.shapes[-1]
        self.shapes[-1] = (batch, heads + weights.shape[1], *cells)
        self.rows[0][-1] = torch.cat((self.rows[0][-1], turn.rows[0][-1]))
        self.sums[-1] = (layer, torch.cat((self.sums[-1][1], turn.sums[-1][1]), dim=1))

    def off(self, number: int, other: list[torch.Tensor]) -> float:
        """Return largest difference of the number-th input's rows from another pass's rows."""
        rows = self.rows[number] if self.rows else []
        if [r.shape for r in rows] != [r.shape for r in other]:
            return float("inf")
        distances = [float((a - b).abs().max()) for a, b in zip(rows, other, strict=True)]
        return max(distances) if all(x == x for x in distances) else float("inf")
