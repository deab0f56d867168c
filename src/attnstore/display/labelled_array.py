"""The maps of one input as an xarray.DataArray; imports xarray, which is optional."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from attnstore import extras

if TYPE_CHECKING:
    import xarray


def labelled(
    weights: npt.NDArray[np.float32],
    layers: Sequence[int],
    heads: Sequence[int],
    tokens: Sequence[str],
    run: str,
    example: int,
) -> xarray.DataArray:
    """Name the dimensions of an input's maps.

    Args:
        weights: (layers, heads, L, L).
        layers: Numbers of the layers, from 0.
        heads: Numbers of the heads, from 0.
        tokens: The L tokens.
        run: The run, for the attributes.
        example: The example, for the attributes.

    Returns:
        An array of layer, head, from, to; coordinates layer, head, from and to (positions, from 0),
        from_token and to_token.

    Raises:
        MissingExtraError: xarray is not installed.
    """
    extras.require("xarray")
    import xarray

    positions = np.arange(len(tokens))
    return xarray.DataArray(
        weights,
        dims=("layer", "head", "from", "to"),
        coords={
            "layer": list(layers),
            "head": list(heads),
            "from": positions,
            "to": positions,
            "from_token": ("from", list(tokens)),
            "to_token": ("to", list(tokens)),
        },
        name="attention",
        attrs={"run": run, "example": int(example)},
    )
