"""The table on the screen, and docs/benchmarks.md with the machine and the date."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.common import Group, Row

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PACKAGES = ("torch", "transformers", "zarr", "tensorstore", "duckdb", "polars", "numpy")
HEAD = """# Benchmarks

Written by `make bench`; do not edit. Every figure is a ratio or a rate within one run on one
machine, repeated, the median given; ratios of times are medians over neighbours in time. The model
is MiniLM (6 layers, 12 heads) from its package, the data GLUE's, inputs at most 128 tokens long.
"""


def table(rows: Iterable[Row]) -> str:
    """The lines as a Markdown table."""
    lines = ["| what | target | measured | met |", "|---|---|---|---|"]
    lines += [f"| {r.what} | {r.target} | {r.measured} | {verdict(r)} |" for r in rows]
    return "\n".join(lines)


def verdict(row: Row) -> str:
    return {True: "yes", False: "**no**", None: "–"}[row.met]


def write(groups: list[Group]) -> None:
    """Write docs/benchmarks.md."""
    notes = "\n\n".join(group.notes for group in groups if group.notes)
    every = table(row for group in groups for row in group.rows)
    DOCUMENT.write_text(f"{HEAD}\n{machine()}\n\n{every}\n\n## Notes\n\n{notes}\n")


def machine() -> str:
    """Machine, versions and date in one paragraph, without names or paths of anyone's."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {processor()}, {cores()} cores, "
        f"{memory:.0f} GiB of memory, {platform.system()} {platform.machine()}; "
        f"Python {platform.python_version()}, {packages}."
    )


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
