"""Prefect flows over the library. Each parses its options, calls attnstore, shows the result."""

import contextlib
import logging
import os
from collections.abc import Iterator

# Before Prefect is imported: it reports its use at import, and this project stays on its machine.
os.environ.setdefault("DO_NOT_TRACK", "1")


@contextlib.contextmanager
def only_sentences() -> Iterator[None]:
    """Keep Prefect's own trace of a failure off the terminal: the command says it in one sentence."""
    loggers = [logging.getLogger(f"prefect.{name}") for name in ("flow_runs", "task_runs")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
