"""Fixtures that several tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny

import attnstore


@pytest.fixture(scope="session", autouse=True)
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Prefect's own folder of this session: processes of tests do not share a database."""
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny BERT with random weights: 2 layers of 4 heads, at most 64 tokens."""
    return tiny.make(tmp_path_factory.mktemp("models") / "tiny", "bert")


@pytest.fixture(scope="session")
def sample_store(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store with run tiny/sample: 8 examples of the bundled sample, to read only."""
    root = tmp_path_factory.mktemp("stores") / "store"
    attnstore.ingest(root, str(tiny_bert), "sample", limit=8, max_length=64, precision="float32")
    return root
