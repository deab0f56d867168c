"""The page of an input: its text, its tokens, all its maps at once, one of them large, and lines."""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from attnstore import map_kinds
from attnstore.display import inputs
from attnstore.errors import UsageError
from attnstore.map_kinds import WEIGHTS, MapKind
from attnstore.resources import VIEWER
from attnstore.web.addresses import link, whole
from attnstore.web.map_data import kind_of
from attnstore.web.run_records import Row, run_of
from attnstore.web.site import Site


def example_page(site: Site, request: Request) -> Response:
    """Show one input: its text, its tokens, all its maps at once, one of them large, and lines."""
    run, example = run_of(site, request), whole("example", request.path_params["example"])
    record = inputs.find(site.store, run["run"], example)
    kind = kind_of(request)
    others = comparable(site, run, example, kind)
    against = request.query_params.get("against") or None
    if against is not None and against not in {o["run"] for o in others}:
        raise UsageError(
            f"Run {against} does not hold example {example} with the same tokens, layers, heads and kind of "
            f"maps as {run['run']}; leave `against` out, or name one of "
            f"{', '.join(o['run'] for o in others if o['run'] != run['run']) or 'none'}."
        )
    near = _neighbors(site, [o["run"] for o in others], example)
    kinds = _kinds(site, run)
    data = record["data"] | {
        "against": against,
        "runs": [{"run": o["run"], "step": o["step"], "near": near[o["run"]]} for o in others],
        "kind": kind.name, "unit": kind.unit, "signed": kind.signed, "shares": kind.rows_sum,
        "per_layer": kind.per_layer,
        "kinds": {name: {"per_layer": map_kinds.find(name).per_layer, "runs": _holding(site, others, name)} for name in kinds},
    }  # fmt: skip
    if kind.per_layer:
        data["heads"] = [0]
    return site.render(
        request, "example.html", modules=VIEWER, needed=_needed(request, run, example), run=run, example=example, input=record, others=others, kind=kind.name, kinds=kinds,
        against=against, previous=near[run["run"]][0], following=near[run["run"]][1], data=data,
    )  # fmt: skip


def _neighbors(
    site: Site, runs: list[str], example: int
) -> dict[str, tuple[int | None, int | None]]:
    """Return the example before and the one after in each of the runs; None at an end."""
    rows = site.store.ask(
        "SELECT run, max(example) FILTER (example < $example), min(example) FILTER (example > $example) "
        "FROM inputs WHERE list_contains($runs, run) GROUP BY run",
        runs=runs, example=example,
    ).rows()  # fmt: skip
    return {run: (before, after) for run, before, after in rows}


def _needed(request: Request, run: Row, example: int) -> list[str]:
    """Return the addresses that the page needs first, so that the browser fetches them at once."""
    query = request.query_params
    layer, head = (query.get(n, str(run[f"{n}s"][0])) for n in ("layer", "head"))
    unit = "word" if query.get("unit") == "word" else "piece"
    kind = f"&kind={quote(query['kind'])}" if query.get("kind", WEIGHTS) != WEIGHTS else ""
    if query.get("specials") or query.get("sentences"):  # the overview is of fewer tokens
        return []
    if not (layer.isdecimal() and head.isdecimal()):
        return []
    maps = link("maps", run["run"], example)
    return [f"{maps}/all?unit={unit}{kind}", f"{maps}/{layer}/{head}?unit={unit}{kind}"]


def _kinds(site: Site, run: Row) -> list[str]:
    """Return the kinds of maps that a run holds of all its inputs, the weights first."""
    rows = site.store.ask(
        "SELECT kind FROM map_kinds WHERE run = $run AND complete ORDER BY kind <> 'weights', kind",
        run=run["run"],
    )
    return list(rows["kind"])


def _holding(site: Site, others: list[Row], kind: str) -> list[str]:
    """Return which of some runs hold a kind of maps of all their inputs."""
    rows = site.store.ask(
        "SELECT run FROM map_kinds WHERE kind = $kind AND complete AND list_contains($runs, run)",
        kind=kind, runs=[other["run"] for other in others],
    )  # fmt: skip
    return list(rows["run"])


def comparable(site: Site, run: Row, example: int, kind: MapKind) -> list[Row]:
    """Return the runs whose maps of a kind of an input are comparable: same tokens, layers and heads."""
    if kind.name not in _kinds(site, run):
        raise map_kinds.missing(run["run"], kind)
    return site.store.ask(
        "SELECT o.run, o.model, m.step, m.base FROM inputs a JOIN inputs b USING (dataset, example) "
        "JOIN runs o ON o.run = b.run JOIN runs this ON this.run = a.run "
        "JOIN models m ON m.model = o.model "
        "WHERE a.run = $run AND a.example = $example AND a.token_ids = b.token_ids "
        "AND o.layers = this.layers AND o.heads = this.heads "
        "AND o.run IN (SELECT run FROM map_kinds WHERE kind = $kind AND complete) "
        "AND (o.run = this.run OR $shares) ORDER BY m.step NULLS FIRST, o.run",
        run=run["run"], example=example, kind=kind.name, shares=kind.rows_sum,
    ).to_dicts()  # fmt: skip
