"""Rules of paths: the name of a folder is data; what an engine would misread is refused before any work."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from helpers import write_texts

import attnstore
from attnstore.errors import AttnstoreError, StoreError, UsageError
from attnstore.maintenance.copying import copy
from attnstore.maintenance.exports import export
from attnstore.maintenance.verify import verify
from attnstore.specs import check_name
from attnstore.storage import index, location, locks

STRANGE = [
    "run[12]", "a*b", "lr=0.1", "it's", 'a "quoted" one', "two words", "übung 日本", "new\nline",
    "a;b", "100%20", "#1", "$HOME", "{a,b}", "~", "-x", "a,b", "@x", "(1)", "a|b", "s3:", "x://y",
]  # fmt: skip
"""Names of folders that a shell, SQL, a pattern or an address would read as something else."""


@pytest.mark.parametrize("name", STRANGE)
def test_a_store_in_a_folder_of_any_name_answers_as_elsewhere(
    sample_store: Path, tmp_path: Path, name: str
) -> None:
    """Its index is rebuilt, its weights are read, it verifies; its neighbours stay out of it."""
    folder = tmp_path / name
    for other in ("run1", "run2", "aab", "a"):
        (tmp_path / other).mkdir(exist_ok=True)
    root = Path(shutil.copytree(sample_store, folder / "s"))
    with attnstore.open(root) as store:
        assert store.behind is None
        assert store.sql("SELECT count(*) FROM map_stats").item() == 64
        assert store.reindex().loaded > 0
        example = store.sql("SELECT min(example) FROM inputs").item()
        assert store.maps("tiny/sample", example).shape[:2] == (2, 4)
        assert store.map("tiny/sample", example, 1, 3).weights[0].sum() == pytest.approx(1)
    assert verify(root).findings == []


def test_ingesting_copying_and_exporting_take_paths_as_data(
    tiny_bert: Path, tmp_path: Path
) -> None:
    """Every writer does: a store below `lr=0.1/[x]*`, its copy beside it, an export beside that."""
    place = tmp_path / "lr=0.1" / "[x]*"
    texts = write_texts(tmp_path / "t.jsonl", 4)
    attnstore.ingest(place / "a", str(tiny_bert), str(texts), max_length=64)
    assert copy(place / "a", place / "b").runs == ["tiny/t"]
    with attnstore.open(place / "b") as store:
        assert store.sql("SELECT count(*) FROM maps").item() == 32
        for form in ("zarr", "parquet", "npz"):
            assert export(store, "tiny/t", form, place / f"x.{form}").examples == 4
    attnstore.ingest(place / "a", str(tiny_bert), str(texts), max_length=64)
    assert verify(place / "a").findings == verify(place / "b").findings == []


@pytest.mark.parametrize("name", ["really?", "back\\slash", os.fsdecode(b"\xff\xfe")])
def test_what_an_engine_would_misread_is_refused_before_any_work(
    tiny_bert: Path, tmp_path: Path, name: str
) -> None:
    """DuckDB takes what follows a ? for options and a backslash for a slash; nothing is written."""
    with pytest.raises(UsageError, match="which DuckDB does not take in a path; rename"):
        attnstore.ingest(tmp_path / name / "s", str(tiny_bert), "sample", limit=2)
    assert list(tmp_path.iterdir()) == []
    for ask in (attnstore.open, verify, location.create):
        with pytest.raises(UsageError, match="rename"):
            ask(tmp_path / name / "s")


@pytest.mark.parametrize("path", ["a\0b", "~nobody-of-this-name/s"])
def test_what_is_no_path_is_one_sentence(path: str) -> None:
    """And no traceback."""
    with pytest.raises(AttnstoreError):
        attnstore.open(path)


@pytest.mark.parametrize("model", ["m" * 130, "m" * 200])
def test_long_names_work(tiny_bert: Path, tmp_path: Path, model: str) -> None:
    """A run of two long names is ingested, asked, verified and dropped: its lock's name is cut."""
    texts = write_texts(tmp_path / "t.jsonl", 2)
    root, data = tmp_path / "s", "d" * len(model)
    attnstore.ingest(root, f"{tiny_bert}={model}", f"{texts}={data}", max_length=64)
    attnstore.ingest(root, f"{tiny_bert}={model}", f"{texts}={data}", max_length=32)
    with attnstore.open(root) as store:
        assert store.runs()["run"].to_list() == [f"{model}/{data}", f"{model}/{data}@2"]
        assert verify(root).findings == []
        store.drop(f"{model}/{data}")
        assert store.runs()["run"].to_list() == [f"{model}/{data}@2"]


def test_a_name_that_cannot_be_a_folders_is_refused() -> None:
    """With what may be given."""
    with pytest.raises(UsageError, match="has 201 characters; give one of at most 200"):
        check_name("m" * 201)


def test_two_long_names_have_two_locks(tmp_path: Path) -> None:
    """Also where they begin alike."""
    first, second = (locks.path_of(location.locate(tmp_path), "m" * 300 + end) for end in "ab")
    assert first != second
    assert max(len(first.file.name), len(second.file.name)) < 255


def test_a_reader_of_a_store_that_moved_says_so_and_makes_nothing(
    sample_store: Path, tmp_path: Path
) -> None:
    """The old folder does not come back, empty and in the way."""
    old = Path(shutil.copytree(sample_store, tmp_path / "old"))
    with attnstore.open(old) as store:
        store.runs()
        old.rename(tmp_path / "new")
        for ask in (
            store.runs,
            lambda: store.kept("FROM runs"),
            lambda: index.catch_up(location.locate(old)),
        ):
            with pytest.raises(StoreError, match="is gone: it was moved or deleted"):
                ask()
        assert not old.exists()
    with attnstore.open(tmp_path / "new") as store:
        assert store.runs().height == 1


def test_a_linked_folder_of_a_run_is_part_of_the_store(sample_store: Path, tmp_path: Path) -> None:
    """Somebody may have put it on another disk; a link to a folder around itself ends."""
    root = Path(shutil.copytree(sample_store, tmp_path / "store"))
    for folder in ("fragments/map_stats/tiny", "attention.zarr/tiny"):
        (root / folder).rename(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").rename(moved := tmp_path / folder.replace("/", "-"))
        (root / folder).symlink_to(moved)
    (root / "fragments" / "map_stats" / "loop").symlink_to(root / "fragments")
    with attnstore.open(root) as store:
        assert store.behind is None
        assert store.sql("SELECT count(*) FROM map_stats").item() == 64
    (root / "fragments" / "map_stats" / "loop").unlink()
    report = verify(root)
    assert (report.findings, report.notes) == ([], [])
