"""The listing of fragments with which the index was last found current, so that opening a store opens no database.

`index.listing` holds a checksum over the seal of the index, its schema and the path, size and time of every
file of fragments; of a bundle of them no directory is read. It is written where nothing was left to load, to
drop or to report, so nothing is either while the checksum is the same. The seal holds the ctime of the index,
so the file of a copied store counts for nothing.
"""

from __future__ import annotations

import contextlib
import hashlib

from attnstore.errors import StoreError
from attnstore.storage import files, fragments, index_schema
from attnstore.storage.backend import Backend

FILE = "index.listing"


def fingerprint(backend: Backend, stamp: str) -> str:
    """Compute the checksum.

    Args:
        backend: The store.
        stamp: The seal of its index; empty for the state of the fragments alone.
    """
    listed = (f for f in backend.files(fragments.FOLDER) if f.path.endswith(".parquet"))
    rows = sorted((f.path, f.bytes, f.modified) for f in listed)
    text = repr((stamp, index_schema.version(), rows))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def is_kept(backend: Backend, fingerprint: str) -> bool:
    """Return True if the index was found current with these fragments."""
    try:
        return (backend.root / FILE).read_text("ascii") == fingerprint
    except (OSError, ValueError):
        return False


def keep(backend: Backend, fingerprint: str) -> None:
    """Keep that the index is current with these fragments, where the folder can be written."""
    with contextlib.suppress(StoreError):
        files.write_file(backend.root / FILE, fingerprint.encode())
