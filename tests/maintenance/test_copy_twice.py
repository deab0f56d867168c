"""Rules of copying into a store that holds something already: no row stands there twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from click.testing import CliRunner
from helpers import contents, write_texts

import attnstore
from attnstore import job
from attnstore.annotation import annotate as annotating
from attnstore.cli.main import main
from attnstore.datasets.annotations import Annotation
from attnstore.errors import BusyError, StoreError
from attnstore.experiments.patterns import classification
from attnstore.experiments.patterns.network import Network, write
from attnstore.maintenance import copying, orphans
from attnstore.maintenance.verify import verify
from attnstore.storage import fragments, location, locks
from attnstore.storage.folder import Folder

RUN = "tiny/texts"
MAPS = 12 * 8
COUNTS = "SELECT (SELECT count(*) FROM patterns) AS patterns, (SELECT count(*) FROM maps) AS maps, (SELECT count(*) FROM spans) AS spans, (SELECT count(*) FROM links) AS links"

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture
def pair(made: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two stores that hold the same run."""
    return Path(shutil.copytree(made, tmp_path / "a")), Path(shutil.copytree(made, tmp_path / "b"))


class _Halves:
    """An annotator that labels the first characters of each text; `n` is its version."""

    source = "halves"

    def __init__(self, n: int) -> None:
        self.n = n

    def identity(self) -> str:
        return str(self.n)

    def annotate(self, texts: pl.DataFrame, progress: Any) -> Annotation:
        found = Annotation()
        for row in texts.iter_rows(named=True):
            first, second = (
                found.span(row["example"], 0, i, i + 1, dep=str(self.n)) for i in range(2)
            )
            found.link(row["example"], "dep", str(self.n), first, second)
        return found


def annotate(root: Path, n: int) -> None:
    annotator = _Halves(n)
    record, texts = annotating._dataset(location.locate(root), "texts")
    identity = annotating._identity(annotator, record, texts)
    job.run(annotating.AnnotationJob(location.locate(root), "texts", annotator, texts, identity))


def network(folder: Path, seed: int) -> Path:
    """A network with random weights."""
    path = folder / f"{seed}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        write(Network().eval(), path)
    return path


def counts(root: Path) -> dict[str, int]:
    with attnstore.open(root) as store:
        return store.sql(COUNTS).row(0, named=True)


def assert_sound(root: Path) -> None:
    assert [str(f) for f in verify(root).findings] == []


def test_classes_that_both_sides_made_are_not_doubled(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """The classes of a run are of one network: the target keeps its own, and the copy says so."""
    for root, seed in zip(pair, (1, 2), strict=True):
        classification.classify(root, RUN, network=network(tmp_path, seed))
    before = contents(pair[1])
    done = copying.copy(*pair)
    assert contents(pair[1]) == before
    assert counts(pair[1])["patterns"] == counts(pair[1])["maps"] == MAPS
    assert done.notes[0].startswith("The target keeps its own pattern classes of tiny/texts;")
    assert_sound(pair[1])


def test_classes_come_to_a_run_that_has_none_or_a_part_of_them(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """Parts by the same network are added to."""
    used = network(tmp_path, 1)
    classification.classify(pair[0], RUN, network=used)
    assert list(copying.copy(*pair).notes) == []
    assert counts(pair[1])["patterns"] == MAPS
    lost = fragments.listing(location.locate(pair[1]), "patterns")[0]
    fragments.discard(location.locate(pair[1]), lost)
    assert list(copying.copy(*pair).notes) == []
    assert counts(pair[1])["patterns"] == MAPS
    assert_sound(pair[1])


def test_annotations_that_both_sides_made_are_not_doubled(pair: tuple[Path, Path]) -> None:
    """An annotation by one source is one: the target keeps its own, spans and links alike."""
    for root, n in zip(pair, (1, 2), strict=True):
        annotate(root, n)
    before = counts(pair[1])
    done = copying.copy(*pair)
    assert counts(pair[1]) == before
    assert "annotations of texts by halves" in done.notes[0]
    with attnstore.open(pair[1]) as store:
        assert store.sql("SELECT DISTINCT label FROM links")["label"].to_list() == ["2"]
    assert_sound(pair[1])


def test_half_an_annotation_of_the_target_goes(pair: tuple[Path, Path]) -> None:
    """Links whose spans were never written do not come to life beside other spans."""
    for root, n in zip(pair, (1, 2), strict=True):
        annotate(root, n)
    for spans in fragments.listing(location.locate(pair[1]), "spans"):
        fragments.discard(location.locate(pair[1]), spans)
    assert list(copying.copy(*pair).notes) == []
    assert counts(pair[1]) == counts(pair[0])
    assert_sound(pair[1])


def test_the_same_run_under_another_name_is_not_copied(
    made: Path, tiny_bert: Path, texts: Path, tmp_path: Path
) -> None:
    """Its content decides: a sentence says under which name the target has it."""
    attnstore.ingest(tmp_path / "b", f"{tiny_bert}=other", str(texts), max_length=48)
    result = CliRunner().invoke(main, ["copy", str(made), str(tmp_path / "b")])
    assert result.exit_code == 0
    assert "tiny/texts was not copied" in result.stderr
    assert "holds the same run as other/texts" in result.stderr
    with attnstore.open(tmp_path / "b") as store:
        assert store.runs()["run"].to_list() == ["other/texts"]
        sums = store.sql(
            "SELECT sum(weight) FROM attention GROUP BY example, layer, head, from_pos"
        )
        assert sums.to_series().is_between(0.99, 1.01).all()
        assert store.sql("SELECT count(*) FROM maps").item() == MAPS
    assert_sound(tmp_path / "b")


def test_runs_ingested_on_both_sides_keep_one_record(
    made: Path, tiny_bert: Path, texts: Path, tmp_path: Path
) -> None:
    """Records of the ingestion of a run are the target's or the source's, not both."""
    attnstore.ingest(tmp_path / "b", str(tiny_bert), str(texts), max_length=48)
    copying.copy(made, tmp_path / "b")
    with attnstore.open(tmp_path / "b") as store:
        assert store.sql("SELECT sum(examples) FROM idx.core.ingests").item() == 12
    assert_sound(tmp_path / "b")


def _scores(part: str, rows: list[dict[str, Any]], table: str) -> Callable[[Path], None]:
    def add(root: Path) -> None:
        frame = pl.DataFrame([{"model": "tiny", "dataset": "texts", **row} for row in rows])
        fragments.write(location.locate(root), table, "tiny/texts", part, frame)

    return add


SETTINGS = [{"identity": "i", "value": "zero", "setting": s, "metric": "m"} for s in "abc"]
SETS = [
    {
        "identity": "i",
        "value": "zero",
        "setting": "s",
        "metric": "m",
        "kind": "random",
        "disabled": s,
    }
    for s in "abc"
]
ROUNDS = [{"identity": "i", "round": n, "score": 0.5} for n in (1, 2)]


@pytest.mark.parametrize(
    ("table", "ours", "theirs", "key"),
    [
        ("ablations", [("k.zero.000.x", SETTINGS)],
         [("k.zero.000.y", SETTINGS[:1]), ("k.zero.000.z", SETTINGS[1:])], "setting"),
        ("random_sets", [("k.zero.000.x", SETS)],
         [("k.zero.000.y", SETS[:1]), ("k.zero.000.z", SETS[1:])], "disabled"),
        ("pruning_sets", [("k.x", SETS)], [("k.y", SETS[:1])], "disabled"),
        ("prunings", [("k.0001", ROUNDS[:1]), ("k.0002", ROUNDS[1:])],
         [("k.0001", [{**ROUNDS[0], "score": 0.6}])], "round"),
    ],
)  # fmt: skip
def test_scores_cut_otherwise_on_both_sides_are_not_doubled(
    pair: tuple[Path, Path], table: str, ours: Any, theirs: Any, key: str
) -> None:
    """One ablation's settings and one pruning's rounds are of one store."""
    for root, parts in zip(pair, (ours, theirs), strict=True):
        for part, rows in parts:
            _scores(part, rows, table)(root)
    before = contents(pair[1], "fragments")
    assert copying.copy(*pair).notes
    assert contents(pair[1], "fragments") == before
    with attnstore.open(pair[1]) as store:
        rows = store.sql(f'SELECT "{key}" FROM {table}')[key]
        assert rows.is_unique().all()


def test_labels_that_went_on_come_along(pair: tuple[Path, Path]) -> None:
    """Of a sitting that grew on one side the later state counts, whichever way it is copied."""
    rows = [
        {"run": RUN, "example": 0, "layer": 0, "head": h, "label": "block", "annotator": "anna",
         "labelled": f"2026-01-0{h + 1}T00:00:00"}
        for h in range(3)
    ]  # fmt: skip
    frame = pl.DataFrame(rows).with_columns(pl.col("labelled").str.to_datetime())
    for root, n in zip(pair, (3, 1), strict=True):
        fragments.write(location.locate(root), "labels", "anna", "sitting", frame[:n])
    copying.copy(pair[1], pair[0])
    copying.copy(*pair)
    for root in pair:
        with attnstore.open(root) as store:
            assert store.sql("SELECT count(*) FROM labels").item() == 3


def test_what_evaluations_name_comes_before_them(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """A stopped copy holds no score of a model or dataset that it does not describe."""
    source = pair[0]
    for table, column in (("models", "model"), ("datasets", "dataset"), ("examples", "dataset")):
        (old,) = fragments.listing(location.locate(source), table)
        rows = fragments.read(location.locate(source), old).with_columns(
            pl.lit("more").alias(column)
        )
        fragments.write(location.locate(source), table, "more", old.part, rows)
    row = {"model": "tiny", "base": "more", "dataset": "more", "metric": "m", "value": 0.5}
    fragments.write(location.locate(source), "evaluations", "tiny", "e", pl.DataFrame([row]))
    target = tmp_path / "c"
    for n in range(1, 9):
        _stopping_after(n, source, target, None)
        assert_sound(target)
    copying.copy(source, target, [RUN])
    assert_sound(target)
    with attnstore.open(target) as store:
        assert len(store.sql("FROM evaluations")) == 1


def _stopping_after(n: int, source: Path, target: Path, runs: list[str] | None) -> None:
    """Copy until n files are written."""
    write, written = Folder.write, []

    def counted(place: Folder, path: str, data: bytes) -> None:
        if path != location.MARK:
            written.append(path)
        if len(written) > n:
            raise StoreError("stopped")
        write(place, path, data)

    shutil.rmtree(target, ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folder, "write", counted)
        with pytest.raises(StoreError, match="stopped"):
            copying.copy(source, target, runs)


def test_gc_waits_for_a_copy(made: Path, tmp_path: Path) -> None:
    """What a copy has written and not recorded yet is not moved away under it."""
    location.create(tmp_path / "b")
    refused: list[str] = []

    def clean(done: int, total: int) -> None:
        with pytest.raises(BusyError) as caught:
            orphans.collect(tmp_path / "b")
        refused.append(str(caught.value))

    copying.copy(made, tmp_path / "b", progress=clean)
    assert "is in use by this process" in refused[0]
    assert orphans.collect(tmp_path / "b").files == []
    assert contents(tmp_path / "b") == contents(made)


def test_ingesting_other_content_into_the_target_of_a_copy_mixes_nothing(
    made: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    """The name is the copy's; when it is done, the other content gets a name of its own."""
    texts = write_texts(tmp_path / "texts.jsonl", 5, seed=3)
    location.create(tmp_path / "b")
    tried: list[str] = []

    def ingest() -> None:
        attnstore.ingest(tmp_path / "b", str(tiny_bert), str(texts), max_length=48)

    def meanwhile(done: int, total: int) -> None:
        if not tried and done > total / 2:
            with pytest.raises(BusyError, match="Run tiny/texts is in use") as caught:
                ingest()
            tried.append(str(caught.value))

    copying.copy(made, tmp_path / "b", progress=meanwhile)
    assert tried
    ingest()
    with attnstore.open(tmp_path / "b") as store:
        assert store.runs().select("run", "dataset", "stored").rows() == [
            ("tiny/texts", "texts", 12),
            ("tiny/texts@2", "texts@2", 5),
        ]
    assert_sound(tmp_path / "b")


def test_a_name_that_is_taken_meanwhile_ends_the_copy(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record is written only while the name, and the content, are nobody else's in the target."""
    location.create(tmp_path / "b")
    (record,) = fragments.listing(location.locate(made), "runs")
    row = fragments.read(location.locate(made), record).with_columns(run=pl.lit("other/texts"))

    def meanwhile(done: int, total: int) -> None:
        fragments.write(location.locate(tmp_path / "b"), "runs", "other/texts", record.part, row)

    with pytest.raises(BusyError, match="run the same command again"):
        copying.copy(made, tmp_path / "b", progress=meanwhile)
    assert [f.owner for f in fragments.listing(location.locate(tmp_path / "b"), "runs")] == [
        "other/texts"
    ]


def test_leftovers_of_another_run_do_not_count_for_the_copied_one(
    made: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    """Blocks that a stopped drop left under the name of the run that comes go."""
    texts = write_texts(tmp_path / "texts.jsonl", 9, seed=3)
    target = tmp_path / "b"
    attnstore.ingest(target, str(tiny_bert), str(texts), max_length=48)
    for table in ("runs", "datasets", "examples"):  # as a drop that was killed, and a lost dataset
        for fragment in fragments.listing(location.locate(target), table):
            fragments.discard(location.locate(target), fragment)
    copying.copy(made, target)
    with attnstore.open(target) as store:
        assert store.runs()["state"].to_list() == ["complete"]
        assert store.sql("SELECT count(*) FROM maps WHERE len(weights) > 0").item() == MAPS
    assert_sound(target)


def test_a_copy_holds_what_it_adds_annotations_to(pair: tuple[Path, Path]) -> None:
    """Annotating in the target and copying the same kind to it do not cross."""
    annotate(pair[0], 1)
    lock = locks.path_of(location.locate(pair[1]), "annotate--texts--halves")
    with locks.hold(lock), pytest.raises(BusyError, match="annotate--texts--halves"):
        copying.copy(*pair)
