"""The pages of a store, a run, a head and an example: each asks the store and fills one template.

Everything that a page shows can be told from its address.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from attnstore.display import inputs
from attnstore.errors import UsageError
from attnstore.naming import CLASSES, STATISTICS, require_held
from attnstore.web import charts, measures
from attnstore.web.site import Site, as_number

INPUTS = 24
"""Inputs on one page of a list."""
STRONGEST = 12
_BINS = 32

Row = dict[str, Any]


def store_page(site: Site, request: Request) -> Response:
    """The runs, models and datasets of the store, and what is being ingested now."""
    store = site.store
    runs = store.ask(
        "SELECT r.*, m.base, m.step, i.latest FROM runs r LEFT JOIN models m USING (model) "
        "LEFT JOIN (SELECT run, max(started + to_seconds(seconds)) AS latest FROM ingests GROUP BY run) i USING (run) "
        "ORDER BY r.dataset, m.base NULLS FIRST, m.step NULLS FIRST, r.run"
    ).to_dicts()
    for run in runs:
        counts = run["run"], run["stored"], run["planned"]
        run["ingesting"], run["left"] = site.progress.seconds_left(*counts)
    about: Row = {
        "runs": runs,
        "models": store.ask("FROM models ORDER BY model").to_dicts(),
        "datasets": store.ask(
            "SELECT d.*, s.sources FROM datasets d LEFT JOIN (SELECT dataset, "
            "list(DISTINCT source ORDER BY source) AS sources FROM spans GROUP BY dataset) s USING (dataset) "
            "ORDER BY dataset"
        ).to_dicts(),
        "busy": any(run["ingesting"] for run in runs),
    }
    return site.render(request, "store.html", **about)


def run_page(site: Site, request: Request) -> Response:
    """The grid of a run's heads, coloured by a choice, and the list of its inputs."""
    store, run = site.store, run_of(site, request)
    key = request.query_params.get("by", "entropy")
    choice = measures.find(store, key)
    given = dict(request.query_params)
    others = _family(site, run)
    about = {
        "run": run,
        "choice": choice,
        "choices": measures.choices(store),
        "given": given,
        "others": others,
        "quick": measures.is_quick(store, run["run"], choice, given),
        "address": request.url.path,
        "query": request.url.query,
        **_inputs(site, run, given),
    }
    if about["quick"]:
        about |= _grid(site, run, choice, given)
    return site.render(request, "run.html", **about)


def grid_panel(site: Site, request: Request) -> Response:
    """The grid alone, for a choice that takes long; the run page asks for it."""
    run, given = run_of(site, request), dict(request.query_params)
    choice = measures.find(site.store, given.get("by", "entropy"))
    return site.render(request, "_grid.html", run=run, **_grid(site, run, choice, given))


def _grid(site: Site, run: Row, choice: measures.Choice, given: Mapping[str, str]) -> Row:
    grid = measures.grid(site.store, run, choice, given)
    href = charts.link("run", run["run"], "head")
    return {
        "choice": choice,
        "grid": grid,
        "drawn": charts.heads(grid, href),
        "scale": None if grid.names else charts.scale(grid),
        "extremes": grid.extremes(5),
        "legend": charts.class_colours(grid.names),
        "given": given,
    }


def _inputs(site: Site, run: Row, given: Mapping[str, str]) -> Row:
    """One page of a run's inputs, searched by text."""
    find, page = given.get("find", ""), max(as_number("page", given.get("page", "1")), 1)
    clauses = "run = $run AND ($find = '' OR contains(lower(e.text), lower($find)) OR contains(lower(e.text_pair), lower($find)))"
    joined = "FROM inputs i JOIN examples e USING (dataset, example)" if find else "FROM inputs i"
    where = clauses if find else "run = $run"
    params = {"run": run["run"], "find": find} if find else {"run": run["run"]}
    found = site.store.ask(f"SELECT count(*) AS n {joined} WHERE {where}", **params).item()
    rows = site.store.ask(
        f"WITH page AS (SELECT i.dataset, i.example, i.length, i.truncated {joined} WHERE {where} "
        "ORDER BY i.example LIMIT $limit OFFSET $offset) "
        "SELECT p.*, e.text, e.text_pair, e.label FROM page p JOIN idx.core.examples e USING (dataset, example) "
        "ORDER BY example",
        **params, limit=INPUTS, offset=(page - 1) * INPUTS,
    )  # fmt: skip
    pages = max(-(-found // INPUTS), 1)
    return {"inputs": rows.to_dicts(), "found": found, "find": find, "page": page, "pages": pages}


def head_page(site: Site, request: Request) -> Response:
    """One head: its measures, how one of them lies over inputs, where it is strongest, its kin."""
    store, run = site.store, run_of(site, request)
    layer, head = head_of(run, request)
    by = request.query_params.get("by", "entropy")
    if by not in STATISTICS:
        by = "entropy"
    mine = measures.statistics(store, run["run"]).filter(
        (pl.col("layer") == layer) & (pl.col("head") == head)
    )
    about = {
        "run": run,
        "layer": layer,
        "head": head,
        "by": by,
        "units": measures.UNITS,
        "measures": {r["measure"]: r for r in mine.to_dicts()},
        "names": STATISTICS,
        "spread": _spread(site, run, layer, head, by),
        "strongest": _strongest(site, run, layer, head, by),
        "classes": _class_shares(site, run, layer, head),
        "effects": _effects(site, run, layer, head),
        "kin": _kin(site, run, layer, head, by),
        "near": _neighbours(run, layer, head),
    }
    return site.render(request, "head.html", **about)


def _spread(site: Site, run: Row, layer: int, head: int, by: str) -> Any:
    values = site.store.ask(
        f'SELECT "{by}" AS value FROM map_stats WHERE run = $run AND layer = $layer AND head = $head '
        f'AND "{by}" IS NOT NULL',
        run=run["run"], layer=layer, head=head,
    )["value"].to_numpy()  # fmt: skip
    if not len(values):
        return None
    counts, ends = np.histogram(values, bins=_BINS)
    return charts.histogram(counts.tolist(), float(ends[0]), float(ends[-1]), by)


def _strongest(site: Site, run: Row, layer: int, head: int, by: str) -> list[Row]:
    return site.store.ask(
        f'WITH top AS (SELECT example, "{by}" AS value FROM map_stats WHERE run = $run '
        f'AND layer = $layer AND head = $head AND "{by}" IS NOT NULL ORDER BY value DESC, example LIMIT {STRONGEST}) '
        "SELECT t.example, t.value, e.text, e.text_pair FROM top t "
        "JOIN idx.core.examples e ON e.dataset = $dataset AND e.example = t.example ORDER BY t.value DESC, t.example",
        run=run["run"], layer=layer, head=head, dataset=run["dataset"],
    ).to_dicts()  # fmt: skip


def _class_shares(site: Site, run: Row, layer: int, head: int) -> Any:
    rows = site.store.ask(
        "SELECT layer, head, class, count(*) AS n FROM patterns WHERE run = $run GROUP BY ALL",
        run=run["run"],
    ).filter((pl.col("layer") == layer) & (pl.col("head") == head))
    if rows.is_empty():
        return None
    counts = dict(rows.select("class", "n").iter_rows())
    total = sum(counts.values())
    return charts.bars(
        [charts.Bar(c, counts.get(c, 0) / total) for c in CLASSES], "share of inputs"
    )


def _effects(site: Site, run: Row, layer: int, head: int) -> list[Row] | None:
    """What disabling the head, and its whole layer, does; None where the store cannot say."""
    if "ablations" not in site.store.current.views():
        return None
    rows = measures.ablations(site.store, run)
    same = (pl.col("layer") == layer) & (pl.col("head").is_null() | (pl.col("head") == head))
    return rows.filter(same).to_dicts()


def _kin(site: Site, run: Row, layer: int, head: int, by: str) -> list[Row]:
    """The same head in every run of the model's family."""
    found = []
    for other in _family(site, run):
        if layer not in other["layers"] or head not in other["heads"]:
            continue
        rows = measures.statistics(site.store, other["run"]).filter(
            (pl.col("layer") == layer) & (pl.col("head") == head) & (pl.col("measure") == by)
        )
        found.append(other | (rows.row(0, named=True) if len(rows) else {}))
    return found


def _family(site: Site, run: Row) -> list[Row]:
    """The runs of the model and of what was trained from it or from the same one, itself among
    them, on any dataset; those on the run's dataset first, by step."""
    return site.store.ask(
        "WITH roots AS (SELECT m.model, m.step, coalesce(p.model, m.base, m.model) AS root FROM models m "
        "LEFT JOIN (SELECT model, unnest([model, source]) AS called FROM models) p ON p.called = m.base) "
        "SELECT DISTINCT r.run, r.model, r.dataset, o.step, r.layers, r.heads, r.n_layers, r.n_heads "
        "FROM runs r JOIN roots o USING (model) WHERE r.stored > 0 "
        "AND o.root IN (SELECT root FROM roots WHERE model = $model) "
        "ORDER BY r.dataset <> $dataset, r.dataset, o.step NULLS FIRST, r.run",
        model=run["model"], dataset=run["dataset"],
    ).to_dicts()  # fmt: skip


def _neighbours(run: Row, layer: int, head: int) -> dict[str, str]:
    """Addresses of the heads around one, by the direction."""
    layers, heads = list(run["layers"]), list(run["heads"])
    i, j = layers.index(layer), heads.index(head)
    around = {"up": (i - 1, j), "down": (i + 1, j), "left": (i, j - 1), "right": (i, j + 1)}
    return {
        name: charts.link("run", run["run"], "head", layers[a], heads[b])
        for name, (a, b) in around.items()
        if 0 <= a < len(layers) and 0 <= b < len(heads)
    }


def features_panel(site: Site, request: Request) -> Response:
    """How much attention tokens of each feature receive from a head (analysis feature_attention)."""
    run = run_of(site, request)
    layer, head = head_of(run, request)
    rows = site.store.analysis("feature_attention", run=run["run"]).filter(
        (pl.col("layer") == layer) & (pl.col("head") == head)
    )
    bars = [
        charts.Bar(r["feature"], r["mean"], r["low"], r["high"])
        for r in rows.sort("mean", descending=True).to_dicts()
    ]
    annotated = not set(rows["feature"]) <= {"cls", "sep", "punctuation"}
    drawn = charts.bars(bars, "share of attention")
    return site.render(request, "_features.html", run=run, drawn=drawn, annotated=annotated)


def example_page(site: Site, request: Request) -> Response:
    """One input: its text, its tokens, all its maps at once, one of them large, and lines."""
    run, example = run_of(site, request), as_number("example", request.path_params["example"])
    found = inputs.find(site.store, run["run"], example)
    others = comparable(site, run, example)
    against = request.query_params.get("against") or None
    if against is not None and against not in {o["run"] for o in others}:
        raise UsageError(
            f"Run {against} does not hold example {example} with the same tokens, layers and heads "
            f"as {run['run']}; leave `against` out, or name one of "
            f"{', '.join(o['run'] for o in others if o['run'] != run['run']) or 'none'}."
        )
    near = site.store.ask(
        "SELECT max(example) FILTER (example < $example), min(example) FILTER (example > $example) "
        "FROM inputs WHERE run = $run",
        run=run["run"], example=example,
    ).row(0)  # fmt: skip
    data = found["data"] | {
        "against": against,
        "runs": [{"run": o["run"], "step": o["step"]} for o in others],
    }
    return site.render(
        request, "example.html", needed=_needed(request, run, example), run=run, example=example, input=found, others=others,
        against=against, previous=near[0], following=near[1], data=data,
    )  # fmt: skip


def _needed(request: Request, run: Row, example: int) -> list[str]:
    """What the page fetches first, so that the browser need not wait for its scripts."""
    given = request.query_params
    layer, head = (given.get(n, str(run[f"{n}s"][0])) for n in ("layer", "head"))
    unit = "word" if given.get("unit") == "word" else "piece"
    if not (layer.isdecimal() and head.isdecimal()):
        return []
    maps = charts.link("maps", run["run"], example)
    return [f"{maps}/all?unit={unit}", f"{maps}/{layer}/{head}?unit={unit}"]


def comparable(site: Site, run: Row, example: int) -> list[Row]:
    """The runs whose maps of an input can lie beside the run's: same tokens, layers and heads."""
    return site.store.ask(
        "SELECT o.run, o.model, m.step, m.base FROM inputs a JOIN inputs b USING (dataset, example) "
        "JOIN runs o ON o.run = b.run JOIN runs mine ON mine.run = a.run "
        "JOIN models m ON m.model = o.model "
        "WHERE a.run = $run AND a.example = $example AND a.token_ids = b.token_ids "
        "AND o.layers = mine.layers AND o.heads = mine.heads ORDER BY m.step NULLS FIRST, o.run",
        run=run["run"], example=example,
    ).to_dicts()  # fmt: skip


def run_of(site: Site, request: Request) -> Row:
    """The record of the run that an address names. Raises UnknownNameError."""
    name = f"{request.path_params['model']}/{request.path_params['dataset']}"
    found: Row = site.store.ask(
        "SELECT r.*, m.base, m.step FROM runs r LEFT JOIN models m USING (model) WHERE run = $run",
        run=name,
    ).row(0, named=True)
    return found


def head_of(run: Row, request: Request) -> tuple[int, int]:
    """The layer and head that an address names. Raises UnknownNameError."""
    layer, head = (as_number(n, request.path_params[n]) for n in ("layer", "head"))
    require_held(run["run"], "layer", layer, run["layers"])
    require_held(run["run"], "head", head, run["heads"])
    return layer, head


def to_run(site: Site, request: Request) -> Response:
    """The run page of `?run=`, for forms."""
    return RedirectResponse(charts.link("run", request.query_params.get("run", "")), 303)
