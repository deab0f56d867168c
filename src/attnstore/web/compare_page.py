"""Two runs side by side: how far each head moved, on which inputs, and the maps of these.

The address holds both runs, `/compare?left=RUN&right=RUN`, and with a head `/compare/head/LAYER/HEAD?left=RUN&right=RUN`.
"""

from __future__ import annotations

from urllib.parse import urlencode

import polars as pl
from starlette.requests import Request
from starlette.responses import Response

from attnstore.display import colors
from attnstore.query.sql_text import literal
from attnstore.web import charts, grid_chart, grid_files, measures, recipes
from attnstore.web.addresses import link, whole
from attnstore.web.chart_choices import Choice
from attnstore.web.charts import Chart
from attnstore.web.run_records import Row, family, record_of, require_head, with_texts
from attnstore.web.site import Site

INPUTS = 6
"""Inputs on a page, those that moved most first."""
_MOVEMENT = "analysis:drift"


def compare_page(site: Site, request: Request) -> Response:
    """Show two runs side by side, or let them be chosen; with a head, its inputs by movement."""
    query = request.query_params
    left, right = (_chosen(site, query.get(side)) for side in ("left", "right"))
    about: Row = {
        "left": left, "right": right, "runs": _choices(site), "trained": _trained(site), "head": None,
        "refusal": None, "steps": [], "before": None, "after": None,
    }  # fmt: skip
    if left is None or right is None:
        return site.render(request, "compare.html", **about)
    pair = {"left": left["run"], "right": right["run"]}
    about |= {"query": pair, "refusal": _refusal(site, left, right)}
    about |= _steps(site, left, right)
    if about["refusal"] is None:
        about |= _movement(site, left, right)
        if "layer" in request.path_params:
            about |= _of_head(site, request, left, right)
    return site.render(request, "compare.html", **about)


def movement_panel(site: Site, request: Request) -> Response:
    """Show the grid of movement alone, where it takes long."""
    left, right = _both(site, request)
    return site.render(request, "_movement.html", **_grid(site, left, right))


def shares_panel(site: Site, request: Request) -> Response:
    """Show the types of both runs' heads and the classes of their maps, each in one picture."""
    left, right = _both(site, request)
    runs = [left, right] if left["run"] != right["run"] else [left]
    classified = set(site.store.ask("SELECT DISTINCT run FROM classifications")["run"])
    missing = [r["run"] for r in runs if r["run"] not in classified]
    return site.render(
        request, "_shares.html", types=_types(site, runs), missing=missing,
        classes=None if missing else _classes(site, runs),
    )  # fmt: skip


def _chosen(site: Site, name: str | None) -> Row | None:
    return record_of(site, name) if name else None


def _both(site: Site, request: Request) -> tuple[Row, Row]:
    left, right = (
        record_of(site, request.query_params.get(side, "")) for side in ("left", "right")
    )
    return left, right


def _choices(site: Site) -> dict[str, list[str]]:
    """Return the names of runs by dataset."""
    rows = site.store.ask("SELECT dataset, run FROM runs WHERE stored > 0 ORDER BY dataset, run")
    return {dataset: part["run"].to_list() for (dataset,), part in rows.group_by("dataset", maintain_order=True)}  # fmt: skip


def _trained(site: Site) -> list[Row]:
    """Return pairs that suggest themselves: runs of trained models, with the run of the model before, the last step first."""
    return site.store.ask(
        "SELECT b.run, b.base_run FROM base_runs b JOIN runs r USING (run) JOIN models m USING (model) "
        "WHERE b.note IS NOT NULL ORDER BY m.step DESC NULLS LAST, b.run LIMIT 12"
    ).to_dicts()


def _refusal(site: Site, left: Row, right: Row) -> str | None:
    """Return why the maps of two runs cannot be compared, or None."""
    if left["run"] == right["run"]:
        return f"Both sides are run {left['run']}; choose another for one of them."
    pairs = site.store.ask(
        "SELECT refusal FROM run_pairs WHERE run = $run AND other_run = $other",
        run=left["run"], other=right["run"],
    )  # fmt: skip
    refusal: str | None = pairs["refusal"].item()
    return refusal


def _steps(site: Site, left: Row, right: Row) -> Row:
    """Return the checkpoints that can stand at the left, and those before and after the one that does."""
    alike = site.store.ask(
        "SELECT other_run FROM run_pairs WHERE run = $run AND other_run <> $run AND refusal IS NULL",
        run=right["run"],
    )["other_run"].to_list()
    steps = [{"run": r["run"], "step": r["step"]} for r in family(site, left) if r["run"] in alike]
    if all(r["step"] is None for r in steps):
        return {}
    at = next((i for i, r in enumerate(steps) if r["run"] == left["run"]), None)
    beside = (None, None) if at is None else (at - 1, at + 1)
    before, after = (
        steps[i]["run"] if i is not None and 0 <= i < len(steps) else None for i in beside
    )
    return {"steps": steps, "at": at, "before": before, "after": after}


def _movement(site: Site, left: Row, right: Row) -> Row:
    choice = measures.find(site.store, _MOVEMENT)
    parameters = {"base_run": right["run"]}
    if measures.is_quick(site.store, left["run"], choice, parameters):
        return _grid(site, left, right) | {"quick": True}
    return {"quick": False}


def _grid(site: Site, left: Row, right: Row) -> Row:
    choice, against = measures.find(site.store, _MOVEMENT), {"base_run": right["run"]}
    grid = measures.grid(site.store, left, choice, against)
    pair = {"left": left["run"], "right": right["run"]}
    return grid_chart.shown(grid, "/compare/head", urlencode(pair)) | {
        "most": grid.extremes(8)["lowest"],
        "saving": grid_files.saving(site, left, choice, grid, against),
        "query": pair,
    }


def _of_head(site: Site, request: Request, left: Row, right: Row) -> Row:
    """Return the inputs on which a head moved most, a page of them."""
    layer, head = (whole(name, request.path_params[name]) for name in ("layer", "head"))
    for run in (left, right):
        require_head(run, layer, head)
    rows = site.store.analysis(
        "drift_by_input", run=left["run"], base_run=right["run"], layer=layer, head=head
    )
    pages = max(-(-len(rows) // INPUTS), 1)
    page = min(max(whole("page", request.query_params.get("page", "1")), 1), pages)
    part = rows.slice((page - 1) * INPUTS, INPUTS)
    shown = with_texts(site, left, {"page": part})["page"]
    same = (left["layers"], left["heads"]) == (right["layers"], right["heads"])
    against = {"against": right["run"]} if same else {}
    place = urlencode({"layer": layer, "head": head} | against)
    for row in shown:
        row["address"] = f"{link('run', left['run'], 'example', row['example'])}?{place}"
    return {
        "layer": layer, "head": head, "inputs": shown, "n": len(rows), "page": page, "pages": pages,
        "cosine": rows["cosine"].mean(), "js": rows["js"].mean(),
    }  # fmt: skip


def _types(site: Site, runs: list[Row]) -> Chart:
    """Draw the share of the heads of each run that is of each type."""
    order = list(colors.CLASSES)
    found = [
        site.store.analysis("head_types", run=run["run"])
        .group_by("type")
        .agg(pl.len().alias("share") / (len(run["layers"]) * len(run["heads"])))
        .with_columns(pl.lit(run["run"]).alias("run"))
        for run in runs
    ]
    rows = pl.concat(found).sort(
        pl.col("type").replace_strict(order, range(len(order)), default=99), "run"
    )
    choice = Choice("bars", "type", ("share",), color=("run",))
    sql = "\nUNION ALL\n".join(
        f"SELECT {literal(run['run'])} AS run, type, count(*) / sum(count(*)) OVER () AS share\n"
        f"FROM head_types(run := {literal(run['run'])})\nGROUP BY ALL"
        for run in runs
    )
    recipe = recipes.of_sql(site, sql)
    return charts.of_rows(rows, choice, {"share": "share of heads"}, "types-of-heads", recipe)


def _classes(site: Site, runs: list[Row]) -> Chart:
    """Draw the share of each pattern class among the maps of each run."""
    columns = ("run", "class", "mean", "low", "high")
    rows = pl.concat(
        [site.store.analysis("pattern_shares", run=r["run"]).select(columns) for r in runs]
    )
    shares = rows.rename({"mean": "share"})
    choice = Choice("bars", "class", ("share",), color=("run",), interval="low")
    sql = "\nUNION ALL\n".join(
        f"SELECT run, class, mean AS share, low, high FROM pattern_shares(run := {literal(run['run'])})"
        for run in runs
    )
    recipe = recipes.of_sql(site, sql)
    return charts.of_rows(shares, choice, {"share": "share of maps"}, "pattern-classes", recipe)
