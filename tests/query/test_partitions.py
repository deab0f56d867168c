"""Rules of partitions: the rows of a run block by block, for processes that know only the address."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from helpers import shrink, write_texts
from polars.testing import assert_frame_equal

import attnstore
from attnstore.errors import (
    AttnstoreError,
    DamageError,
    QueryError,
    StoreError,
    UnknownNameError,
    UsageError,
)
from attnstore.query.partitions import Partition
from attnstore.storage import arrays, fragments, location

RUN = "tiny/texts"
READ = """
import pickle, sys
for partition in pickle.load(sys.stdin.buffer):
    rows = partition.sql("SELECT count(*) AS n, sum(list_sum(weights)) AS total FROM rows")
    print(*rows.row(0))
"""
CASES: dict[str, dict[str, Any]] = {
    "columns": {"columns": ["head", "weight"]},
    "a condition": {"where": "layer = 1 AND weight > 0.1 -- strong"},
    "a condition on a column that is not read": {"columns": ["weight"], "where": "from_pos = 2"},
    "a condition with another view": {
        "where": "example IN (SELECT example FROM examples WHERE label = '1')"
    },
    "a condition with OR": {"columns": ["example"], "where": "head = 0 OR true"},
    "a condition that few blocks meet": {"where": "example = 3"},
    "a kind of maps": {"kind": "norm", "where": "layer = 0"},
}


@pytest.fixture(scope="module")
def root(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two runs over the same examples, many blocks each, to read only."""
    folder = tmp_path_factory.mktemp("partitions")
    texts = write_texts(folder / "texts.jsonl", 60, longest=16)
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        for options in ({}, {"layers": [0]}):
            attnstore.ingest(folder / "store", str(tiny_bert), str(texts), max_length=48, **options)
        attnstore.annotate(folder / "store", "texts", "negation")
    return folder / "store"


@pytest.fixture
def store(root: Path) -> Any:
    with attnstore.open(root) as opened:
        yield opened


def asked(store: Any, view: str, columns: Any = None, where: str = "true", kind: Any = None) -> pl.DataFrame:  # fmt: skip
    """The rows of the run as one question gives them."""
    names = "*" if columns is None else ", ".join(columns)
    table = view if kind is None else f"{view}(kind := '{kind}')"
    return store.sql(f"SELECT {names} FROM {table} WHERE run = $run AND ({where}\n)", run=RUN)


def assert_same_rows(parts: list[Partition], rows: pl.DataFrame) -> None:
    """In any order, each once, with the same types."""
    frames = [part.read() for part in parts]
    assert {tuple(frame.schema.items()) for frame in frames} == {tuple(rows.schema.items())}
    assert_frame_equal(pl.concat(frames), rows, check_row_order=False, check_exact=True)


def test_partitions_of_every_view_are_its_rows_each_once(store: Any) -> None:
    """Of every view with a row per input of a run or finer; a partition is a block."""
    views = [v for v in store.views() if {"run", "example"} <= set(store.columns(v))]
    assert {"attention", "maps", "map_stats", "tokens", "inputs", "span_tokens"} <= set(views)
    blocks = store.sql("SELECT block FROM blocks WHERE run = $run ORDER BY block", run=RUN)["block"]
    assert len(blocks) > 5
    for view in views:
        parts = store.partitions(view, RUN)
        assert [part.block for part in parts] == blocks.to_list()
        assert_same_rows(parts, asked(store, view))


@pytest.mark.parametrize("case", CASES)
def test_columns_conditions_and_kinds_are_those_of_sql(store: Any, case: str) -> None:
    """The partitions together are what SELECT columns FROM view WHERE condition gives."""
    rows = asked(store, "attention", **CASES[case])
    assert rows.height
    assert_same_rows(store.partitions("attention", RUN, **CASES[case]), rows)


def test_a_partition_answers_sql_over_its_rows(store: Any) -> None:
    """Sums over the partitions are the sum over the view, however the question is written."""
    parts = store.partitions("attention", RUN)
    texts = (
        "SELECT layer, sum(weight) AS total FROM rows GROUP BY layer;",
        "WITH heads AS (SELECT layer, head, sum(weight) AS w FROM rows GROUP BY ALL) "
        "SELECT layer, sum(w) AS total FROM heads GROUP BY layer -- by layer",
    )
    whole = store.sql(
        "SELECT layer, sum(weight) AS total FROM attention WHERE run = $run GROUP BY layer", run=RUN
    )
    for text in texts:
        answers = pl.concat(part.sql(text) for part in parts)
        assert_frame_equal(
            answers.group_by("layer").sum(), whole, check_row_order=False, abs_tol=1e-6
        )
    assert parts[0].sql("SELECT count(*) FROM rows WHERE layer = $layer", layer=7).item() == 0


def test_a_partition_reads_the_shard_of_its_block_alone(root: Path, tmp_path: Path) -> None:
    """In another process, which knows only the address, and where every other shard is gone."""
    shutil.copytree(root, tmp_path / "store")
    with attnstore.open(tmp_path / "store") as store:
        block = store.sql("FROM blocks WHERE run = $run AND block = 4", run=RUN).row(0, named=True)
        part = store.partitions("maps", RUN)[4]
        expected = store.sql(
            "SELECT count(*), sum(list_sum(weights)) FROM maps SEMI JOIN inputs i ON i.run = maps.run "
            "AND i.example = maps.example AND i.block = 4 WHERE maps.run = $run", run=RUN,
        ).row(0)  # fmt: skip
    kept = {arrays.shard_path(RUN, "maps", block["first_shard"] + i) for i in range(block["n_shards"])}  # fmt: skip
    backend = location.find(tmp_path / "store")
    gone = set(arrays.shards(backend, RUN)) - kept
    assert gone
    for path in gone:
        (tmp_path / "store" / path).unlink()
    reading = subprocess.run(
        [sys.executable, "-c", READ], input=pickle.dumps([part]), capture_output=True, check=True
    )
    n, total = reading.stdout.split()
    assert (int(n), float(total)) == pytest.approx(expected)


def test_a_mistake_is_one_sentence_before_anything_is_read(store: Any) -> None:
    """An unknown view, run, kind or column, a view without blocks, and what is no condition."""
    mistakes: list[tuple[type[AttnstoreError], str, dict[str, Any]]] = [
        (UnknownNameError, "did you mean attention", {"view": "attentoin"}),
        (UnknownNameError, "did you mean tiny/texts", {"run": "tiny/text"}),
        (UnknownNameError, "did you mean weight", {"columns": ["wieght"]}),
        (UnknownNameError, "does not hold 'gradient'", {"kind": "gradient"}),
        (UsageError, "no column example", {"view": "runs"}),
        (UsageError, "no column run", {"view": "examples"}),
        (UsageError, "have", {"view": "tokens", "kind": "norm"}),
        (UsageError, "not one condition", {"where": "layer ="}),
        (UsageError, "not one condition", {"where": "true) OR (true"}),
        (UsageError, "not one condition", {"where": "true LIMIT 3"}),
        (QueryError, "layr", {"where": "layr = 1"}),
        (QueryError, "aggregates", {"where": "sum(weight) > 1"}),
    ]
    for kind, sentence, options in mistakes:
        with pytest.raises(kind, match=sentence):
            store.partitions(**{"view": "attention", "run": RUN} | options)


def test_a_run_that_is_not_complete_has_no_partitions(root: Path, tmp_path: Path) -> None:
    """A part of its rows would look like all of them."""
    shutil.copytree(root, tmp_path / "store")
    backend = location.find(tmp_path / "store")
    (tmp_path / "store" / fragments.listing(backend, "blocks", RUN)[2].path).unlink()
    with (
        attnstore.open(tmp_path / "store") as store,
        pytest.raises(StoreError, match="of its 60 inputs"),
    ):
        store.partitions("attention", RUN)


def test_another_run_under_the_name_is_not_taken_for_it(
    tiny_bert: Path, root: Path, tmp_path: Path
) -> None:
    """Nor a dropped one; what was ingested since this process opened the store is found."""
    options = {"max_length": 48, "layers": [1]}
    texts = write_texts(tmp_path / "texts.jsonl", 9, longest=16)
    with attnstore.open(location.create(tmp_path / "store")) as store:
        (first,) = store.ingest(str(tiny_bert), str(texts), **options)
        (part,) = store.partitions("maps", first.run)
        assert part.read().height == 9 * 4
        store.drop(first.run)
        with pytest.raises(UnknownNameError, match="any more"):
            part.read()
        (second,) = store.ingest(str(tiny_bert), str(texts), limit=5, **options)
        store.catch_up()
        assert second.run == first.run
        with pytest.raises(UnknownNameError, match="another run under that name"):
            part.read()
        (other,) = store.partitions("maps", second.run)
        assert other.read().height == 5 * 4


def test_a_machine_that_has_read_before_sees_what_was_added_since(
    root: Path, tmp_path: Path
) -> None:
    """Its index is not the one of who makes the partitions; new ones bring it up to date."""
    here, there = Path(shutil.copytree(root, tmp_path / "here")), tmp_path / "there"
    there.mkdir()
    shutil.copy(here / location.MARK, there)
    for shared in (fragments.FOLDER, arrays.FOLDER):
        (there / shared).symlink_to(here / shared)
    spans = root.parent / "spans.csv"
    pl.DataFrame({"example": [3], "kind": ["own"], "label": ["a"], "start": [0], "end": [2]}).write_csv(spans)  # fmt: skip
    counts = []
    with attnstore.open(here) as store:
        for added in (False, True):
            if added:
                store.annotate("texts", f"spans:{spans}=mine")
            parts = [replace(p, store=str(there)) for p in store.partitions("span_tokens", RUN)]
            assert_same_rows(parts, asked(store, "span_tokens"))
            counts.append(len(asked(store, "span_tokens")))
    assert counts[0] < counts[1]


def test_missing_inputs_are_no_smaller_partition(root: Path, tmp_path: Path) -> None:
    """A fragment of the plan that is gone is a sentence, not fewer rows."""
    shutil.copytree(root, tmp_path / "store")
    with attnstore.open(tmp_path / "store") as store:
        parts = store.partitions("map_stats", RUN)
    backend = location.find(tmp_path / "store")
    (inputs,) = fragments.listing(backend, "inputs", RUN)
    rows = pl.read_parquet(tmp_path / "store" / inputs.path)
    (tmp_path / "store" / inputs.path).unlink()
    lost = rows.filter(pl.col("block") == 1)["example"][0]
    fragments.write(backend, "inputs", RUN, "000000", rows.filter(pl.col("example") != lost))
    assert parts[0].read().height
    with pytest.raises((DamageError, UnknownNameError), match="block 1"):
        parts[1].read()


@pytest.mark.parametrize("view", ["attention", "tokens", "inputs"])
def test_a_frame_of_dask_is_the_view_with_its_types(store: Any, view: str) -> None:
    """Empty partitions have the types of the others, and of the frame before it is computed."""
    pytest.importorskip("dask.dataframe", reason="dask is not installed")
    example = store.sql("SELECT min(example) FROM inputs WHERE run = $run", run=RUN).item()
    for where in ("true", f"example = {example}", "false"):
        frame = store.dask(view, run=RUN, where=where)
        parts = [frame.get_partition(i).compute(scheduler="sync") for i in range(frame.npartitions)]
        assert all((part.dtypes == frame.dtypes).all() for part in parts)
        rows = asked(store, view, where=where)
        found = pl.concat(pl.from_pandas(part).cast(rows.schema) for part in parts)
        assert_frame_equal(found, rows, check_row_order=False, check_exact=True)


def test_dask_reads_the_columns_that_are_used(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are not even asked for; a frame without columns has its rows."""
    pytest.importorskip("dask.dataframe", reason="dask is not installed")
    used: list[tuple[str, ...]] = []
    read = Partition.read

    def spy(self: Partition, columns: Any = None) -> pl.DataFrame:
        used.append(tuple(columns))
        return read(self, columns)

    monkeypatch.setattr(Partition, "read", spy)
    frame = store.dask("attention", run=RUN)
    means = frame.groupby(["layer", "head"]).weight.mean().compute(scheduler="sync").reset_index()
    assert {frozenset(columns) for columns in used} == {frozenset({"layer", "head", "weight"})}
    whole = store.sql(
        "SELECT layer, head, avg(weight)::FLOAT AS weight FROM attention WHERE run = $run GROUP BY ALL",
        run=RUN,
    )
    found = pl.from_pandas(means).cast(whole.schema)
    assert_frame_equal(found, whole, check_row_order=False, abs_tol=1e-5)
    assert frame[[]].compute(scheduler="sync").shape == (len(asked(store, "attention")), 0)


def test_a_missing_dask_is_one_sentence(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the extra."""
    monkeypatch.setitem(sys.modules, "dask", None)
    with pytest.raises(ImportError, match=r"attnstore\[dask\]"):
        store.dask("attention", run=RUN)


@pytest.mark.slow
def test_two_workers_of_dask_answer_as_sql_does(store: Any) -> None:
    """Processes that get the address alone, each with an index of its own session."""
    distributed = pytest.importorskip("distributed", reason="dask is not installed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):  # fmt: skip
        sums = store.dask("maps", run=RUN, columns=["layer", "length"]).groupby("layer").sum()
        found = pl.from_pandas(sums.compute().reset_index())
    rows = asked(store, "maps").group_by("layer").agg(pl.col("length").sum())
    assert_frame_equal(found.cast(rows.schema), rows, check_row_order=False)


@pytest.mark.slow
def test_a_dataset_of_ray_is_the_view(root: Path) -> None:
    """The rows of each block once, with their types, from processes of Ray."""
    pytest.importorskip("ray", reason="ray is not installed")
    code = (
        "import sys, ray, attnstore, polars as pl\n"
        "ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=sys.argv[2])\n"
        "store = attnstore.open(sys.argv[1])\n"
        f"frame = store.ray('map_stats', run={RUN!r}, columns=['example', 'layer', 'head', 'entropy'])\n"
        "pl.from_arrow(ray.get(frame.to_arrow_refs())).write_parquet(sys.argv[3])\n"
    )
    temporary = Path(f"/dev/shm/attnstore-{root.parent.name}")
    out = root.parent / "ray.parquet"
    try:
        subprocess.run([sys.executable, "-c", code, root, temporary, out], check=True, timeout=240)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    with attnstore.open(root) as store:
        rows = asked(store, "map_stats", columns=["example", "layer", "head", "entropy"])
    assert_frame_equal(pl.read_parquet(out), rows, check_row_order=False, check_exact=True)
