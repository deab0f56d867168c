"""Rules of `attnstore.maintenance.verify`: whatever changes on disk is found, and named by run and block."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from helpers import flip, shrink, write_texts
from hypothesis import example, given, settings
from hypothesis import strategies as st

import attnstore
from attnstore import naming
from attnstore.errors import StoreError
from attnstore.maintenance import row_sums
from attnstore.maintenance.findings import Report
from attnstore.maintenance.verify import verify
from attnstore.resources import sql_files
from attnstore.storage import (
    array_blocks,
    arrays,
    fragments,
    index,
    index_seal,
    layout,
    location,
    zarr_metadata,
)
from attnstore.storage.precision import PRECISIONS

RUN = "tiny/texts"
OF_A_RUN = ("runs", "inputs", "blocks", "map_stats", "offsets", "array_blocks", "ingests")
OF_A_BLOCK = ("blocks", "map_stats", "offsets", "array_blocks")


@pytest.fixture(scope="module")
def made(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A store with one run of 16 pairs in several blocks, and the texts it was made from."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        folder = tmp_path_factory.mktemp("verify")
        texts = write_texts(folder / "texts.jsonl", 16, longest=16, pairs=True)
        attnstore.ingest(folder / "store", str(tiny_bert), str(texts), max_length=48)
        yield folder / "store", texts


@pytest.fixture
def root(made: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of that store, to be harmed."""
    return Path(shutil.copytree(made[0], tmp_path / "store"))


def said(report: Report) -> str:
    return "\n".join(map(str, report.findings))


def row(root: Path, table: str, part: str = "000001") -> pl.DataFrame:
    """The rows of one fragment of the run."""
    (fragment,) = [
        f for f in fragments.listing(location.locate(root), table, RUN) if part in (f.part, "")
    ]
    return fragments.read(location.locate(root), fragment)


def commit_again(root: Path, number: int, change: Callable[[Any, Any], None]) -> None:
    """Change a block's arrays and commit it with the new bytes' checksums, as a fault would."""
    shape = zarr_metadata.recorded(location.locate(root), RUN)
    run, record = (
        arrays.open_run(location.locate(root), RUN, shape),
        row(root, "blocks", f"{number:06d}"),
    )
    first, n = record["first_shard"][0], record["n_shards"][0]
    cells = slice(first * layout.SHARD_CELLS, (first + n) * layout.SHARD_CELLS)
    tokens = slice(first * layout.SHARD_TOKENS, (first + 1) * layout.SHARD_TOKENS)
    maps = np.array(run.maps[:, :, cells].read().result())
    received = np.array(run.received[:, :, tokens].read().result())
    change(maps, received)
    written = run.write_block(first, maps, received)
    again = record.with_columns(
        maps_crc32c=pl.Series([written["maps"][0]], dtype=record["maps_crc32c"].dtype),
        received_crc32c=pl.Series([written["received"][0]], dtype=record["received_crc32c"].dtype),
        maps_bytes=written["maps"][1],
        received_bytes=written["received"][1],
    )
    fragments.write(location.locate(root), "blocks", RUN, f"{number:06d}", again)


# A sound store


def test_a_sound_store_gives_nothing(made: tuple[Path, Path]) -> None:
    """No finding and no note; the report says what was looked at."""
    report = verify(made[0])
    assert (report.findings, report.notes) == ([], [])
    n = len(list((made[0] / "fragments").rglob("*.parquet")))
    assert report.checked.startswith("1 runs, ")
    assert f"{n} fragments, {len(sql_files('check'))} SQL checks" in report.checked


def test_progress_tells_every_block(made: tuple[Path, Path]) -> None:
    """After each, how many of how many."""
    told: list[tuple[str, int, int]] = []
    verify(made[0], lambda *step: told.append(step))
    n = len(fragments.listing(location.locate(made[0]), "blocks"))
    assert told == [(RUN, i + 1, n) for i in range(n)]


def test_verifying_changes_nothing(made: tuple[Path, Path]) -> None:
    """Not a byte of the store."""
    before = {p: p.read_bytes() for p in made[0].rglob("*") if p.is_file()}
    verify(made[0])
    assert {p: p.read_bytes() for p in made[0].rglob("*") if p.is_file()} == before


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no attention store at"):
        verify(tmp_path)


# One flipped byte


def files(root: Path) -> list[Path]:
    """Every file whose bytes matter, in order."""
    found = [
        p for f in ("attention.zarr", "fragments") for p in (root / f).rglob("*") if p.is_file()
    ]
    return [*sorted(found), root / "index.duckdb", root / "attnstore.json"]


def whose(inside: Path) -> tuple[str | None, int | None]:
    """The run and the block that a file of the store belongs to."""
    parts = inside.parts
    if parts[0] == "fragments" and parts[1] in OF_A_RUN:
        part = parts[-1].split(".")[0].rpartition("-")[2]
        return RUN, int(part) if parts[1] in OF_A_BLOCK else None
    if parts[0] == "attention.zarr" and parts[3:4] not in (("layer",), ("head",)) and "c" in parts:
        return RUN, int(parts[-1])
    return (
        (RUN, None)
        if parts[:3] == ("attention.zarr", *RUN.split("/")) and len(parts) > 3
        else (None, None)
    )


@settings(max_examples=20, deadline=None)
@given(
    which=st.floats(0, 1, exclude_max=True),
    at=st.one_of(st.sampled_from([0.0, 0.999999]), st.floats(0, 1, exclude_max=True)),
    change=st.integers(1, 255),
)
@example(which=0.999999, at=0.999999, change=0x0A ^ 0x20)  # the mark's line end to a space
def test_a_flipped_byte_is_found_and_named(
    made: tuple[Path, Path], which: float, at: float, change: int
) -> None:
    """Any bits of any byte of any file: one finding, of the run and the block that the file is of."""
    root, every = made[0], files(made[0])
    path = every[int(which * len(every))]
    data = path.read_bytes()
    harmed = bytearray(data)
    harmed[int(at * len(data))] ^= change
    path.write_bytes(harmed)
    try:
        report = verify(root)
    finally:
        path.write_bytes(data)
    assert len(report.findings) == 1, report
    run, block = whose(path.relative_to(root))
    first_shard = {
        r["block"]: range(r["first_shard"], r["first_shard"] + r["n_shards"]) for r in shards(root)
    }
    if "attention.zarr" in path.parts and block is not None:
        block = next(b for b, owned in first_shard.items() if block in owned)
    assert (report.findings[0].run, report.findings[0].block) == (run, block)
    assert path.name in report.findings[0].what


def shards(root: Path) -> list[dict[str, Any]]:
    """The rows of `blocks`."""
    frame = fragments.read_one(location.locate(root), "blocks", RUN)
    assert frame is not None
    return frame.to_dicts()


@pytest.mark.parametrize("how", [b"", b"\0" * 4096, None], ids=["emptied", "zeroed", "deleted"])
@pytest.mark.parametrize("spared", [(), ("runs", "inputs")], ids=["all", "but the plan"])
def test_no_damage_makes_it_fail(root: Path, how: bytes | None, spared: tuple[str, ...]) -> None:
    """Of every kind of file one emptied, overwritten or deleted: verifying ends, and tells."""
    kinds = {p.parts[-4] if p.suffix == ".parquet" else str(p.parent): p for p in files(root)}
    for path in (p for kind, p in kinds.items() if kind not in spared):
        path.unlink() if how is None else path.write_bytes(how)
    found = said(verify(root))
    assert "attnstore.json is missing or damaged" in found
    assert (f"{arrays.FOLDER}/{RUN}/head/zarr.json" in found) == bool(spared)


# What follows from damage


def test_the_same_store_after_ingesting_again_is_sound(
    root: Path, made: tuple[Path, Path], tiny_bert: Path
) -> None:
    """A shard, a fragment, a description and the index are mended by what the findings say."""
    for path in files(root):
        if path.name in ("1", "zarr.json") or path.name.startswith("000002"):
            flip(path)
    assert len(verify(root).findings) > 5
    attnstore.ingest(root, str(tiny_bert), str(made[1]), max_length=48)
    index.rebuild(location.locate(root))
    assert said(verify(root)) == ""


# A profile is made from the weights: `recompute offsets` (tests/capture/test_offsets.py).
@pytest.mark.parametrize(
    "table", ["models", "datasets", "examples", *(t for t in OF_A_RUN if t != "offsets")]
)
@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "not indexed"])
def test_a_damaged_fragment_of_any_table_is_mended_by_ingesting_again(
    root: Path, made: tuple[Path, Path], tiny_bert: Path, table: str, indexed: bool
) -> None:
    """Its finding says so, and then the store is sound, whether the index has its rows or not."""
    if not indexed:
        (root / index.FILE).unlink()
    flip(root / fragments.listing(location.locate(root), table)[0].path)
    assert "; ingest the run again" in said(verify(root))
    attnstore.ingest(root, str(tiny_bert), str(made[1]), max_length=48)
    assert verify(root).findings == []
    with attnstore.open(root) as store:
        assert store.behind is None


def test_a_damaged_description_is_no_description(root: Path) -> None:
    """Ingestion sees what verify sees, whichever file and byte it is."""
    backend = location.locate(root)
    shape = zarr_metadata.recorded(backend, RUN)
    described = [
        p for p in files(root) if p.name == "zarr.json" or p.parts[-3] in ("layer", "head")
    ]
    assert len(described) == 11
    for path in described:
        data = path.read_bytes()
        for at in range(0, len(data), 97):
            path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
            whole = zarr_metadata.described(backend, RUN)
            assert not (whole and array_blocks.described(backend, RUN, shape)), (path, at)
        path.write_bytes(data)
    assert zarr_metadata.described(backend, RUN)
    assert array_blocks.described(backend, RUN, shape)


def test_a_damaged_fragment_is_left_out_of_the_index(root: Path) -> None:
    """The rest is there; the store says so, and verify names the block."""
    flip(root / fragments.listing(location.locate(root), "map_stats", RUN)[1].path)
    change = index.rebuild(location.locate(root))
    assert [Path(p).name[:6] for p in change.damaged] == ["000001"]
    with attnstore.open(root) as store:
        assert "1 damaged fragments" in str(store.behind)
        assert store.sql("SELECT DISTINCT example FROM map_stats").height < 16
    assert [(f.run, f.block) for f in verify(root).findings] == [(RUN, 1)]


def test_a_damaged_commit_takes_its_block_out_of_the_index(root: Path) -> None:
    """Queries give whole blocks only: without the commit its statistics do not count either."""
    flip(root / fragments.listing(location.locate(root), "blocks", RUN)[1].path)
    index.rebuild(location.locate(root))
    with attnstore.open(root) as store:
        ones = store.sql("SELECT count(DISTINCT example) AS n FROM map_stats").item()
        assert ones == store.sql("SELECT count(*) FROM inputs").item() < 16


def test_of_one_part_the_newest_fragment_counts(root: Path) -> None:
    """As a kill leaves it between writing a fragment and deleting the one it replaces."""
    again = row(root, "map_stats").with_columns(pl.col("self") * 0.5)
    old = fragments.listing(location.locate(root), "map_stats", RUN)[1]
    data = (root / old.path).read_bytes()
    fragments.write(location.locate(root), "map_stats", RUN, "000001", again)
    (root / old.path).write_bytes(data)
    new = next(
        f
        for f in fragments.listing(location.locate(root), "map_stats", RUN)
        if f.part == "000001" and f.path != old.path
    )
    later = (root / old.path).stat().st_mtime_ns + 10**9
    os.utime(root / new.path, ns=(later, later))
    report = verify(root)
    assert report.findings == []
    assert report.notes == [f"{old.path} is superseded and can be deleted."]


# The index


def test_a_missing_index_is_made_anew(root: Path) -> None:
    """And is no finding."""
    for name in (index.FILE, index.SEAL):
        (root / name).unlink()
    assert verify(root).findings == []
    assert index.sealed(location.locate(root))


def test_a_damaged_index_is_mended_by_reindexing(root: Path) -> None:
    """As the finding says."""
    flip(root / index.FILE)
    assert "`attnstore reindex`" in said(verify(root))
    index.rebuild(location.locate(root))
    assert verify(root).findings == []


def test_rows_that_the_index_lost_are_found(root: Path) -> None:
    """Even where its seal is right."""
    with duckdb.connect(str(root / index.FILE)) as con:
        con.execute("DELETE FROM core.ingests")
    index_seal.write(root / index.SEAL, root / index.FILE)
    (finding,) = verify(root).findings
    assert "holds 0 rows of fragments/ingests" in finding.what


# What the bytes say


def test_rows_that_do_not_sum_to_1_are_found(root: Path) -> None:
    """In the block, by layer, head and example, though every checksum is right."""
    commit_again(root, 1, lambda maps, _: maps.__setitem__((1, 2, slice(0, 20)), 0))
    (finding,) = verify(root).findings
    assert (finding.run, finding.block) == (RUN, 1)
    assert "maps of layer 1, head 2 do not sum to 1, first in example" in finding.what


def test_nan_is_found(root: Path) -> None:
    """A sum that is no number is not 1."""
    commit_again(root, 0, lambda _, received: received.__setitem__((0, 3, 1), np.nan))
    (finding,) = verify(root).findings
    assert "received of layer 0, head 3 do not sum to 1" in finding.what


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 600), seed=st.integers(0, 10**6), sharp=st.floats(0.01, 5))
@pytest.mark.parametrize("precision", ["float32", "float16", "compact"])
def test_rounding_stays_within_the_tolerance(
    precision: str, length: int, seed: int, sharp: float
) -> None:
    """Whatever a row of weights is, storing it moves its sum by less than what verify lets pass."""
    weights = np.random.default_rng(seed).dirichlet(np.full(length, sharp)).astype(np.float32)
    weights = (
        np.nan_to_num(weights / weights.sum())
        if weights.sum()
        else np.eye(1, length, dtype=np.float32)[0]
    )
    stored = PRECISIONS[precision].decode(PRECISIONS[precision].encode(weights))
    limit = row_sums.tolerance(precision, np.array([length]))[0] - naming.ROW_OFF
    assert abs(stored.sum(dtype=np.float64) - weights.sum(dtype=np.float64)) <= limit


def test_inputs_elsewhere_than_planned_are_found(root: Path) -> None:
    """Their offsets are the plan's."""
    moved = row(root, "inputs", "").with_columns(pl.col("cell") + 1)
    (old,) = fragments.listing(location.locate(root), "inputs", RUN)
    fragments.write(location.locate(root), "inputs", RUN, old.part, moved)
    assert "do not lie where the plan puts them" in said(verify(root))


def _harm(table: str, change: Callable[[pl.DataFrame], pl.DataFrame], part: str = "000001") -> Any:
    def harm(root: Path) -> None:
        (old,) = [
            f for f in fragments.listing(location.locate(root), table) if part in (f.part, "")
        ]
        fragments.write(
            location.locate(root),
            table,
            old.owner,
            old.part,
            change(fragments.read(location.locate(root), old)),
        )

    return harm


def _evaluate_unknown(root: Path) -> None:
    row = {
        "model": "nobody",
        "base": "tiny",
        "dataset": "texts",
        "metric": "accuracy",
        "value": 0.5,
    }
    fragments.write(location.locate(root), "evaluations", "nobody", "x", pl.DataFrame([row]))


def _double_examples(root: Path) -> None:
    """Give the dataset a second fragment with the same rows."""
    (old,) = fragments.listing(location.locate(root), "examples")
    fragments.write(
        location.locate(root),
        "examples",
        old.owner,
        "other",
        fragments.read(location.locate(root), old),
    )


def _double_an_array(root: Path) -> None:
    """Let the fragment of one array of a block tell about another, which then has two rows."""
    backend = location.locate(root)
    (old,) = (f for f in fragments.listing(backend, "array_blocks") if f.part == "mixing-000001")
    rows = fragments.read(backend, old)
    fragments.write(backend, "array_blocks", old.owner, "value_norm-000001", rows)


CHECKS = {
    "array_blocks_once": _double_an_array,
    "block_sizes": _harm("blocks", lambda f: f.with_columns(pl.col("examples") + 1)),
    "evaluations_known": _evaluate_unknown,
    "fragments_in_place": _harm("map_stats", lambda f: f.with_columns(block=pl.lit(0, pl.Int32))),
    "inputs_once": _harm(
        "inputs", lambda f: f.with_columns(example=pl.col("example") // 2 * 2), ""
    ),
    "map_stats_complete": _harm("map_stats", lambda f: f[1:]),
    "map_stats_in_range": _harm("map_stats", lambda f: f.with_columns(pl.col("self") + 1)),
    "offsets_whole": _harm("offsets", lambda f: f.with_columns(pl.col("sums") * 2)),
    "rows_once": _double_examples,
    "runs_known": _harm("models", lambda f: f.with_columns(model=pl.lit("other")), ""),
    "runs_planned": _harm("runs", lambda f: f.with_columns(pl.col("planned") + 1), ""),
    "tokens_complete": _harm("inputs", lambda f: f.with_columns(pl.col("kinds").list.head(3)), ""),
}
"""What each check is there to find."""


@pytest.mark.parametrize("name", sorted(sql_files("check")))
def test_each_check_finds_what_it_is_for(root: Path, name: str) -> None:
    """A file of sql/check gives rows with run, block and what; verify tells them."""
    assert name in CHECKS, "add what the new check is there to find"
    CHECKS[name](root)
    assert f"(sql/check/{name}.sql)" in said(verify(root))


@pytest.mark.parametrize("name", sorted(sql_files("check")))
def test_each_check_has_a_title_and_three_columns(made: tuple[Path, Path], name: str) -> None:
    text = sql_files("check")[name].read_text()
    assert text.startswith("-- title: ")
    with attnstore.open(made[0]) as store:
        columns = store.sql(text).schema
    assert columns == {"run": pl.String, "block": pl.Int32, "what": pl.String}


# What is no damage


def test_leavings_are_notes(root: Path) -> None:
    """Of writes that were cut short, of runs whose record is gone, of blocks not committed."""
    last = fragments.listing(location.locate(root), "blocks", RUN)[-1]
    (root / last.path).unlink()
    (root / last.path).with_name(".000001.parquet.7.tmp").write_bytes(b"half")
    shutil.copytree(root / arrays.FOLDER / RUN, root / arrays.FOLDER / "gone" / "texts")
    report = verify(root)
    assert report.findings == []
    told = "\n".join(report.notes)
    assert "ingest it again to finish" in told
    assert re.search(f"{RUN}: \\d+ files belong to no committed block", told)
    assert f"files in {arrays.FOLDER} belong to no run" in told
    assert (
        "4 fragments belong to no committed block or run" in told
    )  # statistics, profile, two arrays
    assert "1 files in fragments are no fragments" in told


def test_a_foreign_fragment_is_found(root: Path) -> None:
    """A name without a checksum is nobody's."""
    path = root / "fragments" / "labels" / "mine.parquet"
    path.parent.mkdir()
    pl.DataFrame({"a": [1]}).write_parquet(path)
    assert "mine.parquet is no fragment of attnstore" in said(verify(root))
