"""Rules of stores made by `benchmarks.synthetic_store`, and of catching up with many fragments."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import polars as pl
import pytest
import tiny
from helpers import write_texts

import attnstore
from attnstore.resources import sql_files
from attnstore.storage import fragments, index, location
from benchmarks import synthetic_store

EXAMPLES = 1000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scaling") / "store"
    synthetic_store.make(str(path), EXAMPLES)
    index.catch_up(location.locate(path))
    return path


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy to change; times of files are kept."""
    return Path(shutil.copytree(made, tmp_path / "store"))


def test_every_check_that_needs_no_weights_passes(made: Path) -> None:
    """Rows, blocks, tokens, statistics and their bounds are those of a sound store."""
    with attnstore.open(made) as store:
        assert store.behind is None
        for name, path in sql_files("check").items():
            assert store.sql(path.read_text()).rows() == [], name
        assert store.sql("SELECT count(*) FROM map_stats").item() == EXAMPLES * 144
        assert store.sql("SELECT state, stored FROM runs").rows() == [("complete", EXAMPLES)]


def test_tokens_lie_where_the_texts_have_them(made: Path) -> None:
    """By their offsets, in the text of their segment."""
    with attnstore.open(made) as store:
        found = store.sql(
            "SELECT count(*) AS n, count(*) FILTER (token <> "
            'substr(if(segment = 0, examples.text, text_pair), "start" + 1, "end" - "start")) AS wrong '
            "FROM tokens JOIN runs USING (run) JOIN examples USING (dataset, example) "
            "WHERE kind IN ('word', 'punctuation')"
        )
    assert found["n"].item() > 30 * EXAMPLES
    assert found["wrong"].item() == 0


def test_statistics_compress_as_badly_as_real_ones(made: Path, tmp_path: Path) -> None:
    """Bytes per row of `map_stats`, within a tenth; the same columns in the same types."""
    model = tiny.make(tmp_path / "bert", "bert")
    texts = write_texts(tmp_path / "t.jsonl", 300, longest=40)
    attnstore.ingest(tmp_path / "real", str(model), str(texts), max_length=64)
    real, drawn = (
        fragments.listing(location.locate(p), "map_stats") for p in (tmp_path / "real", made)
    )
    frames = [pl.read_parquet(p / f[0].path) for p, f in ((tmp_path / "real", real), (made, drawn))]
    assert frames[0].schema == frames[1].schema
    bytes_a_row = [f[0].bytes / len(frame) for f, frame in zip((real, drawn), frames, strict=True)]
    assert bytes_a_row[1] / bytes_a_row[0] == pytest.approx(1, abs=0.1)


def test_catching_up_with_many_fragments_gives_what_rebuilding_gives(root: Path) -> None:
    """A hundred at once, in one transaction; the index stays sealed."""
    index.catch_up(location.locate(root))  # the store is a copy, so its index is rebuilt first
    synthetic_store.add_runs(str(root), 20)
    assert index.catch_up(location.locate(root)) == index.Change(100, 0, [])
    assert index.sealed(location.locate(root))
    views = ("runs", "models", "inputs", "tokens", "map_stats", "blocks")
    with attnstore.open(root) as store:
        added = {view: store.sql(f"FROM {view} ORDER BY ALL").rows() for view in views}
        assert len(added["runs"]) == 21
        store.reindex()
        assert {view: store.sql(f"FROM {view} ORDER BY ALL").rows() for view in views} == added
    for run in range(20):
        shutil.rmtree(root / "fragments" / "runs" / f"random-{run}")
    assert index.catch_up(location.locate(root)) == index.Change(0, 80, [])
    assert index.sealed(location.locate(root))


def test_an_index_that_was_edited_or_copied_is_made_anew_before_anything_is_added(
    root: Path,
) -> None:
    """Also one whose time of writing was put back: the system's time of change shows it."""
    assert not _catches_up_in_place(root)  # the store is a copy
    assert _catches_up_in_place(root)
    stat, data = (root / index.FILE).stat(), bytearray((root / index.FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (root / index.FILE).write_bytes(data)
    os.utime(root / index.FILE, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not _catches_up_in_place(root)
    assert index.sealed(location.locate(root))


def _catches_up_in_place(root: Path) -> bool:
    """Add a run, catch up; whether the index is still the same file."""
    number = (root / index.FILE).stat().st_ino
    first = len(fragments.listing(location.locate(root), "runs"))
    synthetic_store.add_runs(str(root), 1, first)
    index.catch_up(location.locate(root))
    assert index.catch_up(location.locate(root)) == index.Change(0, 0, [])
    return (root / index.FILE).stat().st_ino == number
