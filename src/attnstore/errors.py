"""What can go wrong, one class per cause, all under `AttnstoreError`.

A message names the thing, the value found and the next step, in one sentence or two; the
command line prints it without a stack trace and exits with code 2.
"""

from __future__ import annotations


class AttnstoreError(Exception):
    """Base of every error that a user can mend."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0]) if self.args else ""


class UsageError(AttnstoreError, ValueError):
    """An option or argument has a value that cannot be used."""


class MissingExtraError(AttnstoreError, ImportError):
    """An optional package is not installed, or cannot be used."""


class ModelError(AttnstoreError, ValueError):
    """A model cannot be found, read, or captured."""


class MemoryShortError(ModelError):
    """A forward pass needs more memory than there is."""


class DatasetError(AttnstoreError, ValueError):
    """A dataset cannot be found or read, or lacks a column."""


class SplitError(DatasetError):
    """A dataset has no such split."""


class CaptureError(AttnstoreError, RuntimeError):
    """A forward pass gave maps that must not be stored (NaN, empty, rows that do not sum to 1)."""


class StoreError(AttnstoreError, OSError):
    """A store cannot be opened or written."""


class BusyError(StoreError):
    """Another process holds what is needed."""


class DamageError(StoreError):
    """Bytes on disk are not what was committed."""


class UnknownNameError(AttnstoreError, KeyError):
    """A run, example, analysis, view or column does not exist."""


class QueryError(AttnstoreError, ValueError):
    """A SQL text cannot be run."""
