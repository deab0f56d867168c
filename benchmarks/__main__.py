"""Run the benchmarks, print the table; a full run rewrites docs/benchmarks.md."""

from __future__ import annotations

import importlib
import tempfile
import time
from pathlib import Path

import click

from benchmarks import report
from benchmarks.common import Group, Place

GROUPS = (
    "ingest_speed", "norms", "ingest_memory", "long_inputs", "rerun", "size", "queries", "whole_maps", "dependencies", "reasking", "formats", "notebook",
    "ablating", "exploring", "training", "scaling", "workers", "buckets", "gpu",
)  # fmt: skip


@click.command()
@click.option("--quick", is_flag=True, help="Smaller sizes, one repeat: to try the benchmarks out.")
@click.option("--only", type=click.Choice(GROUPS), multiple=True, help="These groups alone.")
def main(quick: bool, only: tuple[str, ...]) -> None:
    """Measure speed and memory; a full run rewrites docs/benchmarks.md."""
    groups: list[Group] = []
    with tempfile.TemporaryDirectory(prefix="attnstore-bench-") as folder:
        place = Place(Path(folder), quick)
        for name in only or GROUPS:
            began = time.perf_counter()
            group: Group = importlib.import_module(f"benchmarks.{name}").measure(place)
            groups.append(group)
            for row in group.rows:
                click.echo(
                    f"{report.verdict(row):6} {row.what}: {row.measured}, target {row.target}"
                )
            click.echo(f"       ({name}: {time.perf_counter() - began:.0f} s)")
    click.echo("\n" + report.table(row for group in groups for row in group.rows))
    if not quick and not only:
        report.write(groups)


if __name__ == "__main__":
    main()
