"""Progress and summaries of jobs in the terminal: a bar if there is one, else lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

from attnstore.formatting import duration, size
from attnstore.job import Advance, Job, Summary

EVERY = 10.0
"""Seconds between two lines where there is no terminal for a bar."""


def describe(advance: Advance, noun: str, now: float) -> str:
    """Write out items, items/s, bytes if they are counted, and the time left."""
    items, left = advance.computed[0], advance.left(now)
    done = f"{items:,} of {advance.total:,} {noun}"
    if left is None:
        return done
    rate = f"{items / max(advance.last - advance.began, 1e-9):,.0f}/s"
    end = f"{duration(left)} left" if advance.done < advance.size else "done"
    return ", ".join([done, rate, *([size(advance.bytes)] if advance.bytes else []), end])


class Progress:
    """Shows jobs on stderr: `with Progress() as progress: ingest(…, progress=progress)`."""

    def __init__(self, console: Console | None = None) -> None:
        """Show them on another console than stderr's."""
        self._console = console or Console(stderr=True)
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._job: Job[Any, Any] | None = None
        self._said = 0.0

    def __call__(self, job: Job[Any, Any]) -> None:
        """Show that a job begins, that a part of a unit is computed, or that a unit is stored."""
        now, advance = time.monotonic(), job.advance
        if job is not self._job:
            self._begin(job, now)
            return
        ended = not job.missing()
        if self._bar is not None:
            self._bar.update(self._task, completed=advance.computed[1], total=advance.size)
            if ended:
                self._end()
        elif ended or now - self._said >= EVERY:
            self._say(describe(advance, job.noun, now), now)

    def _begin(self, job: Job[Any, Any], now: float) -> None:
        self._end()
        self._job, self._said = job, now
        if outlook := job.outlook():
            self._say(outlook, now)
        if job.missing() and self._console.is_terminal:
            bar = BarColumn(bar_width=None, table_column=Column(ratio=1))
            name = TextColumn("{task.description}", markup=False)
            self._bar = Bar(name, bar, _Description(job), console=self._console, expand=True)
            self._task = self._bar.add_task(job.title, total=job.advance.size)
            self._bar.start()

    def _say(self, text: str, now: float) -> None:
        assert self._job is not None
        self._console.print(Text(f"{self._job.title}: {text}"), soft_wrap=True)
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


class _Description(ProgressColumn):
    """The description of a job as of now; the time left runs down between two units."""

    def __init__(self, job: Job[Any, Any]) -> None:
        super().__init__(Column(no_wrap=True))
        self._job = job

    def render(self, task: Task) -> Text:
        return Text(describe(self._job.advance, self._job.noun, time.monotonic()))


def show(summary: Summary) -> None:
    """Print how a job went."""
    first, *rest = summary.lines()
    console = Console(highlight=False)
    console.print(Text(first, style="bold" if rest else ""), soft_wrap=True)
    for line in rest:
        console.print(Text(line), soft_wrap=True)


@contextmanager
def bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr where that is a terminal; called with how many are done, and of how many."""
    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(name, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
