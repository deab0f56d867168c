"""`datasets` with nested lists of float16, written to disk and memory-mapped again."""

from collections.abc import Iterable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LABEL = "`datasets`, nested lists of float16"
_AT_ONCE = 50


def write(path: Path, maps: Iterable[tuple[int, np.ndarray]]) -> None:
    features = datasets.Features(
        {"example": datasets.Value("int64"), "maps": _lists(datasets.Value("float16"), 4)}
    )
    cache = path.with_suffix(".cache")
    writer = datasets.arrow_writer.ArrowWriter(
        path=str(cache), features=features, writer_batch_size=_AT_ONCE
    )
    for example, m in maps:
        writer.write({"example": example, "maps": np.asarray(m)})
    writer.finalize()
    datasets.Dataset.from_file(str(cache)).save_to_disk(str(path))
    cache.unlink()


def _lists(inner: datasets.Value, depth: int) -> datasets.List | datasets.Value:
    return datasets.List(_lists(inner, depth - 1)) if depth else inner


def open(path: Path) -> tuple[datasets.Dataset, dict[int, int]]:
    """The dataset, and the row of every example."""
    dataset = datasets.Dataset.load_from_disk(str(path)).with_format("arrow")
    return dataset, {e: i for i, e in enumerate(dataset.data["example"].to_pylist())}


def one_head(opened: tuple[datasets.Dataset, dict[int, int]], layer: int, head: int) -> float:
    return sum(
        float(
            _values(pc.list_element(pc.list_element(chunk, layer), head), 2).sum(dtype=np.float32)
        )
        for chunk in opened[0].data["maps"].chunks
    )


def one_map(
    opened: tuple[datasets.Dataset, dict[int, int]], example: int, layer: int, head: int
) -> float:
    dataset, rows = opened
    found = dataset[rows[example]]["maps"][0][layer][head]
    return float(_values(found.values, 1).sum(dtype=np.float32))


def per_head(opened: tuple[datasets.Dataset, dict[int, int]]) -> list[float]:
    total, cells = 0.0, 0
    for chunk in opened[0].data["maps"].chunks:
        for layers in chunk:
            n_layers, n_heads = len(layers), len(layers[0])
            m = _values(layers.values, 3).reshape(n_layers * n_heads, -1)
            total = total + m.sum(1, dtype=np.float32).astype(float)
            cells += m.shape[1]
    return (total / cells).tolist()


def _values(lists: pa.Array, depth: int) -> np.ndarray:
    """The innermost values of lists of lists, without a copy."""
    for _ in range(depth):
        lists = lists.flatten()
    return lists.to_numpy()
