"""The maps of many inputs one after another, in storage order: memory stays that of a few of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import polars as pl

from attnstore.errors import UnknownNameError
from attnstore.map_kinds import WEIGHT_MAPS, MapKind
from attnstore.naming import whole_number
from attnstore.query.stored_maps import Floats, StoredMaps


class InputMaps(NamedTuple):
    """Every map of one input.

    Attributes:
        example: The example.
        tokens: Its L tokens, as written in the vocabulary.
        weights: (layers, heads, L, L) float32, heads 1 for a kind with one map a layer, rows attend to columns.
    """

    example: int
    tokens: tuple[str, ...]
    weights: Floats


def stream(
    maps: StoredMaps,
    ask: Callable[..., pl.DataFrame],
    run: str,
    examples: Iterable[int] | None = None,
    kind: MapKind = WEIGHT_MAPS,
) -> Iterator[InputMaps]:
    """Yield the maps of inputs in storage order, each once.

    Args:
        maps: The maps of the store.
        ask: Answers an SQL text with parameters.
        run: The run.
        examples: The inputs; None for all that are stored.
        kind: The kind of maps.

    Raises:
        UnknownNameError: The store does not hold the run, or one of the examples; before anything is
            read.
    """
    inputs = ask(
        "SELECT example, cell, length FROM idx.core.inputs JOIN idx.core.runs USING (run_key) "
        "JOIN idx.core.blocks USING (run_key, block) WHERE run = $run ORDER BY cell",
        run=run,
    )
    if examples is not None:
        inputs = _chosen(run, inputs, examples)
    return _read(maps, ask, run, inputs, kind)


def _chosen(run: str, inputs: pl.DataFrame, examples: Iterable[int]) -> pl.DataFrame:
    wanted = {whole_number("example", example) for example in examples}
    chosen = inputs.filter(pl.col("example").is_in(list(wanted)))
    if missing := sorted(wanted - set(chosen["example"])):
        raise UnknownNameError(
            f"Run {run} holds no example {missing[0]}; `SELECT example FROM inputs WHERE "
            f"run = '{run}'` lists those it holds."
        )
    return chosen


def _read(
    maps: StoredMaps,
    ask: Callable[..., pl.DataFrame],
    run: str,
    inputs: pl.DataFrame,
    kind: MapKind,
) -> Iterator[InputMaps]:
    for window, weights in maps.windows(run, inputs, kind):
        rows = ask(
            "SELECT example, tokens FROM inputs WHERE run = $run AND list_contains($examples, example)",
            run=run, examples=window["example"].to_list(),
        )  # fmt: skip
        tokens = dict(zip(rows["example"].to_list(), rows["tokens"].to_list(), strict=True))
        start = window["cell"][0]
        for example, cell, length in window.iter_rows():
            part = weights[:, :, cell - start : cell - start + length * length]
            shape = (*part.shape[:2], length, length)
            yield InputMaps(example, tuple(tokens[example]), part.reshape(shape).copy())
