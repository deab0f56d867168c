"""The index from a thousand examples to a million, of a BERT-base: 144 maps each, synthetic statistics.

`python -m benchmarks --only scaling` goes to 100,000 in about a minute. With ATTNSTORE_EXAMPLES=1000000
in the environment it goes to a million, in six minutes and 16 GB of disk, and then writes the table
into docs/scaling.md and the figure there.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from attnstore.formatting import size
from benchmarks import report, scaling_figure, synthetic_store
from benchmarks.common import Fresh, Group, Place, Row, fresh
from benchmarks.exploring import p95

SIZES = (1_000, 10_000, 100_000, 1_000_000)
MOST = int(os.environ.get("ATTNSTORE_EXAMPLES", "100000"))
NEW_RUNS = 200
"""Small runs that are added before catching up: five fragments each."""
DOCUMENT = Path(__file__).parents[1] / "docs" / "scaling.md"
MARKS = ("<!-- measured -->", "<!-- end of measured -->")
WHAT = (
    "12 × 12 heads, pairs of about 40 tokens, random statistics, no weights. Building, opening, asking "
    "and catching up each in a fresh process, files in the page cache where not said otherwise. "
    "Questions: median (95th percentile) in a warm session, about another map each time."
)
FULL_RUN = 131_000
"""Inputs of a run whose two fragments a block are a thousand full ones, 19 million maps."""
POINT, OPENING, CATCHING_UP, CATCHING_UP_FULL = 0.05, 1.0, 5.0, 12.0
"""Targets on the largest index, in seconds."""


@dataclass(frozen=True)
class Measured:
    """One store. asked: seconds of each question, by name; cold, opened, caught: what
    `scaling_questions.first` and `catch_up` give."""

    content: dict[str, int]
    built: Fresh
    cold: dict[str, float]
    opened: dict[str, float]
    asked: dict[str, list[float]]
    peak: int
    caught: dict[str, float]


def measure(place: Place) -> Group:
    """Make, build, open, ask and catch up a store of each size."""
    sizes = [n for n in SIZES if n <= (1_000 if place.quick else MOST)]
    found = [_store(place, n) for n in sizes]
    if sizes == list(SIZES):
        document(found)
    full = _full(place)
    return Group([*_rows(found[-1]), *full], f"*Scaling*: {WHAT}\n\n{_table(found)}")


def _store(place: Place, examples: int) -> Measured:
    path = str(place.folder / "scaling")
    made = fresh("synthetic_store:make", path, examples)
    built = fresh("scaling_questions:build", path)
    cold = fresh("scaling_questions:first", path, True).result
    opened = fresh("scaling_questions:first", path, False).result
    asked = fresh("scaling_questions:ask", path, examples)
    fresh("synthetic_store:add_runs", path, NEW_RUNS)
    caught = fresh("scaling_questions:catch_up", path).result
    shutil.rmtree(path)
    return Measured(made.result, built, cold, opened, asked.result, asked.peak, caught)


def _full(place: Place) -> list[Row]:
    """Catching up a small store with a large run; opening it with many small runs, and compacted."""
    path = str(place.folder / "full")
    fresh("synthetic_store:make", path, SIZES[0])
    fresh("scaling_questions:build", path)
    inputs = SIZES[0] if place.quick else FULL_RUN
    maps = fresh("synthetic_store:add_run", path, inputs).result
    caught = fresh("scaling_questions:catch_up", path)
    seconds, loaded = caught.result["seconds"], caught.result["fragments"]
    fresh("synthetic_store:add_runs", path, NEW_RUNS, 1_000)
    merged = fresh("scaling_questions:compact", path).result
    shutil.rmtree(path)
    return [
        Row(f"an index: catching up with {loaded:,} full fragments ({maps / 1e6:,.0f} million maps)",
            f"≤ {CATCHING_UP_FULL:.0f} s", f"{seconds:.1f} s, at most {size(caught.peak)} of memory",
            None if place.quick else seconds <= CATCHING_UP_FULL),
        Row(f"checking that the index is current with {merged['fragments']:,} fragments; after `attnstore compact`", "–",
            f"{1e3 * merged['alone']:.1f} ms; {1e3 * merged['bundled']:.1f} ms, {merged['files']:.0f} files", None),
    ]  # fmt: skip


def _rows(found: Measured) -> list[Row]:
    """The targets, on the largest store."""
    examples = f"{found.content['examples']:,} examples"
    maps, record = found.asked["map"], found.asked["input"]
    slowest = max(median(maps), median(record))
    opening = found.opened["open"] + found.opened["ask"]
    return [
        Row(f"an index of {examples}: statistics of one map; record of one input", f"≤ {1e3 * POINT:.0f} ms",
            f"{_ms(maps)}; {_ms(record)}", slowest <= POINT),
        Row(f"an index of {examples}: opening the store and a first question, fresh process", f"≤ {OPENING:.0f} s",
            f"{opening:.2f} s", opening <= OPENING),
        Row(f"an index of {examples}: catching up with {found.caught['fragments']:,} new fragments", f"≤ {CATCHING_UP:.0f} s",
            f"{found.caught['seconds']:.2f} s", found.caught["seconds"] <= CATCHING_UP),
    ]  # fmt: skip


def _ms(seconds: list[float]) -> str:
    return f"{1e3 * median(seconds):.0f} ms (p95 {1e3 * p95(seconds):.0f})"


def document(found: list[Measured]) -> None:
    """Write the table into docs/scaling.md, between its marks, and draw its figure."""
    text = DOCUMENT.read_text()
    before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
    middle = (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {report.machine()}\n\n{WHAT}\n\n{_table(found)}"
    )
    DOCUMENT.write_text(f"{before}{MARKS[0]}\n{middle}\n{MARKS[1]}{after}")
    curves = {title: {name: [value(m) for m in found] for name, value in lines.items()}
              for title, lines in CURVES.items()}  # fmt: skip
    scaling_figure.draw([m.content["examples"] for m in found], curves, {QUESTIONS: 1e3 * POINT})


def _table(found: list[Measured]) -> str:
    """The curve as a table."""
    lines = ["| " + " | ".join(["examples", *(f"{m.content['examples']:,}" for m in found)]) + " |"]
    lines.append("|---|" + "---|" * len(found))
    for what, cell in LINES.items():
        lines.append("| " + " | ".join([what, *(cell(m) for m in found)]) + " |")
    return "\n".join(lines)


def _asked(name: str) -> Any:
    return lambda m: _ms(m.asked[name])


LINES: dict[str, Any] = {
    "maps": lambda m: f"{m.content['examples'] * synthetic_store.MAPS:,}",
    "fragments": lambda m: f"{m.content['fragments']:,}",
    "bytes of fragments": lambda m: size(m.content["bytes"]),
    "bytes of the index": lambda m: size(int(m.built.result["bytes"])),
    "building the index": lambda m: f"{m.built.result['seconds']:.1f} s",
    "peak memory of building": lambda m: size(m.built.peak),
    "opening, fresh process": lambda m: f"{1e3 * m.opened['open']:.0f} ms",
    "first question then": lambda m: f"{1e3 * m.opened['ask']:.0f} ms",
    "opening and first question, index not in the page cache": lambda m: (
        f"{1e3 * (m.cold['open'] + m.cold['ask']):.0f} ms"
    ),
    "opening again": _asked("open"),
    "statistics of one map": _asked("map"),
    "of all 144 maps of an input": _asked("maps"),
    "record of one input": _asked("input"),
    "one head over all inputs": _asked("head"),
    "one head over the inputs that hold a word": _asked("join"),
    "every head over all inputs": _asked("group"),
    "peak memory of these questions": lambda m: size(m.peak),
    "catching up with 1,000 small fragments": lambda m: f"{m.caught['seconds']:.2f} s",
    "catching up with one label": lambda m: f"{m.caught['alone']:.2f} s",
}

QUESTIONS = "time of a question (ms)"


def _milliseconds(name: str) -> Any:
    return lambda m: 1e3 * median(m.asked[name])


CURVES: dict[str, dict[str, Any]] = {
    QUESTIONS: {
        "every head over all inputs": _milliseconds("group"),
        "one head, inputs that hold a word": _milliseconds("join"),
        "one head over all inputs": _milliseconds("head"),
        "all maps of one input": _milliseconds("maps"),
        "one map": _milliseconds("map"),
    },
    "time of upkeep (s)": {
        "building the index": lambda m: m.built.result["seconds"],
        "catching up, 1,000 fragments": lambda m: m.caught["seconds"],
        "catching up, one label": lambda m: m.caught["alone"],
        "opening and a first question": lambda m: m.opened["open"] + m.opened["ask"],
    },
    "size (MB)": {
        "index": lambda m: m.built.result["bytes"] / 1e6,
        "fragments": lambda m: m.content["bytes"] / 1e6,
        "memory of building": lambda m: m.built.peak / 1e6,
        "memory of the questions": lambda m: m.peak / 1e6,
    },
}
