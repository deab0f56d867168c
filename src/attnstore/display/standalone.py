"""An input's maps and lines as one HTML document that needs nothing else: for a notebook's cell and
for a paper's appendix.

The viewer is the explorer's own. Weights are in it as float16, compressed; every text is data, and
the document may load nothing.
"""

from __future__ import annotations

import base64
import gzip
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnstore.display.colors import scales
from attnstore.display.templating import render
from attnstore.errors import UnknownNameError, UsageError
from attnstore.formatting import many
from attnstore.resources import VIEWER, viewer_file
from attnstore.storage.files import write_file

MOST = 24_000_000
"""Weights that a document may hold: 48 MB before compression."""
_HEIGHT = 900  # pixels of a cell's frame in a notebook


@dataclass(frozen=True, eq=False)
class View:
    """A view of an input, of `store.view`: a notebook shows it, `to_html` writes it.

    data: what the viewer takes; maps: (layers, heads, L, L) float32.
    """

    title: str
    texts: tuple[str, ...]
    data: dict[str, Any] = field(repr=False)
    maps: npt.NDArray[np.float32] = field(repr=False)

    def html(self) -> str:
        """Return the document."""
        packed = gzip.compress(self.maps.astype("<f2").tobytes(), 6, mtime=0)
        data = self.data | {"scales": scales(), "maps": base64.b64encode(packed).decode()}
        return render(
            "document.html", title=self.title, texts=self.texts, data=data,
            style=viewer_file("viewer.css"), script=_script(),
        )  # fmt: skip

    def to_html(self, path: str | Path) -> Path:
        """Write the document; return its path. Raises StoreError if it cannot be written."""
        file = Path(path).expanduser()
        write_file(file, self.html().encode())
        return file

    def _repr_html_(self) -> str:
        return render("frame.html", title=self.title, height=_HEIGHT, document=self.html())


def _script() -> str:
    """Return the viewer's scripts as one: what they import from each other stands before them."""
    text = "\n".join(viewer_file(f"{name}.js") for name in (*VIEWER, "alone"))
    return re.sub(r"^(import .*\n|export )", "", text, flags=re.MULTILINE)


def view(
    record: dict[str, Any],
    maps: npt.NDArray[np.float32],
    layer: int | None,
    head: int | None,
    title: str,
) -> View:
    """Make a view of an input.

    Args:
        record: Of `inputs.restricted`.
        maps: (layers, heads, L, L), of the layers and heads in `record["data"]`.
        layer: Layer of the map that is large at first; None for the first one.
        head: Its head.
        title: Title of the document.

    Raises:
        UnknownNameError: There is no such layer or head among the maps.
        UsageError: A document cannot hold so many weights.
    """
    data = record["data"]
    for number, what in ((layer, "layer"), (head, "head")):
        if number is not None and number not in data[f"{what}s"]:
            raise UnknownNameError(f"The view of {data['run']} holds no {what} {number}.")
    require_room(title, maps.size)
    texts = tuple(text for text in (record["text"], record["text_pair"]) if text)
    state = {
        "layer": data["layers"][0] if layer is None else layer,
        "head": data["heads"][0] if head is None else head,
    }
    return View(title, texts, data | {"state": state, "shares": True}, maps)


def require_room(title: str, weights: int) -> None:
    """Raise UsageError for more weights than a document can hold."""
    if weights > MOST:
        raise UsageError(
            f"{title} has {many(weights)} weights, and a document holds at most {many(MOST)}; "
            "name layers or heads, such as layers=[0, 1]."
        )
