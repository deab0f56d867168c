"""Maps that are computed with the model beside its weights: the array of one kind of a block of a run.

Value zeroing needs the encoder, gradients the checkpoint with its head. What a kind is, `map_kinds` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from attnstore.capture import examination
from attnstore.capture.additions import OnBatch
from attnstore.capture.runs import Run
from attnstore.map_kinds import MapKind
from attnstore.models import loading
from attnstore.models.checkpoints import Checkpoint
from attnstore.models.gradient_maps import GradientMaps
from attnstore.models.value_zeroing import ValueZeroing
from attnstore.naming import SINGLE
from attnstore.storage import layout

Floats = npt.NDArray[np.float32]
Labels = Mapping[int, int]
"""By example, the output of the head that its gold label belongs to."""


class ComputedMaps:
    """Computes the maps of one kind of a run, block by block; it loads the model.

    kind: computed with the model; labels: of a kind of the gold label; on_batch: called as inputs are done.
    Raises ModelError for a model that has no such maps.
    """

    def __init__(
        self,
        kind: MapKind,
        run: Run,
        checkpoint: Checkpoint,
        device: str = "auto",
        labels: Labels | None = None,
        on_batch: OnBatch = lambda *_: None,
    ) -> None:
        self._kind, self._run, self._labels, self._on_batch = kind, run, labels, on_batch
        self._device = loading.pick_device(device)
        record, tokens = run.record, examination.batch_tokens(self._device)
        self._layers, self._heads = record.layers, list(record.heads)
        arguments = (record, run.plan, checkpoint, self._device)
        self._maps: Callable[[pl.DataFrame], dict[int, torch.Tensor]]
        if kind.per_layer:
            zeroing = ValueZeroing(examination.recall(*arguments), tokens, self._layers)
            self._rule, self._tokens = SINGLE, tokens
            self._maps = lambda rows: _zeroed(zeroing, rows)
            return
        capturer = examination.recall_classifier(*arguments)
        gradients = GradientMaps(capturer, kind.steps, tokens, self._layers)
        # Gradients keep what every layer computed, so a pass holds fewer inputs.
        self._rule, self._tokens = gradients.rule, tokens // 2
        self._maps = lambda rows: self._gradients(gradients, rows)

    def compute(self, rows: pl.DataFrame) -> dict[str, Floats | None]:
        """Compute the array of a block.

        rows: of the plan. Returns (layers, heads or 1, cells of the block's shards) by the kind's name; unused
        cells are 0.
        """
        length = rows["length"].cast(pl.Int64).to_numpy()
        start = rows["cell"].to_numpy() - int(rows["cell"][0])
        n_shards = -(-int((length**2).sum()) // layout.SHARD_CELLS)
        heads = 1 if self._kind.per_layer else len(self._heads)
        cells = np.zeros((len(self._layers), heads, n_shards * layout.SHARD_CELLS), np.float32)
        for batch in layout.batches(length, self._tokens, self._rule):
            maps = self._maps(rows[batch])
            for axis, layer in enumerate(self._layers):
                for map_, at, n in zip(maps[layer], start[batch], length[batch], strict=True):
                    chosen = map_ if self._kind.per_layer else map_[self._heads]
                    cells[axis, :, at : at + n * n] = chosen[:, :n, :n].reshape(heads, -1).cpu()
            self._on_batch(batch.stop - batch.start, float((length[batch] ** 2).sum()))
        return {self._kind.name: cells}

    def _gradients(self, gradients: GradientMaps, rows: pl.DataFrame) -> dict[int, torch.Tensor]:
        """Compute gradient maps of some inputs, (n, heads, L, L) by layer."""
        labels = None
        if self._labels is not None:
            labels = [self._labels[example] for example in rows["example"]]
        return gradients.maps(*_inputs(rows), labels)


def _zeroed(zeroing: ValueZeroing, rows: pl.DataFrame) -> dict[int, torch.Tensor]:
    """Compute maps by value zeroing of one input, (1, 1, L, L) by layer."""
    ids, types, real = _inputs(rows)
    maps = zeroing.maps(ids[0], None if types is None else types[0], real[0])
    return {layer: map_[None, None] for layer, map_ in maps.items()}


def _inputs(
    rows: pl.DataFrame,
) -> tuple[list[Sequence[int]], list[Sequence[int]] | None, list[int]]:
    """Return token numbers, segment numbers and how many tokens are no padding, of each input."""
    ids, types = rows["token_ids"].to_list(), rows["type_ids"].to_list()
    real = (rows["length"] - rows["kinds"].list.count_matches("pad")).to_list()
    return ids, None if types[0] is None else types, real
