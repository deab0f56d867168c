"""What a chart shows: kind, axes, color, facets and interval, chosen by the columns or in the address.

The first choice comes from the names, types and units of a result's columns: a value over what tells
its rows apart. `charts` draws a choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from attnstore.errors import UsageError
from attnstore.naming import near
from attnstore.query.analysis_file import Analysis
from attnstore.web.chart_columns import ACROSS, VALUES, Field, interval_of, keys_of, values_of

KINDS = ("lines", "bars", "heatmap", "scatter", "histogram")
_SEVERAL = 6  # values that are drawn at once
MOST_SERIES, MOST_FACETS = 24, 12


@dataclass(frozen=True)
class Choice:
    """A chart. Columns by name; y: several are drawn as series; interval: the column of lower ends."""

    kind: str
    x: str | None = None
    y: tuple[str, ...] = ()
    color: tuple[str, ...] = ()
    facet: str | None = None
    interval: str | None = None


class Chooser:
    """First choices for a result.

    Args:
        fields: Its columns.
        frame: Its rows.
        analysis: Whose result it is, or None.
    """

    def __init__(
        self, fields: Mapping[str, Field], frame: pl.DataFrame, analysis: Analysis | None
    ) -> None:
        self.fields, self.frame = fields, frame
        self.values = values_of(fields, analysis)
        self.keys = keys_of(fields, frame, analysis)
        self._whole = analysis is None

    def kind(self) -> str:
        """Return the kind of chart that suits the result."""
        if {"layer", "head"} <= set(self.keys):
            return "heatmap"
        if self._across():
            return "lines"
        if self.keys:
            return "bars"
        return "scatter" if len(self.values) > 1 else "histogram"

    def first(self, kind: str) -> Choice:
        """Return the first choice of a kind of chart.

        Raises:
            UsageError: The result has no column of numbers.
        """
        if not any(f.numeric for f in self.fields.values()):
            raise UsageError(
                "The result has no column of numbers, so there is nothing to draw; select one."
            )
        made: dict[str, Choice] = {
            "lines": self._lines(), "bars": self._bars(), "heatmap": self._heatmap(),
            "scatter": self._scatter(), "histogram": self._histogram(),
        }  # fmt: skip
        choice = made[kind]
        if len(choice.y) == 1 and kind in ("lines", "bars"):
            value = choice.y[0] if self.fields[choice.y[0]].numeric else choice.x
            return replace(choice, interval=interval_of(self.fields, value or ""))
        if kind == "bars" and choice.x is not None and self.fields[choice.x].numeric:
            return replace(choice, interval=interval_of(self.fields, choice.x))
        return choice

    def _value(self) -> str:
        numbers = [n for n, f in self.fields.items() if f.numeric]
        return self.values[0] if self.values else numbers[-1]

    def _several(self) -> tuple[str, ...]:
        """Return the values to draw: all averages of a query, the main one of an analysis."""
        averages = [n for n in self.values if self.fields[n].kind == "number"]
        if self._whole and len(averages) > 1 and averages[0] not in VALUES:
            return tuple(averages[:_SEVERAL])
        return (self._value(),)

    def _across(self) -> str | None:
        return next((n for n in ACROSS if n in self.keys and self.fields[n].numeric), None)

    def _split(self, used: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
        """Share out the keys that are left: over colors, facets, and colors again."""
        rest = [n for n in self.keys if n not in used]
        sizes = {n: self.frame[n].n_unique() for n in rest}
        rest.sort(key=lambda n: (self.fields[n].numeric, n == "run"))
        if not rest:
            return (), None
        color, *others = rest
        facet = next((n for n in others if sizes[n] <= MOST_FACETS), None)
        return (color, *(n for n in others if n != facet)), facet

    def _lines(self) -> Choice:
        y = self._several()
        numbers = [n for n, f in self.fields.items() if f.numeric and n not in y]
        x = self._across() or next(iter([*self.keys, *numbers]), y[0])
        return Choice("lines", x, y, *self._split((x, *y)))

    def _bars(self) -> Choice:
        y = self._several()
        texts = [n for n in self.keys if not self.fields[n].numeric]
        across = self._across()
        name = next(iter([*([across] if across else []), *texts, *self.keys]), None)
        if name is None:
            return Choice("bars", None, y)
        color, facet = self._split((name, *y))
        if len(y) == 1 and not self.fields[name].numeric:
            return Choice("bars", y[0], (name,), color, facet)
        return Choice("bars", name, y, color, facet)

    def _heatmap(self) -> Choice:
        sides: list[str] = [n for n in ("layer", "head") if n in self.keys]
        sides += [n for n in self.keys if n not in sides]
        if len(sides) < 2:
            return Choice("heatmap", sides[0] if sides else None, (), (self._value(),))
        down, across, *rest = sides
        classes = [n for n in ("type", "class") if n in self.fields and n not in sides]
        color = next(iter(classes), None) or self._value()
        facet = next((n for n in rest if self.frame[n].n_unique() <= MOST_FACETS), None)
        return Choice("heatmap", across, (down,), (color,), facet)

    def _scatter(self) -> Choice:
        numbers = [*self.values, *(n for n, f in self.fields.items() if f.numeric)]
        both = list(dict.fromkeys(numbers))[:2]
        color = [n for n in self.keys if self.frame[n].n_unique() <= MOST_SERIES and n not in both]
        y = both[1] if len(both) > 1 else both[0]
        return Choice("scatter", both[0], (y,), tuple(color[:1]))

    def _histogram(self) -> Choice:
        return Choice("histogram", self._value())


def chosen(chooser: Chooser, kind: str, asked: Mapping[str, Sequence[str]]) -> Choice:
    """Return the first choice of a kind, changed by what is asked for.

    Args:
        chooser: Of the result.
        kind: One of `KINDS`, or '' for the one that suits.
        asked: Names of columns by x, y, color, facet and interval; [''] for none.

    Raises:
        UsageError: A name is no column of the result, or no kind of chart.
    """
    if kind and kind not in KINDS:
        raise UsageError(f"There is no chart {kind!r}; choose one of {', '.join(KINDS)}.")
    choice = chooser.first(kind or chooser.kind())
    names: dict[str, tuple[str, ...]] = {}
    for channel in ("x", "y", "color", "facet", "interval"):
        if channel not in asked:
            continue
        names[channel] = tuple(name for name in asked[channel] if name)
        for name in names[channel]:
            if name not in chooser.fields:
                known = list(chooser.fields)
                raise UsageError(
                    f"The result has no column {name!r} to draw as {channel}"
                    f"{near(name, known) or '; it has ' + ', '.join(known)}."
                )
    if ("x" in names or "y" in names) and "interval" not in names:
        y = names.get("y", choice.y)
        x = next(iter(names.get("x", (choice.x or "",))), "")
        value = x if len(y) == 1 and not chooser.fields[y[0]].numeric else "".join(y[:1])
        low = interval_of(chooser.fields, value) if len(y) == 1 and choice.interval else None
        choice = replace(choice, interval=low)
    one = {k: next(iter(v), None) for k, v in names.items() if k in ("x", "facet", "interval")}
    many = {k: v for k, v in names.items() if k in ("y", "color")}
    return replace(choice, **one, **many)  # type: ignore[arg-type]
