"""Rules of what is read by: a run's record says how its arrays lie, and nothing else is believed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import attnstore
from attnstore.errors import AttnstoreError, DamageError, QueryError, UnknownNameError
from attnstore.maintenance.verify import verify
from attnstore.storage import array_shape, arrays, fragments, location, zarr_metadata
from attnstore.storage.precision import PRECISIONS

RUN = "tiny/sample"


@pytest.fixture
def root(sample_store: Path, tmp_path: Path) -> Path:
    """A copy of a store with one run of 2 layers and 4 heads."""
    return Path(shutil.copytree(sample_store, tmp_path / "store"))


def path_of(root: Path, name: str) -> Path:
    return root / arrays.FOLDER / RUN / name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_record_calls_for_what_zarr_writes(precision: str) -> None:
    """The metadata that arrays are opened by are those of the description, in every precision."""
    shape = array_shape.planned(precision, [0, 3], [1, 2, 7], 5, 64)
    written = zarr_metadata.description("m/d", shape)
    for array in ("maps", "received"):
        found = json.loads(written[f"{arrays.FOLDER}/m/d/{array}/zarr.json"])
        wanted = shape.metadata(array)
        assert {key: found[key] for key in wanted} == wanted


@pytest.mark.parametrize("name", ["zarr.json", "maps/zarr.json", "received/zarr.json"])
def test_no_flipped_bit_of_a_description_gives_other_weights(root: Path, name: str) -> None:
    """Whichever it is: the weights that were stored, or an error that says what to do."""
    shape, file = zarr_metadata.recorded(location.locate(root), RUN), path_of(root, name)
    opened = arrays.open_run(location.locate(root), RUN, shape)
    places = np.arange(8), np.zeros(8, np.int64), np.full(8, 9)
    expected = {array: opened.gather(array, *places) for array in ("maps", "received")}
    data = file.read_bytes()
    refused: list[str] = []
    for at in range(0, 8 * len(data), 7):  # every bit of a byte in turn
        harmed = bytearray(data)
        harmed[at // 8] ^= 1 << at % 8
        file.write_bytes(harmed)
        try:
            run = arrays.open_run(location.locate(root), RUN, shape)
        except AttnstoreError as error:
            refused.append(str(error))
            continue
        assert (run.layers, run.heads) == (shape.layers, shape.heads)
        if at % 35 == 0:  # opened by the same metadata, whatever the bit was
            for array, weights in expected.items():
                assert np.array_equal(run.gather(array, *places), weights)
    assert len(refused) > 40
    assert all("ingest the run again" in r or "attnstore verify" in r for r in refused)


OTHERS: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "layers in another order": ("zarr.json", lambda d: d["attributes"].update(layers=[1, 0])),
    "other heads": ("zarr.json", lambda d: d["attributes"].update(heads=[0, 1, 3, 2])),
    "another precision": ("zarr.json", lambda d: d["attributes"].update(precision="compact")),
    "axes swapped": ("maps/zarr.json", lambda d: d.update(shape=[4, 2, d["shape"][2]])),
    "another type": ("maps/zarr.json", lambda d: d.update(data_type="int32")),
    "another order of bytes": (
        "received/zarr.json",
        lambda d: d["codecs"][0]["configuration"]["codecs"][0]["configuration"].update(
            endian="big"
        ),
    ),
    "keys that lie elsewhere": (
        "maps/zarr.json",
        lambda d: d["chunk_key_encoding"]["configuration"].update(separator="."),
    ),
    "a transformer": ("maps/zarr.json", lambda d: d.update(storage_transformers=[{"name": "x"}])),
    "no object": ("maps/zarr.json", lambda d: d.clear()),
}


@pytest.mark.parametrize("what", sorted(OTHERS))
def test_a_description_that_is_not_the_records_is_damage(root: Path, what: str) -> None:
    """Nothing is read by it; verify names the file; ingesting again writes it anew."""
    name, change = OTHERS[what]
    parsed = json.loads(path_of(root, name).read_text())
    change(parsed)
    path_of(root, name).write_text(json.dumps(parsed))
    with attnstore.open(root) as store:
        example = store.sql("SELECT min(example) FROM inputs").item()
        for ask in (
            lambda: store.sql("SELECT count(weights) FROM maps"),
            lambda: store.maps(RUN, example),
            lambda: store.map(RUN, example, 0, 0),
        ):
            with pytest.raises(DamageError, match="ingest the run again"):
                ask()
    assert any(name in str(f) for f in verify(root).findings)


def test_no_answer_of_a_damaged_description_is_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it is whole again the answer is the right one, in this session and in another."""
    monkeypatch.setattr("attnstore.query.answer_cache.WORTH", 0.0)
    text = "SELECT layer, head, avg(weights[1]) AS w FROM maps GROUP BY ALL ORDER BY ALL"
    file = path_of(root, "zarr.json")
    data = file.read_text()
    parsed = json.loads(data)
    parsed["attributes"]["layers"] = [1, 0]
    with attnstore.open(root) as store:
        file.write_text(json.dumps(parsed))
        with pytest.raises(DamageError):
            store.kept(text)
        file.write_text(data)
        right = store.kept(text)
        assert store.kept(text).equals(right)
    with attnstore.open(root) as store:
        assert store.kept(text).equals(right)
        assert store.sql(text).equals(right)


def test_an_answer_is_kept_only_as_long_as_the_files_that_it_read(
    root: Path, tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard of something else, whole in itself, in the place of the run's: asked anew, and again
    when it is put right; also in another session."""
    monkeypatch.setattr("attnstore.query.answer_cache.WORTH", 0.0)
    text = "SELECT layer, head, sum(weights[2]) AS w FROM maps GROUP BY ALL ORDER BY ALL"
    attnstore.ingest(
        tmp_path / "o",
        str(tiny_bert),
        "sample",
        limit=8,
        seed=3,
        max_length=64,
        precision="float32",
    )
    shard = root / arrays.shard_path(RUN, "maps", 0)
    data = shard.read_bytes()
    with attnstore.open(root) as store:
        right = store.kept(text)
        shard.write_bytes((tmp_path / "o" / arrays.shard_path(RUN, "maps", 0)).read_bytes())
        assert not store.kept(text).equals(right)
    shard.write_bytes(data)
    with attnstore.open(root) as store:
        assert store.kept(text).equals(right)


def test_kept_answers_of_a_copy_are_not_believed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They came with the store; what this machine keeps lies under the seal of its own index."""
    monkeypatch.setattr("attnstore.query.answer_cache.WORTH", 0.0)
    text = "SELECT count(*) AS n FROM maps"
    with attnstore.open(root) as store:
        store.kept(text)
    (kept,) = (root / "answers").iterdir()
    copied = Path(shutil.copytree(root, tmp_path / "copied"))
    with attnstore.open(copied) as store:
        store.kept(text)
    assert [p.name for p in (copied / "answers").iterdir()] != [kept.name]


# Functions

CALLS = {
    "weights": "attention_weights(run_key, {layer}, {head}, {cell}, {n})",
    "received": "attention_received(run_key, {layer}, {head}, {cell}, {n})",
    "at": "attention_at(run_key, {layer}, {head}, {cell}, {n}, [0], [0])",
    "between": "attention_between(run_key, {layer}, {head}, {cell}, {n}, "
    "list_transform(range(greatest(0, least({n}, 99))), lambda x: 1::FLOAT), "
    "list_transform(range(greatest(0, least({n}, 99))), lambda x: 1::FLOAT))",
    "compare": "attention_compare(run_key, {layer}, {head}, {cell}, {n}, run_key, {cell})",
    "row_max": "attention_row_max(run_key, {layer}, {head}, {cell}, {n})",
    "row_argmax": "attention_row_argmax(run_key, {layer}, {head}, {cell}, {n})",
    "count_above": "attention_count_above(run_key, {layer}, {head}, {cell}, {n}, 0.1)",
    "top_k": "attention_top_k(run_key, {layer}, {head}, {cell}, {n}, 3)",
    "compare_heads": "attention_compare_heads(run_key, 1, 3, 0, {n}, run_key, {layer}, {head}, {cell})",
}


@pytest.fixture(scope="module")
def store(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> attnstore.Store:
    """A run that keeps layer 1 and heads 1 and 3 of 2 layers of 4 heads."""
    root = tmp_path_factory.mktemp("some") / "store"
    attnstore.ingest(
        root, str(tiny_bert), "sample", limit=4, max_length=64, layers=(1,), heads=(1, 3)
    )
    return attnstore.open(root)


def call(store: attnstore.Store, name: str, **values: int) -> pl.DataFrame:
    values = {"layer": 1, "head": 3, "cell": 0, "n": 5} | values
    return store.sql(f"SELECT {CALLS[name].format(**values)} AS x FROM runs")


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_head_that_the_run_does_not_hold_is_an_error_that_names_those_it_holds(
    store: attnstore.Store, name: str
) -> None:
    """Never another head's weights; the same for a layer, and below 0."""
    assert call(store, name).height == 1
    for head in (0, 2, 4, -1, -2, 32767, -32768):
        with pytest.raises(UnknownNameError, match=rf"holds no head {head}; its heads are 1, 3"):
            call(store, name, head=head)
    for layer in (0, 2, -1, 1000):
        with pytest.raises(UnknownNameError, match=rf"holds no layer {layer}; its layers are 1 "):
            call(store, name, layer=layer)


@pytest.mark.parametrize("name", sorted(CALLS))
@pytest.mark.parametrize("values", [
    {"n": -1}, {"n": -5000}, {"n": 3_000_000_000}, {"n": 2**62}, {"n": 10**8}, {"cell": -1},
    {"cell": 10**12}, {"cell": 2**63 - 1}, {"n": 2**63 - 1, "cell": 2**63 - 1},
], ids=str)  # fmt: skip
def test_places_that_are_none_are_refused_before_anything_is_made(
    store: attnstore.Store, name: str, values: dict[str, int]
) -> None:
    """One sentence, within the memory that a small question takes."""
    with pytest.raises(QueryError):
        call(store, name, **values)


def test_a_batch_whose_numbers_cancel_out_is_refused(store: attnstore.Store) -> None:
    """n of 5000 and of −5000 in turns add up to nothing, and took a process to 16 GiB."""
    for name in sorted(CALLS.keys() - {"between"}):
        text = CALLS[name].format(
            layer=1, head=3, cell=0, n="(CASE i % 2 WHEN 0 THEN 1 ELSE -1 END * 5000)"
        )
        with pytest.raises(QueryError, match=r"give [01] or more|at most|per head"):
            store.sql(f"SELECT count({text}) FROM runs, range(2000) t(i)")


@pytest.mark.parametrize("name", sorted(CALLS.keys() - {"weights", "received"}))
def test_an_input_of_no_tokens_is_refused(store: attnstore.Store, name: str) -> None:
    """One sentence, where comparing two maps of nothing divides by zero."""
    with pytest.raises(QueryError, match="length = 0; give 1 or more"):
        call(store, name, n=0)


def test_a_run_that_is_not_there_has_no_key(store: attnstore.Store) -> None:
    """Of 64 bits or fewer."""
    for key in (0, 2**63, 2**64 - 1):
        with pytest.raises(UnknownNameError, match="No run has the key"):
            store.sql(f"SELECT attention_weights({key}::UBIGINT, 0, 0, 0, 1)")


def test_a_record_that_gives_no_arrays_is_damage(root: Path) -> None:
    """Layers that are none, a layout that does not fit: named, and the rest can be read."""
    (fragment,) = fragments.listing(location.locate(root), "runs")
    record = fragments.read(location.locate(root), fragment)
    for change in (
        {"layers": pl.lit([], pl.List(pl.Int64))},
        {"heads": pl.lit([0, 0, 1, 2], pl.List(pl.Int64))},
        {"layout": pl.lit([1, 100, 33, 100, 10], pl.List(pl.Int64))},
        {"precision": pl.lit("float8")},
    ):
        fragments.write(
            location.locate(root), "runs", RUN, fragment.part, record.with_columns(**change)
        )
        with attnstore.open(root) as opened:
            assert "damaged" in str(opened.behind)
            assert opened.sql("FROM examples").height > 0
