"""One pickle of a dictionary of float16 arrays: what a notebook leaves behind."""

import pickle
from collections.abc import Iterable
from pathlib import Path

import numpy as np

LABEL = "one pickle of float16 arrays"
Maps = dict[int, np.ndarray]


def write(path: Path, maps: Iterable[tuple[int, np.ndarray]]) -> None:
    with path.open("wb") as file:
        pickle.dump({example: np.ascontiguousarray(m) for example, m in maps}, file, protocol=5)


def open(path: Path) -> Maps:
    """All of it: a pickle cannot be read in part."""
    with path.open("rb") as file:
        return pickle.load(file)


def one_head(opened: Maps, layer: int, head: int) -> float:
    return float(sum(m[layer, head].sum(dtype=np.float32) for m in opened.values()))


def one_map(opened: Maps, example: int, layer: int, head: int) -> float:
    return float(opened[example][layer, head].sum(dtype=np.float32))


def per_head(opened: Maps) -> list[float]:
    total = sum(m.sum((2, 3), dtype=np.float32).astype(float) for m in opened.values())
    return (total / sum(m.shape[-1] ** 2 for m in opened.values())).ravel().tolist()
