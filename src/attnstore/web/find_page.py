"""The page Find: one field for words, tokens, relations and thresholds over all runs, answered part by part."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from attnstore.errors import UsageError
from attnstore.formatting import cell
from attnstore.web import find_names, find_plan, find_question, sql_page
from attnstore.web.addresses import whole
from attnstore.web.find_names import Names
from attnstore.web.find_plan import PER_PAGE, Plan
from attnstore.web.find_question import Question
from attnstore.web.measures import finite
from attnstore.web.site import Site

LISTED = 150
"""Names of a kind that the page lists."""
_JOINED: dict[str, Callable[[str, str], str]] = {
    "layers": lambda a, b: json.dumps(sorted({*json.loads(a), *json.loads(b)})),
    "low": lambda a, b: min(a, b, key=int), "first": lambda a, b: min(a, b, key=int),
    "high": lambda a, b: max(a, b, key=int), "last": lambda a, b: max(a, b, key=int),
}  # fmt: skip
"""How the parameters of two parts of a run are those of both."""


def find_page(site: Site, request: Request) -> Response:
    """Show the field, what was understood, and what the page needs to ask for the answers."""
    query = request.query_params
    text, page = query.get("q", "").strip(), max(whole("page", query.get("page", "1")), 1)
    names = find_names.of(site.store)
    about: dict[str, Any] = {"q": text, "names": listed(names), "listed": LISTED, "examples": examples(names), "wrong": "", "data": None}  # fmt: skip
    if text:
        try:
            question = find_question.parse(text)
            plan = find_plan.plan(site, question, page)
            about |= {
                "plan": plan,
                "data": _data(site, question, plan, page),
                "whole": _whole(plan),
            }
        except UsageError as error:
            about["wrong"] = str(error)
    return site.render(request, "find.html", 400 if about["wrong"] else 200, **about)


def listed(names: Names) -> dict[str, list[str]]:
    """Return the names of each kind that the page lists: those with a letter, in order."""
    kinds = {"Relations": names.links, "Features": names.features, "Labels of words": names.labels}
    return {
        title: sorted((n for n in known if any(c.isalpha() for c in n)), key=str.lower)
        for title, known in kinds.items()
    }


def rows(site: Site, request: Request) -> Response:
    """Send every row of an answered query as JSON, texts as they are: names of columns, and rows."""
    frame = sql_page.done(site, request).frame()
    found = [[_json(value) for value in row] for row in frame.iter_rows()]
    return JSONResponse({"columns": frame.columns, "rows": found})


def _json(value: Any) -> Any:
    """Return a value as JSON has it: a number, a text as it is, and another one in words."""
    if value is None or isinstance(value, str | int):
        return value
    return finite(value) if isinstance(value, float) else cell(value)


def _data(site: Site, question: Question, plan: Plan, page: int) -> dict[str, Any]:
    return {
        "sql": plan.sql, "parts": plan.parts, "maps": question.over is not None, "single": plan.single,
        "paired": plan.paired, "page": page, "per_page": PER_PAGE, "pages": find_plan.MOST // PER_PAGE,
        "base": find_question.written(question, without=("run", "layer", "head", "dataset")),
        "labels": {dataset: _labels(site, dataset) for dataset in {p["dataset"] for p in plan.parts}},
    }  # fmt: skip


def _labels(site: Site, dataset: str) -> dict[str, str]:
    """Return the names of a dataset's labels by what stands in its column, where they differ."""
    known = site.store.ask(
        "SELECT DISTINCT label FROM examples WHERE dataset = $dataset AND label IS NOT NULL LIMIT 200",
        dataset=dataset,
    )
    called = {label: site.labels.called(label, dataset) for label in known["label"]}
    return {label: name for label, name in called.items() if label != name}


def _whole(plan: Plan) -> dict[str, str]:
    """Return by run the address of the SQL page with its query over all heads and inputs that are asked for."""
    params: dict[str, dict[str, str]] = {}
    for part in plan.parts:
        of_run = params.setdefault(part["run"], dict(part["params"]))
        for name, join in _JOINED.items():
            if name in of_run:
                of_run[name] = join(of_run[name], part["params"][name])
    return {
        run: "/sql?" + urlencode({"q": plan.sql, **{f"p.{n}": v for n, v in values.items()}})
        for run, values in params.items()
    }


def examples(names: Names) -> list[str]:
    """Return questions that the store can answer."""
    pairs = [("pronoun", "antecedent"), ("verb", "nsubj"), ("noun", "verb")]
    known = names.features | names.labels | names.links
    asked = [f"{a} -> {b} > 0.5" for a, b in pairs if a in known and b in known][:2]
    asked += [f"{name} > 0.3" for name in ("nsubj", "obj", "coreference") if name in names.links][:2]  # fmt: skip
    return ['"not"', *asked, "sep > 0.3", "* -> sep > 0.9 layer:0-2", "length:20-40"]
