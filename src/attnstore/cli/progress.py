"""How an ingestion goes and how it ended, in the terminal: a bar where there is one, else lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

from attnstore.formatting import duration, many, size

if TYPE_CHECKING:
    from attnstore.capture.blocks import Stored
    from attnstore.capture.forecast import Forecast
    from attnstore.capture.ingestion import Ingestion, Summary

EVERY = 10.0
"""Seconds between two lines where there is no terminal for a bar."""


@dataclass
class Advance:
    """How far a run is: of `total` examples and `n_cells` cells per head, since `began` (seconds).

    Cells tell the time left: what an input costs grows with the square of its length.
    examples, cells: stored; ahead: examples and cells that are computed and not stored yet.
    """

    run: str
    total: int
    n_cells: int
    began: float
    examples: int = 0
    cells: int = 0
    bytes: int = 0
    last: float = 0.0
    ahead: tuple[int, float] = (0, 0.0)

    def move(self, examples: int, cells: float, now: float) -> None:
        """Count what forward passes have done by `now`."""
        self.ahead = (self.ahead[0] + examples, self.ahead[1] + cells)
        self.last = now

    @property
    def done(self) -> tuple[int, float]:
        """Examples and cells that are computed, stored or not."""
        return self.examples + self.ahead[0], self.cells + self.ahead[1]

    def add(self, stored: Stored, now: float) -> None:
        """Count a block that was stored at `now`."""
        self.examples += stored.examples
        self.cells += stored.n_cells
        self.bytes += stored.bytes
        self.ahead = (
            max(self.ahead[0] - stored.examples, 0),
            max(self.ahead[1] - stored.n_cells, 0.0),
        )
        self.last = now

    def left(self, now: float) -> float | None:
        """Seconds left, None before the first forward pass."""
        cells = self.done[1]
        if not cells:
            return None
        whole = (self.last - self.began) * self.n_cells / cells
        return max(self.began + whole - now, 0.0)

    def told(self, now: float) -> str:
        """Examples, examples/s, bytes and time left."""
        examples = self.done[0]
        done = f"{examples:,} of {self.total:,} examples"
        left = self.left(now)
        if left is None:
            return done
        rate = examples / max(self.last - self.began, 1e-9)
        end = f"{duration(left)} left" if self.examples < self.total else "done"
        return f"{done}, {rate:,.0f}/s, {size(self.bytes)}, {end}"


class Progress:
    """Shows an ingestion on stderr: `with Progress() as p: ingest(…, progress=p)`."""

    def __init__(self, console: Console | None = None) -> None:
        """Show it on another console than stderr's."""
        self._console = console or Console(stderr=True)
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._advance = Advance("", 0, 0, 0.0)
        self._said = 0.0

    def __call__(self, ingestion: Ingestion, stored: Stored | None) -> None:
        """Take note of the beginning of a run (None) or of a block that was stored."""
        now = time.monotonic()
        if stored is None:
            self._begin(ingestion, now)
            return
        self._advance.add(stored, now)
        self._show(now, self._advance.examples >= self._advance.total)

    def _moved(self, examples: int, cells: float) -> None:
        """Take note of a forward pass."""
        now = time.monotonic()
        self._advance.move(examples, cells, now)
        self._show(now)

    def _show(self, now: float, ended: bool = False) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self._advance.done[1])
            if ended:
                self._end()
        elif ended or now - self._said >= EVERY:
            self._say(self._advance.told(now), now)

    def _begin(self, ingestion: Ingestion, now: float) -> None:
        self._end()
        left = ingestion.left
        self._advance = Advance(left.run, left.examples, left.cells, now)
        ingestion.on_batch = self._moved
        self._say(forecast_line(left), now)
        if not left.examples:
            return
        if self._console.is_terminal:
            bar = BarColumn(bar_width=None, table_column=Column(ratio=1))
            name = TextColumn("{task.description}", markup=False)
            self._bar = Bar(name, bar, _Told(self._advance), console=self._console, expand=True)
            self._task = self._bar.add_task(self._advance.run, total=self._advance.n_cells)
            self._bar.start()

    def _say(self, what: str, now: float) -> None:
        self._console.print(Text(f"{self._advance.run}: {what}"), soft_wrap=True)
        self._said = now

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Progress:
        """End the bar with the block, whatever happens in it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the terminal back."""
        self._end()


class _Told(ProgressColumn):
    """What `Advance.told` says now; the time left runs down between two blocks."""

    def __init__(self, advance: Advance) -> None:
        super().__init__(Column(no_wrap=True))
        self._advance = advance

    def render(self, task: Task) -> Text:
        return Text(self._advance.told(time.monotonic()))


def forecast_line(left: Forecast) -> str:
    """What is left of a run: examples, tokens, expected bytes, and room."""
    if not left.examples:
        return "every example is stored already"
    told = f"{left.examples:,} examples to store, {left.tokens:,} tokens, about {size(left.bytes)}"
    if left.free is None:
        return told
    short = " (not enough: free some, or store fewer layers, heads or examples)"
    return f"{told}; {size(left.free)} free{short if left.short else ''}"


def forecast_lines(runs: Sequence[Forecast]) -> Group:
    """What runs would take, a line each."""
    return Group(*(Text(f"{left.run}: {forecast_line(left)}") for left in runs))


def show_summary(summary: Summary) -> None:
    """Print what an ingestion of one run did, as soon as it has ended."""
    Console(highlight=False).print(summary_table([summary]))


def summary_table(summaries: Sequence[Summary]) -> Group:
    """What ingestions did, one paragraph per run."""
    return Group(*(line for summary in summaries for line in _paragraph(summary)))


def _paragraph(summary: Summary) -> list[Text]:
    elsewhere = max(summary.seconds - summary.forward_seconds, 0.0)
    examples = f"{summary.examples:,}, of them {summary.stored:,} stored now"
    rows = {
        "examples": examples if summary.stored else f"{summary.examples:,}, all stored before",
        "kept out": f"{summary.n_empty:,} with an empty text",
        "truncated": f"{summary.n_truncated:,} longer than the max-length",
        "maps": f"{summary.maps:,}",
        "weights": many(summary.weights),
        "on disk": f"{size(summary.bytes)}, {summary.bits_per_weight:.2f} bits per weight",
        "seconds": f"{summary.forward_seconds:.1f} in forward passes, {elsewhere:.1f} elsewhere",
    }
    lines = [Text(f"  {name:<9}  {value}") for name, value in rows.items()]
    return [Text(summary.run, style="bold"), *lines]


@contextmanager
def bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, where that is a terminal; told how many are done, and of how many."""
    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(name, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
