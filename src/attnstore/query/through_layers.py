"""SQL functions over all layers of an input so far: attention rollout and attention flow.

Both begin with the mean map over heads of each layer, half of each step the residual connection (Abnar
and Zuidema 2020, section 3). Rows of a batch that are of one input share the reading of its maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from attnstore.errors import QueryError
from attnstore.query import kernels, map_reader
from attnstore.query.map_reader import Keys, MapReader
from attnstore.storage.reads import Ints

LONGEST_FLOW = 256
"""Longest input in tokens of attention_flow, whose time grows with the cube of the length and more."""

Floats = npt.NDArray[np.float32]
Maps = npt.NDArray[np.float64]


def rollout(reader: MapReader, keys: Keys, layer: Ints, cell: Ints, length: Ints) -> Floats:
    """Compute attention rollout of each row of a batch, L² numbers each, end to end."""
    ends, results = np.cumsum(length**2), np.empty(int((length**2).sum()), np.float32)
    for rows, n, layers in _inputs(reader, keys, layer, cell, length):
        for number, product in enumerate(kernels.rollout(layers)):
            for row in rows[layer[rows] == number]:
                results[ends[row] - n * n : ends[row]] = product.ravel()
    return results


def flow(
    reader: MapReader, keys: Keys, layer: Ints, cell: Ints, length: Ints, from_pos: Ints
) -> Floats:
    """Compute attention flow of each row of a batch, L numbers each, end to end.

    Raises:
        QueryError: An input is longer than `LONGEST_FLOW`, or has no such position.
    """
    _require_flow(length, from_pos)
    ends, results = np.cumsum(length), np.empty(int(length.sum()), np.float32)
    for rows, n, layers in _inputs(reader, keys, layer, cell, length):
        maps = list(layers)
        for number, position in np.unique(np.stack((layer, from_pos))[:, rows], axis=1).T:
            flows = max_flow(maps[: number + 1], int(position))
            for row in rows[(layer[rows] == number) & (from_pos[rows] == position)]:
                results[ends[row] - n : ends[row]] = flows
    return results


def max_flow(layers: Sequence[Maps], from_pos: int) -> Maps:
    """Compute the maximum flow from a token of the last layer to each token of the input.

    Token i of a layer and token j of the layer below are joined by an edge of capacity
    (W_ij + I_ij) / 2 (Abnar and Zuidema 2020, section 3). Each flow is a problem of its own.

    Args:
        layers: The mean map over heads of each layer, (L, L).
        from_pos: Position of the token in the last of them.

    Returns:
        (L,), each at most 1; exact to 10⁻⁷: capacities are whole multiples of 2⁻³⁰. NaN where a map has no
        numbers.
    """
    from scipy import sparse  # here: reading must begin fast
    from scipy.sparse.csgraph import maximum_flow

    n = len(layers[0])
    if any(np.isnan(weights).any() for weights in layers):
        return np.full(n, np.nan)
    mixed = np.concatenate([(weights + np.eye(n)) / 2 for weights in layers])  # from row to column
    from_node = np.repeat(np.arange(n, n + len(mixed)), n)
    to_node = np.tile(np.arange(n), len(mixed)) + (from_node // n - 1) * n
    capacity = np.rint(mixed.ravel() * _UNIT).astype(np.int32)
    nodes = n + len(mixed)
    graph = sparse.csr_array((capacity, (from_node, to_node)), shape=(nodes, nodes))
    source = n * len(layers) + from_pos
    return np.array([maximum_flow(graph, source, to).flow_value for to in range(n)]) / _UNIT


_UNIT = 1 << 30  # a capacity of 1; a row's sum, and so every flow, fits into int32


def _inputs(
    reader: MapReader, keys: Keys, layer: Ints, cell: Ints, length: Ints
) -> Iterator[tuple[Ints, int, Iterator[Maps]]]:
    """Group a batch by input: its rows, its length, and the mean map of each layer that they need."""
    map_reader.refuse_less(layer, 0, "layer")
    reader.require_lengths(keys, length)
    for rows in map_reader.grouped(np.stack((keys.view(np.int64), cell, length))):
        key, at, n = int(keys[rows[0]]), int(cell[rows[0]]), int(length[rows[0]])
        yield rows, n, reader.layer_means(key, at, n, int(layer[rows].max()))


def _require_flow(length: Ints, from_pos: Ints) -> None:
    if (wrong := np.flatnonzero(length > LONGEST_FLOW)).size:
        raise QueryError(
            f"attention_flow was asked for an input of {length[wrong[0]]} tokens, and takes "
            f"{LONGEST_FLOW} at most, as each token is a maximum flow of its own; leave longer "
            "inputs out (WHERE length <= …), or ask for attention_rollout."
        )
    if (wrong := np.flatnonzero((from_pos < 0) | (from_pos >= length))).size:
        raise QueryError(
            f"attention_flow was asked for position {from_pos[wrong[0]]} of an input of "
            f"{length[wrong[0]]} tokens; positions count from 0."
        )
