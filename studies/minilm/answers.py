"""Answers about checkpoints and classifiers: what training moved, and what a task loses without a head."""

from __future__ import annotations

from typing import Any

import polars as pl

from attnstore.errors import AttnstoreError
from attnstore.store import Store
from studies.minilm import grid

Rows = list[dict[str, Any]]


def place(row: dict[str, Any]) -> str:
    """Return the head of a row as LAYER.HEAD, the layer alone, or the name of what it is."""
    layer, head = row.get("layer"), row.get("head")
    if head is not None:
        return f"{layer}.{head}"
    if layer is not None:
        return f"layer {layer}"
    return str(row.get("heads") or row.get("ensemble") or row.get("variant") or "")


def runs(store: Store) -> Rows:
    """Return every run with its inputs, their mean length, and its bytes."""
    return store.sql(
        "SELECT r.run, r.dataset, r.model, count(*) AS inputs, avg(i.length) AS tokens, any_value(r.bytes) AS bytes "
        "FROM runs r JOIN inputs i USING (run) GROUP BY ALL ORDER BY r.run"
    ).to_dicts()


def measures(store: Store) -> Rows:
    """Return distance, reach and breadth by layer: means over heads and inputs of each run of the base model and its twins."""
    return store.sql(
        "SELECT run, layer, avg(mean_distance) AS distance, avg(reach) AS reach, avg(breadth) AS breadth "
        "FROM map_measures WHERE run IN ($run, $twin) GROUP BY run, layer ORDER BY run, layer",
        run=grid.run("ewt"),
        twin=grid.run("ewt", grid.twin(0)),
    ).to_dicts()


def trained(store: Store) -> dict[str, Any]:
    """Return what training moved, for the last checkpoint of each task with a run."""
    found: dict[str, Any] = {}
    for task, run in _last_runs(store).items():
        base = {"base_run": grid.run(task)}
        found[task] = {
            "run": run,
            "drift_by_layer": _rows(store, "drift_by_layer", run=run, **base),
            "moved": _moved(_rows(store, "drift", run=run, **base)),
            "feature_change": _only(
                "layer head feature mean q",
                _rows(store, "feature_change", run=run, scheme="upos", **base),
            ),
            "heads_across_runs": _only(
                "layer head rank q above", _rows(store, "heads_across_runs", run=run, **base)
            ),
            "faithfulness": {
                by: _only(
                    "measure layer head n kendall kendall_low kendall_high q",
                    _rows(store, "faithfulness", run=run, by=by),
                )
                for by in ("weight", "norm")
            },
        }
        steps = _rows(store, "drift_over_steps", **base)
        if len({row["step"] for row in steps}) > 1:
            found[task]["drift_over_steps"] = steps
    return found


def classifiers(store: Store) -> dict[str, Any]:
    """Return scores, and what each task's classifier loses without heads."""
    ablated = store.sql("SELECT DISTINCT model, dataset FROM ablations ORDER BY ALL").rows()
    frames = grid.run("frames")
    return {
        "table1": _rows(store, "table1"),
        "scores_over_steps": _rows(store, "scores_over_steps"),
        "shared_heads": _rows(store, "shared_heads"),
        "importance_agreement": _rows(store, "importance_agreement"),
        "pruned_sets": _rows(store, "pruned_sets"),
        "patterns": _rows(store, "pattern_shares"),
        "outlier_dimensions": _rows(store, "outlier_dimensions", model=grid.MODEL),
        "disabled": {
            dataset: {
                "model": model,
                "heads_that_hurt": _rows(store, "heads_that_hurt", model=model, dataset=dataset),
                "disabled_sets": _rows(store, "disabled_sets", model=model, dataset=dataset),
                "frame_heads_matter": _rows(
                    store, "frame_heads_matter", run=frames, model=model, dataset=dataset
                ),
            }
            for model, dataset in ablated
        },
    }


def _only(columns: str, rows: Rows) -> Rows:
    """Return the rows with these columns alone."""
    return [{name: row[name] for name in columns.split()} for row in rows]


def _moved(rows: Rows) -> Rows:
    """Return the head that training moved most, and the one that it moved least."""
    ordered = sorted(rows, key=lambda row: row["mean"])
    return [ordered[0], ordered[-1]] if ordered else []


def _last_runs(store: Store) -> dict[str, str]:
    """Return the run of the last checkpoint of seed 0, by task."""
    rows = store.sql(
        "SELECT dataset, r.run, m.step FROM runs r JOIN models m USING (model) "
        "WHERE contains(model, '-pretrained-0-') AND m.step IS NOT NULL ORDER BY dataset, m.step"
    )
    last = rows.group_by("dataset", maintain_order=True).agg(pl.col("run").last())
    return dict(last.iter_rows())


def _rows(store: Store, analysis: str, **params: Any) -> Rows:
    """Return the rows of an analysis; none where the store lacks what it needs."""
    try:
        return store.query(analysis, **params).to_dicts()
    except AttnstoreError as error:
        print(f"{analysis}: {error}")
        return []
