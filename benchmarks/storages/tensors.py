"""One safetensors file per example."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

LABEL = "one safetensors file per example"


def write(path: Path, maps: Iterable[tuple[int, np.ndarray]]) -> None:
    path.mkdir()
    for example, m in maps:
        save_file({"maps": np.ascontiguousarray(m)}, path / f"{example}.safetensors")


def open(path: Path) -> list[Path]:
    return sorted(path.iterdir())


def one_head(opened: list[Path], layer: int, head: int) -> float:
    return sum(_one(path, layer, head) for path in opened)


def _one(path: Path, layer: int, head: int) -> float:
    with safe_open(path, "np") as file:
        return float(file.get_slice("maps")[layer, head].sum(dtype=np.float32))


def one_map(opened: list[Path], example: int, layer: int, head: int) -> float:
    return _one(opened[0].with_name(f"{example}.safetensors"), layer, head)


def per_head(opened: list[Path]) -> list[float]:
    total, cells = 0.0, 0
    for path in opened:
        with safe_open(path, "np") as file:
            m = file.get_tensor("maps")
        total = total + m.sum((2, 3), dtype=np.float32).astype(float)
        cells += m.shape[-1] ** 2
    return (total / cells).ravel().tolist()
