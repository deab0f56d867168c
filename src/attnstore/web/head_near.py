"""The heads nearest to a head, in its own run and in others over the same inputs."""

from __future__ import annotations

import polars as pl
from starlette.requests import Request
from starlette.responses import Response

from attnstore.web.run_records import Row, head_of, run_of
from attnstore.web.site import Site

NEAREST, RUNS = 6, 4
"""Heads of its own run, and other runs, that are shown at most."""


def near_panel(site: Site, request: Request) -> Response:
    """Show the nearest heads of a run (head_pairs_alike), and how near each other run has one (heads_across_runs)."""
    run = run_of(site, request)
    layer, head = head_of(run, request)
    others = [
        {"run": other} | _across(site, run, other, layer, head) for other in comparable(site, run)
    ]
    notes = site.store.current.notes("head_pairs_alike", run=run["run"])
    return site.render(
        request, "_near.html", run=run, layer=layer, head=head, notes=notes,
        nearest=_nearest(site, run, layer, head), others=[row for row in others if "itself" in row],
    )  # fmt: skip


def _nearest(site: Site, run: Row, layer: int, head: int) -> list[Row]:
    """Return the nearest heads of the run itself: layer, head, distance with its interval and band."""
    pairs = site.store.analysis("head_pairs_alike", run=run["run"])
    values = ("n", "mean", "low", "high", "random_low", "random_high")
    first = pairs.filter(pl.col("layer") == layer, pl.col("head") == head)
    second = pairs.filter(pl.col("other_layer") == layer, pl.col("other_head") == head)
    rows = pl.concat(
        [
            first.select(pl.col("other_layer").alias("layer"), pl.col("other_head").alias("head"), *values),
            second.select("layer", "head", *values),
        ]
    )  # fmt: skip
    return rows.sort("mean", "layer", "head", nulls_last=True).head(NEAREST).to_dicts()


def _across(site: Site, run: Row, other: str, layer: int, head: int) -> Row:
    rows = site.store.analysis("heads_across_runs", run=run["run"], base_run=other)
    here = rows.filter(pl.col("layer") == layer, pl.col("head") == head)
    return here.row(0, named=True) if len(here) else {}


def comparable(site: Site, run: Row) -> list[str]:
    """Return other runs whose maps can be compared with a run's, the base run's and the most alike first.

    Twins with random weights are left out: they are the band beside each number.
    """
    rows = site.store.ask(
        "SELECT p.other_run FROM run_pairs p JOIN runs o ON o.run = p.other_run JOIN models m ON m.model = o.model "
        "WHERE p.run = $run AND p.other_run <> $run AND p.refusal IS NULL AND p.shared > 0 AND m.random_seed IS NULL "
        "ORDER BY p.is_base DESC, p.alike DESC, m.step NULLS FIRST, p.other_run",
        run=run["run"],
    )
    return rows["other_run"].to_list()[:RUNS]
