"""Rules of what the system refuses: the sentence names the true cause, and the next step fits it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner
from helpers import write_texts
from safetensors import SafetensorError
from trainings import train, write_task

import attnstore
from attnstore import store as stores
from attnstore.cli.main import main
from attnstore.errors import AttnstoreError, BusyError, DamageError, StoreError
from attnstore.experiments.finetuning import trainer
from attnstore.maintenance import copying
from attnstore.storage import files, index, index_errors, location

CAUSES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "quota",
    errno.EMFILE: "ulimit -n",
    errno.ENFILE: "too many files open",
    errno.EACCES: "make that folder writable",
    errno.EROFS: "make that folder writable",
    errno.ENAMETOOLONG: "shorter name",
    errno.EIO: "check that disk",
}


@pytest.mark.parametrize("number", CAUSES)
def test_a_file_that_cannot_be_written_names_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Room is asked for only where it lacks."""

    def refused(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(StoreError) as caught:
        files.write_file(tmp_path / "file", b"x")
    assert os.strerror(number) in str(caught.value)
    assert CAUSES[number] in str(caught.value)
    assert ("make room" in str(caught.value)) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("Corrupt database file: computed checksum 1 does not match stored checksum 2 in block at "
         "location 4096", DamageError, "reindex"),
        ("IO Error: The file \"x\" exists, but it is not a valid DuckDB database file!", DamageError,
         "reindex"),
        ('IO Error: Could not set lock on file "x": Conflicting lock is held in python (PID 17). See '
         "https://duckdb.org", BusyError, "process 17"),
        ("Connection Error: Can't open a connection to same database file with a different "
         "configuration than existing connections", BusyError, "another program"),
        ('IO Error: Could not write file "x": No space left on device', StoreError, "make room"),
        ('IO Error: Cannot open file "x": Too many open files', StoreError, "ulimit -n"),
        ('IO Error: Cannot open file "x": Permission denied', StoreError, "make that folder writable"),
    ],
)  # fmt: skip
def test_errors_of_the_index_name_the_cause(
    tmp_path: Path, text: str, kind: type[StoreError], told: str
) -> None:
    """Damage is no lock, though `block` has one in it; a full disk is no damage."""
    with pytest.raises(StoreError) as caught, index_errors.opening(location.locate(tmp_path)):
        raise duckdb.IOException(text)
    assert type(caught.value) is kind
    assert told in str(caught.value)


def test_a_damaged_index_is_told_with_the_next_step_by_every_query(
    sample_store: Path, tmp_path: Path
) -> None:
    """Wherever the damage lies that DuckDB meets: reindex makes it anew."""
    root = Path(shutil.copytree(sample_store, tmp_path / "store"))
    attnstore.open(root).close()
    whole = (root / index.FILE).read_bytes()
    stat = (root / index.FILE).stat()
    errors = []
    for at in range(20_000, len(whole), len(whole) // 24):
        data = bytearray(whole)
        data[at] ^= 1
        (root / index.FILE).write_bytes(data)
        os.utime(root / index.FILE, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        try:
            with attnstore.open(root) as store:
                for table in ("runs", "map_stats", "tokens", "examples"):
                    store.sql(f"SELECT count(*), max(t::VARCHAR) FROM {table} t")
        except AttnstoreError as error:
            errors.append(error)
    for error in errors:
        assert isinstance(error, DamageError), error
        assert "reindex" in str(error)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user cannot mount a disk of its own")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave no room."""
    with (folder / "filler").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 4096)
            except OSError:
                return


def test_a_full_disk_is_a_sentence_for_every_command(
    sample_store: Path, tiny_bert: Path, tmp_path: Path, disk: Path
) -> None:
    """Creating, copying and dropping say that there is no room; what is deleted is gone."""
    root = Path(shutil.copytree(sample_store, disk / "store"))
    texts = write_texts(tmp_path / "texts.jsonl", 2)
    fill(disk)
    commands: tuple[tuple[str, ...], ...] = (
        (
            "--store",
            str(disk / "new"),
            "ingest",
            "--model",
            str(tiny_bert),
            "--dataset",
            str(texts),
        ),
        ("copy", str(sample_store), str(disk / "copy")),
        ("--store", str(root), "reindex"),
    )
    for command in commands:
        result = CliRunner().invoke(main, list(command))
        assert (result.exit_code, result.exception.__class__) == (2, SystemExit), command
        assert "make room" in result.stderr
    result = CliRunner().invoke(main, ["--store", str(root), "drop", "tiny/sample", "--yes"])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    if result.exit_code:
        assert "is deleted, but the index still lists it" in result.stderr
        assert "make room" in result.stderr
    assert not list((root / "fragments" / "runs").rglob("*.parquet"))
    (disk / "filler").unlink()
    with attnstore.open(root) as store:
        assert store.runs().is_empty()


def test_a_copy_to_a_full_disk_goes_on_when_there_is_room(sample_store: Path, disk: Path) -> None:
    """One sentence, and nothing is done twice."""
    copying.copy(sample_store, disk / "first")
    fill(disk)
    stores_before = sorted(p.name for p in disk.iterdir())
    with pytest.raises(StoreError, match="make room"):
        copying.copy(sample_store, disk / "second")
    (disk / "filler").unlink()
    assert "first" in stores_before
    copying.copy(sample_store, disk / "second")
    with stores.open(disk / "second") as store:
        assert store.runs()["state"].to_list() == ["complete"]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_fine_tuning_on_a_full_disk_is_a_sentence(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whichever library meets it: torch, safetensors, or Python."""

    def refused(*_: Any, **__: Any) -> int:
        raise error

    monkeypatch.setattr(trainer, "train", refused)
    with pytest.raises(StoreError, match=r"cannot be written to .*make room"):
        train(tmp_path, tiny_bert, write_task(tmp_path / "rte", 8))
