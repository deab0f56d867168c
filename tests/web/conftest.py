"""Fixtures that the tests of the explorer share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from browsing import ARGUMENTS, CHROMIUM, PACKAGE, PATIENCE, serving, tuned
from webtools import LIMITS, Browser, hostile_texts

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


@pytest.fixture(scope="session")
def real_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM and its tuned copy over 12 pairs of the bundled sample, and over hostile texts."""
    folder = tmp_path_factory.mktemp("real")
    pairs = attnstore.resources.sample_folder() / "pairs.jsonl"  # type: ignore[attr-defined]
    texts = folder / "pairs.jsonl"
    texts.write_text("".join(pairs.read_text().splitlines(keepends=True)[:12]))
    models = [f"{PACKAGE}=minilm", f"{tuned(folder / 'checkpoint-100')}=tuned"]
    attnstore.ingest(folder / "s", models, str(texts))
    attnstore.ingest(folder / "s", models[:1], str(hostile_texts(folder / "hostile.jsonl")))
    return folder / "s"


@pytest.fixture(scope="session")
def address(real_store: Path) -> Iterator[str]:
    with serving(real_store) as found:
        yield found


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Any]:
    """A page at 1280 pixels; fails for script errors and for any request to another host."""
    context = chromium.new_context(viewport={"width": 1280, "height": 860}, base_url=address)
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(f"script: {error}"))
    opened.on("console", lambda said: said.type == "error" and wrong.append(f"said: {said.text}"))

    def asked(request: Any) -> None:
        url = urlparse(request.url)
        if url.scheme not in ("data", "blob") and f"{url.scheme}://{url.netloc}" != address:
            wrong.append(f"request: {request.url}")

    opened.on("request", asked)
    yield opened
    context.close()
    assert not wrong
