"""More like this: the heads and the maps of all runs whose signatures are nearest to those of one."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from attnstore.display import inputs
from attnstore.web.addresses import whole
from attnstore.web.run_records import Row, head_of, run_of
from attnstore.web.site import Site

HEADS, MAPS = 24, 16
"""Heads, and maps of other heads and of the same head of the model, that are shown."""
_CHOSEN = "SELECT run FROM runs JOIN models USING (model) WHERE twin_of IS NULL OR run = $run"
_NEAREST_HEADS = f"""WITH this AS (
    SELECT signature AS wanted FROM head_signatures WHERE run = $run AND layer = $layer AND head = $head
), near AS (
    SELECT run, layer, head, n, wanted, array_distance(signature, wanted) AS distance FROM head_signatures, this
    WHERE (run, layer, head) <> ($run, $layer, $head) AND run IN ({_CHOSEN})
    ORDER BY distance, run, layer, head LIMIT {HEADS}
)
SELECT run, layer, head, distance, arg_min(example, array_distance(signature, wanted)) AS example
FROM near JOIN map_signatures USING (run, layer, head)
GROUP BY run, layer, head, distance ORDER BY distance, run, layer, head"""
_NEAREST_MAPS = f"""WITH this AS (
    SELECT signature AS wanted FROM map_signatures WHERE run = $run AND example = $example AND layer = $layer AND head = $head
), distances AS (
    SELECT run, example, layer, head, array_distance(signature, wanted) AS distance, (model, layer, head) = ($model, $layer, $head) AS same
    FROM map_signatures JOIN (SELECT run, model FROM runs) USING (run), this
    WHERE (run, example, layer, head) <> ($run, $example, $layer, $head) AND run IN ({_CHOSEN})
)
(FROM distances WHERE NOT same ORDER BY distance, run, example, layer, head LIMIT {MAPS})
UNION ALL
(FROM distances WHERE same ORDER BY distance, example LIMIT {MAPS})
ORDER BY same, distance, run, example, layer, head"""


def alike_page(site: Site, request: Request) -> Response:
    """Show a head, or with `example` one of its maps, and ask for what is like it."""
    return site.render(request, "alike.html", **_asked(site, request))


def alike_panel(site: Site, request: Request) -> Response:
    """Show the nearest heads, and with `example` the nearest maps of other heads and of the same one."""
    about = _asked(site, request)
    place = {"run": about["run"]["run"], "layer": about["layer"], "head": about["head"]}
    groups: list[tuple[str, list[Row]]] = []
    if about["example"] is not None:
        maps = site.store.ask(
            _NEAREST_MAPS, **place, model=about["run"]["model"], example=about["example"]
        ).to_dicts()
        groups.append(("Maps of other heads", [row for row in maps if not row["same"]]))
        groups.append(("Maps of the same head", [row for row in maps if row["same"]]))
    groups.append(("Heads", site.store.ask(_NEAREST_HEADS, **place).to_dicts()))
    return site.render(request, "_alike.html", groups=groups, **about)


def _asked(site: Site, request: Request) -> Row:
    run = run_of(site, request)
    layer, head = head_of(run, request)
    text = request.query_params.get("example")
    example = None if text is None else whole("example", text)
    if example is not None:
        inputs.find(site.store, run["run"], example)  # raises if the run does not hold it
    return {"run": run, "layer": layer, "head": head, "example": example}
