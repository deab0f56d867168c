"""One dense Zarr array padded to the longest input, written and read through xarray."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import xarray as xr

LABEL = "padded dense Zarr through xarray"
PADDED = 128
_CHUNK = 32  # inputs of one head in a chunk: 1 MiB
_AXES = ("example", "layer", "head", "from", "to")


def write(path: Path, maps: Iterable[tuple[int, np.ndarray]]) -> None:
    for number, part in enumerate(_parts(iter(maps))):
        if number:
            part.to_zarr(path, append_dim="example", consolidated=False)
        else:
            chunks = (_CHUNK, 1, 1, PADDED, PADDED)
            part.to_zarr(path, encoding={"maps": {"chunks": chunks}}, consolidated=False)


def _parts(maps: Iterator[tuple[int, np.ndarray]]) -> Iterator[xr.Dataset]:
    while part := list(islice(maps, _CHUNK)):
        dense = np.zeros((len(part), *part[0][1].shape[:2], PADDED, PADDED), np.float16)
        for row, (_, m) in zip(dense, part, strict=True):
            row[:, :, : m.shape[-1], : m.shape[-1]] = m
        lengths = np.array([m.shape[-1] for _, m in part])
        yield xr.Dataset(
            {"maps": (_AXES, dense), "length": ("example", lengths)},
            coords={"example": [example for example, _ in part]},
        )


def open(path: Path) -> xr.Dataset:
    return xr.open_zarr(path, chunks=None, consolidated=False)


def one_head(opened: xr.Dataset, layer: int, head: int) -> float:
    return float(opened["maps"][:, layer, head].values.sum(dtype=np.float32))


def one_map(opened: xr.Dataset, example: int, layer: int, head: int) -> float:
    row = opened.sel(example=example)
    length = int(row["length"])
    return float(row["maps"][layer, head, :length, :length].values.sum(dtype=np.float32))


def per_head(opened: xr.Dataset) -> list[float]:
    cells = int((opened["length"].values ** 2).sum())
    layers, heads = opened["maps"].shape[1:3]
    return [one_head(opened, i, j) / cells for i in range(layers) for j in range(heads)]
