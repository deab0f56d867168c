"""The page Find: one field for words, tokens, relations and thresholds over all runs, answered part by part."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from attnstore.datasets import label_names
from attnstore.errors import UsageError
from attnstore.web import find_names, find_plan, find_question, sql_page
from attnstore.web.addresses import whole
from attnstore.web.find_names import Names
from attnstore.web.find_plan import PER_PAGE, Plan
from attnstore.web.find_question import Question
from attnstore.web.site import Site

LISTED = 150
"""Names of a kind that the page lists."""


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
                "sql": _address(plan),
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
    """Send the rows of an answered query as JSON: names of columns, and rows."""
    question = sql_page.done(site, request)
    columns = [name for name, _, _ in question.result["columns"]]
    return JSONResponse({"columns": columns, "rows": question.result["rows"]})


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
    called = {label: label_names.called(dataset, label) for label in known["label"]}
    return {label: name for label, name in called.items() if label != name}


def _address(plan: Plan) -> str:
    """Return the address of the SQL page with the first part's query."""
    params = {f"p.{name}": value for name, value in plan.parts[0]["params"].items()}
    return f"/sql?{urlencode({'q': plan.sql, **params})}"


def examples(names: Names) -> list[str]:
    """Return questions that the store can answer."""
    pairs = [("pronoun", "antecedent"), ("verb", "nsubj"), ("noun", "verb")]
    known = names.features | names.labels | names.links
    asked = [f"{a} -> {b} > 0.5" for a, b in pairs if a in known and b in known][:2]
    asked += [f"{name} > 0.3" for name in ("nsubj", "obj", "coreference") if name in names.links][:2]  # fmt: skip
    return ['"not"', *asked, "sep > 0.3", "* -> sep > 0.9 layer:0-2", "length:20-40"]
