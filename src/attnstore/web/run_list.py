"""The runs of a store as a list: searched, sorted, grouped, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnstore.errors import UnknownNameError, UsageError
from attnstore.naming import near
from attnstore.web import mean_maps, mean_maps_files
from attnstore.web.addresses import whole
from attnstore.web.run_records import Row
from attnstore.web.site import Site

PER_PAGE = 50
"""Runs on one page of the list."""
SORTS = {
    "dataset": ("Dataset", "r.dataset, m.base NULLS FIRST, m.step NULLS FIRST, r.run"),
    "model": ("Model", "r.model, r.dataset"),
    "newest": ("Newest first", "i.latest DESC NULLS LAST, r.run"),
    "inputs": ("Most inputs first", "r.stored DESC, r.run"),
    "size": ("Largest first", "r.bytes DESC, r.run"),
}
"""Orders of the list: title, and the columns of SQL."""
_GROUPS = {"dataset": "dataset", "model": "model"}
"""Orders whose runs stand together under the name of what they share, by its column."""


def listed(
    site: Site, query: Mapping[str, str], model: str | None = None, dataset: str | None = None
) -> dict[str, Any]:
    """Return one page of the runs, and what the list needs to be changed.

    Args:
        site: The explorer.
        query: `find`, words of which a run's name has each; `sort`, a key of SORTS; `page`, from 1.
        model: Only runs of this model.
        dataset: Only runs over this dataset.

    Raises:
        UsageError: There is no such order.
    """
    sort = query.get("sort", "dataset")
    if sort not in SORTS:
        raise UsageError(f"Runs cannot be sorted by {sort!r}{near(sort, SORTS) or '; the store page lists how'}")  # fmt: skip
    words = query.get("find", "").lower().split()
    page = max(whole("page", query.get("page", "1")), 1)
    rows = site.store.ask(
        "SELECT r.*, m.base, m.step, i.latest, "
        "(SELECT list(DISTINCT source ORDER BY source) FROM spans s WHERE s.dataset = r.dataset) AS annotated, "
        "r.run IN (SELECT run FROM classifications) AS classified, "
        "(r.model, r.dataset) IN (SELECT (model, dataset) FROM ablations) AS ablated, "
        "r.run_key IN (SELECT run_key FROM idx.core.profiled) AS profiled "
        "FROM runs r LEFT JOIN models m USING (model) "
        "LEFT JOIN (SELECT run, max(started + to_seconds(seconds)) AS latest FROM ingests GROUP BY run) i USING (run) "
        "WHERE ($model IS NULL OR r.model = $model) AND ($dataset IS NULL OR r.dataset = $dataset) "
        f"ORDER BY {SORTS[sort][1]}",
        model=model, dataset=dataset,
    ).to_dicts()  # fmt: skip
    chosen = [row for row in rows if all(word in row["run"].lower() for word in words)]
    shown = chosen[(page - 1) * PER_PAGE : page * PER_PAGE]
    for row in shown:
        counts = row["run"], row["stored"], row["planned"]
        row["ingesting"], row["left"] = site.progress.seconds_left(*counts)
        row["picture"] = mean_maps.address(row) if row.get("profiled") else None
        row["saving"] = mean_maps_files.saving(site, row)
        row["size"] = mean_maps.size(row["n_layers"], row["n_heads"])
    return {
        "runs": shown, "n_runs": len(rows), "n_chosen": len(chosen), "page": page, "find": query.get("find", ""),
        "pages": max(-(-len(chosen) // PER_PAGE), 1), "sort": sort, "sorts": {key: title for key, (title, _) in SORTS.items()},
        "group": _GROUPS.get(sort), "query": dict(query), "busy": any(row["ingesting"] for row in shown),
        "weights": sum(row["n_weights"] or 0 for row in rows), "bytes": sum(row["bytes"] or 0 for row in rows),
    }  # fmt: skip


def one(site: Site, kind: str, name: str) -> Row:
    """Return the record of a model or a dataset.

    Args:
        site: The explorer.
        kind: model or dataset.
        name: Its name.

    Raises:
        UnknownNameError: The store does not hold it.
    """
    rows = site.store.ask(f'SELECT * FROM "{kind}s" WHERE "{kind}" = $name', name=name).to_dicts()
    if not rows:
        known = site.store.ask(f'SELECT "{kind}" AS name FROM "{kind}s"')["name"].to_list()
        raise UnknownNameError(f"The store holds no {kind} {name!r}{near(name, known) or '; the store page lists them'}")  # fmt: skip
    return rows[0]
