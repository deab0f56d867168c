"""Run the benchmarks, print their rows, keep them in docs/benchmarks.json and write docs/benchmarks.md."""

from __future__ import annotations

import importlib
import tempfile
import time
from pathlib import Path

import click

from benchmarks import GROUPS, report
from benchmarks.common import Group, Place


@click.command()
@click.option("--quick", is_flag=True, help="Smaller sizes, one repeat, nothing is kept.")
@click.option("--only", type=click.Choice(GROUPS), multiple=True, help="These groups alone.")
def main(quick: bool, only: tuple[str, ...]) -> None:
    """Measure speed and memory; the rows of each group replace its earlier ones in docs/benchmarks.md."""
    with tempfile.TemporaryDirectory(prefix="attnstore-bench-") as folder:
        place = Place(Path(folder), quick)
        for name in only or GROUPS:
            began = time.perf_counter()
            group: Group = importlib.import_module(f"benchmarks.{name}").measure(place)
            click.echo(
                f"{name}, {time.perf_counter() - began:.0f} s\n\n{report.table(group.rows)}\n"
            )
            if not quick:
                report.keep(name, group)


if __name__ == "__main__":
    main()
