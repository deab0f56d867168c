"""The mean maps of a run's heads: one small picture for lists, and a grid of links to the heads."""

from __future__ import annotations

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from attnstore.display import mean_maps
from attnstore.display.colors import png
from attnstore.display.mean_maps import GAP, LENGTH, WIDTH, MeanMaps
from attnstore.errors import UnknownNameError
from attnstore.web.addresses import link, whole
from attnstore.web.grid_chart import drawn
from attnstore.web.run_records import Row, require_head, run_of
from attnstore.web.served_store import ServedStore
from attnstore.web.site import Site

_SCALE = 3
"""Pixels of a cell of a mean map in the grid."""
_LEFT, _TOP = 34, 22
_NAMED = 3
"""Groups that the name of a head lists."""
_KEPT = {"Cache-Control": "private, max-age=31536000, immutable"}
"""The address of a picture changes with its content."""


def of_run(store: ServedStore, run: str, of: tuple[int, int] | None = None) -> MeanMaps | None:
    """Return the mean maps of a run; None where it has no profile yet. of: layer and head of the only one wanted."""
    columns = 'layer, head, target, "offset", weight, share'
    rows = store.of_head(
        lambda only: f"SELECT {columns} FROM offsets WHERE run = $run{only}", run, of
    )
    return None if rows.is_empty() else mean_maps.of_rows(rows)


def found(store: ServedStore, run: str, of: tuple[int, int] | None = None) -> MeanMaps:
    """Return the mean maps of a run, as `of_run`.

    Raises:
        UnknownNameError: The run has no profile.
    """
    maps = of_run(store, run, of)
    if maps is None:
        raise UnknownNameError(missing(run))
    return maps


def address(run: Row) -> str:
    """Return the address of the picture of a run with a profile. run: its row of `runs`."""
    return f"{link('run', run['run'], 'mean-maps.png')}?v={run['run_key']}-{run['stored']}"


def size(n_layers: int, n_heads: int, scale: int = 1) -> tuple[int, int]:
    """Return width and height of a picture, in pixels."""
    return (n_heads * (WIDTH + GAP) - GAP) * scale, (n_layers * (LENGTH + GAP) - GAP) * scale


def picture(site: Site, request: Request) -> Response:
    """Send the mean maps of a run as a PNG, layers downwards and heads across; with `layer` and `head` that of one.

    Raises:
        UnknownNameError: The run has no profile, or not of this head.
    """
    run = run_of(site, request)
    of = None
    if "head" in request.query_params:
        layer, head = (
            whole(name, request.query_params.get(name, "")) for name in ("layer", "head")
        )
        require_head(run, layer, head)
        of = layer, head
    maps = found(site.store, run["run"], of).maps
    return Response(png(mean_maps.pixels(maps)), media_type="image/png", headers=_KEPT)


def of_head(site: Site, run: Row, layer: int, head: int) -> dict[str, str] | None:
    """Return the address of the picture of a head, and where most of its attention goes; None without a profile."""
    maps = of_run(site.store, run["run"], (layer, head))
    if maps is None:
        return None
    return {
        "address": f"{address(run)}&layer={layer}&head={head}",
        "says": targets(maps, layer, head),
    }


def missing(run: str) -> str:
    """Return the sentence about a run without a profile."""
    return f"Run {run} has no profile of offsets; `attnstore recompute offsets {run}` makes it from the stored weights."


def grid(site: Site, run: Row) -> Markup | None:
    """Draw the mean maps of a run, each a link to the page of its head; None where it has no profile."""
    maps = of_run(site.store, run["run"])
    return None if maps is None else mosaic(maps, address(run), link("run", run["run"], "head"))


def mosaic(maps: MeanMaps, picture: str, href: str | None) -> Markup:
    """Draw mean maps.

    Args:
        maps: The mean maps.
        picture: The address of their pixels.
        href: The address of a head without its /layer/head; None for pictures without links.
    """
    across, down = ((n + GAP) * _SCALE for n in (WIDTH, LENGTH))
    columns = [(_LEFT + i * across, head) for i, head in enumerate(maps.heads)]
    rows = [(_TOP + i * down, layer) for i, layer in enumerate(maps.layers)]
    cells = [
        {"x": x, "y": y, "layer": layer, "head": head, "tip": tip(maps, layer, head)}
        for y, layer in rows
        for x, head in columns
    ]
    width, height = size(len(rows), len(columns), _SCALE)
    return drawn(
        "mean_maps", columns=columns, rows=rows, cells=cells, href=href,
        picture=picture, left=_LEFT, top=_TOP, picture_width=width, picture_height=height,
        across=WIDTH * _SCALE, down=LENGTH * _SCALE, width=_LEFT + width + 2, height=_TOP + height + 2,
    )  # fmt: skip


def tip(maps: MeanMaps, layer: int, head: int) -> str:
    """Say where most of a head's attention goes, after the name of the head."""
    return f"layer {layer} · head {head}: {targets(maps, layer, head)}"


def targets(maps: MeanMaps, layer: int, head: int) -> str:
    """Say where most of a head's attention goes."""
    return ", ".join(
        f"{mean_maps.names(group)} {share:.0%}"
        for group, share in maps.shares[layer, head][:_NAMED]
    )
