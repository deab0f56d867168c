"""Rules of labels on pages: a source's own names of its classes are kept with the dataset and shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tiny
from datasets import ClassLabel, Dataset, Features, Value
from helpers import sentences
from webtools import Browser

import attnstore
from attnstore.apps.publishing.pages import publish
from attnstore.storage import fragments, location

NAMES = ["world", "sports"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with a run over a saved dataset whose labels are numbers of named classes."""
    features = Features({"text": Value("string"), "label": ClassLabel(names=NAMES)})
    made = Dataset.from_dict({"text": sentences(3), "label": [1, 0, 1]}, features=features)
    made.save_to_disk(str(tmp_path / "saved"))
    model = tiny.make(tmp_path / "m", "bert")
    attnstore.ingest(tmp_path / "s", f"{model}=m", f"{tmp_path / 'saved'}=news", max_length=32)
    return tmp_path / "s"


@pytest.fixture
def browser(root: Path) -> Iterator[Browser]:
    """A client of its explorer."""
    made = Browser(root)
    yield made
    made.close()


def test_the_names_are_a_column_of_datasets(root: Path) -> None:
    """In the order of the numbers; GLUE's for a dataset that is called after its task, else NULL."""
    with attnstore.open(root) as store:
        assert store.sql("SELECT label_names FROM datasets").item().to_list() == NAMES
        assert store.sql("SELECT label FROM examples ORDER BY example")["label"].to_list() == ["1", "0", "1"]  # fmt: skip
        named = "SELECT label_names[label::INTEGER + 1] AS name FROM examples JOIN datasets USING (dataset) ORDER BY example"
        assert store.sql(named)["name"].to_list() == ["sports", "world", "sports"]


def test_pages_and_searches_call_labels_by_these_names(browser: Browser) -> None:
    """The run, the dataset, an input, a selection and Find."""
    for address in ("/run/m/news", "/dataset/news"):
        html = browser.get(address).text
        assert ">world<" in html
        assert ">sports<" in html
    assert "label <bdi>sports</bdi>" in browser.get("/run/m/news/example/0").text
    assert "<bdi>label world</bdi>" in browser.get('/run/m/news?s.labels=["0"]').text
    refused = browser.get("/find?q=label:xyz").text
    assert "has the label xyz; there are world, sports" in refused
    page = browser.get("/find?q=label:world").text
    data = json.loads(unescape(re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)[0]))
    assert data["labels"] == {"news": {"0": "world", "1": "sports"}}


def test_published_pages_do_too(root: Path, tmp_path: Path) -> None:
    """The list of inputs."""
    publish(root, "m/news", tmp_path / "out")
    html = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "<bdi>world</bdi>" in html
    assert "<bdi>sports</bdi>" in html


def test_an_update_records_them_for_a_dataset_that_was_stored_without(
    root: Path, tmp_path: Path
) -> None:
    """Like a dataset of an earlier version: plain ingestion leaves its record, an update fills it in."""
    backend = location.find(root)
    (record,) = fragments.listing(backend, "datasets")
    earlier = fragments.read(backend, record).drop("label_names")
    fragments.write(backend, "datasets", "news", record.part, earlier)

    def ingest(**options: Any) -> Any:
        attnstore.ingest(
            root, f"{tmp_path / 'm'}=m", f"{tmp_path / 'saved'}=news", max_length=32, **options
        )
        with attnstore.open(root) as store:
            return store.sql("SELECT dataset, label_names FROM datasets").rows()

    assert ingest() == [("news", None)]
    assert ingest(update=True) == [("news", NAMES)]
    other = [*reversed(NAMES)]
    row = fragments.read_one(backend, "datasets", "news")
    assert row is not None
    changed = row.with_columns(pl.Series("label_names", [other], pl.List(pl.String)))
    fragments.write(backend, "datasets", "news", record.part, changed)
    assert ingest(update=True) == [("news", other)], "names that are there stay"
