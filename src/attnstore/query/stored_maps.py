"""Maps of one input, read from the arrays directly: for Python and for the explorer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from attnstore.errors import UnknownNameError
from attnstore.map_kinds import WEIGHT_MAPS as WEIGHTS
from attnstore.map_kinds import MapKind
from attnstore.naming import require_held, whole_number
from attnstore.query import kind_runs
from attnstore.query.map_reader import unless_dropped
from attnstore.query.open_run import OpenRun
from attnstore.query.run_inputs import Ask
from attnstore.storage import array_shape, arrays, index
from attnstore.storage.backend import Backend
from attnstore.storage.run_record import RunRecord

_INPUT = """
SELECT i.cell, i.length, i.tokens, coalesce(i.texts, i.tokens) AS texts, r.run_key, r.precision, r.layers, r.heads, r.layout, r.max_length, r.pad_to
FROM idx.core.inputs i JOIN idx.core.runs r USING (run_key) JOIN idx.core.blocks USING (run_key, block)
WHERE run = $run AND example = $example
"""
_RUN = """
SELECT run_key, precision, layers, heads, layout, max_length, pad_to, planned FROM idx.core.runs WHERE run = $run
"""
_PLACES = """
SELECT i.example, i.cell, i.length
FROM idx.core.inputs i JOIN idx.core.runs USING (run_key) JOIN idx.core.blocks USING (run_key, block)
WHERE run = $run ORDER BY i.example
"""
_HEADS = "SELECT layers, heads FROM idx.core.runs WHERE run = $run"
WINDOW_BYTES = 64 << 20
"""Bytes of float32 weights that are read at once where many inputs are."""
_MAX_OPEN = 64  # runs whose arrays stay open
_MOST_PLACES = 200_000
"""Inputs of a run at most whose places are kept together: 20 bytes each."""

Floats = npt.NDArray[np.float32]


class StoredMaps:
    """The maps of a store by run and example.

    Args:
        backend: The folder of the store.
        ask: Answers an SQL text with parameters, from memory where it can.
        kept: The same, and the answer is kept beside the index, so that another process opens no database for it.
    """

    def __init__(self, backend: Backend, ask: Ask, kept: Ask) -> None:
        self._backend, self._ask, self._kept = backend, ask, kept
        self._open: dict[tuple[str | None, str, str], OpenRun] = {}

    def input(self, run: str, example: int) -> dict[str, Any]:
        """Return the place, the tokens and the array shape of a stored input.

        Raises:
            UnknownNameError: The store does not hold the run or the example.
        """
        rows = self._ask(_INPUT, run=run, example=whole_number("example", example))
        if rows.is_empty():
            raise UnknownNameError(
                f"Run {run} holds no example {example}; "
                f"`SELECT example FROM inputs WHERE run = '{run}'` lists those it holds."
            )
        return rows.row(0, named=True)

    def every(self, run: str, example: int, kind: MapKind = WEIGHTS) -> Floats:
        """Return all maps of a kind of an input, (layers, heads or 1, L, L) float32."""
        record, cell, length = self._place(run, whole_number("example", example))
        with unless_dropped(self._backend, run):
            return self._opened(run, record, kind).every(cell, length)

    def _place(self, run: str, example: int) -> tuple[dict[str, Any], int, int]:
        """Return the record of a run, the first cell of an input and its length.

        Raises:
            UnknownNameError: The store does not hold the run or the example.
        """
        record = next(self._kept(_RUN, run=run).iter_rows(named=True), None)
        if record is not None and record["planned"] <= _MOST_PLACES:
            places = self._kept(_PLACES, run=run)
            at = int(places["example"].search_sorted(example))
            if at < len(places) and places["example"][at] == example:
                return record, places["cell"][at], places["length"][at]
        record = self.input(run, example)
        return record, record["cell"], record["length"]

    def windows(
        self, run: str, inputs: pl.DataFrame, kind: MapKind = WEIGHTS
    ) -> Iterator[tuple[pl.DataFrame, Floats]]:
        """Read inputs that follow each other together, so that no chunk is decoded for each of them.

        Args:
            run: The run.
            inputs: Rows of example, cell (its first) and length, in the order of cells.
            kind: The kind of maps.

        Yields:
            The rows of some inputs, and the weights (layers, heads or 1, cells) float32 from the first
            cell of the first of them on: at most WINDOW_BYTES, or one input.
        """
        if inputs.is_empty():
            return
        record = self.input(run, inputs["example"][0])
        cells = WINDOW_BYTES // (4 * len(record["layers"]) * len(record["heads"]))
        ends = (inputs["cell"] + inputs["length"].cast(pl.Int64) ** 2).to_list()
        starts = inputs["cell"].to_list()
        first = 0
        while first < len(starts):
            stop = first + 1
            while stop < len(starts) and ends[stop] - starts[first] <= cells:
                stop += 1
            with unless_dropped(self._backend, run):
                opened = self._opened(run, record, kind)
                places = np.array(starts[first:stop]), np.array(ends[first:stop])
                yield inputs[first:stop], opened.window(*places)
            first = stop

    def one(
        self, run: str, example: int, layer: int, head: int | None, kind: MapKind = WEIGHTS
    ) -> tuple[dict[str, Any], Floats]:
        """Return an input and one map, (L, L) float32. head: None for a kind with one map a layer.

        Raises:
            UnknownNameError: The store does not hold the run, example, layer or head, or the kind.
        """
        number = 0 if kind.per_layer and head is None else head
        try:
            record = self.input(run, example)
        except UnknownNameError:
            layers, heads = self._ask(_HEADS, run=run).row(0)
            _require_head(run, layers, [0] if kind.per_layer else heads, layer, number)
            raise
        layers, heads = record["layers"], [0] if kind.per_layer else record["heads"]
        _require_head(run, layers, heads, layer, number)
        row = layers.index(layer) * len(heads) + heads.index(number)
        cell, length = record["cell"], record["length"]
        with unless_dropped(self._backend, run):
            opened = self._opened(run, record, kind)
            flat = opened.gather("maps", *(np.array([n]) for n in (row, cell, length * length)))
        return record, flat.reshape(length, length)

    def _opened(self, run: str, record: dict[str, Any], kind: MapKind) -> OpenRun:
        """Open the maps of a run, or return them if open since the index last changed."""
        seal = index.seal_of(self._backend)
        opened = self._open.get((seal, run, kind.name))
        if opened is None:
            shape = array_shape.of_record(run, RunRecord.of_row(record))
            stored = arrays.open_run(self._backend, run, shape)
            opened = kind_runs.opened(stored, shape, kind, record["run_key"], self._ask)
            if len(self._open) >= _MAX_OPEN:
                self._open.clear()
            if seal is not None:
                self._open[seal, run, kind.name] = opened
        return opened


def _require_head(
    run: str, layers: list[int], heads: list[int], layer: int, head: int | None
) -> None:
    require_held(run, "layer", layer, layers)
    require_held(run, "head", head, heads)
