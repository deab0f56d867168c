"""Units of jobs, reports of stored units, and the progress over them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """A piece of a job that is committed whole or not at all.

    name: of its job alone, as people read it; number: by which the job knows it; items: how many of
    the job's noun it holds; size: its cost, in any measure that the units of a job share.
    """

    name: str
    number: int
    items: int
    size: float


@dataclass(frozen=True)
class Report:
    """A unit that was stored. bytes: on disk, 0 where nobody counts them."""

    unit: Unit
    bytes: int


@dataclass
class Advance:
    """Progress of a job. The time left follows from size, not from the number of items.

    total, size: items and size to do; items, done: those of stored units; ahead: items and size that
    are computed and not stored yet; began, last: seconds of the beginning and of the last change.
    """

    total: int
    size: float
    began: float
    items: int = 0
    done: float = 0.0
    bytes: int = 0
    last: float = 0.0
    ahead: tuple[int, float] = (0, 0.0)

    @property
    def computed(self) -> tuple[int, float]:
        """Items and size that are computed, stored or not."""
        return self.items + self.ahead[0], self.done + self.ahead[1]

    def move(self, items: int, size: float, now: float) -> None:
        """Count what was computed of a unit by `now`."""
        self.ahead = (self.ahead[0] + items, self.ahead[1] + size)
        self.last = now

    def add(self, report: Report, now: float) -> None:
        """Count a unit that was stored at `now`."""
        unit = report.unit
        self.items += unit.items
        self.done += unit.size
        self.bytes += report.bytes
        self.ahead = (max(self.ahead[0] - unit.items, 0), max(self.ahead[1] - unit.size, 0.0))
        self.last = now

    def left(self, now: float) -> float | None:
        """Seconds left, None before anything was computed."""
        done = self.computed[1]
        if not done:
            return None
        whole = (self.last - self.began) * self.size / done
        return max(self.began + whole - now, 0.0)
