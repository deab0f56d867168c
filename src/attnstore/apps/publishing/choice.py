"""What of a run is published: its record, its inputs, and the measures and analyses of its heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from attnstore.display import standalone
from attnstore.errors import UsageError
from attnstore.naming import whole_number
from attnstore.web import measures
from attnstore.web.served_store import ServedStore

EXAMPLES = 6
"""Inputs that are published by default."""
LONGEST = 64
"""Tokens of the longest input that is chosen; one that is named may be longer."""


def inputs(
    store: ServedStore, run: dict[str, Any], examples: Sequence[int] | int
) -> list[dict[str, Any]]:
    """Return inputs with their texts: example, length, text, text_pair, label.

    Args:
        store: The store.
        run: The run.
        examples: The inputs, or how many: those at evenly spaced ranks of length, from the shortest to
            the longest of at most LONGEST tokens.

    Raises:
        UnknownNameError: The run does not hold one of them.
        UsageError: One is too long for a document, or the number is negative.
    """
    every = store.ask(
        "SELECT i.example, i.length, e.text, e.text_pair, e.label FROM inputs i "
        "JOIN examples e USING (dataset, example) JOIN blocks b USING (run, block) "
        "WHERE i.run = $run ORDER BY i.length, i.example",
        run=run["run"],
    )
    if isinstance(examples, int):
        if examples < 0:
            raise UsageError(f"The number of examples is {examples}; give 0 or more.")
        short = every.filter(pl.col("length") <= LONGEST)
        n = min(examples, short.height)
        ranks = sorted({round(i * (short.height - 1) / max(n - 1, 1)) for i in range(n)})
        return short[ranks].to_dicts()
    rows = {row["example"]: row for row in every.iter_rows(named=True)}
    chosen = [whole_number("example", e) for e in dict.fromkeys(examples)]
    for example in chosen:
        if example not in rows:
            store.current.view(run["run"], example)  # raises the sentence about it
        weights = len(run["layers"]) * len(run["heads"]) * rows[example]["length"] ** 2
        standalone.require_room(f"{run['run']}, example {example}", weights)
    return [rows[example] for example in chosen]


def measured(
    store: ServedStore, run: dict[str, Any], analyses: Sequence[str] | None
) -> list[measures.Choice]:
    """Return the measures of maps, and analyses that have a value for each head.

    Args:
        store: The store.
        run: The run.
        analyses: Their names; None for those whose answer about the run the store keeps.

    Raises:
        UnknownNameError: There is no such analysis.
        UsageError: One has no value per head of a run alone.
    """
    choices = measures.choices(store)
    by_name = {name(c): c for c in choices if c.group == "Analyses"}
    always = [c for c in choices if c.group != "Analyses" and _has_values(store, run, c)]
    if analyses is None:
        return always + [c for c in by_name.values() if measures.is_quick(store, run["run"], c, {})]
    for wanted in analyses:
        store.current.named_analyses.find(wanted)
        if wanted not in by_name:
            raise UsageError(
                f"{wanted} has no value for each head of a run alone; those that have: {', '.join(by_name)}."
            )
    return always + [by_name[wanted] for wanted in dict.fromkeys(analyses)]


def name(choice: measures.Choice) -> str:
    """Return the name of a measure or an analysis, as SQL has it."""
    return choice.key.rpartition(":")[2]


def _has_values(store: ServedStore, run: dict[str, Any], choice: measures.Choice) -> bool:
    return bool(measures.grid(store, run, choice, {}).cells)
