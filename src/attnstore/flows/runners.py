"""Where the blocks of an ingestion are computed: `dask`, `dask:ADDRESS`, `ray`, `ray:ADDRESS`."""

from __future__ import annotations

import os
from typing import Any

import click
from prefect.task_runners import TaskRunner

from attnstore.errors import UsageError
from attnstore.naming import near

_KINDS = ("dask", "ray")
option = click.option(
    "--runner", metavar="dask[:ADDRESS]",
    help="Workers for the blocks: dask or ray (on this machine), or at an address.",
)  # fmt: skip


def find(spec: str) -> TaskRunner[Any]:
    """A task runner of Prefect. Raises UsageError: an unknown kind, no library, no server."""
    kind, _, address = spec.partition(":")
    if kind not in _KINDS:
        raise UsageError(
            f"There is no runner {kind!r}{near(kind, _KINDS) or '; give dask or ray'}, or leave it out."
        )
    if not os.environ.get("PREFECT_API_URL"):
        raise UsageError(
            "Workers in processes of their own need a Prefect server: run `prefect server start`, "
            "and set PREFECT_API_URL to its address, as in "
            "PREFECT_API_URL=http://127.0.0.1:4200/api."
        )
    try:
        return _dask(address) if kind == "dask" else _ray(address)
    except ImportError as error:
        raise UsageError(
            f"The runner {kind} is not installed; `pip install 'attnstore[{kind}]'` brings it."
        ) from error


def _dask(address: str) -> TaskRunner[Any]:
    """Without an address, one worker of one thread per core: each loads the model once."""
    from prefect_dask import DaskTaskRunner

    if address:
        return DaskTaskRunner(address=address)
    return DaskTaskRunner(cluster_kwargs={"n_workers": os.cpu_count(), "threads_per_worker": 1})


def _ray(address: str) -> TaskRunner[Any]:
    from prefect_ray import RayTaskRunner

    return RayTaskRunner(address=address or None)
