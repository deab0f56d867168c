"""Labels belong to the content that was labelled, not to whatever has its run's name."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import tiny
from helpers import sentences, write_rows

import attnstore
from attnstore.apps.labeling.sittings import Place, Sittings
from attnstore.experiments.patterns.labels import import_labels
from attnstore.maintenance.copying import copy
from attnstore.storage import location


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("model") / "tiny", "bert")


def ingest(root: Path, model: Path, name: str, folder: Path, seed: int) -> str:
    """Ingest five texts of a seed as `texts`, with a model called `name`; returns the run."""
    rows = [{"text": text} for text in sentences(5, seed, longest=9)]
    data = write_rows(folder / f"{seed}.jsonl", rows)
    return attnstore.ingest(root, f"{model}={name}", f"{data}=texts", max_length=24)[0].run


def imported(root: Path, folder: Path, run: str) -> None:
    row = {"run": run, "example": 0, "layer": 1, "head": 0, "label": "block", "annotator": "anna"}
    pl.DataFrame([row]).write_csv(folder / "labels.csv")
    import_labels(root, folder / "labels.csv")


def sat(root: Path, _: Path, run: str) -> None:
    Sittings(location.locate(root)).of("anna").label(Place(run, 0, 1, 0), "block")


@pytest.mark.parametrize("label", [imported, sat])
def test_other_content_under_the_name_of_a_dropped_run_has_none_of_its_labels(
    tmp_path: Path, model: Path, label: object
) -> None:
    """They stay the labels of what was labelled, and show again when that is ingested again."""
    root = tmp_path / "store"
    run = ingest(root, model, "one", tmp_path, 0)
    label(root, tmp_path, run)  # type: ignore[operator]
    with attnstore.open(root) as store:
        assert store.sql("SELECT run FROM labels").rows() == [(run,)]
        store.drop(run)
        assert store.sql("SELECT run FROM labels").rows() == [(run,)]  # to export
    assert ingest(root, model, "one", tmp_path, 1) == run
    with attnstore.open(root) as store:
        assert store.sql("FROM labels").is_empty()
        store.drop(run)
    ingest(root, model, "one", tmp_path, 0)
    with attnstore.open(root) as store:
        assert store.sql("SELECT run FROM labels").rows() == [(run,)]


def test_labels_follow_their_run_to_a_store_that_has_it_under_another_name(
    tmp_path: Path, model: Path
) -> None:
    """A copy that leaves the run out, because the target has it, brings its labels."""
    source, target = tmp_path / "source", tmp_path / "target"
    imported(source, tmp_path, ingest(source, model, "one", tmp_path, 0))
    other = ingest(target, model, "two", tmp_path, 0)
    copy(source, target)
    with attnstore.open(target) as store:
        assert store.sql("SELECT run FROM labels").rows() == [(other,)]
