"""The labels that make nouns, verbs, pronouns, subjects and objects in a figure of the paper.

The paper's own where a run's annotations have them, so that figures stand beside published ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnstore.store import Store

_NAMES = {
    "as_published": "the labels that the paper names",
    "upos": "universal parts of speech",
    "penn": "Penn's tags",
}


def of_runs(store: Store, runs: Iterable[str], scheme: str | None) -> dict[str, str]:
    """Return the scheme of feature_labels for each run: the one asked for, else the paper's.

    Runs whose annotations have no Penn tags, which the paper's labels are, take upos.
    """
    refused = set(
        store.sql("SELECT run FROM schemes WHERE scheme = 'as_published' AND refusal IS NOT NULL")[
            "run"
        ]
    )
    return {run: scheme or ("upos" if run in refused else "as_published") for run in runs}


def in_words(schemes: dict[str, str]) -> str:
    """Return a sentence for a caption: by which labels words have their features."""
    names = {scheme: _NAMES.get(scheme, scheme) for scheme in schemes.values()}
    if len(names) > 1:
        for scheme, name in names.items():
            names[scheme] = f"{name} ({', '.join(r for r, s in schemes.items() if s == scheme)})"
    return f"Words have their features by {'; '.join(names.values())}."


def of_norms(by: str) -> str:
    """Return what a caption says of a figure by norm; '' by weight."""
    said = (
        " By norm: the weight times the length of the vector that it moves, as a share of its row "
        "(Kobayashi et al. 2020)."
    )
    return said if by == "norm" else ""
