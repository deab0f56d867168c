"""Workers for the units of a flow: `dask`, `dask:ADDRESS`, `ray`, `ray:ADDRESS`."""

from __future__ import annotations

import os
from typing import Any

from prefect.task_runners import TaskRunner

from attnstore import extras
from attnstore.errors import UsageError
from attnstore.flows import server
from attnstore.naming import near

_KINDS = ("dask", "ray")


def find(spec: str) -> TaskRunner[Any]:
    """Make a task runner of Prefect.

    Args:
        spec: dask or ray for workers on this machine, or with an address as in dask:tcp://HOST:8786.

    Raises:
        UsageError: The kind is unknown, or no Prefect server is named.
        MissingExtraError: The runner is not installed.
    """
    kind, _, address = spec.partition(":")
    if kind not in _KINDS:
        raise UsageError(
            f"There is no runner {kind!r}{near(kind, _KINDS) or '; give dask or ray'}, or leave it out."
        )
    server.require_named("Workers in processes of their own need")
    extras.require(f"prefect_{kind}")
    return _dask(address) if kind == "dask" else _ray(address)


def _dask(address: str) -> TaskRunner[Any]:
    """Make Dask's; without an address, one worker of one thread per core: each loads the model once."""
    from prefect_dask import DaskTaskRunner

    if address:
        return DaskTaskRunner(address=address)
    return DaskTaskRunner(cluster_kwargs={"n_workers": os.cpu_count(), "threads_per_worker": 1})


def _ray(address: str) -> TaskRunner[Any]:
    from prefect_ray import RayTaskRunner

    return RayTaskRunner(address=address or None)
