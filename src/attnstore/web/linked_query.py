"""The query behind the linked pictures of a run: one for all of them, over the stored measures of its maps.

Each picture shows what the others select, and not its own part of the selection, so that it can be
changed: the histogram of lengths has the inputs of the selected values and labels, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnstore.query.sql_text import identifier, literal
from attnstore.web.chart_bins import BINS
from attnstore.web.measures import MEASURED, SHARES
from attnstore.web.selections import Range, Selection

MOST_LABELS = 12
"""Labels that are shown, the commonest first."""
_KEPT = ("in_value", "in_length", "in_labels", "in_inputs", "in_text")

_QUERY = """
WITH per_map AS (
    SELECT example, layer, head, length, {measure} AS value FROM {view} WHERE run = $run
), per_input AS MATERIALIZED (
    SELECT example, any_value(length) AS length, avg(value) AS value FROM per_map WHERE {heads} GROUP BY example
), bounds AS MATERIALIZED (
    SELECT min(value) AS low, max(value) AS high, min(length) AS shortest, max(length) AS longest, count(*) AS inputs,
           corr(value, length) AS follows, greatest(ceil((max(length) - min(length) + 1) / {bins}), 1)::INTEGER AS step
    FROM per_input
), marked AS MATERIALIZED (
    SELECT p.example, p.length, p.value, e.label,
           if(high > low, least(floor((value - low) / (high - low) * {bins}), {bins} - 1), 0)::INTEGER AS value_bin,
           ((p.length - shortest) // step)::INTEGER AS length_bin,
           {value} AS in_value, {length} AS in_length, {labels} AS in_labels, {inputs} AS in_inputs, {text} AS in_text
    FROM per_input p JOIN idx.core.examples e ON e.dataset = $dataset AND e.example = p.example, bounds
), chosen AS MATERIALIZED (
    SELECT example FROM marked WHERE {all}
)
SELECT (SELECT bounds FROM bounds) AS bounds,
       (SELECT count(*) FROM chosen) AS n,
       (SELECT list(g ORDER BY layer, head) FROM (
            SELECT layer, head, count(value) AS n, unnest(mean_interval(value, source, 0, {most}))
            FROM per_map JOIN chosen USING (example)
            JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
            GROUP BY layer, head
       ) g) AS grid,
       (SELECT list(v ORDER BY bin) FROM (
            SELECT value_bin AS bin, count(*) AS inputs, count(*) FILTER ({without_value}) AS chosen
            FROM marked WHERE value IS NOT NULL GROUP BY bin
       ) v) AS "values",
       (SELECT list(l ORDER BY bin) FROM (
            SELECT length_bin AS bin, count(*) AS inputs, count(*) FILTER ({without_length}) AS chosen FROM marked GROUP BY bin
       ) l) AS lengths,
       (SELECT list(t ORDER BY inputs DESC, label) FROM (
            SELECT label, count(*) AS inputs, count(*) FILTER ({without_labels}) AS chosen
            FROM marked WHERE label IS NOT NULL GROUP BY label ORDER BY inputs DESC, label LIMIT {most_labels}
       ) t) AS labels,
       (SELECT list(r ORDER BY example) FROM (
            SELECT example, value FROM marked WHERE {without_inputs} ORDER BY example LIMIT {limit} OFFSET {offset}
       ) r) AS "rows",
       (SELECT count(*) FROM marked WHERE {without_inputs}) AS listed
"""


def text(
    run: Mapping[str, Any], measure: str, selection: Selection, find: str, limit: int, offset: int
) -> tuple[str, dict[str, str]]:
    """Return the query and its parameters.

    Args:
        run: The record of the run.
        measure: A column of `map_measures`.
        selection: What is selected.
        find: Inputs have this in their texts; '' for all.
        limit, offset: The inputs to list, by number.
    """
    without = {f"without_{part[3:]}": _all(part) for part in _KEPT}
    filled = _QUERY.format(
        measure=identifier(measure), view=MEASURED, bins=BINS, most_labels=MOST_LABELS,
        most=1 if measure in SHARES else "NULL", heads=_heads(selection),
        **_conditions(selection, "$find" if find else ""),
        all=_all(), limit=int(limit), offset=int(offset), **without,
    )  # fmt: skip
    params = {"run": run["run"], "dataset": run["dataset"], "find": find}
    return filled, {name: value for name, value in params.items() if f"${name}" in filled}


def recipe(run: Mapping[str, Any], measure: str, selection: Selection, find: str) -> str:
    """Return the mean of a measure over the selected inputs, by head, as SQL for a reader."""
    name, of_run = identifier(measure), f"run = {literal(run['run'])}"
    conditions = [
        c for c in _conditions(selection, literal(find) if find else "").values() if c != "true"
    ]
    chosen = "\n      AND ".join(conditions or ["true"])
    heads = "" if selection.heads is None else f" AND {_heads(selection)}"
    return (
        f"SELECT layer, head, avg({name}) AS mean, count({name}) AS n\nFROM {MEASURED}\nWHERE {of_run} AND example IN (\n"
        f"    SELECT p.example\n    FROM (\n        SELECT example, any_value(length) AS length, avg({name}) AS value\n"
        f"        FROM {MEASURED} WHERE {of_run}{heads} GROUP BY example\n    ) p\n"
        f"    JOIN examples e ON e.dataset = {literal(run['dataset'])} AND e.example = p.example\n"
        f"    WHERE {chosen}\n)\nGROUP BY layer, head\nORDER BY layer, head"
    )


def _conditions(selection: Selection, find: str) -> dict[str, str]:
    """Return the condition of each part of a selection on inputs. find: a text as SQL has it, '' for none."""
    return {
        "value": _within("p.value", selection.value),
        "length": _within("p.length", selection.length),
        "labels": _among("e.label", selection.labels, literal),
        "inputs": _among("p.example", selection.inputs, str),
        "text": f"(contains(lower(e.text), lower({find})) OR coalesce(contains(lower(e.text_pair), lower({find})), false))"
        if find
        else "true",
    }


def _all(but: str = "") -> str:
    return " AND ".join(part for part in _KEPT if part != but)


def _heads(selection: Selection) -> str:
    if selection.heads is None:
        return "true"
    pairs = ", ".join(f"({layer}, {head})" for layer, head in sorted(selection.heads))
    return f"(layer, head) IN ({pairs})"


def _within(column: str, ends: Range | None) -> str:
    """Return the condition of a range; false for an input without the number."""
    if ends is None:
        return "true"
    return f"coalesce({column} BETWEEN {ends[0]!r}::DOUBLE AND {ends[1]!r}::DOUBLE, false)"


def _among(column: str, values: tuple[Any, ...] | None, written: Any) -> str:
    if values is None:
        return "true"
    return (
        f"coalesce({column} IN ({', '.join(map(written, values))}), false)" if values else "false"
    )
