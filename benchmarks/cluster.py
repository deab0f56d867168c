"""One question over every weight of a run, by one and by two workers of Dask, one thread each."""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import attnstore
from benchmarks.common import RUN, Group, Place, Row, timed
from benchmarks.report import cores

TARGET = 1.7
QUESTION = "SELECT layer, head, sum(weight) AS total, count(*) AS n FROM rows GROUP BY ALL"


def measure(place: Place) -> Group:
    """Clusters of one and of two workers, which live side by side and take turns."""
    from distributed import Client, LocalCluster

    environment = {"OMP_NUM_THREADS": "1"}
    clusters = [
        LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=None, env=environment)
        for n in (1, 2)
    ]
    clients = [Client(cluster, set_as_default=False) for cluster in clusters]
    ways = {
        "`partition.sql`, sums of each block": _sums,
        "two layers by `store.dask`, `groupby(['layer', 'head']).weight.mean()`": _frame,
    }
    rows = []
    with attnstore.open(place.store) as store:
        for name, ask in ways.items():
            for client in clients:
                ask(store, client)  # starts the sessions of its workers
            pairs = [
                [timed(partial(ask, store, client)) for client in clients]
                for _ in range(place.repeats(3))
            ]
            one, two = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
            value = statistics.median(one / two for one, two in pairs)
            rows.append(Row(
                f"mean weight per head over `attention`, {place.inputs} RTE inputs, {cores()} cores: {name}, "
                "1 Dask worker / 2",
                f"≥ {TARGET:.1f}×", f"{value:.2f}× ({one:.1f} s / {two:.1f} s)", value >= TARGET,
            ))  # fmt: skip
    for opened in (*clients, *clusters):
        opened.close()
    return Group(rows, (
        "*Questions on a cluster*: workers are processes of one thread on this machine, and each has answered the "
        "question once before. A partition is a block; with `partition.sql` DuckDB adds up its rows where they are "
        "read, with `store.dask` they go through pandas first."
    ))  # fmt: skip


def _frame(store: Any, client: Any) -> Any:
    frame = store.dask("attention", run=RUN, where="layer < 2")
    return client.compute(frame.groupby(["layer", "head"]).weight.mean()).result()


def _sums(store: Any, client: Any) -> Any:
    parts = store.partitions("attention", RUN)
    return client.gather([client.submit(p.sql, QUESTION, pure=False) for p in parts])
