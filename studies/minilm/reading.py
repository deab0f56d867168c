"""The numbers of the study as its pages take them: rows by name, and numbers as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]
NOTHING = "–"


class Numbers:
    """The content of numbers.json. What was not measured is an empty row, which shows as a dash.

    Args:
        content: The content of numbers.json.
        earlier: Numbers of an earlier measurement, for tasks that this one lacks.
    """

    def __init__(self, content: dict[str, Any], earlier: dict[str, Any]) -> None:
        self.content, self.earlier = content, earlier

    def best(self, key: str, by: str = "weight") -> Row:
        """Return the best row of a question about heads."""
        for row in (*self.content["heads"], *self.content["ensembles"]):
            if row["key"] == key:
                return row.get(by) or {}
        return {}

    def rows(self, key: str, by: str = "weight", **keys: Any) -> list[Row]:
        """Return rows of a table whose columns have these values."""
        return where(self.content["tables"].get(key, {}).get(by, []), **keys)

    def row(self, key: str, by: str = "weight", **keys: Any) -> Row:
        """Return the first such row, or none."""
        return next(iter(self.rows(key, by, **keys)), {})

    def ensembles(self) -> list[Row]:
        """Return the rows of ensembles, of each relation that was asked."""
        tables = self.content["tables"]
        return [
            row for key in tables if key.startswith("head_ensembles-") for row in self.rows(key)
        ]

    def trained(self, task: str, analysis: str) -> list[Row]:
        """Return rows of an analysis of the last checkpoint of a task."""
        return self.content["trained"].get(task, {}).get(analysis) or []

    def disabled(self, task: str, analysis: str = "disabled_sets") -> list[Row]:
        """Return rows of an analysis of a task's classifier without heads."""
        return self.content["classifiers"]["disabled"].get(task, {}).get(analysis) or []

    def without_head(self, task: str) -> list[Row]:
        """Return what a task's classifier scores without each single head, the costliest first."""
        rows = [row for row in self.disabled(task) if row["n_disabled"] == 1]
        return sorted(rows, key=lambda row: (row["difference"], row["setting"]))

    def classifiers(self, analysis: str, **keys: Any) -> list[Row]:
        """Return rows of an analysis of classifiers."""
        return where(self.content["classifiers"].get(analysis, []), **keys)

    def pruned(self) -> list[Row]:
        """Return the searches for heads that can go, else the earlier one, which has a date."""
        own = self.classifiers("pruned_sets")
        earlier = self.earlier.get("pruned")
        return own or ([earlier] if earlier else [])


def where(rows: Iterable[Row], **keys: Any) -> list[Row]:
    """Return the rows whose columns have these values."""
    return [row for row in rows if all(row.get(name) == value for name, value in keys.items())]


def number(value: Any, digits: int = 2) -> str:
    """Return a number with that many digits after the point."""
    if not isinstance(value, int | float):
        return NOTHING
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.replace("-", "")


def percent(value: Any, digits: int = 1) -> str:
    """Return a share in per cent, without the sign."""
    return number(value * 100, digits) if isinstance(value, int | float) else NOTHING


def whole(value: Any) -> str:
    """Return a count with commas."""
    return f"{value:,.0f}" if isinstance(value, int | float) else NOTHING


def interval(row: Row, value: str = "mean", scale: float = 1, digits: int = 3) -> str:
    """Return a value and its interval, as 0.123 [0.120, 0.126]."""
    low, high = ("low", "high") if value in ("mean", "value") else (f"{value}_low", f"{value}_high")
    if value == "difference" and low not in row:
        low, high = "low", "high"
    ends = [row.get(name) for name in (value, low, high)]
    if ends[0] is None:
        return NOTHING
    shown = [number(None if end is None else end * scale, digits) for end in ends]
    return shown[0] if ends[1] is None else f"{shown[0]} [{shown[1]}, {shown[2]}]"


def p_value(value: Any) -> str:
    """Return a p or q value: three digits, or below 0.001."""
    if not isinstance(value, int | float):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def signed(value: Any, digits: int = 1, scale: float = 1) -> str:
    """Return a difference with its sign."""
    text = number(value * scale, digits) if isinstance(value, int | float) else NOTHING
    return text if text in (NOTHING,) or text.startswith("−") else f"+{text}"


_TITLES = {
    "mrpc": "MRPC",
    "rte": "RTE",
    "sst2": "SST-2",
    "stsb": "STS-B",
    "ewt": "EWT",
    "gap": "GAP",
}


def title(name: str) -> str:
    """Return a task or dataset as it is written."""
    return _TITLES.get(name, name)
