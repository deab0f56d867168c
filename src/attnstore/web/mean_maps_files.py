"""The mean maps of a run as files: a picture for a paper, the profile as CSV, and what makes it."""

from __future__ import annotations

import base64

import numpy as np
import polars as pl
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from attnstore.display import mean_maps as drawing
from attnstore.display.colors import colormap, png
from attnstore.display.mean_maps import LENGTH, WIDTH, MeanMaps
from attnstore.query.sql_text import literal
from attnstore.web import mean_maps, recipes
from attnstore.web.addresses import link
from attnstore.web.grid_chart import as_hex, drawn
from attnstore.web.grid_files import width_of
from attnstore.web.run_records import Row, run_of
from attnstore.web.served_store import ServedStore
from attnstore.web.site import Site

_LEFT, _TOP = 24.0, 21.0  # points
_LARGEST = 60.0  # points of a mean map
_SHARP = 6  # pixels of a cell of a mean map


def picture(site: Site, request: Request) -> Response:
    """Send the mean maps as an SVG of `width` points.

    Raises:
        UnknownNameError: The run has no profile.
    """
    found = mean_maps.found(site.store, run_of(site, request)["run"])
    return Response(str(svg(found, width_of(request))), media_type="image/svg+xml")


def svg(found: MeanMaps, width: float) -> Markup:
    """Draw mean maps, so many points wide."""
    pitch = min((width - _LEFT - 2) / len(found.heads), _LARGEST)
    rows = drawing.pixels(found.maps).repeat(_SHARP, axis=0).repeat(_SHARP, axis=1)
    gap = drawing.GAP
    down = pitch * (LENGTH + gap) / (WIDTH + gap)
    fills = [as_hex(rgb) for rgb in colormap(np.linspace(0, 1, 48), 1.0)]
    bottom = _TOP + down * len(found.layers)
    left = _LEFT + (width - _LEFT - 2 - pitch * len(found.heads)) / 2
    return drawn(
        "mean_maps_figure", width=width, height=bottom + 26, left=left, top=_TOP, bottom=bottom, pitch=pitch, down=down,
        wide=pitch * (len(found.heads) - gap / (WIDTH + gap)), deep=down * (len(found.layers) - gap / (LENGTH + gap)),
        heads=found.heads, layers=found.layers, fills=fills, image=base64.b64encode(png(rows)).decode(),
        step=max(1, round(9 / pitch)), step_down=max(1, round(9 / down)),
    )  # fmt: skip


def table(site: Site, request: Request) -> Response:
    """Send the profile of a run as CSV: view `offsets`."""
    rows = profile(site.store, run_of(site, request)["run"])
    return Response(rows.write_csv(), media_type="text/csv; charset=utf-8")


def profile(store: ServedStore, run: str) -> pl.DataFrame:
    """Return the profile of a run: its rows of view `offsets`."""
    return store.ask("FROM offsets WHERE run = $run ORDER BY ALL", run=run)


def sql_of(run: str) -> str:
    """Return the SQL of the profile of a run."""
    return f"FROM offsets WHERE run = {literal(run)} ORDER BY ALL"


def saving(site: Site, run: Row) -> dict[str, str]:
    """Return what static/save.js needs to save the mean maps."""
    address = link("run", run["run"], "mean-maps")
    files = {"name": f"{run['run']}-mean-maps", "svg": f"{address}.svg", "csv": f"{address}.csv"}
    return files | vars(recipes.of_sql(site, sql_of(run["run"])))
