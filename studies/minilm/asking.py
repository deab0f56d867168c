"""Ask the store everything, and gather the answers as the numbers of the pages.

An answer about runs of the base model is kept beside the store: those runs never change, so a further training costs no second
answer about trees.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import time
from collections import defaultdict
from importlib.metadata import version
from typing import Any

import polars as pl

import attnstore
from attnstore.errors import AttnstoreError
from attnstore.query import analyses
from attnstore.store import Store
from studies.minilm import answers, checking, grid
from studies.minilm.filling import Place
from studies.minilm.grid import Sources
from studies.minilm.questions import ENSEMBLES, HEADS, TABLES, Question

_UNSHOWN = frozenset(
    ["interval", "js", "js_low", "js_high", "js_interval", "note", "clark_label", "breadth_low", "breadth_high", "breadth_interval", "unequal_low", "unequal_high", "unequal_interval", "difference_interval", "baseline_interval", "baseline_low", "baseline_high", "string_match", "head_match", "sieve", "distance_even", "distance_odd", "period", "period_low", "period_high", "comma", "comma_low", "comma_high", "relative", "value_norm", "token", "token_share"]
)  # fmt: skip
"""Columns that no page shows."""


def ask(place: Place, sources: Sources) -> dict[str, Any]:
    """Return all numbers, and write them to OUT/numbers.json.

    Args:
        place: Where the study lies.
        sources: Where the data lies.
    """
    with attnstore.open(place.store) as store:
        asked = Asked(store, place)
        runs = set(store.sql("SELECT run FROM runs")["run"])
        heads, ensembles, tables = (
            [question for question in group if grid.run(question.dataset) in runs]
            for group in (HEADS, ENSEMBLES, TABLES)
        )
        numbers = {
            "measured": _measured(),
            "times": _times(place),
            "runs": answers.runs(store),
            "heads": [asked.summary(question) for question in heads],
            "ensembles": [asked.summary(question) for question in ensembles],
            "tables": {question.key: asked.tables(question) for question in tables},
            "measures": answers.measures(store),
            "trained": answers.trained(store),
            "classifiers": answers.classifiers(store),
            "left_out": asked.refused,
        }
    numbers["checks"] = checking.check(place, sources, numbers)
    file = place.out / "numbers.json"
    file.write_text(as_text(numbers), "utf-8")
    return json.loads(file.read_text("utf-8"))


def as_text(numbers: dict[str, Any]) -> str:
    """Return the content of numbers.json: five digits that count, a row a line, without what no page shows."""
    text = json.dumps(_rounded(numbers), indent=1)
    return re.sub(r"\{[^{}]*\}", lambda row: re.sub(r"\n\s*", " ", row.group()), text) + "\n"


class Asked:
    """Answers about runs of the base model, each asked of the store once.

    Attributes:
        refused: Why the store has no answer, by question.
    """

    def __init__(self, store: Store, place: Place) -> None:
        self._store = store
        self._folder = place.out / "answers"
        self._folder.mkdir(exist_ok=True)
        self.refused: dict[str, str] = {}

    def rows(self, question: Question, by: str = "weight") -> pl.DataFrame | None:
        """Return the rows of an answer, or None where the store lacks what it needs."""
        params = {**question.params, "run": grid.run(question.dataset)}
        if question.by:
            params["by"] = by
        file = self._folder / f"{question.analysis}-{_key(self._store, question, params)}.parquet"
        if not file.exists():
            try:
                rows = self._store.query(question.analysis, **params)
            except AttnstoreError as error:
                self.refused[f"{question.key}, by {by}"] = str(error)
                return None
            if rows.is_empty():  # what it is made from may come later
                return rows
            rows.write_parquet(file)
        return pl.read_parquet(file)

    def summary(self, question: Question) -> dict[str, Any]:
        """Return the best row by weight and by norm, beside its baseline and the best of the twins."""
        kinds = ("weight", "norm") if question.by else ("weight",)
        found = {by: self.rows(question, by) for by in kinds}
        return {
            "key": question.key, "analysis": question.analysis, "dataset": question.dataset,
            "unit": question.unit, "command": question.command,
            **{by: _best(rows, question) for by, rows in found.items() if rows is not None and len(rows)},
        }  # fmt: skip

    def tables(self, question: Question) -> dict[str, list[dict[str, Any]]]:
        """Return all rows by weight and by norm."""
        kinds = ("weight", "norm") if question.by else ("weight",)
        found = {by: self.rows(question, by) for by in kinds}
        return {by: rows.to_dicts() for by, rows in found.items() if rows is not None}


def _best(rows: pl.DataFrame, question: Question) -> dict[str, Any] | None:
    """Return the row of the largest value, how many are above, and the highest value of a twin."""
    for column, wanted in question.where.items():
        rows = rows.filter(pl.col(column).eq_missing(pl.lit(wanted)))
    rows = rows.drop_nulls(question.value).sort(question.value, descending=True)
    if not len(rows):
        return None
    row = rows.row(0, named=True)
    low, high = question.interval
    twins = rows["random_high"].max() if question.band and "random_high" in rows.columns else None
    return {
        "place": answers.place(row), "value": row[question.value], "low": row.get(low), "high": row.get(high),
        "n": row.get("n"), "baseline": row.get(question.baseline) if question.baseline else None,
        "q": row.get("q"), "of": len(rows), "above": _above(rows), "twins": twins,
        **({"twins_of": question.twins} if question.twins else {}),
    }  # fmt: skip


def _above(rows: pl.DataFrame) -> int | None:
    """Return how many rows are above their baseline, are sinks or without effect, with q below 0.05; None without a test."""
    for column in ("above", "sink", "no_op"):
        if column in rows.columns:
            return int(rows[column].sum())
    if "q" in rows.columns and "difference" in rows.columns:
        return len(rows.filter((pl.col("q") < 0.05) & (pl.col("difference") > 0)))
    return None


def _key(store: Store, question: Question, params: dict[str, object]) -> str:
    """Return what an answer depends on, as a name: the question, its SQL, its runs and annotations."""
    runs = store.sql(
        "SELECT run, stored FROM runs WHERE dataset = $dataset AND starts_with(run, $model || '/') "
        "OR dataset = $dataset AND starts_with(run, $model || '-random-') ORDER BY run",
        dataset=question.dataset,
        model=grid.MODEL,
    )
    notes = store.sql(
        "SELECT source, kind, count(*) AS n FROM spans WHERE dataset = $dataset GROUP BY ALL ORDER BY ALL",
        dataset=question.dataset,
    )
    sql = analyses.find(question.analysis).sql
    about = [version("attnstore"), question.analysis, sql, params, runs.rows(), notes.rows()]
    text = json.dumps(about, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _measured() -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": platform.machine(),
        "attnstore": version("attnstore"),
    }


def _times(place: Place) -> list[dict[str, Any]]:
    """Return what the steps of each part took, in hours."""
    parts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for file in sorted(place.times.glob("*.json")):
        record = json.loads(file.read_text("utf-8"))
        parts[record["part"]].append(record)
    return [
        {
            "part": part,
            "steps": len(records),
            "processor": sum(r["processor"] for r in records) / 3600,
            "wall": sum(r["wall"] for r in records) / 3600,
            "seconds": {r["name"]: r["processor"] for r in records},
        }
        for part, records in parts.items()
    ]


def _rounded(value: Any) -> Any:
    """Return numbers with five digits that count, and dates as text."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if value == value else None
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items() if name not in _UNSHOWN}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)
