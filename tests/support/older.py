"""Runs as an earlier capture left them: without arrays beside maps and received."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

BASE = ("maps", "received", "layer", "head")


def make_older(root: Path) -> None:
    """Take from every run of a store what an earlier capture did not write, the index too."""
    shutil.rmtree(root / "fragments" / "array_blocks", ignore_errors=True)
    for maps in list((root / "attention.zarr").rglob("maps")):
        for folder in maps.parent.iterdir():
            if folder.is_dir() and folder.name not in BASE:
                shutil.rmtree(folder)
        group = maps.parent / "zarr.json"
        document = json.loads(group.read_text())
        document.pop("consolidated_metadata", None)
        group.write_text(json.dumps(document, indent=2))
    (root / "index.duckdb").unlink(missing_ok=True)
