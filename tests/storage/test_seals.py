"""Rules of `attnstore.storage.index_seal`: little is read after a small change, and no changed byte is missed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import duckdb
import pytest
from helpers import flip
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnstore.storage import index_seal
from attnstore.storage.index_seal import BLOCK, HEAD

CHANGES = {
    "append": "INSERT INTO t SELECT range, hash(range), 'new' FROM range({n})",
    "delete": "DELETE FROM t WHERE a % 7 = {n} % 7",
    "update": "UPDATE t SET b = b + 1 WHERE a < {n}",
    "table": "CREATE OR REPLACE TABLE u AS SELECT random() AS x FROM range({n} * 10)",
    "drop": "DROP TABLE IF EXISTS u",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database of some megabytes, sealed."""
    path = tmp_path / "some.duckdb"
    with duckdb.connect(str(path)) as con:
        con.execute("CREATE TABLE t AS SELECT range AS a, hash(range) AS b, 'x' AS c FROM range(300_000)")  # fmt: skip
    index_seal.write(tmp_path / "seal", path)
    return path


def change(file: Path, text: str) -> None:
    with duckdb.connect(str(file)) as con:
        con.execute(text)
        con.execute("CHECKPOINT")


def kept(before: bytes, after: bytes) -> int:
    """Blocks whose entry is the same in both."""
    n = index_seal.ENTRY
    return sum(before[at : at + n - 1] == after[at : at + n - 1] for at in range(0, len(before), n))


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(st.tuples(st.sampled_from(sorted(CHANGES)), st.integers(1, 20_000)), max_size=4))  # fmt: skip
def test_sealing_again_gives_the_seal_of_the_whole_file(
    file: Path, steps: list[tuple[str, int]]
) -> None:
    """Whatever DuckDB has written: entries taken over are those that reading everything gives."""
    seal = file.with_name("seal")
    for name, n in steps:
        before = index_seal.read(seal)
        change(file, CHANGES[name].format(n=n))
        index_seal.write(seal, file, before)
        assert index_seal.read(seal).fits(file)


def test_a_small_change_leaves_most_blocks_as_they_were(file: Path) -> None:
    """So that their content need not be read again."""
    before = index_seal.read(file.with_name("seal"))
    change(file, "INSERT INTO t VALUES (1, 2, 'y')")
    index_seal.write(file.with_name("seal"), file, before)
    after = index_seal.read(file.with_name("seal"))
    assert after.value != before.value
    assert kept(before.blocks, after.blocks) >= len(before.blocks) // index_seal.ENTRY - 6


@pytest.mark.parametrize("place", [5, HEAD - 1, HEAD + 3, HEAD + BLOCK + 1000, -1])
def test_every_flipped_byte_is_seen(file: Path, place: int) -> None:
    """In the headers, at a block's beginning, in its middle, at the end."""
    size = file.stat().st_size
    flip(file, (place % size) / size)
    assert not index_seal.read(file.with_name("seal")).fits(file)


def test_a_byte_that_rotted_stays_seen_after_the_file_was_written_again(file: Path) -> None:
    """Sealing takes over the entry of a block that DuckDB did not write."""
    seal, stat = file.with_name("seal"), file.stat()
    with file.open("r+b") as handle:
        handle.seek(HEAD + 3 * BLOCK + 5000)
        byte = handle.read(1)
        handle.seek(-1, os.SEEK_CUR)
        handle.write(bytes([byte[0] ^ 1]))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    before = index_seal.read(seal)
    change(file, "CREATE TABLE v AS SELECT 1 AS x")
    index_seal.write(seal, file, before)
    assert not index_seal.read(seal).fits(file)


def swap_words(file: Path) -> None:
    """Exchange two unequal words of a block: DuckDB's checksum of it is the same after that."""
    data = bytearray(file.read_bytes())
    begin = HEAD + 3 * BLOCK + 8
    words = [bytes(data[i : i + 8]) for i in range(begin, begin + 4096, 8)]
    first, second = words.index(words[0]), next(i for i, w in enumerate(words) if w != words[0])
    for place, word in ((first, words[second]), (second, words[first])):
        data[begin + 8 * place : begin + 8 * place + 8] = word
    file.write_bytes(data)


def test_a_block_that_was_written_anew_and_begins_as_before_is_no_damage(file: Path) -> None:
    """DuckDB's checksum does not depend on the order of words: rows in another order have the same."""
    seal = file.with_name("seal")
    before = index_seal.read(seal)
    swap_words(file)
    assert not before.fits(file), "nothing was written since it was sealed: this is damage"
    index_seal.write(seal, file, before)  # as after DuckDB has written
    assert index_seal.read(seal).fits(file)
    for place in (0, 8, 4000, BLOCK - 1):
        data = bytearray(file.read_bytes())
        data[HEAD + 3 * BLOCK + place] ^= 0x40
        file.write_bytes(data)
        assert not index_seal.read(seal).fits(file), "one byte of such a block still shows"
        data[HEAD + 3 * BLOCK + place] ^= 0x40
        file.write_bytes(data)
    change(file, "CREATE TABLE w AS SELECT 1 AS x")
    index_seal.write(seal, file, index_seal.read(seal))
    assert index_seal.read(seal).fits(file)


def test_rows_written_in_another_order_raise_no_alarm(file: Path) -> None:
    """The same numbers, drawn in another order each time, as labels are given in any order."""
    seal = file.with_name("seal")
    for seed in range(12):
        before = index_seal.read(seal)
        change(file, f"SELECT setseed({seed / 20}); CREATE OR REPLACE TABLE s AS "
               "SELECT hash(range) AS h FROM range(4000) ORDER BY random()")  # fmt: skip
        index_seal.write(seal, file, before)
        assert index_seal.read(seal).fits(file)


def test_a_copy_is_not_untouched(file: Path, tmp_path: Path) -> None:
    """Its bytes, size and time of writing are the same; its time of change is its own."""
    copied = Path(shutil.copy2(file, tmp_path / "copy.duckdb"))
    seal = index_seal.read(file.with_name("seal"))
    assert seal.untouched(file)
    assert seal.fits(copied)
    assert not seal.untouched(copied)
    assert not seal.untouched(tmp_path / "none")


@pytest.mark.parametrize(
    "content", [b"", b"0badcafe\n", b"zz 1 2 3\n", b"00000000 1 2 3\nabc", b"00000000 1 2\n"]
)
def test_what_is_no_seal_counts_as_none(tmp_path: Path, content: bytes) -> None:
    """Such as one of an earlier version, or a damaged one."""
    (tmp_path / "seal").write_bytes(content)
    assert index_seal.read(tmp_path / "seal") is None
    assert index_seal.read(tmp_path / "none") is None
