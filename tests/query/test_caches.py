"""Rules of small JSON files: a cache that does not read is made again, a record is refused in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from helpers import write_texts

from attnstore.declared import config, planning, refresh, seen
from attnstore.declared.seen import Seen, signature
from attnstore.errors import DamageError, UsageError
from attnstore.models import checkpoints
from attnstore.storage import local_side, location, s3_lease

NOT_OURS = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"3",
    b"\xff\xfe",
    b"[" * 10_000,
    b"9" * 5_000,
    b'{"a": {"signature": 1}}',
]
FILE = """\
store = "storage"
settle = 0

[[models]]
name = "m"
folder = "m"

[[datasets]]
name = "d"
source = "d.jsonl"

[[ingest]]
max_length = 40
"""


@pytest.fixture
def declared(tmp_path: Path) -> Path:
    """An attnstore.toml that was made so once."""
    tiny.make(tmp_path / "m", "bert")
    write_texts(tmp_path / "d.jsonl", 8)
    (tmp_path / "attnstore.toml").write_text(FILE)
    refresh.refresh(tmp_path / "attnstore.toml")
    return tmp_path / "attnstore.toml"


def flipped(data: bytes) -> Iterator[bytes]:
    """`data` with each of its bytes changed, one at a time."""
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << (at % 8)
        yield bytes(changed)


def test_no_flipped_byte_of_the_memory_of_refreshes_is_believed(declared: Path) -> None:
    """A checkpoint is then read again, and found as it is: no other fingerprint, no error."""
    root, folder = declared.parent / "storage", declared.parent / "m"
    file = root / seen.FILE
    whole = file.read_bytes()
    memory = Seen(location.locate(root))
    memory.refuse("an identity", "a reason")
    memory.save()
    true = checkpoints.resolve(str(folder), "m")
    assert Seen(location.locate(root)).refusal("an identity") == "a reason"
    assert Seen(location.locate(root)).resolve(folder, signature(folder)) == true
    for damaged in flipped(file.read_bytes()):
        file.write_bytes(damaged)
        assert Seen(location.locate(root)).refusal("an identity") is None
    for content in (*NOT_OURS, whole[:-20]):
        file.write_bytes(content)
        assert Seen(location.locate(root)).resolve(folder, signature(folder)) == true
        assert planning.plan(config.read(declared)).table().is_empty()
    assert not refresh.refresh(declared).changed


def test_what_another_version_remembered_is_read_again(
    declared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fingerprint that it made may not be the one that this version makes."""
    memory = Seen(location.locate(declared.parent / "storage"))
    memory.refuse("an identity", "a reason")
    memory.save()
    monkeypatch.setattr(seen, "CAPTURE_VERSION", -1)
    assert Seen(location.locate(declared.parent / "storage")).refusal("an identity") is None


def test_a_damaged_mark_of_a_bucket_is_refused_and_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its address the local side is marked again; without it nobody can tell the bucket."""
    monkeypatch.setenv(local_side.CACHE, str(tmp_path))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    folder = local_side.of_address("s3://maps/bert")
    mark = local_side.read(folder)
    assert mark is not None
    assert mark["address"] == "s3://maps/bert"
    whole = (folder / local_side.FILE).read_bytes()
    for damaged in (*flipped(whole.rstrip()), *NOT_OURS):
        (folder / local_side.FILE).write_bytes(damaged)
        with pytest.raises(DamageError, match=r"open the store by its address"):
            local_side.read(folder)
    with pytest.raises(DamageError, match=r"bucket.json is damaged"):
        location.exists(location.locate(folder))
    assert local_side.of_address("s3://maps/bert") == folder
    again = local_side.read(folder)
    assert again is not None
    assert again["address"] == "s3://maps/bert"


def test_a_mark_of_an_earlier_version_counts(tmp_path: Path) -> None:
    """It has no checksum."""
    (tmp_path / local_side.FILE).write_text(
        '{"address": "s3://a/b", "endpoint": null, "side": "0f"}\n'
    )
    assert local_side.read(tmp_path) == {"address": "s3://a/b", "endpoint": None, "side": "0f"}
    assert local_side.read(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("content", NOT_OURS)
def test_a_damaged_lock_has_no_known_holder(content: bytes) -> None:
    """Whatever its object holds."""
    assert isinstance(s3_lease._holder(content), dict)


# The file of declarations ------------------------------------------------------------------------


def said(path: Path, content: bytes) -> str:
    """The sentence that refuses a file."""
    (path / "attnstore.toml").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        config.read(path / "attnstore.toml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_pair_of_brackets_is_told(tmp_path: Path) -> None:
    """Of each table that may stand several times."""
    told = said(tmp_path, FILE.replace("[[ingest]]", "[ingest]").encode())
    assert told.endswith(
        "ingest: there may be several of it: write [[ingest]], in two pairs of brackets."
    )
    told = said(tmp_path, FILE.replace("[[models]]", "[models]").encode())
    assert "write [[models]], in two pairs of brackets" in told


def test_a_mark_at_the_beginning_is_no_part_of_the_file(tmp_path: Path) -> None:
    """Windows' editors write one."""
    (tmp_path / "attnstore.toml").write_bytes(b"\xef\xbb\xbf" + FILE.encode())
    assert config.read(tmp_path / "attnstore.toml").models[0].name == "m"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a = " + b"[" * 20_000, "nested too deeply"),
        (b"a = " + b"9" * 5_000, "is no TOML"),
        (b"a = \xff", "it is not UTF-8"),
        (FILE.encode("utf-16"), "it is not UTF-8"),
        (FILE.replace('"m"\n\n', '"~nobody-there/m"\nstep = "("\n\n').encode(), "is no regular expression"),
        (FILE.replace("settle = 0", "settle = nan").encode(), "settle"),
        (FILE.replace("settle = 0", "settle = 'x'").encode(), "settle"),
        (FILE.replace('folder = "m"', 'folder = "m\\u0000"').encode(), "folder"),
    ],
)  # fmt: skip
def test_a_file_of_any_content_is_refused_in_a_sentence(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    """Never with a traceback."""
    assert reason in said(tmp_path, content)
