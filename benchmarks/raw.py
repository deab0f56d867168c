"""The weights of a run as plain files: what the other formats are made of and measured against.

weights.f16   (layer x head, cell) float16: maps end to end, one row a head
inputs.json   shape, and per input its number, its length and its first cell
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

import attnstore

Weights = npt.NDArray[np.float16]


def write(store: str, folder: str) -> None:
    """Read every map of the store's only run and write it down, inputs by number."""
    opened = attnstore.open(store)
    run = opened.runs().row(0, named=True)
    inputs = opened.sql("SELECT example, length FROM inputs ORDER BY example")
    cells = inputs["length"].cast(int).to_numpy() ** 2
    Path(folder).mkdir()
    shape = (run["n_layers"] * run["n_heads"], int(cells.sum()))
    rows = np.memmap(Path(folder) / "weights.f16", np.float16, "w+", shape=shape)
    for row in range(shape[0]):
        layer, head = divmod(row, run["n_heads"])
        found = opened.sql(
            "SELECT weights FROM maps WHERE layer = $layer AND head = $head ORDER BY example",
            layer=layer, head=head,
        )  # fmt: skip
        rows[row] = found["weights"].explode().to_numpy()
    rows.flush()
    first = cells.cumsum() - cells
    described = {
        "layers": run["n_layers"], "heads": run["n_heads"], "cells": shape[1],
        "examples": inputs["example"].to_list(), "lengths": inputs["length"].to_list(),
        "first": first.tolist(),
    }  # fmt: skip
    (Path(folder) / "inputs.json").write_text(json.dumps(described))


def described(folder: str) -> dict[str, list[int] | int]:
    """What inputs.json says."""
    return json.loads((Path(folder) / "inputs.json").read_text())


def rows(folder: str) -> Weights:
    """The weights as a memory map, (layer x head, cell)."""
    said = described(folder)
    shape = (said["layers"] * said["heads"], said["cells"])
    return np.memmap(Path(folder) / "weights.f16", np.float16, "r", shape=shape)


def maps(folder: str) -> Iterator[tuple[int, Weights]]:
    """Every input: its number, and its maps (layer, head, L, L)."""
    said, every = described(folder), rows(folder)
    for example, length, first in zip(
        said["examples"], said["lengths"], said["first"], strict=True
    ):
        cells = every[:, first : first + length**2]
        yield example, cells.reshape(said["layers"], said["heads"], length, length)
