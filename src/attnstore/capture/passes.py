"""Forward passes over the inputs of a block, in batches as the run forms them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from attnstore.capture import examination
from attnstore.models.attention_hook import Capturer, OnLayer
from attnstore.models.head_turns import OnHeads
from attnstore.models.moved import Listener
from attnstore.storage import layout

Ints = npt.NDArray[np.int64]
OnBatch = Callable[[int, float], None]
"""Called after a forward pass, or a part of one, with the inputs finished and cells per head."""


def is_long(rows: pl.DataFrame) -> bool:
    """Check whether a block is one input that is longer than a shard."""
    return int((rows["length"].cast(pl.Int64) ** 2).sum()) > layout.SHARD_CELLS


def real_tokens(rows: pl.DataFrame) -> list[int]:
    """Count the tokens of each input, without padding."""
    return (rows["length"] - rows["kinds"].list.count_matches("pad")).to_list()


def batches(capturer: Capturer, rows: pl.DataFrame, device: torch.device) -> list[slice]:
    """Cut the inputs of a block into forward passes."""
    length = rows["length"].cast(pl.Int64).to_numpy()
    return layout.batches(length, examination.batch_tokens(device), capturer.way.batching)


def cells(rows: pl.DataFrame, cut: list[slice]) -> tuple[Ints, Ints]:
    """Return the first cell of each pass in its block, and the one behind its last: (passes,) each.

    rows: of the block; cut: the rows of each pass.
    """
    ends = np.cumsum(rows["length"].cast(pl.Int64).to_numpy() ** 2)
    stop = ends[[batch.stop - 1 for batch in cut]]
    return np.concatenate(([0], stop[:-1])), stop


def run(
    capturer: Capturer,
    rows: pl.DataFrame,
    device: torch.device,
    begin: Callable[[slice], None],
    on_layer: OnLayer,
    listener: Listener | None = None,
    on_batch: OnBatch = lambda *_: None,
) -> None:
    """Run over the inputs of a block, pass by pass.

    rows: of the plan; begin: called with the rows of each pass before it; on_layer, listener: as of
    `Capturer.forward`; on_batch: called after each pass.
    """
    for batch in batches(capturer, rows, device):
        begin(batch)
        run_one(capturer, rows[batch], on_layer, listener)
        on_batch(*extent(rows[batch]))


def run_one(
    capturer: Capturer, rows: pl.DataFrame, on_layer: OnLayer, listener: Listener | None = None
) -> None:
    """Run one pass over inputs that share it. rows: theirs; on_layer, listener: as of `Capturer.forward`."""
    ids, types = (rows[name].to_list() for name in ("token_ids", "type_ids"))
    segments = None if types[0] is None else types
    capturer.forward(ids, segments, on_layer, real_tokens(rows), listener)


def extent(rows: pl.DataFrame) -> tuple[int, float]:
    """Count inputs and their cells per head, as `OnBatch` takes them."""
    return len(rows), float((rows["length"].cast(pl.Int64) ** 2).sum())


def run_alone(
    capturer: Capturer, rows: pl.DataFrame, at: int, on_layer: OnLayer, listener: Listener
) -> None:
    """Run over one input of a block by itself."""
    ids, types = rows["token_ids"][at].to_list(), rows["type_ids"][at]
    segments = None if types is None else [types.to_list()]
    capturer.forward([ids], segments, on_layer, [real_tokens(rows)[at]], listener)


def run_long(
    capturer: Capturer, rows: pl.DataFrame, on_heads: OnHeads, listener: Listener | None = None
) -> None:
    """Run over the one long input of a block, its heads in turns."""
    ids, types = rows["token_ids"][0].to_list(), rows["type_ids"][0]
    segments = None if types is None else types.to_list()
    capturer.forward_by_heads(ids, segments, real_tokens(rows)[0], on_heads, listener)


def fullest(cut: list[slice]) -> slice:
    """Return the pass with the most inputs."""
    return max(cut, key=lambda batch: batch.stop - batch.start)
