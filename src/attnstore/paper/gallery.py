"""The figures of the paper by name, over a store.

    draw(store, "frame_heads").figure

A public function of `paper_tasks`, `paper_heads`, `paper_scores` or `paper_ablations` is a figure;
their order is the report's.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import polars as pl

from attnstore.errors import UnknownNameError, UsageError
from attnstore.naming import near
from attnstore.paper import ablations, heads, scores, tasks
from attnstore.plotting.drawings import Drawing

if TYPE_CHECKING:
    from attnstore.store import Store

Builder = Callable[..., Drawing]

BUILDERS: dict[str, Builder] = {
    builder.__name__: builder
    for builder in (
        tasks.pattern_examples,
        tasks.pattern_shares,
        tasks.pattern_by_head,
        heads.frame_heads,
        tasks.drift,
        scores.table1,
        scores.scores_over_steps,
        tasks.special_tokens,
        tasks.feature_attention,
        tasks.cls_attention,
        heads.token_pairs,
        ablations.disabled_heads,
        ablations.disabled_layers,
        heads.word_match,
        heads.head_types,
        heads.head_entropy,
    )
}
"""Every figure by name, in the order of the paper's sections."""


def title(name: str) -> str:
    """What a figure shows, on one line."""
    return str(inspect.getdoc(BUILDERS[name])).split("\n")[0].rstrip(".")


def choices(name: str) -> dict[str, object]:
    """What a figure can be asked for besides the store, with its defaults."""
    parameters = list(inspect.signature(BUILDERS[name]).parameters.values())[1:]
    return {p.name: p.default for p in parameters}


def listing() -> pl.DataFrame:
    """Every figure: name, title, and its choices with their defaults."""
    rows = [
        (name, title(name), ", ".join(f"{k}={json.dumps(v)}" for k, v in choices(name).items()))
        for name in BUILDERS
    ]
    return pl.DataFrame(
        rows, schema=dict.fromkeys(("name", "title", "parameters"), pl.String), orient="row"
    )


def draw(store: Store, name: str, /, **given: object) -> Drawing:
    """A figure of a store.

    Raises UnknownNameError (no such figure or run), UsageError (no such choice) or NothingToDraw,
    whose sentence names the command that supplies what the store lacks.
    """
    if name not in BUILDERS:
        raise UnknownNameError(
            f"There is no figure {name!r}{near(name, BUILDERS) or '; there are ' + ', '.join(BUILDERS)}"
        )
    for choice in given:
        if choice not in (known := choices(name)):
            raise UsageError(
                f"Figure {name} has no parameter {choice!r}"
                f"{near(choice, known) or '; it takes ' + ', '.join(known)}"
            )
    return BUILDERS[name](store, **given)
