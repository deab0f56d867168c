"""What a run and its pattern classes will cost, from what the last ones cost:
`sql/analysis/ingest_rates.sql` and `classify_rates.sql`."""

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
    """What is left to do. examples: exact; seconds, bytes: estimated, None where nothing like it
    was done before."""

    examples: int
    seconds: float | None
    bytes: float | None


def cells(dataset: Dataset, chosen: npt.NDArray[np.int64], settings: Settings) -> int:
    """About how many cells per head a run over some examples will have, by counting words."""
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
    """The cost of a share of a run with so many weights.

    Time goes by the last models of the same shape, whatever the precision, else by any; room by the
    last runs of the same precision. rates: rows of `ingest_rates`, the latest first.
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
    """The cost of the pattern classes of a share of a run's maps.

    A map of 8 to 64 tokens costs the same, as it becomes a picture of one size; one of 128 twice that.
    heads: of all its layers; rates: rows of `classify_rates`, the latest first.
    """
    left = round(examples * share)
    if rates.is_empty():
        return Estimate(left, None, None)
    maps, last = left * heads, rates.row(0, named=True)
    return Estimate(left, last["seconds_per_thousand"] * maps / 1e3, last["bytes_per_map"] * maps)
