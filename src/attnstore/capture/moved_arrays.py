"""Value norms and mixing ratios of a run's inputs, computed without keeping a map.

Batches are those of an ingestion, so the numbers are those that it would have stored beside the maps.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import torch

from attnstore.capture import examination
from attnstore.capture.runs import Run
from attnstore.models import loading
from attnstore.models.checkpoints import Checkpoint
from attnstore.models.moved import Listener
from attnstore.storage import layout
from attnstore.storage.array_kinds import MIXING, VALUE_NORM
from attnstore.storage.arrays import Floats, Further


class MovedArrays:
    """A model that gives value norms and mixing ratios of a run's inputs."""

    def __init__(self, run: Run, checkpoint: Checkpoint, device: str = "auto") -> None:
        """Load the model of a run. Raises ModelError."""
        self._record, self._device = run.record, loading.pick_device(device)
        self._capturer = examination.recall(run.record, run.plan, checkpoint, self._device)
        self._layers = {layer: i for i, layer in enumerate(run.record.layers)}

    def compute(self, rows: pl.DataFrame) -> Further:
        """Compute both arrays of one block; see `additions.Computer`."""
        found = self._capturer.projections
        norms = None if found.without else self._zeros(len(self._record.heads))
        has_mixing = not (found.without or found.without_mixing)
        mixing = self._zeros(len(MIXING.components)) if has_mixing else None
        if norms is not None:
            length = rows["length"].cast(pl.Int64).to_numpy()
            tokens, way = examination.batch_tokens(self._device), self._capturer.way
            at = np.cumsum(length) - length
            for batch in layout.batches(length, tokens, way.batching):
                self._pass(rows[batch], at[batch], norms, mixing)
        return {VALUE_NORM.name: norms, MIXING.name: mixing}

    def _zeros(self, middle: int) -> Floats:
        return np.zeros((len(self._layers), middle, layout.SHARD_TOKENS), np.float32)

    def _pass(
        self, rows: pl.DataFrame, at: np.ndarray[tuple[int], np.dtype[np.int64]],
        norms: Floats, mixing: Floats | None,
    ) -> None:  # fmt: skip
        """Run one forward pass. at: first token of each input in the block."""
        heads = list(self._record.heads)
        length = rows["length"].to_list()

        def keep(out: Floats, layer: int, numbers: torch.Tensor) -> None:
            values = numbers.cpu().numpy()
            for row, (first, n) in enumerate(zip(at.tolist(), length, strict=True)):
                out[self._layers[layer], :, first : first + n] = values[row, :, :n]

        listener = Listener(
            self._layers,
            lambda layer, numbers: keep(norms, layer, numbers[:, heads]),
            None if mixing is None else lambda layer, numbers: keep(mixing, layer, numbers),
        )
        ids, types = rows["token_ids"].to_list(), rows["type_ids"].to_list()
        real = (rows["length"] - rows["kinds"].list.count_matches("pad")).to_list()
        if length[0] ** 2 > layout.SHARD_CELLS:
            self._capturer.forward_by_heads(
                ids[0], types[0], real[0], lambda *_: None, listener=listener
            )
        else:
            together = None if types[0] is None else types
            self._capturer.forward(ids, together, lambda *_: None, real, listener)
