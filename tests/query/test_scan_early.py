"""Rules of scans that end early: the rows come, the process lives, nothing stays locked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from helpers import write_texts
from polars.testing import assert_frame_equal

import attnstore
from attnstore.errors import DamageError
from attnstore.query import pushdown
from attnstore.storage.arrays import RunArrays

BEGIN = """
import sys, time, polars as pl, attnstore
store = attnstore.open(sys.argv[1])
scan = store.scan("attention")
picked = scan.filter(pl.col("layer") == 1)
"""
ENDINGS = {
    "head after a filter": "assert picked.head(3).collect().height == 3",
    "streaming": "assert picked.head(3).collect(engine='streaming').height == 3",
    "first": "assert scan.filter(pl.col('weight') > 0.01).first().collect().height == 1",
    "slice": "assert picked.slice(10, 5).collect().height == 5",
    "a break": "for batch in picked.collect_batches(): break",
    "an iterator that is held": "batches = iter(picked.collect_batches()); next(batches)",
    "a join under a limit": "keys = ['run', 'example', 'layer', 'head']\n"
    "assert scan.join(store.scan('maps').select(keys), on=keys).head(5).collect().height == 5",
}
LATER = ("", "time.sleep(1)", "store.close()")
"""How the process goes on: it ends at once, or what reads has time to go wrong."""
INTERRUPTED = """
import os, signal, threading
next(iter(scan.collect_batches()))
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    pl.concat([scan] * 20).select(pl.col("weight").sum()).collect()
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.fixture(scope="module")
def root(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of some three million weights: many more than a reader holds ahead."""
    folder = tmp_path_factory.mktemp("scanned")
    texts = write_texts(folder / "t.jsonl", 120, longest=60)
    attnstore.ingest(folder / "store", str(tiny_bert), str(texts), max_length=64)
    return folder / "store"


def processes(root: Path, *codes: str) -> list[tuple[int, str]]:
    """Exit status and stderr of Python processes over a store, side by side."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", BEGIN + code, str(root)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        )
        for code in codes
    ]  # fmt: skip
    said = [process.communicate(timeout=60)[1] for process in started]
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_scan_that_ends_early_leaves_the_process_alive(root: Path, ending: str) -> None:
    """Exit status 0, every time, whatever the process does afterwards."""
    ways = LATER if ending == "head after a filter" else LATER[:2]
    ends = processes(root, *(f"{ENDINGS[ending]}\n{later}" for later in ways))
    assert [status for status, _ in ends] == [0] * len(ways), ends


def test_ctrl_c_during_a_scan_is_a_keyboard_interrupt(root: Path) -> None:
    """The process ends as Python ends one (130 where it came twice), not by a signal of the system."""
    for status, said in processes(root, INTERRUPTED, INTERRUPTED):
        assert status in (0, 130, -2), said
        assert "FATAL" not in said
        assert "ResourceInUse" not in said


def test_a_scan_that_is_given_up_gives_the_index_free(root: Path) -> None:
    """Whoever writes the index next need not wait for the end of the process."""
    with attnstore.open(root) as store:
        batches = iter(store.scan("attention").collect_batches(chunk_size=10))
        next(batches)
        del batches
        assert store.reindex().damaged == []
        assert store.scan("attention").head(5).collect().height == 5


def test_a_limit_before_a_filter_comes_before_it(root: Path) -> None:
    """head(n).filter(p) filters n rows; filter(p).head(n) gives n rows."""
    with attnstore.open(root) as store:
        rows = store.sql("FROM map_stats")
        picked = pl.col("head") == 2
        scan = store.scan("map_stats")
        assert_frame_equal(scan.head(20).filter(picked).collect(), rows.head(20).filter(picked))
        assert_frame_equal(scan.filter(picked).head(20).collect(), rows.filter(picked).head(20))


@pytest.mark.parametrize(
    "predicate",
    [
        pl.col("entropy").cast(pl.Int64, strict=False) == 1,
        pl.col("entropy").cast(pl.Int32) >= 1,
        pl.col("layer").cast(pl.Float64) == 0.5,
        pl.col("entropy") > float("nan"),
        pl.col("entropy") == float("inf"),
        pl.col("entropy").is_between(0.5, 1.5, closed="none"),
        ~pl.col("layer").is_between(1, 1),
        (pl.col("layer") == 1) | (pl.col("entropy").cast(pl.Int64) == 1),
        (pl.col("layer") == 1) & (pl.col("entropy").cast(pl.Int64) == 1),
        pl.col("layer") == pl.col("head"),
        pl.lit(1) > pl.col("layer"),
        pl.col("layer") == 70_000,
        pl.col("run") == "it's \x00 no run",
        pl.col("entropy").map_batches(lambda values: values > 1, pl.Boolean),
        pl.col("layer").is_in([0, 5]),
        pl.col("sep").is_null() | (pl.col("example") % 2 == 0),
        pl.col("mean_distance") == pl.col("mean_distance").max(),
    ],
    ids=str,
)
def test_a_scan_filters_as_polars_does(root: Path, predicate: pl.Expr) -> None:
    """What SQL cannot take, or would take for something else, gives Polars' answer."""
    with attnstore.open(root) as store:
        expected = store.sql("FROM map_stats").filter(predicate)
        found = store.scan("map_stats").filter(predicate).collect()
        assert_frame_equal(found, expected, check_row_order=False)


def test_a_part_of_a_filter_reaches_the_arrays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a condition that only Polars knows, the others still keep weights from being read."""
    real, read = RunArrays.gather, []

    def gather(self: RunArrays, array: str, row: Any, start: Any, count: Any) -> Any:
        read.append(int(count.sum()))
        return real(self, array, row, start, count)

    monkeypatch.setattr(RunArrays, "gather", gather)
    with attnstore.open(root) as store:
        example = store.sql("SELECT min(example) FROM inputs").item()
        narrow = (pl.col("example") == example) & (pl.col("head") == 1) & pl.col("layer").is_in([0])
        found = store.scan("attention").filter(narrow).collect()
        length = store.sql("SELECT length FROM inputs WHERE example = $e", e=example).item()
    assert found.height == length**2
    assert sum(read) <= 2 * length**2


def test_hints_of_polars_are_left_out() -> None:
    """A pruning hint beside a filter, which `DataFrame.filter` cannot take, is not applied."""
    hint = {"Display": {"inputs": [], "fmt_str": "dynamic_pred: 1"}}
    tree = pushdown._tree(pl.col("a") > 1)
    assert tree is not None
    both = {"BinaryExpr": {"left": hint, "op": "And", "right": tree}}
    assert pushdown._conjuncts(both) == [hint, tree]
    kept = pushdown._without_hints(both)
    assert kept is not None
    assert pl.DataFrame({"a": [1, 2]}).filter(kept)["a"].to_list() == [2]
    assert pushdown._without_hints(hint) is None


def test_damage_below_a_scan_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a scan cannot read is said in the sentence that a query would say."""

    def gather(*_: Any) -> Any:
        raise DamageError("Shard 3 is damaged.")

    monkeypatch.setattr(RunArrays, "gather", gather)
    with attnstore.open(root) as store, pytest.raises(Exception, match=r"Shard 3 is damaged\."):
        store.scan("attention").head(5).collect()
