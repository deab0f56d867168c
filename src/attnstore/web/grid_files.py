"""The grid of a run's heads as files: a picture for a paper, its numbers, and what makes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from attnstore.errors import UsageError
from attnstore.query.sql_text import identifier, literal
from attnstore.web import grid_figure, linked, measures, recipes, selections
from attnstore.web.addresses import link
from attnstore.web.head_grid import Grid
from attnstore.web.measures import Choice
from attnstore.web.recipes import Recipe
from attnstore.web.run_records import Row, run_of
from attnstore.web.site import Site

NARROW, WIDE = 100.0, 2000.0
"""Points that a picture may be wide."""


def picture(site: Site, request: Request) -> Response:
    """Send the grid as an SVG of `width` points."""
    grid, choice = _asked(site, request)
    text = grid_figure.svg(grid, title(grid, choice), width_of(request))
    return Response(str(text), media_type="image/svg+xml")


def table(site: Site, request: Request) -> Response:
    """Send the values of the grid as CSV."""
    grid, _ = _asked(site, request)
    return Response(grid_figure.table(grid), media_type="text/csv; charset=utf-8")


def saving(
    site: Site, run: Row, choice: Choice, grid: Grid, query: Mapping[str, str]
) -> dict[str, str]:
    """Return what static/save.js needs to save a grid."""
    selecting = {n: v for n, v in query.items() if n == "find" or n.startswith(selections.PREFIX)}
    selecting = selecting if linked.is_selected(run, choice, query) else {}
    asked = urlencode({"by": choice.key} | measures.state(choice, query) | selecting)
    address = link("run", run["run"], "grid")
    name = "-".join(p for p in (run["run"], choice.key.rpartition(":")[2], grid.part) if p)
    files = {"name": name, "svg": f"{address}.svg?{asked}", "csv": f"{address}.csv?{asked}"}
    return files | vars(_recipe(site, run, choice, query))


def title(grid: Grid, choice: Choice) -> str:
    """Return what a grid shows, with its unit, in a few words."""
    words = choice.key if choice.group == "Measures" else choice.key.rpartition(":")[2]
    parts = [words.replace("_", " "), *([grid.part] if grid.part else [])]
    return ", ".join(parts) + (f" ({grid.unit})" if grid.unit else "")


def _asked(site: Site, request: Request) -> tuple[Grid, Choice]:
    run, query = run_of(site, request), dict(request.query_params)
    choice = measures.find(site.store, query.get("by", "entropy"))
    return linked.grid_of(site, run, choice, query), choice


def width_of(request: Request) -> float:
    """Read the width of a picture, in points.

    Raises:
        UsageError: It is no number, or no paper is so wide.
    """
    text = request.query_params.get("width", "496.8")
    try:
        width = float(text)
    except ValueError:
        width = math.nan
    if not NARROW <= width <= WIDE:
        raise UsageError(
            f"The address gives width as {text[:40]!r}; give {NARROW:.0f} to {WIDE:.0f} points."
        )
    return width


def _recipe(site: Site, run: Row, choice: Choice, query: Mapping[str, str]) -> Recipe:
    """Return the SQL and the Python of the values of a grid."""
    if linked.is_selected(run, choice, query):
        return recipes.of_sql(site, linked.recipe_sql(run, choice, query))
    if choice.group != "Analyses":
        return recipes.of_sql(site, sql_of(run, choice))
    name = choice.key.partition(":")[2]
    given = {"run": run["run"], **measures.arguments(choice, query)}
    return recipes.of_analysis(site, name, given)


def sql_of(run: Mapping[str, Any], choice: Choice) -> str:
    """Return the SQL of the values of a grid over all inputs, of a measure or an effect."""
    if choice.group == "Effects":
        return (
            'SELECT dataset, metric, "value" AS disabled_to, layer, head, difference, low, high\n'
            f"FROM ablations\nWHERE model = {literal(run['model'])} AND widest AND head IS NOT NULL\nORDER BY ALL"
        )
    return (
        f"SELECT layer, head, avg({identifier(choice.key)}) AS mean, count({identifier(choice.key)}) AS n\n"
        f"FROM {measures.MEASURED}\nWHERE run = {literal(run['run'])}\nGROUP BY layer, head\nORDER BY layer, head"
    )
