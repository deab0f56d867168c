"""An input's maps and lines as one HTML document that needs nothing else: for a notebook's cell and
for a paper's appendix.

The viewer is the explorer's own. Weights are in it as float16, compressed; every text is data, and
the document may load nothing.
"""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnstore.display.colors import scales
from attnstore.errors import UsageError
from attnstore.formatting import many, plain
from attnstore.resources import viewer_file
from attnstore.storage.files import write_file

MOST = 24_000_000
"""Weights that a document may hold: 48 MB before compression."""
_HEIGHT = 900  # pixels of a cell's frame in a notebook

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
)


@dataclass(frozen=True, eq=False)
class View:
    """What `store.view` gives: a notebook shows it, `to_html` writes it.

    data: what the viewer takes; maps: (layers, heads, L, L) float32.
    """

    title: str
    texts: tuple[str, ...]
    data: dict[str, Any] = field(repr=False)
    maps: npt.NDArray[np.float32] = field(repr=False)

    def html(self) -> str:
        """The document."""
        packed = gzip.compress(self.maps.astype("<f2").tobytes(), 6, mtime=0)
        data = self.data | {"scales": scales(), "maps": base64.b64encode(packed).decode()}
        held = json.dumps(data).replace("<", "\\u003c")
        said = "".join(f"<p><bdi>{escape(plain(text))}</bdi></p>" for text in self.texts)
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            f"<title>{escape(plain(self.title))}</title>"
            f'<style>{viewer_file("viewer.css")}</style></head><body class="alone">'
            f"<h1>{escape(plain(self.title))}</h1>{said}"
            '<p class="muted keys">Keys: arrows choose the head, j and k the token, w words or word '
            'pieces, l a linear scale.</p><div id="viewer"></div>'
            f'<script type="application/json" id="data">{held}</script>'
            f'<script type="module">{viewer_file("viewer.js")}\n{viewer_file("alone.js")}</script>'
            "</body></html>\n"
        )

    def to_html(self, path: str | Path) -> Path:
        """Write the document; returns its path. Raises StoreError where it cannot be written."""
        file = Path(path).expanduser()
        write_file(file, self.html().encode())
        return file

    def _repr_html_(self) -> str:
        return (
            f'<iframe title="{escape(plain(self.title))}" sandbox="allow-scripts" '
            f'style="width:100%;height:{_HEIGHT}px;border:0" srcdoc="{escape(self.html())}"></iframe>'
        )


def view(
    record: dict[str, Any], maps: npt.NDArray[np.float32], layer: int, head: int, title: str
) -> View:
    """A view of an input. record: of `inputs.find`, its layers and heads those of `maps`;
    layer, head: the map that is large at first. Raises UsageError where there is too much."""
    require_room(title, maps.size)
    texts = tuple(text for text in (record["text"], record["text_pair"]) if text)
    state = {"layer": layer, "head": head}
    return View(title, texts, record["data"] | {"state": state}, maps)


def require_room(title: str, weights: int) -> None:
    """Raise UsageError where there are more weights than a document may hold."""
    if weights > MOST:
        raise UsageError(
            f"{title} has {many(weights)} weights, and a document holds at most {many(MOST)}; "
            "name layers or heads, such as layers=[0, 1]."
        )
