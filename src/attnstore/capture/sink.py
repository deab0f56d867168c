"""Pack, measure and check captured layers while they are in memory.

Everything happens on the device of the forward pass, a stretch of inputs of equal length at a time,
so that a GPU does it in a few calls and a CPU finds the weights in its cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from attnstore.capture import offsets
from attnstore.capture.offsets import Places, Profile
from attnstore.capture.statistics import STRIPE_CELLS, Marks, joined, measure
from attnstore.offsets import N_GROUPS
from attnstore.statistics import NAMES
from attnstore.storage import dither, layout
from attnstore.storage.precision import PRECISIONS, Precision


@dataclass(frozen=True)
class Buffer:
    """Buffers of one block, on the device and (the same memory on a CPU) on the host.

    maps: (layers, heads, cells) as stored; received: (layers, heads, SHARD_TOKENS) float32.
    """

    precision: Precision
    maps: torch.Tensor
    received: torch.Tensor
    host_maps: torch.Tensor
    host_received: torch.Tensor

    @classmethod
    def make(cls, shape: tuple[int, int, int], precision: str, device: torch.device) -> Buffer:
        """Make a buffer for maps of `shape`; on a GPU, the host's side is page-locked."""
        maps = torch.empty(shape, dtype=tensor_type(PRECISIONS[precision]), device=device)
        received = torch.zeros((*shape[:2], layout.SHARD_TOKENS), device=device)
        if device.type == "cpu":
            return cls(PRECISIONS[precision], maps, received, maps, received)
        pinned = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in (maps, received)]
        return cls(PRECISIONS[precision], maps, received, *pinned)

    @property
    def is_host(self) -> bool:
        """True if maps are on the host as they are computed."""
        return self.maps is self.host_maps

    def to_host(self) -> None:
        """Copy the block to the host and wait until it is there."""
        if not self.is_host:
            self.host_maps.copy_(self.maps, non_blocking=True)
            self.host_received.copy_(self.received, non_blocking=True)
            torch.cuda.current_stream(self.maps.device).synchronize()


@dataclass(frozen=True)
class _Stretch:
    """Inputs of one length in a batch.

    batch: their rows in the batch; rows: in the block; cell, token: offsets in the block's
    buffers; marks: properties of its tokens; places: its pairs by relative position, and sums: those of
    each layer and head (layers, heads, N_GROUPS).
    """

    batch: slice
    rows: slice
    length: int
    cell: int
    token: int
    marks: Marks
    places: Places
    sums: torch.Tensor

    def profile(self) -> Profile:
        """Return its profile, once all layers have come."""
        return Profile.of(self.sums.double().cpu().numpy(), [self.places])


class Sink:
    """Takes the layers of one block, batch by batch; batches may be taken in several threads at once.

    layers: buffer index of each layer to keep; heads: heads to keep (None: all); sinks: True if
    rows may sum to less than 1.
    statistics: (inputs, layers, heads, len(NAMES)); off: (inputs, layers, heads), see
    `statistics.Measured`.
    """

    def __init__(
        self,
        rows: pl.DataFrame,
        buffer: Buffer,
        layers: dict[int, int],
        heads: torch.Tensor | None,
        sinks: bool = False,
    ) -> None:
        self._buffer, self._layers, self._heads = buffer, layers, heads
        self._sinks = sinks
        self._numbers = range(buffer.maps.shape[1]) if heads is None else heads.tolist()
        self._examples = rows["example"].to_numpy()
        device = buffer.maps.device
        self._length = rows["length"].cast(pl.Int64).to_numpy()
        self._cell = rows["cell"].to_numpy() - rows["cell"][0]
        self._token = np.cumsum(self._length) - self._length
        self._marks = token_marks(rows, device)
        self._kinds = offsets.token_marks(rows, device)
        self._stretches: dict[int, _Stretch] = {}
        shape = (len(rows), *buffer.maps.shape[:2])
        self.statistics = torch.empty((*shape, len(NAMES)), device=device)
        self.off = torch.zeros(shape, device=device)
        buffer.maps[:, :, int((self._length**2).sum()) :] = 0  # the unused ends
        buffer.received[:, :, int(self._length.sum()) :] = 0

    def over(self, batch: slice) -> BatchSink:
        """Return what takes the layers of one forward pass. batch: its rows of the block."""
        stretches = []
        for piece in layout.stretches(self._length[batch]):
            first, last = batch.start + piece.start, batch.start + piece.stop
            n, length, token = last - first, int(self._length[first]), int(self._token[first])
            tokens = slice(token, token + n * length)
            marks = [m[tokens].view(n, length) for m in self._marks]
            stretches.append(
                _Stretch(
                    piece,
                    slice(first, last),
                    length,
                    int(self._cell[first]),
                    token,
                    Marks.of(*marks),
                    Places.of(self._kinds[:, tokens].view(-1, n, length)),
                    self.off.new_zeros((*self.off.shape[1:], N_GROUPS)),
                )
            )
        self._stretches |= {stretch.rows.start: stretch for stretch in stretches}
        return BatchSink(self, stretches)

    def take(self, layer: int, weights: torch.Tensor, stretches: list[_Stretch]) -> None:
        """Keep one layer's weights (batch, heads, L, L) of a batch."""
        at = self._layers.get(layer)
        if at is None:
            return
        if self._heads is not None:
            weights = weights.index_select(1, self._heads)
        for stretch in stretches:
            n = stretch.length
            self._keep(at, layer, stretch, weights[stretch.batch, :, :n, :n].contiguous())

    def _keep(self, at: int, layer: int, stretch: _Stretch, weights: torch.Tensor) -> None:
        """Store and measure one stretch.

        weights: (n, heads, L, L), without padding; `at`: the layer's index in the buffer.
        """
        n, heads, length, _ = weights.shape
        precision, drawn = self._buffer.precision, None
        if precision.row_unit:
            keys = dither.keys(layer, self._numbers, self._examples[stretch.rows])
            drawn = _drawn(keys[..., None, None], slice(0, length), length, weights.device)
        measured = measure(weights, stretch.marks, self._sinks)
        stored = self._buffer.maps[at, :, stretch.cell : stretch.cell + n * length * length]
        stored.view(heads, n, length, length).copy_(
            encoded(weights, precision, drawn).transpose(0, 1)
        )
        received = self._buffer.received[at, :, stretch.token : stretch.token + n * length]
        received.view(heads, n, length).copy_(measured.received.transpose(0, 1))
        self.statistics[stretch.rows, at] = measured.statistics
        self.off[stretch.rows, at] = measured.off
        stretch.sums[at] = stretch.places.sums(weights)

    def profile(self) -> Profile:
        """Return the profile of the block, once all passes have run."""
        return Profile.joined([part.profile() for _, part in sorted(self._stretches.items())])


class BatchSink:
    """Takes the layers of one forward pass over inputs of a block. seconds: time spent here."""

    def __init__(self, sink: Sink, stretches: list[_Stretch]) -> None:
        self._sink, self._stretches = sink, stretches
        self.seconds = 0.0

    def take(self, layer: int, weights: torch.Tensor) -> None:
        """Keep one layer's weights (batch, heads, L, L)."""
        began = time.perf_counter()
        self._sink.take(layer, weights, self._stretches)
        self.seconds += time.perf_counter() - began


class LongSink:
    """Takes the maps of one input longer than a shard, a few heads at a time, and passes them on.

    keep: called with the layer's and the head's index in the run, and the map (L²,) as stored;
    layers, heads: index in the run of each one to keep. statistics: (1, layers, heads, len(NAMES));
    off: (1, layers, heads); received: (layers, heads, SHARD_TOKENS) float32, on the host.
    """

    def __init__(
        self,
        rows: pl.DataFrame,
        layers: dict[int, int],
        heads: dict[int, int],
        precision: str,
        device: torch.device,
        keep: Callable[[int, int, npt.NDArray[Any]], None],
        sinks: bool = False,
    ) -> None:
        self._layers, self._heads, self._keep_map = layers, heads, keep
        self._sinks = sinks
        self._examples = rows["example"].to_numpy()
        self._precision, self._length = PRECISIONS[precision], int(rows["length"][0])
        self._marks = [mark.view(1, -1) for mark in token_marks(rows, device)]
        self._kinds = offsets.token_marks(rows, device).unsqueeze(1)
        shape = (len(layers), len(heads))
        self._sums = np.zeros((*shape, N_GROUPS))
        self.statistics = torch.empty((1, *shape, len(NAMES)))
        self.off = torch.zeros((1, *shape))
        self.received = torch.zeros((*shape, layout.SHARD_TOKENS))
        self.seconds = 0.0

    def take(self, layer: int, first: int, weights: torch.Tensor) -> None:
        """Keep some heads' weights (1, heads, L, L) of a layer, from head `first` on."""
        if (at := self._layers.get(layer)) is None:
            return
        began = time.perf_counter()
        for head, map_ in enumerate(weights[0], first):
            if head in self._heads:
                keys = dither.keys(layer, [head], self._examples)
                self._take(at, self._heads[head], map_, keys)
        self.seconds += time.perf_counter() - began

    def _take(
        self, layer: int, head: int, weights: torch.Tensor, keys: npt.NDArray[np.int32]
    ) -> None:
        """Measure and encode one map, weights (L, L), some rows at a time. keys: (1, 1), of `dither`."""
        kind = tensor_type(self._precision)
        stored = torch.empty(weights.shape, dtype=kind, device=weights.device)
        step = max(1, STRIPE_CELLS // self._length)
        parts = []
        for start in range(0, self._length, step):
            rows = slice(start, start + step)
            stripe = weights[rows].contiguous()
            marks = Marks.of(*self._marks, rows=rows)
            parts.append(measure(stripe[None, None], marks, self._sinks))
            sums = Places.of(self._kinds, rows).sums(stripe[None, None])[0]
            self._sums[layer, head] += sums.double().cpu().numpy()
            drawn = None
            if self._precision.row_unit:
                drawn = _drawn(keys, rows, self._length, weights.device)
            stored[rows] = encoded(stripe, self._precision, drawn)
        measured = joined(parts)
        self.statistics[0, layer, head] = measured.statistics[0, 0].cpu()
        self.off[0, layer, head] = measured.off[0, 0].cpu()
        self.received[layer, head, : self._length] = measured.received[0, 0].cpu()
        self._keep_map(layer, head, stored.view(-1).cpu().numpy())

    def profile(self) -> Profile:
        """Return the profile of the block, once all heads have come."""
        step = max(1, STRIPE_CELLS // self._length)
        parts = [
            Places.of(self._kinds, slice(start, start + step))
            for start in range(0, self._length, step)
        ]
        return Profile.joined([Profile.of(self._sums, parts)])


def _drawn(
    keys: npt.NDArray[np.int32], rows: slice, length: int, device: torch.device
) -> torch.Tensor:
    """Compute the numbers of `dither` for some rows of maps: (…, rows, L) int32. keys: (…, 1, 1)."""
    start, stop = rows.start * length, min(rows.stop, length) * length
    cells = torch.arange(start, stop, dtype=torch.int32, device=device).view(-1, length)
    numbers: torch.Tensor = dither.numbers(torch.from_numpy(keys).to(device), dither.spread(cells))
    return numbers


def tensor_type(precision: Precision) -> torch.dtype:
    """Return the torch dtype in which a precision stores weights."""
    return torch.from_numpy(np.empty(0, precision.dtype)).dtype


def encoded(
    weights: torch.Tensor, precision: Precision, numbers: torch.Tensor | None = None
) -> torch.Tensor:
    """Encode as `Precision.encode` does, on the device; the copy that follows casts the type.

    numbers: of `dither`, one a weight, for a precision that rounds at random.
    """
    codes: torch.Tensor = precision.code(weights, numbers)
    return codes


def distance(stored: torch.Tensor, weights: torch.Tensor, precision: Precision) -> float:
    """Compute the largest error of stored weights beyond the rounding of their precision.

    stored, weights: same shape.
    """
    back = stored.float()
    if precision.from_code is not None:
        back = precision.from_code(back) / (precision.row_unit or 1)
    off = (back - weights).abs() - precision.rounding(weights)
    return float(off.clamp_min_(0).max())


def token_marks(rows: pl.DataFrame, device: torch.device) -> list[torch.Tensor]:
    """Mark the tokens of the block: in the second text, [CLS], [SEP], punctuation (each 0 or 1)."""
    kinds = rows["kinds"].explode().to_numpy()
    segments = rows["segments"].explode().to_numpy()
    masks = [segments == 1, kinds == "cls", kinds == "sep", kinds == "punctuation"]
    return [torch.from_numpy(mask.astype(np.float32)).to(device) for mask in masks]
