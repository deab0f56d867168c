"""The SQL page: an editor beside the views, queries that can be followed, cancelled and shared."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from attnstore.errors import UnknownNameError, UsageError
from attnstore.formatting import cell
from attnstore.query import parameters
from attnstore.query.analyses import Analysis
from attnstore.web import cell_links, chart_choices, recipes, request_bodies
from attnstore.web.cell_links import CellLinks
from attnstore.web.query_jobs import Question
from attnstore.web.query_worker import SHOWN
from attnstore.web.recipes import Recipe
from attnstore.web.site import Site

CHANNELS = ("x", "y", "color", "facet", "interval")
"""What of a chart an address may choose, beside its kind in `show`."""
START = """SELECT layer, head, avg(entropy) AS mean
FROM map_stats
WHERE run = '{run}'
GROUP BY layer, head
ORDER BY layer, head"""


def sql_page(site: Site, request: Request) -> Response:
    """Show the editor with the query of the address: `q` or `analysis`, and `p.NAME` for parameters."""
    query = request.query_params
    named = site.store.current.named_analyses
    name = query.get("analysis")
    text = query.get("q") or (named.find(name).sql if name else "")
    runs = site.store.ask("SELECT run FROM runs ORDER BY stored DESC, run")["run"].to_list()
    params = {k[2:]: v for k, v in query.items() if k.startswith("p.")}
    data = {
        "start": START.format(run=(runs[0] if runs else "model/dataset").replace("'", "''")),
        "runs": runs,
        "params": params,
        "analysis": name,
        "ask": bool(text),
        "show": query.get("show", ""),
        "chart": {c: query.getlist(c) for c in CHANNELS if c in query},
        "limits": {"seconds": site.questions.limits.seconds, "shown": SHOWN},
    }
    return site.render(
        request, "sql.html", text=text, columns=_columns(site), views=site.store.current.views(),
        analyses=named.listing(), chosen=name, data=data, limits=site.questions.limits,
    )  # fmt: skip


def _columns(site: Site) -> dict[str, list[tuple[str, str, str]]]:
    """Return the columns of each view: name, type, meaning."""
    rows = site.store.ask(
        "SELECT table_name, column_name, any_value(data_type), max(comment) "
        "FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal "
        "GROUP BY table_name, column_name ORDER BY table_name, min(column_index)"
    )
    columns: dict[str, list[tuple[str, str, str]]] = {}
    for view, name, kind, comment in rows.iter_rows():
        columns.setdefault(view, []).append((name, kind, comment or ""))
    return columns


def ask(site: Site, body: bytes) -> Response:
    """Start the query of a JSON body {sql, params, asker} and return its status."""
    content = request_bodies.parsed(body)
    text, params = request_bodies.text(content, "sql"), request_bodies.texts(content, "params")
    asker = request_bodies.text(content, "asker", "")
    return JSONResponse(site.questions.ask(text, params, asker).status())


def follow(site: Site, request: Request) -> Response:
    """Return the status of a query."""
    return JSONResponse(_question(site, request).status())


def cancel(site: Site, request: Request) -> Response:
    """Stop a query for the page `asker` and return its status."""
    asker = request.query_params.get("asker", "")
    return JSONResponse(site.questions.cancel(request.path_params["question"], asker))


def table(site: Site, request: Request) -> Response:
    """Show the result of a query as a table, and which charts there may be of it."""
    question = done(site, request)
    columns, rows = question.result["columns"], question.result["rows"]
    numeric = any(number for _, _, number in columns)
    kinds = chart_choices.KINDS if numeric and rows else ()
    return site.render(
        request, "_result.html", question=question, columns=columns, rows=rows, cell=cell,
        links=_links(site, question), kinds=kinds, numeric=numeric, totals=question.result, shown=SHOWN,
    )  # fmt: skip


def chart(site: Site, request: Request) -> Response:
    """Send a chart of the result: of `kind`, over the columns that the address names by channel."""
    question, query = done(site, request), request.query_params
    asked = {channel: query.getlist(channel) for channel in CHANNELS if channel in query}
    drawn = site.questions.chart(question, query.get("kind", ""), asked)
    named = _named(site, question)
    about = [named.name, question.params.get("run", "")] if named else []
    name = "-".join(part for part in (*about, drawn["name"]) if part)
    return JSONResponse(drawn | {"name": name} | vars(_recipe(site, question, named)))


def _named(site: Site, question: Question) -> Analysis | None:
    """Return the named analysis whose text a query is."""
    listing = site.store.current.named_analyses.listing().values()
    return next((a for a in listing if a.sql.strip() == question.text.strip()), None)


def _recipe(site: Site, question: Question, named: Analysis | None) -> Recipe:
    """Return the text of a query and the Python that gives its rows."""
    texts = {name: text for name, text in question.params.items() if text != ""}
    values = parameters.from_texts(texts, named.kinds if named else {})
    if named is not None:
        return recipes.of_analysis(site, named.name, values, question.text)
    return recipes.of_sql(site, question.text, values)


def _links(site: Site, question: Question) -> CellLinks:
    """Return what finds the addresses of a result's cells."""
    kinds, names = ("run", "model", "dataset"), "SELECT {0} FROM {0}s"
    known = {kind: site.store.ask(names.format(kind))[kind].to_list() for kind in kinds}
    run = cell_links.only_run(question.text, question.params, known["run"])
    return CellLinks([name for name, _, _ in question.result["columns"]], known, run)


def download(site: Site, request: Request) -> Response:
    """Send the result as result.parquet or result.csv."""
    question, name = done(site, request), request.path_params["file"]
    if name == "result.parquet":
        return FileResponse(question.file, filename=name)
    if name == "result.csv":
        return FileResponse(site.questions.csv(question), filename=name, media_type="text/csv")
    raise UnknownNameError(f"There is no {name} of this result.")


def _question(site: Site, request: Request) -> Question:
    return site.questions.find(request.path_params["question"])


def done(site: Site, request: Request) -> Question:
    """Return the query that an address names, which has to be answered.

    Raises:
        UsageError: It failed or has not ended.
    """
    question = _question(site, request)
    if question.state != "done":
        raise UsageError(question.sentence or "The query has not ended yet.")
    return question
