"""The page of a head: its measures, one of them over inputs, its strongest maps, its effects, its kin."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars as pl
from starlette.requests import Request
from starlette.responses import Response

from attnstore.naming import CLASSES, OUTSIDE
from attnstore.query import bands
from attnstore.query.sql_text import literal
from attnstore.web import charts, head_sentences, lacking, mean_maps, measures, recipes
from attnstore.web.addresses import link
from attnstore.web.chart_choices import Choice
from attnstore.web.charts import Chart
from attnstore.web.measures import MEASURED, NAMES
from attnstore.web.run_records import Row, family, head_of, run_of, with_texts
from attnstore.web.site import Site

STRONGEST, TYPICAL = 12, 6
_ATTENTION, _SHARE = "attention", "inputs"


def head_page(site: Site, request: Request) -> Response:
    """Show one head: its measures, one of them over inputs, its strongest maps, the same head elsewhere."""
    store, run = site.store, run_of(site, request)
    layer, head = head_of(run, request)
    query = dict(request.query_params)
    by = _measure(query)
    with ThreadPoolExecutor(2) as pool:  # the questions that take longest, beside the others
        said = pool.submit(head_sentences.kind, site, run["run"], layer, head)
        typical = pool.submit(_typical, site, run, layer, head)
        rows = measures.statistics(store, run["run"], (layer, head))
        band = measures.of_random_weights(store, run["run"], (layer, head))
        effects = head_sentences.disabled(site, run, layer, head)
        values, ends = _values(site, run, layer, head, by), typical.result()
        said.result()  # `head_sentences` finds the answer in memory
    strongest = values.head(STRONGEST).rename({by: "value"})
    texts = with_texts(site, run, {"strongest": strongest, **ends})
    about = {
        "run": run,
        "layer": layer,
        "head": head,
        "by": by,
        "query": query,
        "colored": query.get("by", by) not in NAMES,
        "range": request.query_params.get("range", "fixed"),
        "units": measures.UNITS,
        "measures": {r["measure"]: r for r in rows.to_dicts()},
        "random": {r["measure"]: r for r in band.to_dicts()},
        "names": NAMES,
        "spread": _spread(site, run, layer, head, by, values),
        "strongest": texts["strongest"],
        "classes": _class_shares(site, run, layer, head),
        "says": head_sentences.of_head(site, run, layer, head, band),
        "lacks": lacking.about_heads(site, run, bool(effects)),
        "mean_map": mean_maps.of_head(site, run, layer, head),
        "typical": {title: texts[title] for title in ends},
        "effects": effects,
        "near": _neighbors(run, layer, head),
    }
    return site.render(request, "head.html", **about)


def features_panel(site: Site, request: Request) -> Response:
    """Show the attention that tokens of each feature receive (analysis feature_attention)."""
    run = run_of(site, request)
    layer, head = head_of(run, request)
    rows = site.store.analysis("feature_attention", run=run["run"]).filter(
        (pl.col("layer") == layer) & (pl.col("head") == head)
    )
    shares = rows.sort("mean", descending=True).rename({"mean": _ATTENTION})
    annotated = not set(rows["feature"]) <= {"cls", "sep", "punctuation"}
    choice = Choice("bars", _ATTENTION, ("feature",), interval="low")
    units = {_ATTENTION: "share"}
    drawn = None
    sql = (
        f"SELECT feature, mean AS attention, low, high\nFROM feature_attention(run := {literal(run['run'])})\n"
        f"WHERE layer = {layer} AND head = {head}\nORDER BY attention DESC"
    )
    if len(shares):
        band = [c for c in (bands.LOW, bands.HIGH) if shares[c].null_count() < len(shares)]
        columns = shares.select(_ATTENTION, "feature", "low", "high", *band)
        recipe = recipes.of_sql(site, sql)
        drawn = charts.of_rows(columns, choice, units, _file(run, layer, head, "features"), recipe)
    return site.render(request, "_features.html", run=run, drawn=drawn, annotated=annotated)


def kin_panel(site: Site, request: Request) -> Response:
    """Show the same head in every run of related models, by the measure `by`."""
    run, query = run_of(site, request), dict(request.query_params)
    layer, head = head_of(run, request)
    by = _measure(query)
    kin = _kin(site, run, layer, head, by)
    return site.render(
        request, "_kin.html", run=run, layer=layer, head=head, by=by, kin=kin, query=query
    )


def _measure(query: Mapping[str, str]) -> str:
    """Return the measure that an address asks for, or entropy."""
    by = query.get("measure") or query.get("by", "entropy")
    return by if by in NAMES else "entropy"


def _values(site: Site, run: Row, layer: int, head: int, by: str) -> pl.DataFrame:
    """Return a measure of each input, the largest first: example, the measure."""
    return site.store.ask(
        f'SELECT example, "{by}" FROM {MEASURED} WHERE run = $run AND layer = $layer AND head = $head '
        f'AND "{by}" IS NOT NULL ORDER BY "{by}" DESC, example',
        run=run["run"], layer=layer, head=head,
    )  # fmt: skip


def _spread(
    site: Site, run: Row, layer: int, head: int, by: str, values: pl.DataFrame
) -> Chart | None:
    if values.is_empty():
        return None
    sql = (
        f'SELECT "{by}"\nFROM {MEASURED}\nWHERE run = {literal(run["run"])} AND layer = {layer} AND head = {head} '
        f'AND "{by}" IS NOT NULL'
    )
    return charts.of_rows(
        values.drop("example"), Choice("histogram", by), measures.UNITS, _file(run, layer, head, by), recipes.of_sql(site, sql)
    )  # fmt: skip


def _file(run: Row, layer: int, head: int, what: str) -> str:
    """Return the name of the files of a chart."""
    return f"{run['run']}-{layer}.{head}-{what}"


def _class_shares(site: Site, run: Row, layer: int, head: int) -> Any:
    rows = site.store.ask(
        "SELECT layer, head, coalesce(class, 'none') AS class, count(*) AS n, "
        "count(doubtful) AS judged, count_if(doubtful) AS doubtful, "
        f"count(typicality) AS compared, count_if(typicality < {OUTSIDE}) AS outside "
        "FROM patterns WHERE run = $run GROUP BY ALL",
        run=run["run"],
    ).filter((pl.col("layer") == layer) & (pl.col("head") == head))
    if rows.is_empty():
        return None
    counts = dict(rows.select("class", "n").iter_rows())
    total = sum(counts.values())
    names = [*CLASSES, *(["none"] if "none" in counts else [])]
    shares = pl.DataFrame({_SHARE: [counts.get(n, 0) / total for n in names], "class": names})
    sql = (
        f"SELECT coalesce(class, 'none') AS class, count(*) / sum(count(*)) OVER () AS {_SHARE}\nFROM patterns\n"
        f"WHERE run = {literal(run['run'])} AND layer = {layer} AND head = {head}\nGROUP BY ALL\nORDER BY ALL"
    )
    chart = charts.of_rows(
        shares, Choice("bars", _SHARE, ("class",)), {_SHARE: "share"}, _file(run, layer, head, "classes"),
        recipes.of_sql(site, sql),
    )  # fmt: skip
    shown = {"doubtful": "judged", "outside": "compared"}
    return {"chart": chart} | {name: _percent(rows, name, of) for name, of in shown.items()}


def _percent(rows: pl.DataFrame, name: str, of: str) -> str | None:
    """Return the share of one count in another, None where a classification of an earlier version has neither."""
    whole = int(rows[of].sum())
    return f"{rows[name].sum() / whole:.0%}" if whole else None


def _typical(site: Site, run: Row, layer: int, head: int) -> dict[str, pl.DataFrame]:
    """Return the maps nearest to the mean of the head's and those furthest from it."""
    rows = site.store.analysis("typical_maps", run=run["run"], layer=layer, head=head)
    return {"Most typical": rows.head(TYPICAL), "Least typical": rows.reverse().head(TYPICAL)}


def _kin(site: Site, run: Row, layer: int, head: int, by: str) -> list[Row]:
    """Return the same head in every run of related models."""
    kin = []
    for other in family(site, run):
        if layer not in other["layers"] or head not in other["heads"]:
            continue
        rows = measures.statistics(site.store, other["run"], (layer, head))
        rows = rows.filter(pl.col("measure") == by)
        kin.append(other | (rows.row(0, named=True) if len(rows) else {}))
    return kin


def _neighbors(run: Row, layer: int, head: int) -> dict[str, str]:
    """Return the addresses of the neighboring heads, by direction."""
    layers, heads = list(run["layers"]), list(run["heads"])
    i, j = layers.index(layer), heads.index(head)
    around = {"up": (i - 1, j), "down": (i + 1, j), "left": (i, j - 1), "right": (i, j + 1)}
    return {
        name: link("run", run["run"], "head", layers[a], heads[b])
        for name, (a, b) in around.items()
        if 0 <= a < len(layers) and 0 <= b < len(heads)
    }
