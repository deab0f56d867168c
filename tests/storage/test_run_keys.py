"""Rules of run keys: two runs of a store never share one, whatever their identities and records say."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import polars as pl
import pytest
from helpers import write_texts

import attnstore
from attnstore.capture import runs
from attnstore.maintenance.verify import verify
from attnstore.storage import fragments, index, index_rows, location

OF_A_RUN = ("runs", "inputs", "blocks", "map_stats", "offsets", "ingests")


def ingest(root: Path, model: Path, *sizes: int, **settings: int) -> None:
    """One run per size, over that many texts."""
    for n in sizes:
        texts = write_texts(root.parent / f"t{n}.jsonl", n, seed=n)
        attnstore.ingest(root, str(model), str(texts), **{"max_length": 64, **settings})


def require_apart(root: Path, sizes: dict[str, int]) -> None:
    """Each run has its own rows, as many as its size calls for, and its own weights."""
    with attnstore.open(root) as store:
        counts = "SELECT run, count(*)::INTEGER FROM {} GROUP BY run"
        assert dict(store.sql("SELECT run, stored::INTEGER FROM runs").rows()) == sizes
        for view, each in (("inputs", 1), ("map_stats", 8), ("maps", 8)):
            found = dict(store.sql(counts.format(view)).rows())
            assert found == {run: n * each for run, n in sizes.items()}
        sums = store.sql("SELECT DISTINCT round(list_sum(weights) / length, 3) AS s FROM maps")
        assert sums["s"].to_list() == [1.0]
    assert verify(root).findings == []


def test_runs_whose_identities_begin_alike_stay_apart(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where their first 64 bits are equal, under two names and under one."""
    number = itertools.count()
    seen: dict[str, str] = {}
    real = runs.identity

    def alike(*arguments: object) -> str:
        whole = real(*arguments)  # type: ignore[arg-type]
        rest = hashlib.sha256(str(next(number)).encode()).hexdigest()[16:]
        return seen.setdefault(whole, "0123456789abcdef" + rest)

    monkeypatch.setattr(runs, "identity", alike)
    root = tmp_path / "store"
    ingest(root, tiny_bert, 5, 9)
    ingest(root, tiny_bert, 5, max_length=32)
    ingest(root, tiny_bert, 5, 9)  # found again, nothing new
    require_apart(root, {"tiny/t5": 5, "tiny/t9": 9, "tiny/t5@2": 5})


def test_the_index_gives_a_key_once(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where two names have the same: the later run takes the next."""
    monkeypatch.setattr(index_rows, "run_key", lambda *_: 2**64 - 1)
    root = tmp_path / "store"
    ingest(root, tiny_bert, 5, 9)
    require_apart(root, {"tiny/t5": 5, "tiny/t9": 9})
    with attnstore.open(root) as store:
        assert sorted(store.runs()["run_key"]) == [0, 2**64 - 1]


def as_of_version_1(root: Path) -> None:
    """Write the fragments of a store's runs as an earlier version did: one key of 32 bits for all."""
    for table in OF_A_RUN:
        for fragment in fragments.listing(location.locate(root), table):
            rows = fragments.read(location.locate(root), fragment).with_columns(
                run_key=pl.lit(7, pl.UInt32)
            )
            if table == "runs":
                rows = rows.drop("layout")
            fragments.write(location.locate(root), table, fragment.owner, fragment.part, rows)


def test_a_store_with_keys_of_32_bits_is_indexed_with_keys_of_its_own(
    tiny_bert: Path, tmp_path: Path
) -> None:
    """Where two of its runs shared a key their rows are told apart; it can be added to."""
    root = tmp_path / "store"
    ingest(root, tiny_bert, 5, 9)
    as_of_version_1(root)
    require_apart(root, {"tiny/t5": 5, "tiny/t9": 9})
    (statistics,) = fragments.listing(location.locate(root), "map_stats", "tiny/t9")
    fragments.discard(location.locate(root), statistics)
    ingest(root, tiny_bert, 9, 6)  # what is gone of an old run is computed again
    require_apart(root, {"tiny/t5": 5, "tiny/t9": 9, "tiny/t6": 6})


def test_a_key_is_the_same_after_a_rebuild(tiny_bert: Path, tmp_path: Path) -> None:
    """And in the fragments that plain Parquet readers join: 64 bits of a SHA-256."""
    root = tmp_path / "store"
    ingest(root, tiny_bert, 5)
    with attnstore.open(root) as store:
        identity = store.runs()["identity"].item()
        key = int.from_bytes(hashlib.sha256(f"tiny/t5\n{identity}".encode()).digest()[:8], "big")
        assert store.runs()["run_key"].to_list() == [key]
        index.rebuild(location.locate(root))
        assert store.runs()["run_key"].to_list() == [key]
        assert store.sql("SELECT DISTINCT typeof(run_key) FROM map_places").item() == "UBIGINT"
    for table in OF_A_RUN:
        (fragment,) = fragments.listing(location.locate(root), table)
        keys = fragments.read(location.locate(root), fragment)["run_key"]
        assert (keys.dtype, keys.unique().to_list()) == (pl.UInt64, [key])


def test_a_second_record_of_a_run_is_damage(tiny_bert: Path, tmp_path: Path) -> None:
    """It is named, and no row of the run stands twice."""
    root = tmp_path / "store"
    ingest(root, tiny_bert, 5)
    (fragment,) = fragments.listing(location.locate(root), "runs")
    again = fragments.read(location.locate(root), fragment).with_columns(identity=pl.lit("f" * 64))
    fragments.write(location.locate(root), "runs", fragment.owner, "f" * 16, again)
    with attnstore.open(root) as store:
        assert store.runs().height == 1
        assert store.sql("SELECT count(*) FROM inputs").item() == 5
    assert any("second record of run tiny/t5" in str(f) for f in verify(root).findings)
