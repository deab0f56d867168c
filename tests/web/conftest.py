"""Fixtures that the tests of the explorer share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from webtools import LIMITS, Browser

import attnstore
from attnstore.store import Store


@pytest.fixture(scope="module")
def root(sample_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of a module's own, to label maps in."""
    folder = tmp_path_factory.mktemp("explored") / "store"
    shutil.copytree(sample_store, folder)
    return folder


@pytest.fixture(scope="module")
def pages(root: Path) -> Iterator[Browser]:
    """A client of an explorer over `root`."""
    browser = Browser(root, limits=LIMITS)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def store(sample_store: Path) -> Iterator[Store]:
    """The store that `root` is a copy of, to read only."""
    with attnstore.open(sample_store) as opened:
        yield opened


@pytest.fixture(scope="module")
def example(store: Store) -> int:
    """The longest input, which has word pieces."""
    return int(store.sql("SELECT example FROM inputs ORDER BY length DESC LIMIT 1").item())
