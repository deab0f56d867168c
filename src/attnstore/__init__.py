"""attnstore: run BERT once, keep every attention map, ask in SQL.

store = attnstore.open("storage")
store.sql("SELECT layer, head, avg(entropy) FROM map_stats GROUP BY ALL")

A job is a method of the store, or a function here where there is no store yet: `attnstore.ingest(…)`.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnstore.api import Store, doctor, look, open, plan, refresh
    from attnstore.uncertainty.means import mean_interval, mean_test
    from attnstore.uncertainty.permutations import permutation_p
    from attnstore.uncertainty.significance import correlation, mcnemar, q_values, rank_correlation
    from attnstore.verbs import (
        ablate,
        annotate,
        attribute,
        classify,
        compact,
        finetune,
        ingest,
        probe,
        prune,
        recompute,
        report,
    )

logging.getLogger(__name__).addHandler(
    logging.NullHandler()
)  # an application decides what is heard

__all__ = [
    "Store",
    "ablate",
    "annotate",
    "attribute",
    "classify",
    "compact",
    "correlation",
    "doctor",
    "finetune",
    "ingest",
    "look",
    "mcnemar",
    "mean_interval",
    "mean_test",
    "open",
    "permutation_p",
    "plan",
    "probe",
    "prune",
    "q_values",
    "rank_correlation",
    "recompute",
    "refresh",
    "report",
]

_HOMES = {
    "api": ("Store", "doctor", "look", "open", "plan", "refresh"),
    "uncertainty.means": ("mean_interval", "mean_test"),
    "uncertainty.permutations": ("permutation_p",),
    "uncertainty.significance": ("correlation", "mcnemar", "q_values", "rank_correlation"),
    "verbs": (
        "ablate",
        "annotate",
        "attribute",
        "classify",
        "compact",
        "finetune",
        "ingest",
        "probe",
        "prune",
        "recompute",
        "report",
    ),
}
"""The module of each name, imported when the name is first used: `attnstore --help` needs none of them."""


def __getattr__(name: str) -> Any:
    """Import what the package offers under a name."""
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"{__name__}.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
