"""The page of a run: the grid of its heads, colored by a choice, and the list of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from attnstore.display.mean_maps import CAPTION
from attnstore.web import (
    find_question,
    grid_chart,
    grid_files,
    mean_maps,
    mean_maps_files,
    measures,
    selections,
)
from attnstore.web import linked as linked_pictures
from attnstore.web.addresses import link, whole
from attnstore.web.linked import Linked
from attnstore.web.run_records import Row, family, run_of
from attnstore.web.site import Site

INPUTS = 24
"""Inputs on one page of the list."""


def run_page(site: Site, request: Request) -> Response:
    """Show the grid of a run's heads, colored by a choice, and the list of its inputs."""
    store, run = site.store, run_of(site, request)
    key = request.query_params.get("by", "entropy")
    choice = measures.find(store, key)
    query = dict(request.query_params)
    if find_question.is_more_than_words(query.get("find", "")):
        asked = f'{query["find"]} run:"{run["run"]}"'
        return RedirectResponse(f"/find?{urlencode({'q': asked})}", 303)
    others = family(site, run)
    about: Row = {
        "run": run,
        "choice": choice,
        "choices": measures.choices(store),
        "query": query,
        "kept": {k: v for k, v in query.items() if k not in ("find", "page")},
        "selecting": {k: v for k, v in query.items() if k.startswith(selections.PREFIX)},
        "others": others,
        "mean_maps": mean_maps.grid(site, run),
        "mean_maps_caption": CAPTION,
        "saving_mean_maps": mean_maps_files.saving(site, run),
        "quick": measures.is_quick(store, run["run"], choice, query),
        "address": request.url.path,
        "query_string": request.url.query,
        "linked": None,
    }
    linked = _linked(site, run, query) if linked_pictures.restricts(run, query) else None
    if linked is not None:
        about |= {"linked": linked, **linked.about(site.labels.called)}
    about |= _inputs(site, run, query, linked)
    if about["quick"]:
        about |= _grid(site, run, choice, query, linked)
    return site.render(request, "run.html", **about)


def pictures(site: Site, request: Request) -> Response:
    """Send the linked pictures of a selection, for the page's script: HTML by place, and charts."""
    run, query = run_of(site, request), dict(request.query_params)
    linked = _linked(site, run, query)
    about = {"query": query, "linked": linked, **linked.about(site.labels.called)}
    rows = _inputs(site, run, query, linked)
    html = {
        "selection": site.fill("_selection.html", **about),
        "labels": site.fill("_labels.html", **about),
        "rows": site.fill("_inputs.html", **about, **rows),
        "count": f"{rows['count']:,} input{'s' if rows['count'] != 1 else ''}",
    }
    choice = measures.find(site.store, query.get("by", "entropy"))
    if choice.key == linked.measure:
        html["grid"] = site.fill("_grid.html", run=run, **_grid(site, run, choice, query, linked))
    return JSONResponse({"html": html, "charts": linked.charts(), "note": linked.note()})


def _linked(site: Site, run: Row, query: Mapping[str, str]) -> Linked:
    return linked_pictures.of(site, run, query, INPUTS, (_page(query) - 1) * INPUTS)


def grid_panel(site: Site, request: Request) -> Response:
    """Show the grid alone, for a choice that takes long; the run page asks for it."""
    run, query = run_of(site, request), dict(request.query_params)
    choice = measures.find(site.store, query.get("by", "entropy"))
    return site.render(request, "_grid.html", run=run, **_grid(site, run, choice, query))


def _grid(
    site: Site,
    run: Row,
    choice: measures.Choice,
    query: Mapping[str, str],
    linked: Linked | None = None,
) -> Row:
    grid = linked_pictures.grid_of(site, run, choice, query, linked)
    href = link("run", run["run"], "head")
    colored = measures.state(choice, query)
    return grid_chart.shown(grid, href, urlencode(colored)) | {
        "choice": choice,
        "query": query,
        "colored": colored,
        "saving": grid_files.saving(site, run, choice, grid, query),
    }


def _page(query: Mapping[str, str]) -> int:
    return max(whole("page", query.get("page", "1")), 1)


def _inputs(site: Site, run: Row, query: Mapping[str, str], linked: Linked | None) -> Row:
    """Return one page of the list of a run's inputs: those of a selection, or searched by text."""
    find, page = query.get("find", ""), _page(query)
    if linked is not None:
        count, rows = linked.found["listed"], _listed(site, run, linked.found["rows"] or [])
    else:
        count, rows = _searched(site, run, find, page)
    pages = max(-(-count // INPUTS), 1)
    return {"inputs": rows, "count": count, "find": find, "page": page, "pages": pages}


def _listed(site: Site, run: Row, listed: list[Row]) -> list[Row]:
    """Return inputs with their texts and the value of the measure."""
    rows = site.store.ask(
        "SELECT i.example, i.length, i.truncated, e.text, e.text_pair, e.label FROM inputs i "
        "JOIN idx.core.examples e USING (dataset, example) "
        "WHERE run = $run AND example IN (SELECT unnest($examples::BIGINT[])) ORDER BY example",
        run=run["run"], examples=[row["example"] for row in listed],
    )  # fmt: skip
    values = {row["example"]: row["value"] for row in listed}
    return [row | {"value": values[row["example"]]} for row in rows.iter_rows(named=True)]


def _searched(site: Site, run: Row, find: str, page: int) -> tuple[int, list[Row]]:
    clauses = "run = $run AND ($find = '' OR contains(lower(e.text), lower($find)) OR contains(lower(e.text_pair), lower($find)))"
    joined = "FROM inputs i JOIN examples e USING (dataset, example)" if find else "FROM inputs i"
    where = clauses if find else "run = $run"
    params = {"run": run["run"], "find": find} if find else {"run": run["run"]}
    count = site.store.ask(f"SELECT count(*) AS n {joined} WHERE {where}", **params).item()
    rows = site.store.ask(
        f"WITH page AS (SELECT i.dataset, i.example, i.length, i.truncated {joined} WHERE {where} "
        "ORDER BY i.example LIMIT $limit OFFSET $offset) "
        "SELECT p.*, e.text, e.text_pair, e.label FROM page p JOIN idx.core.examples e USING (dataset, example) "
        "ORDER BY example",
        **params, limit=INPUTS, offset=(page - 1) * INPUTS,
    )  # fmt: skip
    return count, rows.to_dicts()


def to_run(site: Site, request: Request) -> Response:
    """Go to the page of the run `?run=`, for forms."""
    return RedirectResponse(link("run", request.query_params.get("run", "")), 303)
