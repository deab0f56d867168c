"""Rules for what is missing or cannot be loaded: it is told as damage is, and the rest works."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from helpers import shrink, write_texts

import attnstore
from attnstore.annotation.annotate import annotate
from attnstore.errors import StoreError
from attnstore.maintenance import copying, orphans
from attnstore.maintenance.verify import verify
from attnstore.resources import sql_files
from attnstore.storage import fragments, index, location
from attnstore.storage.backend import File
from attnstore.storage.files import crc32c
from attnstore.storage.folder import Folder
from attnstore.storage.tables import TABLES

RUN = "tiny/texts"


@pytest.fixture(scope="module")
def made(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a store of one run in several blocks, and its texts."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        folder = tmp_path_factory.mktemp("whole")
        texts = write_texts(folder / "texts.jsonl", 24, longest=16)
        attnstore.ingest(folder / "store", str(tiny_bert), str(texts), max_length=48)
        yield folder


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "store", tmp_path / "store"))


def whole_or_told(root: Path) -> None:
    """A complete run has every row; another has whole blocks, and says that it is not complete."""
    with attnstore.open(root) as store:
        stored, state = store.sql("SELECT stored, state FROM runs").row(0)
        inputs = store.sql("SELECT count(*) FROM inputs").item()
        assert store.sql("SELECT count(*) FROM map_stats").item() == 8 * inputs == 8 * stored
        assert (state == "complete") == (stored == 24)


@pytest.mark.parametrize("table", ["map_stats", "inputs", "examples", "models", "datasets"])
@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "not indexed"])
def test_what_is_missing_is_told_and_ingesting_again_makes_it(
    root: Path, made: Path, tiny_bert: Path, table: str, indexed: bool
) -> None:
    """As after a partial copy: reading says so, verify fails, and then the store is whole."""
    if indexed:
        index.catch_up(location.locate(root))
    missing = fragments.listing(location.locate(root), table)[-1]
    (root / missing.path).unlink()
    with attnstore.open(root) as store:
        assert "lacks 1 fragments that others refer to" in str(store.behind)
        assert f"{table}/{missing.owner}" in str(store.behind)
    whole_or_told(root)
    assert "missing; ingest the run again" in str(verify(root).findings[0])
    attnstore.ingest(root, str(tiny_bert), str(made / "texts.jsonl"), max_length=48)
    assert verify(root).findings == []
    with attnstore.open(root) as store:
        assert store.behind is None
        assert store.sql("SELECT state FROM runs").item() == "complete"


def test_links_that_are_gone_are_told_and_annotating_again_makes_them(root: Path) -> None:
    """An annotation is committed with its links, even if it has none."""
    annotate(root, "texts", "negation")
    (root / fragments.listing(location.locate(root), "links")[0].path).unlink()
    with attnstore.open(root) as store:
        assert "lacks 1 fragments that others refer to" in str(store.behind)
    assert "links of an annotation of texts are missing" in str(verify(root).findings[0])
    annotate(root, "texts", "negation")
    assert verify(root).findings == []
    with attnstore.open(root) as store:
        assert store.behind is None


def test_what_is_missing_is_not_moved_away_with_what_needs_it(root: Path) -> None:
    """`gc` leaves the block whose statistics are gone: ingesting again computes what it lacks."""
    before = {f.path for f in fragments.listing(location.locate(root), "blocks")}
    (root / fragments.listing(location.locate(root), "map_stats")[0].path).unlink()
    orphans.collect(root)
    assert {f.path for f in fragments.listing(location.locate(root), "blocks")} == before


def test_a_block_being_written_is_not_missing_anything(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fragments are listed while an ingestion commits: what the list lacks is looked for again."""
    real, hidden = Folder.files, fragments.listing(location.locate(root), "map_stats")[-1].path
    lacking = iter([hidden])

    def files(folder: Folder, path: str) -> list[File]:
        gone = next(lacking, None) if path == fragments.FOLDER else None
        return [file for file in real(folder, path) if file.path != gone]

    monkeypatch.setattr(Folder, "files", files)
    with attnstore.open(root) as store:
        assert store.behind is None
    assert next(lacking, None) is None
    with attnstore.open(root) as store:
        assert store.sql("SELECT state FROM runs").item() == "complete"


# What is whole and does not fit


def rewrite(root: Path, table: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> str:
    old = fragments.listing(location.locate(root), table)[-1]
    rows = change(fragments.read(location.locate(root), old))
    return fragments.write(location.locate(root), table, old.owner, old.part, rows)


@pytest.mark.parametrize("table", [*TABLES[:8]])
def test_a_column_of_a_later_version_is_left_out(root: Path, table: str) -> None:
    """Every table: the store opens, its rows are there, verify has nothing to say."""
    rewrite(root, table, lambda f: f.with_columns(later=pl.lit([[1]]), fragment=pl.lit("x")))
    whole_or_told(root)
    with attnstore.open(root) as store:
        assert store.behind is None
    assert verify(root).findings == []


def test_a_column_in_another_type_that_fits_is_cast(root: Path) -> None:
    """Such as a wider number."""
    rewrite(root, "map_stats", lambda f: f.cast({"layer": pl.Int64, "self": pl.Float64}))
    rewrite(
        root, "inputs", lambda f: f.cast({"length": pl.Int64, "tokens": pl.List(pl.Categorical)})
    )
    whole_or_told(root)
    assert verify(root).findings == []


BAD: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "a type that does not fit": lambda f: f.with_columns(pl.lit("a cat").alias(f.columns[-1])),
    "a number too large": lambda f: f.with_columns(pl.lit(2**40).alias("block")),
    "no column that it needs": lambda f: f.drop("block"),
    "NULL where something must stand": lambda f: f.with_columns(pl.lit(None).alias("block")),
}


@pytest.mark.parametrize("table", ["blocks", "map_stats", "inputs"])
@pytest.mark.parametrize("what", sorted(BAD))
def test_a_fragment_that_does_not_fit_is_damage(root: Path, table: str, what: str) -> None:
    """Its checksum is right, its rows are none of the table's: it is named, and the rest works."""
    change = BAD[what]
    if table == "inputs" and what == "a type that does not fit":
        change = lambda f: f.with_columns(length=pl.lit("a cat"))  # noqa: E731
    path = rewrite(root, table, change)
    for _ in range(2):  # also once the index knows it
        whole_or_told(root)
        with attnstore.open(root) as store:
            assert path in str(store.behind)
            assert store.sql("SELECT count(*) FROM examples").item() == 24
    report = verify(root)
    assert any(path in str(f) for f in report.findings), report
    assert index.catch_up(location.locate(root)).loaded == 0


@pytest.mark.parametrize("table", [*TABLES[:8]])
def test_a_fragment_that_is_no_parquet_is_damage(root: Path, table: str) -> None:
    """Whatever it is; moved away, it is missing and no longer damaged."""
    old, data = fragments.listing(location.locate(root), table)[-1], b"no Parquet at all"
    (root / old.path).unlink()
    bad = f"fragments/{table}/{old.owner}/{old.part}.{crc32c(data):08x}.parquet"
    (root / bad).write_bytes(data)
    with attnstore.open(root) as store:
        assert bad in str(store.behind)
    assert any(bad in str(f) for f in verify(root).findings)
    (root / bad).unlink()
    assert index.catch_up(location.locate(root)).damaged == []


# Verify


@pytest.mark.parametrize("what", ["no Parquet", "no column that it needs", "another run's name"])
@pytest.mark.parametrize("table", ["runs", "inputs", "examples"])
def test_ingesting_again_replaces_what_cannot_be_used(
    root: Path, made: Path, tiny_bert: Path, table: str, what: str
) -> None:
    """It does not say that everything is stored, nor that the run was dropped, over a record that
    nobody can read."""
    old = fragments.listing(location.locate(root), table)[0]
    if what == "no Parquet":
        data = b"no Parquet inside"
        (root / old.path).unlink()
        path = Path(old.path).with_name(f"{old.part}.{crc32c(data):08x}.parquet")
        (root / path).write_bytes(data)
    elif what == "no column that it needs":
        rewrite(root, table, lambda f: f.select(pl.lit(1).alias("x")))
    else:
        rewrite(root, "runs", lambda f: f.with_columns(run=pl.lit("../elsewhere")))
    attnstore.ingest(root, str(tiny_bert), str(made / "texts.jsonl"), max_length=48)
    with attnstore.open(root) as store:
        assert store.behind is None
        assert store.sql("SELECT run, state FROM runs").rows() == [(RUN, "complete")]
    assert verify(root).findings == []


@pytest.mark.parametrize("table", ["runs", "inputs", "blocks", "examples"])
def test_a_fragment_without_its_columns_is_a_sentence_everywhere(root: Path, table: str) -> None:
    """Cleaning, annotating and copying name the fragment, as reading does."""
    path = rewrite(root, table, lambda f: f.select(pl.lit(1).alias("x")))
    calls: list[Callable[[], object]] = [
        lambda: annotate(root, "texts", "negation"),
        lambda: orphans.collect(root, dry=True),
        lambda: copying.copy(root, root.with_name("copy")),
    ]
    told = []
    for call in calls:
        try:
            told.append(str(call()))
        except StoreError as error:
            told.append(str(error))
    assert any(path in text for text in told)


def test_verify_of_an_empty_store_says_that_it_is_empty(tmp_path: Path) -> None:
    """It is sound, and there is nothing in it."""
    attnstore.storage.location.create(tmp_path / "s")
    report = verify(tmp_path / "s")
    assert report.findings == []
    assert report.notes == ["The store is empty: nothing has been ingested into it."]
    assert f"{len(sql_files('check'))} SQL checks" in report.checked


def test_a_store_that_lost_all_its_data_is_not_sound(root: Path) -> None:
    """The index still tells that there was some."""
    attnstore.open(root).close()
    for folder in ("fragments", "attention.zarr"):
        shutil.rmtree(root / folder)
    (finding, *_) = verify(root).findings
    assert "fragments/ and attention.zarr/ are gone" in str(finding)


def test_tables_that_could_not_be_checked_are_a_finding(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sound is said of what was looked at."""

    def refuse(*_: object, **__: object) -> None:
        raise StoreError("The index cannot be written.")

    (root / index.FILE).unlink()
    monkeypatch.setattr(index, "rebuild", refuse)
    assert "The tables were not checked: The index cannot be written" in str(verify(root).findings)


@pytest.mark.parametrize("mark", ['{"attnstore": 99}'])
def test_verify_says_of_a_later_layout_what_readers_say(root: Path, mark: str) -> None:
    """Upgrade; not to write another number into the mark."""
    (root / attnstore.storage.location.MARK).write_text(mark)
    for ask in (verify, attnstore.open):
        with pytest.raises(
            StoreError, match="has layout 99, and this attnstore knows up to 2; upgrade"
        ):
            ask(root)


@pytest.mark.parametrize(
    "mark", ['{"attnstore": "1"}', '{"attnstore": 0}', '{"attnstore": true}', "[" * 9999]
)
def test_a_mark_that_is_none_is_one_sentence(root: Path, mark: str) -> None:
    """For readers and for verify."""
    (root / attnstore.storage.location.MARK).write_text(mark)
    with pytest.raises(StoreError, match="is damaged; write"):
        attnstore.open(root)
    assert "is missing or damaged; write" in str(verify(root).findings[0])
