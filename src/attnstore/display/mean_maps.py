"""Mean maps: the profile of a head by relative position, drawn as the map of a made-up input.

The input has [CLS], LENGTH ordinary tokens and [SEP], or two texts of half as many with a [SEP] each. Each pair
of tokens has the mean weight of its group (view `offsets`), so that a head that attends to the token before
is a diagonal, to [CLS] a bar on the left, and within its own text two blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from attnstore.display.colors import colormap
from attnstore.offsets import OFFSETS, REACH

LENGTH = 12
"""Ordinary tokens of the input: rows of a mean map."""
WIDTH = LENGTH + 4
"""Columns of a mean map: a special token has two, or two have one each."""
GAP = 1
"""Pixels between the mean maps of a mosaic."""

CAPTION = (
    "How ordinary tokens attend on average over all inputs, drawn as a map: from downwards, to across, by the "
    f"token’s offset up to {REACH} before and after. [CLS], or a first token without it, is the bar on the left, each "
    "[SEP] a bar on the right of its text; pairs have two texts. Colors by the square root of the weight, from 0 to 1."
)
"""What a reader of the pictures has to know."""

Floats = npt.NDArray[np.float64]
Group = tuple[str, int | None]
"""Columns target and offset of view `offsets`."""


@dataclass(frozen=True)
class MeanMaps:
    """The mean maps of a run. maps: (layers, heads, LENGTH, WIDTH), NaN where there is nothing.

    shares: by (layer, head), the share of attention of each group, the largest first.
    """

    layers: list[int]
    heads: list[int]
    maps: Floats
    shares: dict[tuple[int, int], list[tuple[Group, float]]]


def of_rows(rows: pl.DataFrame) -> MeanMaps:
    """Make the mean maps of the rows of one run. rows: columns of view `offsets`."""
    layers, heads = (sorted(rows[name].unique().to_list()) for name in ("layer", "head"))
    maps = np.full((len(layers), len(heads), LENGTH, WIDTH), np.nan)
    pairs = "other_text" in rows["target"]
    shares = {}
    for (layer, head), own in rows.group_by("layer", "head"):
        groups = list(zip(own["target"], own["offset"], strict=True))
        maps[layers.index(layer), heads.index(head)] = mean_map(
            dict(zip(groups, own["weight"], strict=True)), pairs
        )
        by_share = sorted(zip(groups, own["share"], strict=True), key=lambda row: -row[1])
        shares[int(layer), int(head)] = by_share
    return MeanMaps(layers, heads, maps, shares)


def mean_map(weights: Mapping[Group, float], pairs: bool) -> Floats:
    """Draw one head: (LENGTH, WIDTH), NaN where there is nothing.

    weights: mean weight of each group; pairs: True for an input of two texts.
    """
    first = weights.get(("cls", None), weights.get(("first", None), np.nan))
    last = weights.get(("sep", None), np.nan)
    far = weights.get(("far", None), 0.0)
    by_offset = [weights.get(("near", offset), 0.0) for offset in OFFSETS]
    at = np.arange(LENGTH)
    offset = np.clip(at - at[:, None], -REACH - 1, REACH + 1) + REACH + 1
    ordinary = np.array([far, *by_offset, far])[offset]
    half = LENGTH // 2 if pairs else LENGTH
    if pairs:
        text = at // half
        ordinary[text != text[:, None]] = weights.get(("other_text", None), np.nan)
    left, right = (np.full((LENGTH, 2), value) for value in (first, last))
    if pairs:
        return np.hstack((left, ordinary[:, :half], right[:, :1], ordinary[:, half:], right[:, :1]))
    return np.hstack((left, ordinary, right))


def mosaic(maps: Floats) -> Floats:
    """Lay out maps (layers, heads, rows, columns) in one picture, NaN in the gaps between them."""
    n_layers, n_heads, rows, columns = maps.shape
    wide = np.full((n_layers, n_heads, rows + GAP, columns + GAP), np.nan)
    wide[:, :, :rows, :columns] = maps
    return wide.swapaxes(1, 2).reshape(n_layers * (rows + GAP), -1)[:-GAP, :-GAP]


def pixels(maps: Floats) -> npt.NDArray[np.uint8]:
    """Color a mosaic of maps: (height, width, RGBA) by the root of the weight, transparent where there is nothing."""
    values = mosaic(maps)
    rgb = colormap(np.sqrt(np.nan_to_num(values)), 1.0)
    alpha = np.where(np.isnan(values), 0, 255).astype(np.uint8)
    return np.dstack((rgb, alpha))


def names(group: Group) -> str:
    """Return the words for a group."""
    target, offset = group
    if target != "near":
        return _TARGETS[target]
    assert offset is not None
    if abs(offset) <= 1:
        return ("the token before", "itself", "the token after")[offset + 1]
    return f"{abs(offset)} {'before' if offset < 0 else 'after'}"


_TARGETS = {
    "cls": "[CLS]", "sep": "[SEP]", "special": "other special tokens", "first": "the first token",
    "far": f"farther than {REACH}", "other_text": "the other text",
}  # fmt: skip
