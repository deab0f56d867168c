"""Estimate the cost of a run and of its pattern classes from the last ones.

Rates are rows of `sql/analysis/ingest_rates.sql` and `classify_rates.sql`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from attnstore.capture.runs import Settings
from attnstore.datasets.corpora import Dataset
from attnstore.models.checkpoints import Checkpoint

_PIECES = 1.06
"""Word pieces of a word or mark under BERT's vocabulary, as measured on MRPC, RTE, STS-B and the
sample: within 6 % on each."""


@dataclass(frozen=True)
class Estimate:
    """What is left to do.

    Attributes:
        examples: Exact number.
        seconds, bytes: Estimates; None if nothing like it was done before.
    """

    examples: int
    seconds: float | None
    bytes: float | None


def cells(dataset: Dataset, chosen: npt.NDArray[np.int64], settings: Settings) -> int:
    """Estimate the cells per head of a run over some examples, by counting words."""
    rows = dataset.frame[chosen]
    words = sum(
        rows[column].fill_null("").str.count_matches(r"\w+|[^\w\s]").to_numpy() * _PIECES
        for column in ("text", "text_pair")
    )
    special = 2 + rows["text_pair"].is_not_null().to_numpy()
    length = np.minimum(np.rint(words + special), settings.max_length)
    return int((np.maximum(length, settings.pad_to or 0) ** 2).sum())


def estimate(
    checkpoint: Checkpoint, precision: str, examples: int, weights: int, share: float,
    rates: pl.DataFrame,
) -> Estimate:  # fmt: skip
    """Estimate the cost of a share of a run.

    Time goes by the last models of the same shape, whatever the precision, else by any; room by the
    last runs of the same precision.

    Args:
        checkpoint: The model.
        precision: How weights are stored.
        examples: Inputs of the whole run.
        weights: Weights of the whole run.
        share: What is left of it, 0 to 1.
        rates: Rows of `ingest_rates`, the latest first.
    """
    left = round(examples * share)
    if rates.is_empty():
        return Estimate(left, None, None)
    shape = (
        checkpoint.architecture,
        checkpoint.n_layers,
        checkpoint.n_heads,
        checkpoint.hidden_size,
    )
    same = rates.filter(
        pl.struct("architecture", "n_layers", "n_heads", "hidden_size").map_elements(
            lambda row: tuple(row.values()) == shape, pl.Boolean
        )
    )
    room = rates.filter(pl.col("precision") == precision)
    speed = same if len(same) else rates
    seconds = float(speed["seconds_per_million"][0]) * weights / 1e6 * share
    bits = float(room["bits_per_weight"][0]) if len(room) else None
    return Estimate(left, seconds, None if bits is None else bits * weights / 8 * share)


def classifying(examples: int, heads: int, share: float, rates: pl.DataFrame) -> Estimate:
    """Estimate the cost of the pattern classes of a share of a run's maps.

    A map of 8 to 64 tokens costs the same, as it becomes a picture of one size; one of 128 twice that.

    Args:
        examples: Inputs of the whole run.
        heads: Heads of all its layers.
        share: What is left to classify, 0 to 1.
        rates: Rows of `classify_rates`, the latest first.
    """
    left = round(examples * share)
    if rates.is_empty():
        return Estimate(left, None, None)
    maps, last = left * heads, rates.row(0, named=True)
    return Estimate(left, last["seconds_per_thousand"] * maps / 1e3, last["bytes_per_map"] * maps)
