"""What the columns of a result are: values, what tells rows apart, and the ends of intervals.

By their names and types, and by the header of the analysis whose result it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from attnstore.query.analysis_file import Analysis

ACROSS = ("step", "layer", "position", "distance", "offset", "length", "epoch", "from_pos", "to_pos", "example")  # fmt: skip
"""Keys that a line may run along, the first that is there."""
_KEYS = {*ACROSS, "head", "seed", "rank", "epochs", "n_train", "learning_rate", "k", "bin", "year"}
VALUES = ("mean", "score", "weight", "value", "share", "kappa", "stability", "js", "difference")
_EXAMINED = 20_000  # rows that tell which columns are keys


@dataclass(frozen=True)
class Field:
    """A column of a result. kind: number, whole, text, truth or time; text, unit: of its header."""

    name: str
    kind: str
    text: str = ""
    unit: str = ""

    @property
    def numeric(self) -> bool:
        """True for a column of numbers."""
        return self.kind in ("number", "whole")

    @property
    def title(self) -> str:
        """The name with its unit, for an axis."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


def fields_of(schema: Mapping[str, pl.DataType], analysis: Analysis | None) -> dict[str, Field]:
    """Describe the columns that a chart can show, by name; analysis: whose result it is."""
    about = {c.name: c for c in analysis.columns} if analysis else {}
    fields = {}
    for name, dtype in schema.items():
        kind = _kind(dtype)
        if kind is not None:
            text, unit = (about[name].text, about[name].unit) if name in about else ("", "")
            fields[name] = Field(name, kind, text, unit)
    return fields


def _kind(dtype: pl.DataType) -> str | None:
    if dtype.is_integer():
        return "whole"
    if dtype.is_numeric():
        return "number"
    if dtype == pl.Boolean:
        return "truth"
    if dtype.is_temporal() and dtype not in (pl.Duration, pl.Time):
        return "time"
    return "text" if dtype in (pl.String, pl.Categorical, pl.Enum) else None


def ends(fields: Mapping[str, Field]) -> dict[str, str]:
    """Return the column of upper ends for each of lower ends: low and high, js_low and js_high."""
    pairs = {n: n.removesuffix("low") + "high" for n in fields if n == "low" or n.endswith("_low")}
    return {low: high for low, high in pairs.items() if high in fields}


def interval_of(fields: Mapping[str, Field], value: str) -> str | None:
    """Return the column of lower ends of a value: its own, or the ones that follow it."""
    pairs = ends(fields)
    if f"{value}_low" in pairs:
        return f"{value}_low"
    if "low" not in pairs:
        return None
    names = [n for n in fields if n == "low" or (fields[n].numeric and not _is_end(n))]
    before = names[: names.index("low")]
    return "low" if before and before[-1] == value else None


def _is_key(field: Field) -> bool:
    """Return True for numbers that count or place rows; a mean of distances is a value."""
    always = ("step", "epoch", "layer", "head", "learning_rate")
    return field.name in _KEYS and (field.kind == "whole" or field.name in always)


def _is_end(name: str) -> bool:
    return name.rpartition("_")[2] in ("low", "high")


def _is_test(name: str) -> bool:
    return name.rpartition("_")[2] in ("p", "q", "interval")


def _is_count(name: str) -> bool:
    return name in ("n", "heads", "inputs", "seeds", "others") or name.startswith(("n_", "of_"))


def values_of(fields: Mapping[str, Field], analysis: Analysis | None) -> list[str]:
    """Return the columns of values, the likeliest to be asked about first."""
    main = [analysis.band.column] if analysis and analysis.band else []
    names = [
        f.name
        for f in fields.values()
        if f.numeric and not (_is_end(f.name) or _is_test(f.name) or _is_key(f))
    ]

    def rank(name: str) -> tuple[int, int]:
        named = [*main, *VALUES]
        field = fields[name]
        if name in named:
            return 0, named.index(name)
        if field.kind == "number":
            return (1 if field.unit else 2), names.index(name)
        return (4 if _is_count(name) else 3), names.index(name)

    return sorted(names, key=rank)


def keys_of(
    fields: Mapping[str, Field], frame: pl.DataFrame, analysis: Analysis | None
) -> list[str]:
    """Return the fewest columns, as they come, that tell the rows of a result apart."""
    main = list(analysis.band.keys) if analysis and analysis.band else []
    others = [n for n, f in fields.items() if _is_key(f)]
    others += [n for n, f in fields.items() if f.kind in ("text", "time") and not _is_test(n)]
    others += [n for n, f in fields.items() if f.kind == "truth"]
    rows = frame.head(_EXAMINED)
    keys: list[str] = []
    told = 1 if len(rows) else 0
    for name in dict.fromkeys([*main, *(n for n in ACROSS if n in others), *others]):
        if name not in fields or told == len(rows):
            continue
        n = rows.select(*keys, name).n_unique()
        if n > told:
            keys, told = [*keys, name], n
    return keys
