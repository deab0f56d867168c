"""The runs that an address names, and the runs of related models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from starlette.requests import Request

from attnstore.naming import require_held
from attnstore.web.addresses import whole
from attnstore.web.site import Site

Row = dict[str, Any]
_NO_TEXTS: Row = {"text": None, "text_pair": None}  # of a dataset whose texts are damaged


def run_of(site: Site, request: Request) -> Row:
    """Return the record of the run that an address names.

    Raises:
        UnknownNameError: The store does not hold it.
    """
    return record_of(site, f"{request.path_params['model']}/{request.path_params['dataset']}")


def record_of(site: Site, name: str) -> Row:
    """Return the record of a run.

    Raises:
        UnknownNameError: The store does not hold it.
    """
    record: Row = site.store.ask(
        "SELECT r.*, m.base, m.step, coalesce(m.n_layers, r.n_layers) AS of_layers, "
        "coalesce(m.n_heads, r.n_heads) AS of_heads FROM runs r LEFT JOIN models m USING (model) WHERE run = $run",
        run=name,
    ).row(0, named=True)
    return record


def head_of(run: Row, request: Request) -> tuple[int, int]:
    """Return the layer and head that an address names.

    Raises:
        UnknownNameError: The run does not hold them.
    """
    layer, head = (whole(n, request.path_params[n]) for n in ("layer", "head"))
    require_head(run, layer, head)
    return layer, head


def require_head(run: Row, layer: int, head: int) -> None:
    """Raise UnknownNameError unless a run holds this layer and head."""
    require_held(run["run"], "layer", layer, run["layers"])
    require_held(run["run"], "head", head, run["heads"])


def family(site: Site, run: Row) -> list[Row]:
    """Return the runs of the model, of the model it was trained from and of its other descendants.

    On any dataset, the run itself included; runs on the same dataset come first, by step.
    """
    return site.store.ask(
        "WITH roots AS (SELECT m.model, m.step, coalesce(p.model, m.base, m.model) AS root FROM models m "
        "LEFT JOIN (SELECT model, unnest([model, source]) AS called FROM models) p ON p.called = m.base) "
        "SELECT DISTINCT r.run, r.model, r.dataset, o.step, r.layers, r.heads, r.n_layers, r.n_heads "
        "FROM runs r JOIN roots o USING (model) WHERE r.stored > 0 "
        "AND o.root IN (SELECT root FROM roots WHERE model = $model) "
        "ORDER BY r.dataset <> $dataset, r.dataset, o.step NULLS FIRST, r.run",
        model=run["model"], dataset=run["dataset"],
    ).to_dicts()  # fmt: skip


def training_of(site: Site, run: Row) -> list[Row]:
    """Return the runs of a run's training over its dataset up to its own step, the run before it first.

    Checkpoints of one training lie in one folder. Empty for a model without a step. Columns: run, step (None before
    the training), layers, heads.
    """
    return site.store.ask(
        r"WITH this AS (SELECT *, regexp_replace(source, '[^/]*$', '') AS folder FROM models WHERE model = $model AND step IS NOT NULL) "
        "SELECT r.run, m.step, r.layers, r.heads FROM this JOIN models m ON m.base IS NOT DISTINCT FROM this.base "
        r"AND regexp_replace(m.source, '[^/]*$', '') = this.folder AND m.step <= this.step "
        "JOIN runs r ON r.model = m.model WHERE r.dataset = $dataset AND r.stored > 0 AND (r.run = $run OR m.model <> $model) "
        "UNION ALL SELECT r.run, NULL, r.layers, r.heads FROM base_runs b JOIN runs r ON r.run = b.base_run "
        "WHERE b.run = $run AND EXISTS (FROM this) "
        "ORDER BY step NULLS FIRST, run",
        run=run["run"], model=run["model"], dataset=run["dataset"],
    ).to_dicts()  # fmt: skip


def with_texts(site: Site, run: Row, lists: Mapping[str, pl.DataFrame]) -> dict[str, list[Row]]:
    """Add the texts of examples of a run to rows with a column example, of any number of lists."""
    examples = sorted({example for rows in lists.values() for example in rows["example"]})
    found = site.store.ask(
        "SELECT example, text, text_pair FROM idx.core.examples WHERE dataset = $dataset "
        "AND list_contains($examples, example)",
        dataset=run["dataset"], examples=examples,
    )  # fmt: skip
    texts = {row["example"]: row for row in found.to_dicts()}
    return {
        name: [row | texts.get(row["example"], _NO_TEXTS) for row in rows.to_dicts()]
        for name, rows in lists.items()
    }
