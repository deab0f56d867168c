"""HTML for notebooks: a store, a record, a map. Self-contained, without scripts or matplotlib.

Every text that comes from data is escaped; colours of letters follow the notebook's theme.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from attnstore.display.colors import colours, png
from attnstore.formatting import cell, plain, size

_SIDE = 720  # pixels of a large map's side: 60 tokens all have a label
_CELL = 15  # pixels of a cell, at most
_LETTER = 11  # font size of labels, in pixels
_LONGEST = 16  # characters of a token's label
_WIDE = 7.0  # pixels of a letter, roughly


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows as an HTML table; numbers stand right."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(map(_td, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _td(value: Any) -> str:
    side = "right" if isinstance(value, int | float) else "left"
    return f'<td style="text-align:{side}">{escape(cell(value))}</td>'


def record_html(title: str, record: Mapping[str, Any]) -> str:
    """One row as a table of column and value."""
    rows = ((name, cell(value)) for name, value in record.items())
    return f"<strong>{escape(title)}</strong>{table(('column', 'value'), rows)}"


def store_html(
    root: str, runs: Sequence[Mapping[str, Any]], views: Mapping[str, str], note: str | None
) -> str:
    """A store: its runs, and what can be asked. runs: rows of view `runs`."""
    rows = [
        (r["run"], r["state"], f"{r['stored']:,} of {r['planned']:,}", r["n_layers"], r["n_heads"],
         r["precision"], size(r["bytes"]))
        for r in runs
    ]  # fmt: skip
    columns = ("run", "state", "examples stored", "layers", "heads", "precision", "on disk")
    held = table(columns, rows) if rows else "<p>It holds no run yet.</p>"
    said = f"<p>{escape(note)}</p>" if note else ""
    asked = table(("view", "one row"), views.items())
    return (
        f"<strong>Store {escape(root)}</strong>{said}{held}"
        f"<details><summary>{len(views)} views to ask in SQL</summary>{asked}</details>"
    )


def map_html(title: str, tokens: Sequence[str], weights: npt.NDArray[np.float32]) -> str:
    """A map as SVG: rows attend to columns, dark is 0 and light its largest weight."""
    n, top = len(tokens), float(weights.max(initial=0))
    pitch = max(min(_CELL, _SIDE / n), 1.0)
    labels = [_label(token) for token in tokens]
    room = max(map(len, labels)) * _WIDE + 8
    every = -(-_LETTER // pitch) if pitch < _LETTER else 1
    shown = [(i, label) for i, label in enumerate(labels) if i % every == 0]
    side, middle = n * pitch, pitch / 2 + _LETTER / 3
    rows = [_text(room - 4, room + i * pitch + middle, text, "end") for i, text in shown]
    heads = [_text(room + i * pitch + middle, room - 4, text, "up") for i, text in shown]
    bar = png(colours(np.linspace(top, 0, 64)[:, None], top))
    parts = [
        _image(png(colours(weights, top)), room, room, side, side),
        *rows,
        *heads,
        _image(bar, room + side + 14, room, 12, side),
        _text(room + side + 30, room + _LETTER, f"{top:.2g}", "start"),
        _text(room + side + 30, room + side, "0", "start"),
    ]
    width, height = room + side + 70, room + side + 4
    return (
        f'<figure style="margin:0"><figcaption><strong>{escape(plain(title))}</strong>: '
        "attention weight from the token of a row to the token of a column</figcaption>"
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="sans-serif" '
        f'font-size="{_LETTER}" fill="currentColor">{"".join(parts)}</svg></figure>'
    )


def _label(token: str) -> str:
    text = plain(token)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if anchor == "up" else ""
    at = "start" if anchor == "up" else anchor
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{at}"{turn}>{escape(text)}</text>'


def _image(data: bytes, x: float, y: float, width: float, height: float) -> str:
    href = "data:image/png;base64," + base64.b64encode(data).decode()
    return (
        f'<image href="{href}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        'preserveAspectRatio="none" style="image-rendering:pixelated"/>'
    )
