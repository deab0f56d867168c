"""attnstore: run BERT once, keep every attention map, ask in SQL.

store = attnstore.open("storage")
store.sql("SELECT layer, head, avg(entropy) FROM map_stats GROUP BY ALL")
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from attnstore import extras
from attnstore.store import Store, open

if TYPE_CHECKING:
    from attnstore.capture.ingestion import ingest
    from attnstore.capture.look import look

logging.getLogger(__name__).addHandler(
    logging.NullHandler()
)  # an application decides what is heard

__all__ = ["Store", "ingest", "look", "open"]


def __getattr__(name: str) -> Any:
    """Import what runs models when it is first used: readers do not pay for the write side."""
    if name not in ("ingest", "look"):
        raise AttributeError(f"module 'attnstore' has no attribute {name!r}")
    extras.require("torch", "transformers")
    if name == "ingest":
        from attnstore.capture.ingestion import ingest

        return ingest
    from attnstore.capture.look import look

    return look
