"""One line in Prefect's logs for an error of the library; a bug keeps its traceback.

Prefect logs a traceback where a task fails, another where its flow does, and two more where the process
of the flow ends. The sentence of an `AttnstoreError` is all that anybody needs, once.
"""

from __future__ import annotations

import logging

from attnstore.errors import AttnstoreError

_LOGGERS = ("prefect.task_runs", "prefect.flow_runs", "prefect.engine")
_MARK = "_attnstore_is_logged"
_ENDED, _CANCELLED = "Finished in state Failed", "Finished in state Cancelled"


def logged(error: AttnstoreError) -> AttnstoreError:
    """Mark an error as one whose sentence stands in the log already; return it."""
    setattr(error, _MARK, True)
    return error


class _Sentences(logging.Filter):
    """Turn the traceback of a known error into its sentence, and drop it where it comes again."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for a record that says nothing new."""
        error = record.exc_info[1] if record.exc_info else None
        if record.getMessage().startswith(_CANCELLED):
            return False  # by the failure of another unit, which the log has
        if not isinstance(error, AttnstoreError):
            if record.getMessage().startswith(_ENDED):
                record.msg, record.args = _ENDED, ()  # the state has the message
            return True
        if record.name == "prefect.task_runs" or getattr(error, _MARK, False):
            return False  # the flow of a task says what stopped it
        logged(error)
        record.msg, record.args = str(error), ()
        record.exc_info = record.exc_text = None
        return True


def only() -> None:
    """See to it that the runs of this process log known errors as one line each."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(f, _Sentences) for f in logger.filters):
            logger.addFilter(_Sentences())
