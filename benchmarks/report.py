"""The last rows of every group in docs/benchmarks.json, and docs/benchmarks.md written from them."""

from __future__ import annotations

import ast
import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import GROUPS
from benchmarks.common import Group, Row

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PACKAGES = ("torch", "transformers", "zarr", "tensorstore", "duckdb", "polars", "numpy")
HEAD = """# Benchmarks

Written by `make bench` from `benchmarks.json`, which keeps the last rows of every group; do not edit.
`python -m benchmarks --only NAME` measures one group and replaces its rows. Every figure is a ratio or a
rate within one run on one machine, repeated, the median given; ratios of times are medians over neighbors
in time. The model is MiniLM (6 layers, 12 heads) from its package, the data GLUE's, inputs at most 128
tokens long.
"""


def keep(name: str, group: Group) -> None:
    """Keep a group's rows with date and machine, and write the document.

    A group that could not measure here leaves the rows of its last run.
    """
    kept = results()
    if not group.measured and kept.get(name, {}).get("date"):
        return
    kept[name] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}" if group.measured else None,
        "machine": machine() if group.measured else None,
        "rows": [asdict(row) for row in group.rows],
        "notes": group.notes,
    }
    write(kept)


def results() -> dict[str, Any]:
    """Rows, notes, date and machine by group, as docs/benchmarks.json keeps them."""
    file = DOCUMENT.with_suffix(".json")
    return json.loads(file.read_text()) if file.exists() else {}


def write(kept: dict[str, Any]) -> None:
    """Write docs/benchmarks.json and docs/benchmarks.md."""
    kept = {name: kept[name] for name in GROUPS if name in kept}
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    DOCUMENT.with_suffix(".json").write_text(f"{text}\n")
    DOCUMENT.write_text(document(kept))


def document(kept: dict[str, Any]) -> str:
    """The text of docs/benchmarks.md: a section for each group, then the machines."""
    machines = list(dict.fromkeys(one["machine"] for one in kept.values() if one["machine"]))
    sections = [_section(name, one, machines) for name, one in kept.items()]
    listed = [f"{number}. {text}" for number, text in enumerate(machines, 1)]
    return "\n".join([HEAD, *sections, "## Machines", "", *listed, ""])


def _section(name: str, one: dict[str, Any], machines: list[str]) -> str:
    """One group: what it is about, when and where it was measured, its rows, its notes."""
    when = "Never measured. Date of the last run: none."
    if one["date"]:
        when = f"Measured on {one['date']}, machine {machines.index(one['machine']) + 1}."
    rows = table(Row(**row) for row in one["rows"])
    parts = [f"## {name}", f"{_title(name)} {when}", rows, one["notes"]]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(name: str) -> str:
    """The first paragraph of a group's module."""
    text = ast.get_docstring(ast.parse(Path(__file__).with_name(f"{name}.py").read_text())) or ""
    return " ".join(text.split("\n\n")[0].split())


def table(rows: Iterable[Row]) -> str:
    """The lines as a Markdown table."""
    lines = [
        f"| {row.what} | {row.target} | {row.measured} | {VERDICTS[row.met]} |" for row in rows
    ]
    return "\n".join(["| what | target | measured | met |", "|---|---|---|---|", *lines])


VERDICTS = {True: "yes", False: "**no**", None: "–"}


def machine() -> str:
    """Machine and versions in a sentence, without names or paths of anyone's."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{processor()}, {cores()} cores, {memory:.0f} GiB of memory, {platform.system()} "
        f"{platform.machine()}; Python {platform.python_version()}, {packages}."
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
