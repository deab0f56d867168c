"""Tools that draw: one map with its tokens, a measure of all heads, the mean maps of a run; PNG beside numbers."""

from __future__ import annotations

import base64
import threading
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
from mcp_types import CallToolResult, ImageContent, TextContent
from pydantic import BaseModel, Field

from attnstore import map_kinds
from attnstore.apps.mcp_server.heads import LayerNumber, RunName
from attnstore.apps.mcp_server.questions import typed
from attnstore.apps.mcp_server.results import (
    GridPicture,
    HeadTargets,
    HeadValue,
    MapPicture,
    MeanMapsPicture,
    Weight,
)
from attnstore.display import input_parts, inputs
from attnstore.display.mean_maps import CAPTION
from attnstore.errors import UnknownNameError
from attnstore.web import grid_files, mean_maps, measures
from attnstore.web.head_grid import Grid
from attnstore.web.measures import finite
from attnstore.web.run_records import record_of
from attnstore.web.site import Site

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 1400
"""Pixels of a picture's longer side: what assistants see without scaling it down."""
STRONGEST = 12
"""Cells of a map that stand beside its picture as numbers."""
_DRAWING = threading.Lock()  # matplotlib's fonts are not for several threads at once


class PictureTools:
    """The tools. site: the explorer's state over the store."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def show_map(
        self,
        run: RunName,
        example: Annotated[int, Field(description="Number of the input, as in view inputs")],
        layer: LayerNumber,
        head: Annotated[
            int | None, Field(description="Head, from 0; none for a kind with one map a layer")
        ] = None,
        kind: Annotated[
            str, Field(description=f"Kind of maps: {', '.join(map_kinds.NAMES)}")
        ] = map_kinds.WEIGHTS,
        words: Annotated[bool, Field(description="Merge word pieces into words")] = False,
        specials: Annotated[
            str,
            Field(
                description="Special tokens: keep, drop, or renormalise (drop, and divide rows by their sums)"
            ),
        ] = "keep",
    ) -> Annotated[CallToolResult, MapPicture]:
        """Draw the attention map of a head for one input, with its tokens, and list its largest cells.

        Rows are the tokens that attend, columns those that are attended to; the rows of weights sum to 1.
        """  # fmt: skip
        store, of_kind = self._site.store, map_kinds.find(kind)
        map_ = store.current.map(run, example, layer, head, kind)
        record = inputs.find(store, run, example)
        data = record["data"]
        values: npt.NDArray[np.float32] = map_.weights
        tokens = data["words"] if words else data["tokens"]
        if words:
            values = inputs.merged(values, data["starts"])
        kept, _ = input_parts.kept(data, words, specials)
        values = input_parts.part(values, data, words, specials)
        places = [int(data["starts"][i]) if words else int(i) for i in kept]
        labels, label = [tokens[i] for i in kept], record["label"]
        unit = "attention weight" if kind == map_kinds.WEIGHTS else of_kind.unit
        picture = MapPicture(
            title=map_.title, unit=unit, text=record["text"], text_pair=record["text_pair"],
            label=label and self._site.labels.called(label, record["dataset"]), tokens=labels, strongest=_strongest(values, labels, places),
        )  # fmt: skip

        def draw() -> Figure:
            from attnstore.plotting import figures  # matplotlib takes long to import

            return figures.attention_map(values, labels, map_.title, unit, of_kind.signed)

        return _shown(picture, draw)

    def show_heads(
        self,
        run: RunName,
        by: Annotated[
            str,
            Field(
                description="A column of map_measures, an analysis with a value or class per head, or disabling"
            ),
        ] = "entropy",
        parameters: Annotated[
            dict[str, Any] | None, Field(description="Parameters of the analysis, without run")
        ] = None,
        part: Annotated[
            str | None, Field(description="Of a result with several values per head, which one")
        ] = None,
    ) -> Annotated[CallToolResult, GridPicture]:
        """Draw all heads of a run as a grid, layers downwards and heads across, colored by a measure or an analysis.

        The numbers stand beside the picture. Good choices: entropy, previous, next, cls, sep, head_types.
        """  # fmt: skip
        store = self._site.store
        record = record_of(self._site, run)
        key = f"analysis:{by}" if by in store.current.named_analyses.names() else by
        choice = measures.find(store, key)
        given = parameters or {}
        query = {name: typed(value) for name, value in given.items() if value is not None}
        known = {p.name: p.name for p in choice.parameters}
        for name in given:
            if name not in known:
                raise UnknownNameError(
                    f"{by} has no parameter {name!r} beside run; it has {', '.join(known) or 'none'}."
                )
        grid = measures.grid(store, record, choice, query | ({"part": part} if part else {}))
        if part is not None and part not in grid.parts:
            raise UnknownNameError(
                f"{by} has no part {part!r}; it has {', '.join(grid.parts) or 'none'}."
            )
        words = grid_files.title(grid, choice)
        title = f"{run}: {words.removesuffix(f' ({grid.unit})') if grid.names else words}"
        note = " ".join([f"{grid.note or f'{grid.title}; mean over inputs'}.", *grid.remarks])
        picture = GridPicture(
            title=title, unit=grid.unit, note=note, part=grid.part, parts=grid.parts,
            heads=[
                HeadValue(
                    layer=layer, head=head, value=finite(cell.value), low=finite(cell.low),
                    high=finite(cell.high), class_name=cell.name,
                )
                for (layer, head), cell in sorted(grid.cells.items())
            ],
        )  # fmt: skip
        return _shown(picture, lambda: _drawn(grid, title))

    def show_mean_maps(self, run: RunName) -> Annotated[CallToolResult, MeanMapsPicture]:
        """Draw every head of a run as its mean map by relative position: what the whole model does, at one look.

        A diagonal below the middle is attention to the previous token, a bar on the left to [CLS].
        """
        record_of(self._site, run)
        found = mean_maps.found(self._site.store, run)
        heads = [
            HeadTargets(layer=layer, head=head, most=mean_maps.targets(found, layer, head))
            for layer, head in sorted(found.shares)
        ]

        def draw() -> Figure:
            from attnstore.plotting import mosaics  # matplotlib takes long to import

            return mosaics.grids({run: found})

        return _shown(MeanMapsPicture(caption=CAPTION, heads=heads), draw)


def _strongest(
    values: npt.NDArray[np.float32], labels: list[str], places: list[int]
) -> list[Weight]:
    sizes = np.nan_to_num(np.abs(values)).ravel()
    order = np.argsort(-sizes, kind="stable")[:STRONGEST]
    cells = [divmod(int(at), values.shape[1]) for at in order]
    return [
        Weight(
            from_pos=places[i], to_pos=places[j], from_text=labels[i], to_text=labels[j],
            value=finite(float(values[i, j])),
        )
        for i, j in cells
    ]  # fmt: skip


def _drawn(grid: Grid, title: str) -> Figure:
    import polars as pl

    from attnstore.plotting import figures, panels  # matplotlib takes long to import

    if grid.names:
        return panels.kinds([[panels.Panel(_cells(grid), title)]], grid.names, letters(grid.names))
    if grid.signed:
        return panels.changes([[panels.Panel(_cells(grid), title)]], grid.unit or "change")
    rows = [(layer, head, cell.value) for (layer, head), cell in sorted(grid.cells.items())]
    frame = pl.DataFrame(rows, ["layer", "head", "mean"], orient="row")
    return figures.heads(frame, title, grid.unit)


def _cells(grid: Grid) -> npt.NDArray[np.float64]:
    """Return the values of a grid by layer and head, or the numbers of its classes; NaN where none is."""
    cells = np.full((max(grid.layers) + 1, max(grid.heads) + 1), np.nan)
    for (layer, head), cell in grid.cells.items():
        value = grid.names.index(cell.name) if cell.name is not None else cell.value
        cells[layer, head] = np.nan if value is None else value
    return cells


def letters(names: list[str]) -> dict[str, str]:
    """Return a letter for each class, its first one that no other class has; a dot for none."""
    given: dict[str, str] = {}
    for name in names:
        free = [c for c in name.upper() if c.isalpha() and c not in given.values()]
        given[name] = "·" if name == "none" else free[0] if free else str(len(given))
    return given


def _shown(picture: BaseModel, draw: Any) -> CallToolResult:
    """Return a picture as PNG, with what it shows as text and as data."""
    from attnstore.plotting import figures  # matplotlib takes long to import

    with _DRAWING:
        data = figures.png(draw(), LONGEST)
    about = picture.model_dump(mode="json")
    image = ImageContent(type="image", data=base64.b64encode(data).decode(), mime_type="image/png")
    text = TextContent(type="text", text=picture.model_dump_json())
    return CallToolResult(content=[image, text], structured_content=about)
