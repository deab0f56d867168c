"""The page of a store: its runs, models and datasets, and ingestions going on."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from attnstore.web.site import Site


def store_page(site: Site, request: Request) -> Response:
    """Show the runs, models and datasets of the store, and the runs being ingested now."""
    store = site.store
    runs = store.ask(
        "SELECT r.*, m.base, m.step, i.latest FROM runs r LEFT JOIN models m USING (model) "
        "LEFT JOIN (SELECT run, max(started + to_seconds(seconds)) AS latest FROM ingests GROUP BY run) i USING (run) "
        "ORDER BY r.dataset, m.base NULLS FIRST, m.step NULLS FIRST, r.run"
    ).to_dicts()
    for run in runs:
        counts = run["run"], run["stored"], run["planned"]
        run["ingesting"], run["left"] = site.progress.seconds_left(*counts)
    about: dict[str, Any] = {
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
