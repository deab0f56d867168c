"""A store of one run in several small blocks, which tests of its upkeep copy and harm."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers import shrink, write_texts

import attnstore


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan and write small shards."""
    shrink(monkeypatch)


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 texts, the data of run tiny/texts."""
    return write_texts(tmp_path_factory.mktemp("maintenance") / "texts.jsonl", 12, longest=16)


@pytest.fixture(scope="session")
def made(tiny_bert: Path, texts: Path) -> Path:
    """A store with run tiny/texts in several blocks, to read only."""
    root = texts.parent / "store"
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        attnstore.ingest(root, str(tiny_bert), str(texts), max_length=48)
    return root


@pytest.fixture
def root(small: None, made: Path, tmp_path: Path) -> Path:
    """A copy of that store, to be harmed."""
    return Path(shutil.copytree(made, tmp_path / "store"))
