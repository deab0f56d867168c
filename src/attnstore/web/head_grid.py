"""Values of a run's heads, laid out in a grid of layers and heads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from attnstore.display import colors


@dataclass(frozen=True)
class Cell:
    """The value of one head. value: None where it has none; name: its class, in a grid of classes;
    random: the lowest and highest value over twins with random weights, None without one.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int | None
    name: str | None = None
    random: tuple[float, float] | None = None


@dataclass(frozen=True)
class Grid:
    """The values of a run's heads. parts: what else the result is divided by, one of them shown.

    signed: the values are differences, and 0 is the middle of their scale. note: what a value is.
    remarks: sentences about the result, such as which run it is held against.
    """

    title: str
    unit: str
    cells: dict[tuple[int, int], Cell]
    layers: list[int]
    heads: list[int]
    signed: bool = False
    parts: list[str] = field(default_factory=list)
    part: str | None = None
    note: str = ""
    remarks: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The classes in the grid, in order; empty for a grid of numbers."""
        return sorted({c.name for c in self.cells.values() if c.name is not None})

    @property
    def counts(self) -> list[tuple[str, int]]:
        """Number of heads of each class, the commonest first."""
        counts = Counter(c.name for c in self.cells.values() if c.name is not None)
        return sorted(counts.items(), key=lambda row: (-row[1], row[0]))

    @property
    def ends(self) -> tuple[float, float]:
        """The values at the two ends of its scale."""
        values = [c.value for c in self.cells.values() if c.value is not None]
        low, high = min(values, default=0.0), max(values, default=0.0)
        if self.signed:
            top = max(abs(low), abs(high))
            return -top, top
        return low, high

    @property
    def is_even(self) -> bool:
        """True for a grid of numbers that are all equal, which has one color."""
        values = [c.value for c in self.cells.values() if c.value is not None]
        return not self.signed and colors.all_equal(values)

    def extremes(self, n: int) -> dict[str, list[tuple[int, int, float]]]:
        """Return the n heads with the highest values and the n with the lowest: (layer, head, value)."""
        heads = [(*at, c.value) for at, c in self.cells.items() if c.value is not None]
        by_value = sorted(heads, key=lambda row: row[2])
        return {"highest": by_value[::-1][:n], "lowest": by_value[:n]}
