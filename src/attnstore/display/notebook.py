"""HTML for notebooks: a store, a record, a map. Self-contained, without scripts or matplotlib.

Every text that comes from data is escaped; colors of letters follow the notebook's theme.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from attnstore.display.colors import colormap, own_colormap, png
from attnstore.display.templating import render
from attnstore.formatting import cell, plain, size

_SIDE = 720  # pixels of a large map's side: 60 tokens all have a label
_CELL = 15  # pixels of a cell, at most
_LETTER = 11  # font size of labels, in pixels
_LONGEST = 16  # characters of a token's label
_WIDE = 7.0  # pixels of a letter, roughly
_COLUMNS = ("run", "state", "examples stored", "layers", "heads", "precision", "on disk")


def record_html(title: str, record: Mapping[str, Any]) -> str:
    """Show one row as a table of column and value."""
    rows = [(name, cell(value)) for name, value in record.items()]
    return render("record.html", title=title, rows=rows)


def store_html(
    root: str, runs: Sequence[Mapping[str, Any]], views: Mapping[str, str], note: str | None
) -> str:
    """Show a store: its runs, and what can be asked.

    Args:
        root: Path or address of the store.
        runs: Rows of view `runs`.
        views: The views, with what a row of each is.
        note: Why the index is not up to date, or None.
    """
    rows = [
        (r["run"], r["state"], f"{r['stored']:,} of {r['planned']:,}", r["n_layers"], r["n_heads"],
         r["precision"], size(r["bytes"]))
        for r in runs
    ]  # fmt: skip
    return render("store.html", root=root, note=note, columns=_COLUMNS, runs=rows, views=views)


def map_html(title: str, tokens: Sequence[str], weights: npt.NDArray[np.float32]) -> str:
    """Show a map as SVG: rows attend to columns, dark is 0 and light its largest weight, gray all that are equal.

    Args:
        title: The map in words.
        tokens: The L tokens.
        weights: (L, L) float32.
    """
    n, top = len(tokens), float(weights.max(initial=0))
    pitch = max(min(_CELL, _SIDE / n), 1.0)
    labels = [_label(token) for token in tokens]
    every = int(-(-_LETTER // pitch)) if pitch < _LETTER else 1
    return render(
        "map.html", title=title, top=top, pitch=pitch, letter=_LETTER, side=n * pitch,
        labels=list(enumerate(labels))[::every], room=max(map(len, labels)) * _WIDE + 8,
        map=_base64(own_colormap(weights)), scale=_base64(colormap(np.linspace(top, 0, 64)[:, None], top)),
    )  # fmt: skip


def _label(token: str) -> str:
    text = plain(token)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _base64(pixels: npt.NDArray[np.uint8]) -> str:
    return base64.b64encode(png(pixels)).decode()
