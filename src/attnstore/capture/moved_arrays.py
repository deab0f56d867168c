"""The arrays `value_norm` and `mixing` of a block: packed as a forward pass gives them, or computed alone.

Both lie along tokens like `received`; which of them can be had, `Capturer.projections` says.
"""

from __future__ import annotations

import copy

import numpy as np
import polars as pl
import torch

from attnstore.capture import examination, passes
from attnstore.capture.passes import OnBatch
from attnstore.capture.runs import Run
from attnstore.errors import CaptureError
from attnstore.models import loading
from attnstore.models.attention_hook import Capturer
from attnstore.models.checkpoints import Checkpoint
from attnstore.models.moved import MIXING_PARTS, Listener
from attnstore.naming import ROW_OFF
from attnstore.storage import layout
from attnstore.storage.array_kinds import MIXING, VALUE_NORM
from attnstore.storage.arrays import Further


class MovedSink:
    """Takes value norms and mixing ratios of one block, pass by pass.

    rows: of the plan; layers: index of each layer to keep in the arrays; heads: those to keep.
    """

    def __init__(
        self,
        rows: pl.DataFrame,
        layers: dict[int, int],
        heads: torch.Tensor,
        capturer: Capturer,
    ) -> None:
        self._layers, self.heads = layers, heads
        self._every_head = len(heads) == capturer.n_heads
        self._length = rows["length"].cast(pl.Int64).to_numpy()
        self._token = np.cumsum(self._length) - self._length
        self._tokens, self._index = slice(0), torch.empty(0)
        had = capturer.projections
        self.norms = None if had.without else self._empty(len(heads))
        self.mixing = None if had.without_mixing else self._empty(MIXING_PARTS)

    @property
    def listener(self) -> Listener:
        """What a forward pass hands its numbers to; made anew, as one kept here would hold the arrays in a circle."""
        return Listener(
            self._layers,
            None if self.norms is None else self.take_norms,
            None if self.mixing is None else self.take_mixing,
        )

    def _empty(self, middle: int) -> torch.Tensor:
        shape = (len(self._layers), middle, layout.SHARD_TOKENS)
        return torch.zeros(shape, device=self.heads.device)

    def begin(self, batch: slice) -> None:
        """Set the rows of the block that the next forward pass runs over."""
        lengths, first = self._length[batch], int(self._token[batch.start])
        self._tokens = slice(first, first + int(lengths.sum()))
        real = np.arange(lengths.max()) < lengths[:, None]
        self._index = torch.from_numpy(np.flatnonzero(real)).to(self.heads.device)

    def over(self, batch: slice) -> MovedSink:
        """Return a sink into the same arrays for one pass, beside passes in other threads."""
        other = copy.copy(self)
        other.begin(batch)
        return other

    def take_norms(self, layer: int, norms: torch.Tensor) -> None:
        """Keep one layer's value norms (batch, heads, L) of the current pass."""
        assert self.norms is not None  # nobody listens without
        kept = norms if self._every_head else norms.index_select(1, self.heads)
        self._keep(self.norms, layer, kept)

    def take_mixing(self, layer: int, ratios: torch.Tensor) -> None:
        """Keep one layer's mixing ratios (batch, MIXING_PARTS, L) of the current pass."""
        assert self.mixing is not None  # nobody listens without
        self._keep(self.mixing, layer, ratios)

    def _keep(self, array: torch.Tensor, layer: int, numbers: torch.Tensor) -> None:
        flat = numbers.transpose(0, 1).flatten(1)
        packed = array[self._layers[layer], :, self._tokens]
        packed.copy_(flat if flat.shape[1] == len(self._index) else flat[:, self._index])

    def arrays(self) -> Further:
        """Return the arrays of the block: (layers, heads or parts, SHARD_TOKENS) float32, None for one that cannot be had."""
        both = ((VALUE_NORM.name, self.norms), (MIXING.name, self.mixing))
        return {name: None if x is None else x.cpu().numpy() for name, x in both}

    def comparison(self, at: int) -> Comparison:
        """Prepare to compare an input of the block, its at-th, with a pass over it alone."""
        first = int(self._token[at])
        return Comparison(self, slice(first, first + int(self._length[at])))

    def kept(self, array: torch.Tensor | None, layer: int, tokens: slice) -> torch.Tensor:
        """Return a layer's numbers of some tokens, as packed."""
        assert array is not None  # nobody listens without
        return array[self._layers[layer], :, tokens]


class Comparison:
    """The largest difference of an input's packed numbers from those of a pass over it alone.

    off: of norms, as a share of the layer's largest one, and of ratios.
    """

    def __init__(self, sink: MovedSink, tokens: slice) -> None:
        self._sink, self._tokens, self.off = sink, tokens, 0.0

    @property
    def listener(self) -> Listener:
        """What the pass over the input alone hands its numbers to."""
        inner = self._sink.listener
        return Listener(
            inner.layers,
            None if inner.on_norms is None else self._norms,
            None if inner.on_mixing is None else self._mixing,
        )

    def _norms(self, layer: int, norms: torch.Tensor) -> None:
        packed = self._sink.kept(self._sink.norms, layer, self._tokens)
        alone = norms[0, self._sink.heads]
        self._add((packed - alone).abs() / alone.max().clamp_min(1e-30))

    def _mixing(self, layer: int, ratios: torch.Tensor) -> None:
        packed = self._sink.kept(self._sink.mixing, layer, self._tokens)
        off = (packed - ratios[0]).abs()
        self._add(torch.where(packed.isnan() & ratios[0].isnan(), 0.0, off))

    def _add(self, off: torch.Tensor) -> None:
        largest = float(off.max())
        self.off = max(self.off, largest if largest == largest else float("inf"))

    def require(self, what: str) -> None:
        """Raise CaptureError for a difference beyond rounding. what: names the input."""
        if self.off > ROW_OFF:
            raise CaptureError(
                f"The value norms or mixing ratios of {what} differ by up to {self.off:.3g} from those of "
                "that input alone: what the model computes of an input depends on the others in its "
                "batch, so nothing is stored; use another model."
            )


class MovedArrays:
    """A model that computes value norms and mixing ratios of a run's blocks, without keeping a map.

    Batches are those of an ingestion, so the numbers are those that it would have stored.
    """

    def __init__(
        self,
        run: Run,
        checkpoint: Checkpoint,
        device: str = "auto",
        on_batch: OnBatch = lambda *_: None,
    ) -> None:
        """Load the model of a run. Raises ModelError."""
        self._device, self._on_batch = loading.pick_device(device), on_batch
        loaded = examination.recall(run.record, run.plan, checkpoint, self._device)
        self._capturer = loaded.until(run.record.layers)
        self._layers = {layer: i for i, layer in enumerate(run.record.layers)}
        self._heads = torch.tensor(run.record.heads, device=self._device)
        self._compared = False

    @property
    def model(self) -> torch.nn.Module:
        """Return the loaded model."""
        return self._capturer.model  # type: ignore[no-any-return]

    def compute(self, rows: pl.DataFrame) -> Further:
        """Compute both arrays of one block; see `additions.Computer`. Raises CaptureError, ModelError."""
        capturer = self._capturer
        sink = MovedSink(rows, self._layers, self._heads, capturer)
        if capturer.projections.without:
            return sink.arrays()
        if passes.is_long(rows):
            sink.begin(slice(0, 1))
            passes.run_long(capturer, rows, lambda *_: None, sink.listener)
            self._on_batch(1, float(rows["length"][0]) ** 2)
            return sink.arrays()
        passes.run(
            capturer, rows, self._device, sink.begin, lambda *_: None, sink.listener, self._on_batch
        )
        if not self._compared:
            self._compare_one(rows, sink)
            self._compared = True
        return sink.arrays()

    def _compare_one(self, rows: pl.DataFrame, sink: MovedSink) -> None:
        """Raise CaptureError unless an input of a full batch has the numbers that it has when run alone."""
        batch = passes.fullest(passes.batches(self._capturer, rows, self._device))
        at, n_inputs = (batch.start + batch.stop) // 2, batch.stop - batch.start
        if n_inputs > 1:
            comparison = sink.comparison(at)
            passes.run_alone(self._capturer, rows, at, lambda *_: None, comparison.listener)
            comparison.require(f"example {rows['example'][at]} in a batch of {n_inputs} inputs")
