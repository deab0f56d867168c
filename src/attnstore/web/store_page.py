"""The page of a store: its runs, models and datasets, and ingestions going on."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from attnstore.web import run_list
from attnstore.web.site import Site


def store_page(site: Site, request: Request) -> Response:
    """Show the runs, models and datasets of the store, and the runs being ingested now."""
    store = site.store
    models = store.ask("FROM models ORDER BY model").to_dicts()
    datasets = store.ask(
        "SELECT d.*, s.sources FROM datasets d LEFT JOIN (SELECT dataset, "
        "list(DISTINCT source ORDER BY source) AS sources FROM spans GROUP BY dataset) s USING (dataset) "
        "ORDER BY dataset"
    ).to_dicts()
    listed = run_list.listed(site, request.query_params)
    return site.render(request, "store.html", models=models, datasets=datasets, **listed)
