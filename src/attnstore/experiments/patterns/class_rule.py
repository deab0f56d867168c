"""The classes that a map can have, and the probabilities that are left to them.

The network sees a picture and always names one of five classes. A class needs something to be true of
the map that the picture does not show: a block needs two texts, a diagonal enough tokens beside it,
every class weights that differ. The rule is applied to each map as it is classified.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from attnstore.naming import CLASSES, SURE, column_of

TEXT_TOKENS = 3
"""Tokens, special ones left out, that each of two texts needs for blocks."""
DIAGONAL_TOKENS = 4
"""Length from which a token and its neighbors are not almost the whole map."""
EVEN = 1.1
"""A map is constant if no weight is more than this many times the mean of its row."""
COLUMNS = tuple(map(column_of, CLASSES))
"""Columns of `patterns` with the probability of each class."""
_WORDS = ("word", "punctuation")


def have_blocks(inputs: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Return True for inputs of two texts of TEXT_TOKENS or more, (inputs,).

    Args:
        inputs: Rows of a plan, with `segments` and `kinds`: lists of one per token.
    """
    tokens = inputs.with_row_index("at").select("at", "segments", "kinds")
    words = tokens.explode("segments", "kinds").filter(pl.col("kinds").is_in(_WORDS))
    counts = words.group_by("at", "segments").len().filter(pl.col("len") >= TEXT_TOKENS)
    texts = counts.group_by("at").agg(pl.col("segments").n_unique())
    two = np.zeros(len(inputs), bool)
    two[texts.filter(pl.col("segments") == 2)["at"].to_numpy()] = True
    return two


def causal(weights: torch.Tensor) -> torch.Tensor:
    """Return True for maps (n, L, L) in which no token attends to a later one: a decoder's."""
    if weights.shape[-1] == 1:
        return torch.zeros(len(weights), dtype=torch.bool)
    return weights.triu(1).amax((1, 2)) == 0


def constant(weights: torch.Tensor, later_unseen: torch.Tensor) -> torch.Tensor:
    """Return True for maps (n, L, L) whose rows are even: of a disabled head, or of one token.

    Args:
        weights: The maps.
        later_unseen: (n,) True where a row has weights up to its own token only (`causal`).
    """
    length = weights.shape[-1]
    seen = torch.where(later_unseen[:, None], torch.arange(1.0, length + 1), float(length))
    return (weights.amax(2) * seen <= EVEN * weights.sum(2)).all(1)


def possible(weights: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
    """Return the classes that maps (n, L, L) can have, (n, 5); none where a map is constant.

    Args:
        weights: The maps.
        blocks: (n,) True where the input is of two texts (`have_blocks`).
    """
    classes = torch.ones(len(weights), len(CLASSES), dtype=torch.bool)
    classes[:, CLASSES.index("block")] = blocks
    if weights.shape[-1] < DIAGONAL_TOKENS:
        classes[:, [CLASSES.index("diagonal"), CLASSES.index("vertical+diagonal")]] = False
    return classes & ~constant(weights, causal(weights))[:, None]


def shared_out(probabilities: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Give the probability of impossible classes to the possible ones, in proportion.

    Args:
        probabilities: Of the network, (n, 5).
        classes: True where possible, (n, 5).

    Returns:
        Probabilities (n, 5) float32; NaN in every class where none is possible.
    """
    left = torch.where(classes, probabilities.double().clamp_min(1e-30), 0.0)
    return (left / left.sum(1, keepdim=True)).float()


def columns(probabilities: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Return the columns of `patterns` that follow from probabilities (maps, 5); NULL where NaN."""
    none = np.isnan(probabilities).any(1)
    best = np.where(none, 0, np.nan_to_num(probabilities).argmax(1))
    largest = pl.Series(probabilities[np.arange(len(best)), best]).fill_nan(None)
    return {
        "class": pl.Series(CLASSES).gather(best).set(pl.Series(none), None),
        "probability": largest,
        **{name: pl.Series(probabilities[:, i]).fill_nan(None) for i, name in enumerate(COLUMNS)},
        "doubtful": largest < SURE,
    }
