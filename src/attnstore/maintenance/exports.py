"""Export a run's maps in another format: zarr, parquet, npz, or files for BertViz.

    export(store, "minilm/sample", "npz", "sample.npz")

The weights are float32 whatever their precision in the store. An export is written beside its
place and renamed at its end, so that it is whole or not there.
"""

from __future__ import annotations

import os
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from attnstore import map_kinds
from attnstore.errors import UnknownNameError, UsageError
from attnstore.map_kinds import WEIGHTS

if TYPE_CHECKING:
    from attnstore.store import Store

Progress = Callable[[int, int], None]
"""Called with the number of examples that are done, and of all."""

_BERTVIZ = """\
# Attention of {run} for BertViz

One file per example. In a notebook, with `bertviz` installed:

```python
import numpy as np
import torch
from bertviz import head_view

kept = np.load("{first}")
attention = [torch.from_numpy(layer) for layer in kept["attention"]]
head_view(attention, kept["texts"].tolist(), int(kept["sentence_b_start"]) or None)
```

BertViz counts the layers of a file from 0; `kept["layers"]` and `kept["heads"]` are their numbers.
"""


@dataclass(frozen=True)
class Exported:
    """An export. path: the file or folder; bytes: on disk."""

    path: Path
    examples: int
    bytes: int


class _Names(NamedTuple):
    """The L tokens of an input: as written in the vocabulary, and as people read them."""

    tokens: list[str]
    texts: list[str]


@dataclass(frozen=True)
class _Maps:
    """The maps to export. inputs: example, tokens (as in the vocabulary), texts (as people read
    them), second (first position of the second text)."""

    store: Store
    run: str
    layers: list[int]
    heads: list[int]
    inputs: pl.DataFrame
    progress: Progress
    kind: str = WEIGHTS

    def __iter__(self) -> Iterator[tuple[int, _Names, int | None, npt.NDArray[np.float32]]]:
        """Yield (example, names of its tokens, second, maps (layer, head, L, L)) of each input."""
        for done, (example, tokens, texts, second) in enumerate(self.inputs.iter_rows()):
            yield (
                example,
                _Names(tokens, texts),
                second,
                self.store.maps(self.run, example, kind=self.kind),
            )
            self.progress(done + 1, len(self.inputs))


def export(
    store: Store,
    run: str,
    to: str,
    out: str | Path | None = None,
    examples: Sequence[int] | None = None,
    progress: Progress = lambda *_: None,
    kind: str = WEIGHTS,
) -> Exported:
    """Write the maps of a run (of some of its examples) as one of FORMATS.

    out: where, by default the run's name (and the kind) in the current folder; kind: of maps; of one
    with a map a layer the heads are 0 alone. Raises UnknownNameError (no such run, example or kind), UsageError (no such format, `out` exists or cannot be written).
    """
    if to not in FORMATS:
        raise UsageError(f"Nothing exports to {to!r}; give one of {', '.join(FORMATS)}.")
    write, ending = FORMATS[to]
    _require_ending(to, ending, out)
    maps = _maps(store, run, examples, progress, kind)
    name = "-".join([*run.split("/"), *([] if kind == WEIGHTS else [kind])])
    path = Path(out or name + ending).expanduser().absolute()
    if path.exists():
        raise UsageError(f"{path} exists; give another place with --out, or move it away.")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(maps, unfinished)
        unfinished.rename(path)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror or error}); give another place with --out."
        ) from error
    finally:
        _remove(unfinished)
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return Exported(path, len(maps.inputs), sum(p.stat().st_size for p in files))


_FILES = (
    ".zarr", ".parquet", ".npz", ".npy", ".csv", ".tsv", ".json", ".jsonl", ".txt", ".md", ".tex",
    ".html", ".xlsx", ".h5", ".hdf5", ".zip", ".pt", ".safetensors", ".png", ".svg", ".pdf",
)  # fmt: skip
"""Endings that name a form of files, of which an export has one or none."""


def _require_ending(to: str, ending: str, out: str | Path | None) -> None:
    """Raise UsageError if `out` has the ending of another format."""
    named = Path(out or "").suffix.lower()
    if named in _FILES and named != ending:
        advice = f"end --out in {ending}" if ending in _FILES else "give --out the name of a folder"
        raise UsageError(f"An export --to {to} is no {named}; {advice}.")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _maps(
    store: Store, run: str, examples: Sequence[int] | None, progress: Progress, kind: str
) -> _Maps:
    record = store.run(run).record
    heads = [0] if map_kinds.find(kind).per_layer else record["heads"]
    inputs = store.sql(
        "SELECT example, tokens, texts, second FROM inputs LEFT JOIN "
        "(SELECT example, min(position) AS second FROM tokens WHERE run = $run AND segment = 1 "
        "GROUP BY example) USING (example) WHERE run = $run ORDER BY example",
        run=run,
    )
    if examples is not None:
        missing = sorted(set(examples) - set(inputs["example"]))
        if missing:
            raise UnknownNameError(
                f"Run {run} holds no example {missing[0]}; "
                f"`SELECT example FROM inputs WHERE run = '{run}'` lists those it holds."
            )
        inputs = inputs.filter(pl.col("example").is_in(list(examples)))
    if inputs.is_empty():
        raise UsageError(f"Run {run} holds no maps yet; ingest it first.")
    return _Maps(store, run, record["layers"], heads, inputs, progress, kind)


def _to_npz(maps: _Maps, path: Path) -> None:
    """Write one file for numpy.load: layers, heads, examples, and maps_N, tokens_N, texts_N of each example N."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:

        def put(name: str, array: Any) -> None:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)

        put("layers", maps.layers)
        put("heads", maps.heads)
        put("examples", maps.inputs["example"].to_numpy())
        for example, names, _, weights in maps:
            put(f"tokens_{example}", names.tokens)
            put(f"texts_{example}", names.texts)
            put(f"maps_{example}", weights)


def _to_parquet(maps: _Maps, path: Path) -> None:
    """Write one file with one row per map, its weights row by row; a row group per example."""
    schema = pa.schema(
        [("run", pa.string()), ("example", pa.int64()), ("layer", pa.int16()), ("head", pa.int16()),
         ("length", pa.int32()), ("tokens", pa.list_(pa.string())),
         ("texts", pa.list_(pa.string())), ("weights", pa.list_(pa.float32()))]
    )  # fmt: skip
    n_maps = len(maps.layers) * len(maps.heads)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for example, (tokens, texts), _, weights in maps:
            offsets = np.arange(n_maps + 1) * len(tokens) ** 2
            columns = [
                [maps.run] * n_maps,
                [example] * n_maps,
                np.repeat(maps.layers, len(maps.heads)),
                np.tile(maps.heads, len(maps.layers)),
                [len(tokens)] * n_maps,
                [tokens] * n_maps,
                [texts] * n_maps,
                pa.ListArray.from_arrays(offsets.astype(np.int32), weights.ravel()),
            ]
            arrays = [pa.array(c, t) for c, t in zip(columns, schema.types, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _to_zarr(maps: _Maps, path: Path) -> None:
    """Write one group that xarray opens: maps (example, layer, head, from, to), NaN beyond an input."""
    import zarr  # half a second that the other forms do without

    longest = int(maps.inputs["tokens"].list.len().max())  # type: ignore[arg-type]
    shape = (len(maps.inputs), len(maps.layers), len(maps.heads), longest, longest)
    group = zarr.create_group(path, attributes={"run": maps.run, "kind": maps.kind})
    for name, values in (
        ("example", maps.inputs["example"].to_numpy()),
        ("layer", np.asarray(maps.layers, np.int32)),
        ("head", np.asarray(maps.heads, np.int32)),
    ):
        group.create_array(name, data=values, dimension_names=(name,))
    lengths = maps.inputs["tokens"].list.len().to_numpy().astype(np.int32)
    group.create_array("length", data=lengths, dimension_names=("example",))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # texts are an extension of Zarr's specification
        for name in ("token", "text"):
            group.create_array(
                name, shape=shape[:1] + shape[3:4], dtype=str, chunks=(1, longest),
                dimension_names=("example", "from"), fill_value="",
            )  # fmt: skip
    array = group.create_array(
        "maps", shape=shape, dtype=np.float32, chunks=(1, *shape[1:]), fill_value=np.nan,
        dimension_names=("example", "layer", "head", "from", "to"),
    )  # fmt: skip
    for i, (_, (tokens, texts), _, weights) in enumerate(maps):
        group["token"][i, : len(tokens)] = np.array(tokens, dtype=object)
        group["text"][i, : len(tokens)] = np.array(texts, dtype=object)
        array[i, :, :, : len(tokens), : len(tokens)] = weights


def _to_bertviz(maps: _Maps, path: Path) -> None:
    """Write a folder with one npz per example: attention (layer, 1, head, L, L), tokens, texts, and README.md."""
    path.mkdir(parents=True)
    for example, names, second, weights in maps:
        np.savez_compressed(
            path / f"example-{example}.npz", attention=weights[:, None], tokens=names.tokens,
            texts=names.texts, sentence_b_start=second or 0, layers=maps.layers, heads=maps.heads,
        )  # fmt: skip
    first = f"example-{maps.inputs['example'][0]}.npz"
    (path / "README.md").write_text(_BERTVIZ.format(run=maps.run, first=first), "utf-8")


FORMATS: dict[str, tuple[Callable[[_Maps, Path], None], str]] = {
    "zarr": (_to_zarr, ".zarr"),
    "parquet": (_to_parquet, ".parquet"),
    "npz": (_to_npz, ".npz"),
    "bertviz": (_to_bertviz, "-bertviz"),
}
"""Writer of each format, and the ending of its default name."""
