"""A head along the relations that annotations say: dependencies and coreference, each beside its baseline.

Both analyses read every map of the run, so a panel that comes after the page asks them.
"""

from __future__ import annotations

from typing import Any

import polars as pl
from starlette.requests import Request
from starlette.responses import Response

from attnstore.formatting import number
from attnstore.web.run_records import Row, head_of, run_of
from attnstore.web.site import Site

SHOWN, NEAREST = 8, 3
"""Relations in the table: of those above their fixed offset, and where none is."""
_ANALYSES = {"dep": "dependency_heads", "coreference": "coreference_heads"}
"""By the kind of links that it needs."""
_WAYS = {"from_to": "dependent → head", "to_from": "head → dependent"}


def relations_panel(site: Site, request: Request) -> Response:
    """Show how often a head attends along each relation, beside the relation's best fixed offset."""
    run = run_of(site, request)
    layer, head = head_of(run, request)
    linked = sources(site, run)
    found = {kind: _rows(site, run, layer, head, kind) for kind in linked}
    dependencies = found.get("dep")
    return site.render(
        request, "_relations.html", run=run, layer=layer, head=head, linked=linked, ways=_WAYS,
        dependencies=None if dependencies is None else _shown(dependencies).to_dicts(),
        n_relations=0 if dependencies is None else len(dependencies),
        coreference=None if "coreference" not in found else found["coreference"].to_dicts(),
        said=[text for kind, rows in found.items() for text in _said(kind, rows)],
    )  # fmt: skip


def _shown(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the relations above their baseline, or where there is none the nearest to it."""
    above = rows.filter(pl.col("above"))
    return rows.head(NEAREST) if above.is_empty() else above.head(SHOWN)


def known(site: Site, run: Row, layer: int, head: int) -> list[tuple[str, str]]:
    """Return the analyses of relations that need no computation, and what each says about a head."""
    said = []
    for kind, source in sources(site, run).items():
        if site.store.has_analysis(_ANALYSES[kind], **_question(run, source)):
            rows = _rows(site, run, layer, head, kind)
            said += [(_ANALYSES[kind], text) for text in _said(kind, rows)]
    return said


def sources(site: Site, run: Row) -> dict[str, str | None]:
    """Return the kinds of links of a run's dataset that are known here, with the annotation to take.

    None where there is one; of several the first by name.
    """
    rows = site.store.ask(
        "SELECT kind, count(DISTINCT source) AS n, min(source) AS source FROM links "
        "WHERE dataset = $dataset AND kind IN ('dep', 'coreference') GROUP BY kind ORDER BY kind DESC",
        dataset=run["dataset"],
    )
    return {kind: source if n > 1 else None for kind, n, source in rows.iter_rows()}


def _question(run: Row, source: str | None) -> dict[str, Any]:
    return {"run": run["run"]} | ({} if source is None else {"annotation": source})


def _rows(site: Site, run: Row, layer: int, head: int, kind: str) -> pl.DataFrame:
    """Return the rows of a head, the furthest above their baseline first."""
    rows = site.store.analysis(_ANALYSES[kind], **_question(run, sources(site, run)[kind]))
    here = rows.filter(pl.col("layer") == layer, pl.col("head") == head)
    return here.sort("difference", descending=True, nulls_last=True)


def _said(kind: str, rows: pl.DataFrame) -> list[str]:
    """Say in a sentence what is certainly above its baseline, or that nothing is."""
    above = rows.filter(pl.col("above"))
    if rows.is_empty():
        return []
    if kind == "coreference":
        row = rows.row(0, named=True)
        word = "gets more" if len(above) else "does not surely get more"
        return [
            f"From a mention, its antecedent {word} attention than other mentions: {number(row['mean'], 2)} "
            f"against {number(row['baseline'], 2)} (n = {row['n']:,} inputs)."
        ]
    if above.is_empty():
        return [f"Along no dependency does it attend more often than a fixed offset would ({len(rows)} compared)."]  # fmt: skip
    row = above.row(0, named=True)
    return [
        f"Along {len(above)} of {len(rows)} dependencies it attends more often than a fixed offset would, most along "
        f"{row['relation']} ({_WAYS[row['direction']]}): right for {number(row['mean'], 2)} of {row['n']:,} links, "
        f"the offset for {number(row['baseline'], 2)}."
    ]
