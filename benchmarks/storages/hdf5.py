"""HDF5 with a gzip dataset per example, one chunk a map."""

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

LABEL = "HDF5, gzip, a dataset per example"


def write(path: Path, maps: Iterable[tuple[int, np.ndarray]]) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        for example, m in maps:
            file.create_dataset(
                str(example), data=m, chunks=(1, 1, *m.shape[2:]), compression="gzip",
                compression_opts=4, shuffle=True,
            )  # fmt: skip


def open(path: Path) -> h5py.File:
    return h5py.File(path, "r")


def one_head(opened: h5py.File, layer: int, head: int) -> float:
    return float(sum(opened[name][layer, head].sum(dtype=np.float32) for name in opened))


def one_map(opened: h5py.File, example: int, layer: int, head: int) -> float:
    return float(opened[str(example)][layer, head].sum(dtype=np.float32))


def per_head(opened: h5py.File) -> list[float]:
    total, cells = 0.0, 0
    for dataset in opened.values():
        m = dataset[:]
        total = total + m.sum((2, 3), dtype=np.float32).astype(float)
        cells += m.shape[-1] ** 2
    return (total / cells).ravel().tolist()
