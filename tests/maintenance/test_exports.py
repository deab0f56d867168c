"""Rules of `attnstore.maintenance.exports`: every form gives back the weights, read by others' libraries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xarray
from helpers import write_texts

import attnstore
from attnstore.errors import UnknownNameError, UsageError
from attnstore.maintenance.exports import FORMATS, export

RUN = "tiny/texts"


@pytest.fixture(scope="module")
def store(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[attnstore.Store]:
    """A store with a run of 6 pairs, layer 1 and heads 0, 2, 3 of the model."""
    folder = tmp_path_factory.mktemp("exports")
    texts = write_texts(folder / "texts.jsonl", 6, longest=9, pairs=True)
    attnstore.ingest(
        folder / "s", str(tiny_bert), str(texts), max_length=64, layers=(1,), heads=(0, 2, 3)
    )
    with attnstore.open(folder / "s") as opened:
        yield opened


def tokens(store: attnstore.Store, example: int, column: str = "tokens") -> list[str]:
    found = store.sql(f"SELECT {column} FROM inputs WHERE example = $e", e=example)
    return list(found[column][0])


def test_npz_holds_every_map(store: attnstore.Store, tmp_path: Path) -> None:
    """numpy.load alone reads it."""
    done = export(store, RUN, "npz", tmp_path / "maps.npz")
    assert (done.examples, done.bytes) == (6, (tmp_path / "maps.npz").stat().st_size)
    with np.load(done.path) as kept:
        assert kept["layers"].tolist() == [1]
        assert kept["heads"].tolist() == [0, 2, 3]
        assert kept["examples"].tolist() == list(range(6))
        for example in range(6):
            assert np.array_equal(kept[f"maps_{example}"], store.maps(RUN, example))
            assert kept[f"tokens_{example}"].tolist() == tokens(store, example)
            assert kept[f"texts_{example}"].tolist() == tokens(store, example, "texts")


def test_parquet_has_one_row_per_map(store: attnstore.Store, tmp_path: Path) -> None:
    """Its rows are those of view `maps`."""
    export(store, RUN, "parquet", tmp_path / "maps.parquet")
    kept = pl.read_parquet(tmp_path / "maps.parquet").sort("example", "layer", "head")
    wanted = store.sql("FROM maps ORDER BY example, layer, head")
    assert kept.drop("tokens", "texts").equals(wanted.select(kept.drop("tokens", "texts").columns))
    assert kept["tokens"][0].to_list() == tokens(store, 0)
    assert kept["texts"][0].to_list() == tokens(store, 0, "texts")


def test_zarr_opens_in_xarray(store: attnstore.Store, tmp_path: Path) -> None:
    """Named axes with the real numbers of layers and heads, NaN beyond an input."""
    export(store, RUN, "zarr", tmp_path / "maps.zarr")
    kept = xarray.open_zarr(tmp_path / "maps.zarr", consolidated=False)
    for example in range(6):
        one: Any = kept.sel(example=example)
        n = int(one.length)
        assert np.array_equal(one.maps.values[:, :, :n, :n], store.maps(RUN, example))
        assert np.isnan(one.maps.values[:, :, n:]).all()
        assert one.token.values[:n].tolist() == tokens(store, example)
        assert one.text.values[:n].tolist() == tokens(store, example, "texts")
    assert kept.maps.sel(layer=1, head=3).dims == ("example", "from", "to")
    assert kept.attrs["run"] == RUN


def test_bertviz_draws_what_was_exported(store: attnstore.Store, tmp_path: Path) -> None:
    """The lines of its README.md run with the real library and show the readable tokens."""
    bertviz = pytest.importorskip("bertviz", reason="bertviz is not installed")
    pytest.importorskip("IPython", reason="bertviz shows in a notebook")
    export(store, RUN, "bertviz", tmp_path / "views", examples=[2])
    assert {p.name for p in (tmp_path / "views").iterdir()} == {"README.md", "example-2.npz"}
    code = re.search(r"```python\n(.*)```", (tmp_path / "views" / "README.md").read_text(), re.S)
    assert code is not None
    shown: list[Any] = []

    def head_view(attention: Any, said: list[str], second: int | None) -> None:
        shown.append(bertviz.head_view(attention, said, second, html_action="return"))

    lines = code[1].replace("from bertviz import head_view\n", "").replace("example-2", str(tmp_path / "views" / "example-2"))  # fmt: skip
    exec(lines, {"head_view": head_view})
    assert all(token in shown[0].data for token in tokens(store, 2, "texts"))
    with np.load(tmp_path / "views" / "example-2.npz") as kept:
        assert np.array_equal(kept["attention"][:, 0], store.maps(RUN, 2))
        second = tokens(store, 2).index("[SEP]") + 1
        assert int(kept["sentence_b_start"]) == second


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_is_whole_or_not_there(
    store: attnstore.Store, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped half-way, nothing stays; what exists is not written over."""

    def stop(done: int, _total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(store, RUN, form, tmp_path / "out", progress=stop)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.chdir(tmp_path)
    done = export(store, RUN, form, examples=[1])
    assert done.path.name.startswith("tiny-texts")
    with pytest.raises(UsageError, match="exists"):
        export(store, RUN, form)


def test_mistakes_are_one_sentence(store: attnstore.Store, tmp_path: Path) -> None:
    """An unknown run, example, form or folder."""
    with pytest.raises(UnknownNameError, match="did you mean tiny/texts"):
        export(store, "tiny/text", "npz", tmp_path / "x")
    with pytest.raises(UnknownNameError, match="no example 9"):
        export(store, RUN, "npz", tmp_path / "x", examples=[1, 9])
    with pytest.raises(UsageError, match="one of zarr, parquet, npz, bertviz"):
        export(store, RUN, "csv", tmp_path / "x")
    with pytest.raises(UsageError, match="cannot be written"):
        export(store, RUN, "npz", tmp_path / "no" / "x")
