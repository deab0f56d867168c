"""The Prefect server that a flow talks to, and what of Prefect's messages reaches the terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator

from prefect.settings import PREFECT_API_URL

from attnstore.errors import UsageError

_SECONDS = 10
"""Time in which a server must answer."""


def require() -> None:
    """Check that a server answers, if Prefect is to use one.

    Raises:
        UsageError: Nobody answers at PREFECT_API_URL.
    """
    address = PREFECT_API_URL.value()
    if not address:
        return
    try:
        urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=_SECONDS).close()
    except urllib.error.HTTPError:
        return  # somebody answers; what is wrong, Prefect says better
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return  # Prefect may know certificates of its own
        raise UsageError(
            _unanswered(address, str(getattr(reason, "strerror", None) or reason))
        ) from None


def require_named(purpose: str) -> None:
    """Check that PREFECT_API_URL names a server.

    Args:
        purpose: What needs one, as the beginning of a sentence.

    Raises:
        UsageError: It is not set.
    """
    if not os.environ.get("PREFECT_API_URL"):
        raise UsageError(
            f"{purpose} a Prefect server: run `prefect server start`, and set PREFECT_API_URL to its "
            "address, as in PREFECT_API_URL=http://127.0.0.1:4200/api."
        )


def _unanswered(address: str, reason: str) -> str:
    return (
        f"No Prefect server answers at {address} ({reason}); start it with `prefect server start`, "
        "correct PREFECT_API_URL, or unset it: then the flow runs without a server."
    )


@contextlib.contextmanager
def only_sentences() -> Iterator[None]:
    """Keep the log of runs off the terminal, where the command says the same; Prefect's server has it."""
    require()
    loggers = [logging.getLogger(f"prefect.{name}") for name in ("flow_runs", "task_runs")]
    for logger in loggers:
        logger.propagate = False
    try:
        yield
    except RuntimeError as error:  # the server went away in the meantime
        if "Failed to reach API" not in str(error):
            raise
        raise UsageError(_unanswered(os.environ.get("PREFECT_API_URL", ""), str(error))) from error
    finally:
        for logger in loggers:
            logger.propagate = True
