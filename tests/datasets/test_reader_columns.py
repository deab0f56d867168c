"""Rules of `attnstore.datasets.columns` and its readers: columns that nobody asks for do no harm."""

from __future__ import annotations

import datetime
import decimal
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attnstore.datasets import corpora, size_limits
from attnstore.errors import DatasetError

TEXTS = ["the cat sat", "a dog ran"]


def message(spec: object, **options: str) -> str:
    """The one sentence of the DatasetError that loading `spec` raises."""
    with pytest.raises(DatasetError) as caught:
        corpora.load(str(spec), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def loaded(path: Path, **options: str) -> pl.DataFrame | str:
    """The rows of a file, or the sentence that refuses it."""
    try:
        return corpora.load(str(path), **options).frame
    except DatasetError as error:
        return str(error)


OTHERS: dict[str, Callable[[], Any]] = {
    "fixed offset": lambda: pa.array(
        [datetime.datetime(2024, 1, 1)] * 2, pa.timestamp("us", tz="+05:30")
    ),
    "unknown zone": lambda: pa.array(
        [datetime.datetime(2024, 1, 1)] * 2, pa.timestamp("us", tz="Mars/Olympus")
    ),
    "decimal": lambda: pa.array([decimal.Decimal("1.5")] * 2, pa.decimal256(60, 2)),
    "map": lambda: pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
    "list of maps": lambda: pa.array(
        [[[("a", 1)]], []], pa.list_(pa.map_(pa.string(), pa.int64()))
    ),
    "large list": lambda: pa.array([["a"], []], pa.large_list(pa.large_string())),
    "fixed list": lambda: pa.array([[1, 2], [3, 4]], pa.list_(pa.int8(), 2)),
    "struct": lambda: pa.array([{"a": {"b": 1}}] * 2),
    "dictionary": lambda: pa.array(["a", "b"]).dictionary_encode(),
    "numbers by dictionary": lambda: pa.array([1, 2]).dictionary_encode(),
    "uuid": lambda: pa.array([b"0" * 16] * 2, pa.uuid()),
    "json": lambda: pa.array(['{"a": 1}'] * 2, pa.json_()),
    "unnamed extension": lambda: pa.ExtensionArray.from_storage(
        pa.opaque(pa.string(), "x", "y"), pa.array(["a", "b"])
    ),
    "nothing": lambda: pa.nulls(2),
    "binary": lambda: pa.array([b"\xff", b""]),
    "duration": lambda: pa.array([1, 2], pa.duration("ns")),
    "time": lambda: pa.array([1, 2], pa.time64("ns")),
    "half": lambda: pa.array([1.0, 2.0], pa.float16()),
    "broken text": lambda: pa.Array.from_buffers(
        pa.string(), 2, pa.array([b"\xff", b"\xfe"]).buffers()
    ),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", ["other", "label"])
def test_a_column_of_any_type_beside_the_texts_does_no_harm(
    tmp_path: Path, other: str, name: str
) -> None:
    """A Parquet file with it gives the texts that it gives without it, or one sentence as a label."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({name: OTHERS[other](), "text": TEXTS}), path)
    if name == "other" or other != "broken text":
        found = corpora.load(str(path))
        assert found.frame["text"].to_list() == TEXTS
        assert found.fingerprint == corpora.load(str(path), text="text").fingerprint
    else:
        assert "row 0 of" in message(path)
        assert "is not UTF-8 in column 'label'" in message(path)


@pytest.mark.parametrize("other", OTHERS)
def test_a_column_that_is_asked_for_is_read_or_refused_in_a_sentence(
    tmp_path: Path, other: str
) -> None:
    """Whatever its type, as a text and as a label."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"other": OTHERS[other](), "text": TEXTS}), path)
    for columns in ({"text": "other"}, {"text": "text", "label": "other"}):
        found = loaded(path, **columns)
        if isinstance(found, str):
            assert "'other'" in found
        else:
            assert found.schema["text"] == found.schema["label"] == pl.String


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
)
def test_texts_of_every_string_type_are_the_same(tmp_path: Path, kind: Any) -> None:
    """Over several row groups too, with rows that are missing."""
    rows = [*TEXTS, None, TEXTS[0]] * 3
    pq.write_table(
        pa.table({"text": pa.array(rows).cast(kind)}), tmp_path / "x.parquet", row_group_size=5
    )
    assert corpora.load(str(tmp_path / "x.parquet")).frame["text"].to_list() == rows


def test_two_columns_of_one_name_matter_where_they_are_wanted(tmp_path: Path) -> None:
    """In Parquet and CSV alike; a name with a dot is no part of another column."""
    path = tmp_path / "x.parquet"
    columns = [pa.array(TEXTS), pa.array([1, 2]), pa.array([3, 4]), pa.array([5, 6])]
    pq.write_table(pa.table(columns, names=["text", "id", "id", "text.id"]), path)
    assert corpora.load(str(path)).frame["text"].to_list() == TEXTS
    assert "two columns named 'id'" in message(path, text="text", label="id")
    assert corpora.load(str(path), text="text", label="text.id").frame["label"].to_list() == [
        "5",
        "6",
    ]
    (tmp_path / "x.csv").write_text("id,text,id\n1,a,2\n")
    assert corpora.load(str(tmp_path / "x.csv")).frame["text"].to_list() == ["a"]
    assert "two columns named 'id'" in message(tmp_path / "x.csv", text="text", label="id")


def test_a_whole_file_is_not_called_cut(tmp_path: Path) -> None:
    """Cut, encrypted, damaged and empty files are told apart."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": TEXTS}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert "is not a whole Parquet file" in message(path)
    path.write_bytes(b"PARE" + whole[4:-4] + b"PARE")
    assert "is encrypted" in message(path)
    damaged = bytearray(whole)
    damaged[-20:-8] = b"\xff" * 12
    path.write_bytes(damaged)
    assert "is a Parquet file that cannot be read" in message(path)
    pq.write_table(pa.table({}), path)
    assert "holds no rows" in message(path)


def test_shards_may_differ_in_columns_that_nobody_reads(tmp_path: Path) -> None:
    """Not in those of the texts."""
    for number, other in enumerate((pa.array([1, 2]), pa.array(["x", "y"]))):
        name = f"train-0000{number}-of-00002.parquet"
        pq.write_table(pa.table({"text": TEXTS, "other": other}), tmp_path / name)
    assert corpora.load(str(tmp_path)).frame["text"].to_list() == TEXTS * 2
    pq.write_table(pa.table({"other": [1]}), tmp_path / "train-00001-of-00002.parquet")
    assert "differ in their columns" in message(tmp_path)


def test_json_fields_that_nobody_reads_may_hold_anything(tmp_path: Path) -> None:
    """Of mixed types, with half a character, as a name too; in .jsonl and .json."""
    records = [
        {"text": TEXTS[0], "extra": [1], "half": "\ud83d", "big": 2**70},
        {"text": TEXTS[1], "extra": 2, "half": {}, "\ud83d": 1},
    ]
    lines = tmp_path / "x.jsonl"
    lines.write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "x.json").write_text(json.dumps(records))
    for path in (lines, tmp_path / "x.json"):
        assert corpora.load(str(path)).frame["text"].to_list() == TEXTS
    assert "(it has text, extra, half, big, \\ud83d)" in message(lines, text="none")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (['{"text": "a"}', '', '{"text": ["b"]}'], "line 3: the field 'text' holds a list, and before it text"),
        (['{"text": "a"}', '{"text": "cut \\ud83d"}'], "line 2: the field 'text' holds \\ud83d at character 4"),
        (['{"text": "a", "label": 1}', '{"text": "b", "label": [1]}'], "line 2: the field 'label' holds a list, and before it a number"),
        (['{"text": "a"}', "3"], "line 2 holds a number instead"),
    ],
)  # fmt: skip
def test_a_json_row_that_cannot_be_read_is_named(
    tmp_path: Path, rows: list[str], said: str
) -> None:
    """With its line and its field."""
    (tmp_path / "x.jsonl").write_text("\n".join(rows))
    assert said in message(tmp_path / "x.jsonl")


def test_a_saved_dataset_is_read_by_the_columns_that_are_asked_for(tmp_path: Path) -> None:
    """Also one that selects rows, whose other columns Polars does not know."""
    table = pa.table({"text": TEXTS, "when": OTHERS["fixed offset"](), "label": [1, 0]})
    datasets.Dataset(table).select([1, 0]).save_to_disk(tmp_path / "x")
    found = corpora.load(str(tmp_path / "x")).frame
    assert found["text"].to_list() == TEXTS[::-1]
    assert found["label"].to_list() == ["0", "1"]
    assert "holds timestamp[us, tz=+05:30], not text" in message(tmp_path / "x", text="when")


@pytest.mark.parametrize("folder", ["run[12]", "what?", "all*", "back\\slash", "lr=0.1", "a b"])
def test_a_path_is_read_as_it_is_written(tmp_path: Path, folder: str) -> None:
    """Characters that mean something to others are part of a name: of files, folders and splits."""
    for number, name in enumerate((folder, "run1", "whatx", "allx", "lr", "a")):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"text": [name]}), tmp_path / name / f"{name}.parquet")
        (tmp_path / name / f"{name}.csv").write_text(f"text\n{number}\n")
        datasets.Dataset.from_dict({"text": [name]}).save_to_disk(tmp_path / f"{name}-saved")
    here = tmp_path / folder
    assert corpora.load(f"{here / folder}.parquet").frame["text"].to_list() == [folder]
    assert corpora.load(f"{here / folder}.csv=d").frame["text"].to_list() == ["0"]
    (here / f"{folder}.csv").unlink()
    assert corpora.load(str(here)).frame["text"].to_list() == [folder]
    assert corpora.load(f"{here}-saved").frame["text"].to_list() == [folder]


def test_damaged_parquet_files_end_in_a_sentence(tmp_path: Path) -> None:
    """Random bytes changed anywhere, also in the schema."""
    table = pa.table({"text": TEXTS * 20, "label": pa.array([1, 2] * 20), "map": [{"a": 1}] * 40})
    path = tmp_path / "x.parquet"
    pq.write_table(table, path)
    whole, choices = path.read_bytes(), random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(choices.choice((1, 1, 4))):
            damaged[choices.randrange(4, len(whole) - 4)] = choices.randrange(256)
        path.write_bytes(damaged)
        found = loaded(path)
        assert str(path) in found if isinstance(found, str) else found.schema["text"] == pl.String


# Memory ------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64 MB."""
    monkeypatch.setattr(size_limits, "memory", lambda: 64_000_000)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("packed", [True, False])
def test_a_small_file_of_much_text_is_refused_before_it_is_unpacked(
    tmp_path: Path, packed: bool
) -> None:
    """Equal texts packed as one, or compressed; the sentence says how much and what to do."""
    path = tmp_path / "x.parquet"
    texts = pa.table({"text": ["a" * 100_000] * 1_000, "small": ["a"] * 1_000})
    pq.write_table(texts, path, use_dictionary=packed, compression="zstd")
    assert path.stat().st_size < 200_000
    said = message(path)
    assert "is too large for this machine" in said
    assert "at most 16 MB are read" in said
    assert corpora.load(str(path), text="small").frame.height == 1_000


@pytest.mark.usefixtures("small")
def test_a_file_of_too_many_rows_is_refused(tmp_path: Path) -> None:
    """Rows cost memory even where they are empty."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": pa.nulls(200_000, pa.string())}), path)
    assert "its 200,000 rows take" in message(path)


@pytest.mark.usefixtures("small")
def test_a_text_file_larger_than_the_memory_is_refused(tmp_path: Path) -> None:
    """By its size, before it is read."""
    (tmp_path / "x.txt").write_bytes(b"a b\n" * 3_000_000)
    assert "is too large for this machine" in message(tmp_path / "x.txt")
