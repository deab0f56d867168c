"""Prefect flows over the library. Each parses its options, calls attnstore, shows the result."""

import contextlib
import importlib.util
import logging
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

from attnstore.errors import UsageError

# Before Prefect is imported: it reports its use at import, and this project stays on its machine.
os.environ.setdefault("DO_NOT_TRACK", "1")

if importlib.util.find_spec("prefect") is None and sys.argv[:1] == ["-m"]:  # python -m flows.NAME
    print(
        "attnstore: The package prefect, which the flows need, is not installed; "
        "`pip install 'attnstore[flows]'` brings it.",
        file=sys.stderr,
    )
    sys.exit(2)

_SECONDS = 10  # that a server may take to answer


def require_server() -> None:
    """Raise UsageError where Prefect is told of a server and nobody answers there."""
    from prefect.settings import PREFECT_API_URL

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


def _unanswered(address: str, reason: str) -> str:
    return (
        f"No Prefect server answers at {address} ({reason}); start it with `prefect server start`, "
        "correct PREFECT_API_URL, or unset it: then the flow runs without a server."
    )


@contextlib.contextmanager
def only_sentences() -> Iterator[None]:
    """Keep Prefect's own trace of a failure off the terminal: the command says it in one sentence."""
    require_server()
    loggers = [logging.getLogger(f"prefect.{name}") for name in ("flow_runs", "task_runs")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    except RuntimeError as error:  # the server went away in the meantime
        if "Failed to reach API" not in str(error):
            raise
        raise UsageError(_unanswered(os.environ.get("PREFECT_API_URL", ""), str(error))) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
