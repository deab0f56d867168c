"""Make the pictures of README.md and docs/explorer.md anew, from a store, with today's pages and colors.

    python docs/images/make_images.py STORE [--run minilm/mrpc] [--tuned RUN] [--sample STORE]

The explorer serves STORE, and Chromium (of the system, through playwright) takes the screenshots:
`explorer_*.png`. Where `--sample` names the store of `make demo`, the figure `norm_share.png` is drawn
from it. A run that STORE lacks is said, and its picture stays as it is.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

import attnstore

FOLDER = Path(__file__).parent
WIDTH = 1280
COLORS = 255
TOKENS = 36
"""Tokens of the input that is shown, about."""
SHOWN_ROOT = "/data/attention"
"""Stands in the pictures for the folder of the store."""


def main() -> None:
    """Take every screenshot whose runs the store holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--run", default="minilm/mrpc")
    parser.add_argument("--tuned", help="a checkpoint's run over the same inputs as --run")
    parser.add_argument("--sample", help="the store of `make demo`")
    asked = parser.parse_args()
    run, tuned = asked.run, asked.tuned
    with attnstore.open(asked.store) as store:
        runs = set(store.sql("FROM runs")["run"])
        example = store.sql(
            "SELECT example FROM inputs WHERE run = $run ORDER BY abs(length - $tokens), example LIMIT 1",
            run=run, tokens=TOKENS,
        ).item()  # fmt: skip
    wanted = {
        "explorer_run": (f"/run/{run}?by=analysis:head_types", 1080, {run}),
        "explorer_example": (f"/run/{run}/example/{example}?layer=2&head=3&token=4", 900, {run}),
        "explorer_compare": (f"/run/{tuned}/example/{example}?layer=4&head=7&against={run}", 1080, {run, tuned}),
    }  # fmt: skip
    with serving(asked.store) as address, chromium() as browser:
        for name, (path, height, needed) in wanted.items():
            if needed - runs:
                print(f"{name}: the store lacks {', '.join(map(str, needed - runs))}")
                continue
            shot(browser, address + path, height, FOLDER / f"{name}.png")
            print(name)
    if asked.sample:
        command = ["--store", asked.sample, "figure", "norm_share", "--param", "run=minilm/sample"]
        out = ["--out", str(FOLDER / "norm_share.png")]
        subprocess.run([sys.executable, "-m", "attnstore", *command, *out], check=True)


@contextmanager
def serving(store: str) -> Iterator[str]:
    """Serve a store; give the server's address."""
    command = [sys.executable, "-m", "attnstore", "--store", store, "serve", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield "http://" + process.stdout.readline().split("http://")[1].split()[0].rstrip("/")
    finally:
        process.terminate()
        process.wait()


@contextmanager
def chromium() -> Iterator[Any]:
    """Start the system's Chromium."""
    with sync_playwright() as started:
        path = shutil.which("chromium")
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def shot(browser: Any, address: str, height: int, file: Path) -> None:
    """Take a screenshot of a page's first `height` pixels when everything on it is drawn."""
    page = browser.new_page(viewport={"width": WIDTH, "height": height})
    page.set_default_timeout(180_000)
    answer = page.goto(address)
    if not answer.ok:
        raise SystemExit(f"{address}: {page.inner_text('main')}")
    page.wait_for_load_state("networkidle")
    page.wait_for_function(
        "() => !document.querySelector('.waiting, [data-spec]') && "
        "(!document.getElementById('viewer') || document.getElementById('viewer').dataset.drawn)"
    )
    page.evaluate(f"document.querySelector('.root bdi').textContent = '{SHOWN_ROOT}'")
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(COLORS, dither=Image.Dither.NONE).save(file, optimize=True)
    page.close()


if __name__ == "__main__":
    main()
