"""The pages of a model and of a dataset: what they are, their runs, and what has been done with them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from attnstore.web import run_list
from attnstore.web.run_records import Row
from attnstore.web.site import Site

_FACTS = {
    "model": ("architecture", "n_layers", "n_heads", "hidden_size", "vocab_size", "max_positions", "base", "step", "twin_of", "source"),
    "dataset": ("n_rows", "n_empty", "language", "split", "text_column", "pair_column", "label_column", "source"),
}  # fmt: skip


def model_page(site: Site, request: Request) -> Response:
    """Show a model: its facts, its runs, and what disabling its heads and training measured."""
    name = request.path_params["model"]
    record = run_list.one(site, "model", name)
    ablated = site.store.ask(
        'SELECT dataset, metric, "value" AS disabled_to, count(*) AS settings FROM ablations WHERE model = $name '
        "GROUP BY ALL ORDER BY ALL",
        name=name,
    ).to_dicts()
    listed = run_list.listed(site, request.query_params, model=name)
    return site.render(
        request, "model.html", called=name, facts=_facts("model", record), ablated=ablated, **listed
    )


def dataset_page(site: Site, request: Request) -> Response:
    """Show a dataset: its facts, its labels, who annotated what, and its runs."""
    name = request.path_params["dataset"]
    record, ask = run_list.one(site, "dataset", name), site.store.ask
    labels = ask(
        "SELECT label, count(*) AS n FROM examples WHERE dataset = $name AND label IS NOT NULL "
        "GROUP BY label ORDER BY n DESC, label LIMIT 40",
        name=name,
    ).to_dicts()
    annotated = ask(
        "SELECT source, kind, what, count(*) AS n, count(DISTINCT example) AS examples FROM ("
        "SELECT dataset, source, kind, example, 'spans' AS what FROM spans UNION ALL "
        "SELECT dataset, source, kind, example, 'links' FROM links) WHERE dataset = $name GROUP BY ALL ORDER BY ALL",
        name=name,
    ).to_dicts()
    listed = run_list.listed(site, request.query_params, dataset=name)
    return site.render(
        request, "dataset.html", called=name, facts=_facts("dataset", record), labels=labels, annotated=annotated, **listed
    )  # fmt: skip


def _facts(kind: str, record: Row) -> list[tuple[str, object]]:
    return [
        (key.removeprefix("n_").replace("_", " "), record[key])
        for key in _FACTS[kind]
        if record[key] is not None
    ]
