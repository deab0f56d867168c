"""Pictures of a query's result, chosen by its columns: a heatmap of heads, bars, or lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from attnstore.web import charts, grid_chart
from attnstore.web.charts import Bar, Point
from attnstore.web.head_grid import Cell, Grid

_BARS = 60
_SERIES = 24
_ACROSS = ("step", "layer", "position", "length", "example", "from_pos", "to_pos", "epoch")
"""Columns that a line may run along, the first that is there."""
_VALUES = ("mean", "weight", "value", "kappa", "stability", "js", "n")
_ENDS = ("low", "high")


class Result:
    """A query's result to show. columns: (name, type, whether numeric); rows: of values."""

    def __init__(self, columns: Sequence[Sequence[Any]], rows: Sequence[Sequence[Any]]) -> None:
        self.columns, self.rows = columns, rows
        self.at = {name: i for i, (name, _, _) in enumerate(columns)}
        self.numeric = [name for name, _, numeric in columns if numeric]

    def pictures(self) -> dict[str, Markup]:
        """Return every picture that fits the columns, by kind."""
        drawings = {}
        for kind, draw in (
            ("heatmap", self._heatmap),
            ("lines", self._lines),
            ("bars", self._bars),
        ):
            drawn = draw() if self.rows else None
            if drawn is not None:
                drawings[kind] = drawn
        return drawings

    def _of(self, name: str, row: Sequence[Any]) -> Any:
        return row[self.at[name]] if name in self.at else None

    def _number(self, name: str, row: Sequence[Any]) -> float | None:
        value = self._of(name, row)
        return (
            float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        )

    def _value(self, keys: Sequence[str]) -> str | None:
        """Return the column of values: one with a usual name, else the last number that is no key."""
        rest = [n for n in self.numeric if n not in keys and n not in _ENDS]
        return next((n for n in _VALUES if n in rest), rest[-1] if rest else None)

    def _heatmap(self) -> Markup | None:
        value = self._value(("layer", "head"))
        if value is None or not {"layer", "head"} <= set(self.numeric):
            return None
        texts = [n for n, _, numeric in self.columns if not numeric and n != "run"]
        kinds = {str(self._of(texts[0], row)) for row in self.rows} if texts else set()
        classes = texts[0] if 1 < len(kinds) <= 8 else None
        cells: dict[tuple[int, int], Cell] = {}
        for row in self.rows:
            layer, head = self._number("layer", row), self._number("head", row)
            if layer is None or head is None or (int(layer), int(head)) in cells:
                return None  # several rows of a head: no grid
            low, high = (self._number(end, row) for end in _ENDS)
            name = None if classes is None else str(self._of(classes, row))
            cells[int(layer), int(head)] = Cell(self._number(value, row), low, high, None, name)
        layers, heads = (sorted({at[i] for at in cells}) for i in (0, 1))
        values = [c.value for c in cells.values() if c.value is not None]
        if len(cells) < 2 or not values:
            return None
        signed = min(values) < 0 < max(values)
        return grid_chart.heads(Grid(value, "", cells, layers, heads, signed=signed))

    def _lines(self) -> Markup | None:
        across = next((n for n in _ACROSS if n in self.numeric), None)
        if across is None or "head" in self.at:
            return None
        keys = [n for n in ("layer",) if n in self.numeric and n != across]
        value = self._value((across, *keys))
        if value is None:
            return None
        names = [n for n, _, numeric in self.columns if not numeric and n != "run"] + keys
        series: dict[str, list[Point]] = {}
        for row in self.rows:
            x, y = self._number(across, row), self._number(value, row)
            if x is None or y is None:
                continue
            name = ", ".join(
                f"{n} {self._of(n, row)}" if n in keys else str(self._of(n, row)) for n in names
            )
            low, high = (self._number(end, row) for end in _ENDS)
            series.setdefault(name or value, []).append(Point(x, y, low, high))
        series = {name: sorted(line, key=lambda p: p.x) for name, line in series.items()}
        alone = all(len({p.x for p in line}) == len(line) for line in series.values())
        if not alone or len(series) > _SERIES or max(map(len, series.values()), default=0) < 2:
            return None
        return charts.lines(series, across, value)

    def _bars(self) -> Markup | None:
        value = self._value(("layer", "head", "example"))
        keys = [
            n
            for n in self.at
            if n != value and (n not in self.numeric or n in ("layer", "head", "example"))
        ]
        if value is None or not keys or len(self.rows) > _BARS:
            return None
        texts = [k for k in keys if k != "run"] or keys
        bars = []
        for row in self.rows:
            number = self._number(value, row)
            if number is None:
                continue
            name = " ".join(
                f"{k} {self._of(k, row)}" if k in self.numeric else str(self._of(k, row))
                for k in texts[:2]
            )
            low, high = (self._number(end, row) for end in _ENDS)
            bars.append(Bar(name, number, low, high))
        return charts.bars(bars, value) if bars else None
