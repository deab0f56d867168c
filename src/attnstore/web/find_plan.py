"""The parts in which a question of the field Find is answered: runs, and in each some heads or some blocks.

Each part is a query of its own, of a bounded number of weights, so that first answers come while later parts are
computed, and each stays within the limits of one query.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from attnstore.web import find_names, find_question, find_runs, find_sql
from attnstore.web.find_question import Question
from attnstore.web.run_records import Row
from attnstore.web.site import Site

BUDGET = 120_000_000
"""Weights that one part reads: about a second of two cores."""
PER_HEAD, PER_DATASET, PER_PAGE = 8, 12, 48
"""Answers shown of each head, of each dataset, and on a page of one head or dataset."""
MOST = 960
"""Answers of one head that can be paged through."""


@dataclass(frozen=True)
class Plan:
    """How a question is answered.

    Attributes:
        sql: The query of each part.
        parts: By part its run, dataset, what of it is asked in words, and the values of its parameters as texts.
        single: Whether all answers are of one head, or of one dataset, so that they come a page at a time.
        paired: Whether answers are weights from one word to another; False for what a word receives.
        meaning: What was understood, in words.
    """

    sql: str
    parts: list[dict[str, Any]]
    single: bool
    paired: bool
    meaning: str


def plan(site: Site, question: Question, page: int) -> Plan:
    """Return the parts of a question.

    Raises:
        UsageError: A name or filter fits nothing that the store holds.
    """
    names = find_names.of(site.store)
    question = find_names.resolved(question, names)
    link = find_names.linking(question, names)
    sql, given = find_sql.of(question, link)
    runs = find_runs.of(site, question, link)
    given |= _limits(question)
    of_maps = question.over is not None
    left_out: list[str] = []
    if not of_maps:
        runs, left_out = find_runs.largest(site, question, runs)
    single = len(runs) == 1 and (not of_maps or find_runs.n_heads(question, runs[0]) == 1)
    shown = PER_PAGE if single else PER_HEAD if of_maps else PER_DATASET
    most = min(page * shown, MOST) if of_maps else shown
    skip = {} if of_maps else {"skip": str((page - 1) * shown if single else 0)}
    alone = of_maps and question.sent is None and link is None
    parts = []
    for run in runs:
        labels = find_runs.labels(question, run["dataset"], site)
        for about, values in _parts_of(question, run, alone) if of_maps else [("", {})]:
            values = {"first": "0", "last": str(10**9), **values}
            params = (
                given | values | skip | {"run": run["run"], "most": str(most), "labels": labels}
            )
            parts.append(
                {"run": run["run"], "dataset": run["dataset"], "about": about, "params": params}
            )
    return Plan(sql, parts, single, not alone, _meaning(question, link, left_out))


def _meaning(question: Question, link: str | None, left_out: list[str]) -> str:
    said = find_names.in_words
    parts = [f"inputs with {said(term)}" for term in question.having]
    if question.received is not None and question.over is not None:
        over = f"{question.over:g}"
        if question.sent is not None:
            joined = f", joined by a link {link}" if link else ""
            what = f"weight above {over} from {said(question.sent)} to {said(question.received)}{joined}"
        elif link is not None:
            ends = ("to", "from") if "direction" in question.filters else ("from", "to")
            what = f"weight above {over} {ends[0]} a word {ends[1]} the one that {said(question.received)} links it to"
        else:
            what = (
                f"mean weight above {over} from all tokens of an input to {said(question.received)}"
            )
        parts.insert(0, what)
    parts += [f"{name} {value}" for name, value in question.filters.items() if name != "direction"]
    text = "; ".join(parts)
    return " ".join([f"{text[:1].upper()}{text[1:]}.", *left_out])


def _limits(question: Question) -> dict[str, str]:
    low, high = 0, 10**9
    if "length" in question.filters:
        low, high = find_question.numbers("length", question.filters["length"])
    return {"shortest": str(low), "longest": str(high)}


def _parts_of(question: Question, run: Row, alone: bool) -> Iterator[tuple[str, dict[str, str]]]:
    """Divide the heads of a run into parts, or the blocks of each head where one head is too many weights."""
    layers, heads = find_runs.heads(question, run)
    cells = run["n_weights"] // (run["n_layers"] * run["n_heads"])
    at_once = BUDGET // max(run["n_tokens"] if alone else cells, 1)
    blocks = run["n_blocks"]
    step = blocks if at_once else max(blocks * BUDGET // cells, 1)
    groups = _groups(layers, heads, max(at_once, 1))
    for some_layers, some_heads in groups:
        about = f"layer {_span(some_layers)}, head {_span(some_heads)}"
        for first in range(0, blocks, step):
            yield about, {
                "layers": json.dumps(some_layers), "low": str(some_heads[0]), "high": str(some_heads[-1]),
                "first": str(first), "last": str(first + step - 1),
            }  # fmt: skip


def _groups(
    layers: list[int], heads: list[int], at_once: int
) -> Iterator[tuple[list[int], list[int]]]:
    if not heads:
        return
    if at_once >= len(heads):
        step = at_once // len(heads)
        yield from ((layers[i : i + step], heads) for i in range(0, len(layers), step))
        return
    n = -(-len(heads) // at_once)
    step = -(-len(heads) // n)
    for layer in layers:
        yield from (([layer], heads[i : i + step]) for i in range(0, len(heads), step))


def _span(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
