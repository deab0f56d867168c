"""Maps of any kind of one input, or of many, as arrays: what SQL gives, for Python, commands and pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import polars as pl

from attnstore import map_kinds
from attnstore.errors import UsageError
from attnstore.naming import require_held
from attnstore.query.map_stream import InputMaps, inputs_of
from attnstore.query.stored_maps import Floats

Ask = Callable[..., pl.DataFrame]
"""Answers an SQL text with parameters."""

_MAPS = """
SELECT layer, head, attention_weights(run_key, layer, head, cell, length * length) AS weights
FROM map_places(kind := $kind)
WHERE run = $run AND example = $example ORDER BY layer, head
"""


def every(ask: Ask, run: str, example: int, length: int, kind: str) -> Floats:
    """Read all maps of a kind of an input of L tokens.

    Args:
        ask: Answers an SQL text.
        run: The run.
        example: An input that it holds.
        length: Its tokens.
        kind: Kind of maps; see `map_kinds`.

    Returns:
        (layers, heads, L, L) float32; one head for a kind with one map a layer.

    Raises:
        UnknownNameError: There is no such kind, or the run does not hold it.
    """
    about = map_kinds.find(kind)
    rows = ask(_MAPS, run=run, example=example, kind=kind)
    if rows.is_empty():
        raise map_kinds.missing(run, about)
    flat = rows["weights"].explode().to_numpy()
    return np.asarray(flat, np.float32).reshape(rows["layer"].n_unique(), -1, length, length)


def one(
    maps: Floats,
    run: str,
    kind: str,
    places: tuple[list[int], list[int]],
    layer: int,
    head: int | None,
) -> Floats:
    """Choose the map of a layer and head among those of an input.

    Args:
        maps: As `every` gives them.
        run, kind: Of which they are.
        places: The run's layers and heads.
        layer: Its number.
        head: Its number; None, and only None, for a kind with one map a layer.

    Raises:
        UnknownNameError: The run does not hold the layer or head.
        UsageError: A head is missing, or one too many.
    """
    layers, heads = places
    require_held(run, "layer", layer, layers)
    if map_kinds.find(kind).per_layer:
        if head is not None:
            raise UsageError(f"Maps of kind {kind} are one a layer; leave the head out.")
        return np.asarray(maps[layers.index(layer), 0])
    if head is None:
        raise UsageError(f"Maps of kind {kind} are one a head; name the head.")
    require_held(run, "head", head, heads)
    return np.asarray(maps[layers.index(layer), heads.index(head)])


def stream(
    ask: Ask, run: str, kind: str, examples: Iterable[int] | None = None
) -> Iterator[InputMaps]:
    """Yield the maps of a kind of inputs in storage order, as `map_stream.stream` does those of the weights."""
    map_kinds.find(kind)
    return _read(ask, run, kind, inputs_of(ask, run, examples))


def _read(ask: Ask, run: str, kind: str, inputs: pl.DataFrame) -> Iterator[InputMaps]:
    for example, length in inputs.select("example", "length").iter_rows():
        tokens = ask(
            "SELECT tokens FROM inputs WHERE run = $run AND example = $example",
            run=run,
            example=example,
        )["tokens"][0]
        yield InputMaps(example, tuple(tokens), every(ask, run, example, length, kind))
