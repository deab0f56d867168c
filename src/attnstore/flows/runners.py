"""Workers for the units of a flow: `dask`, `dask:ADDRESS`, `ray`, `ray:ADDRESS`."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prefect.task_runners import TaskRunner

from attnstore import extras
from attnstore.errors import UsageError
from attnstore.flows import server
from attnstore.naming import near

_KINDS = ("dask", "ray")
_SECONDS = 10
"""Time in which a cluster must answer."""


def find(spec: str) -> TaskRunner[Any]:
    """Make a task runner of Prefect.

    Args:
        spec: dask or ray for workers on this machine, or with an address as in dask:tcp://HOST:8786.

    Raises:
        UsageError: The kind is unknown, no Prefect server is named, or nobody answers at the address.
        MissingExtraError: The runner is not installed.
    """
    kind, _, address = spec.partition(":")
    if kind not in _KINDS:
        raise UsageError(
            f"There is no runner {kind!r}{near(kind, _KINDS) or '; give dask or ray'}, or leave it out."
        )
    server.require_named("Workers in processes of their own need")
    extras.require(f"prefect_{kind}")
    _require_answer(kind, address)
    return _dask(address) if kind == "dask" else _ray(address)


def _require_answer(kind: str, address: str) -> None:
    """Check that a cluster answers where a host and a port are named; others its own library finds."""
    try:
        where = urlsplit(address if "://" in address else f"//{address}")
        if where.hostname and where.port:
            socket.create_connection((where.hostname, where.port), _SECONDS).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"Nobody answers at {address} ({str(reason).rstrip('.')}), which --runner {kind}:{address} names; "
            "start the cluster there, or check host and port."
        ) from None


def _dask(address: str) -> TaskRunner[Any]:
    """Make Dask's; without an address, one worker of one thread per core: each loads the model once."""
    from prefect_dask import DaskTaskRunner

    if address:
        return DaskTaskRunner(address=address)
    return DaskTaskRunner(cluster_kwargs={"n_workers": os.cpu_count(), "threads_per_worker": 1})


def _ray(address: str) -> TaskRunner[Any]:
    """Make Ray's; where this user has a token of Ray, a cluster that asks for it gets it.

    `ray start` asks for the token as soon as there is one (`ray.init` on this machine makes it), a
    client that connects sends none of its own accord, and a cluster that asks for none takes it too.
    """
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))
    if "RAY_AUTH_TOKEN" in os.environ or token.is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # read when ray is imported
    from prefect_ray import RayTaskRunner

    return RayTaskRunner(address=address or None)
