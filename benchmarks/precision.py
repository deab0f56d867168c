"""What each precision changes in the results of analyses: python -m benchmarks.precision REFERENCE STORE …

Every store holds the same runs, each store in another precision. Every analysis that needs no more than a
run is asked of all of them, over each run; the table is printed for docs/precision.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
import polars as pl

import attnstore
from attnstore import Store
from attnstore.errors import AttnstoreError
from attnstore.query import analyses

_LEFT_OUT = ("_low", "_high", "p", "seconds_per_example")
"""Ends of columns that are intervals, tests or times, no results of their own."""


def asked(store: Store, name: str, run: str) -> pl.DataFrame | None:
    """Return the rows of an analysis over a run; None where it needs more than the store holds."""
    try:
        return store.query(name, run=run)
    except AttnstoreError:
        return None


def differences(reference: pl.DataFrame, other: pl.DataFrame) -> Iterator[tuple[str, float, float]]:
    """Yield numeric columns, their largest value and their largest difference, of rows with equal names."""
    floats = [c for c, kind in reference.schema.items() if kind.is_float()]
    keys = [
        c for c, kind in reference.schema.items()
        if not kind.is_float() and not kind.is_nested() and (kind == pl.String or c in ("layer", "head", "offset"))
        and set(reference[c]) == set(other[c])
    ]  # fmt: skip
    if not keys or reference.select(keys).is_duplicated().any():
        return
    both = reference.join(other, on=keys, suffix="_other", nulls_equal=True)
    for column in floats:
        if not column.endswith(_LEFT_OUT) and both[column].count():
            off = (both[column] - both[f"{column}_other"]).abs().max()
            yield column, float(both[column].abs().max() or 0), float(off or 0)  # type: ignore[arg-type]


@click.command()
@click.argument("reference")
@click.argument("others", nargs=-1, required=True)
def main(reference: str, others: tuple[str, ...]) -> None:
    """Print the largest difference of every column of every analysis."""
    exact, stores = attnstore.open(reference), [attnstore.open(path) for path in others]
    runs = exact.runs()["run"].to_list()
    names = [store.runs()["precision"][0] for store in stores]
    click.echo(f"| analysis | run | column | largest value | {' | '.join(names)} |")
    click.echo("|---" * (4 + len(names)) + "|")
    for analysis in analyses.listing().values():
        if "run" not in {p.name for p in analysis.parameters}:
            continue
        for run in runs:
            whole = asked(exact, analysis.name, run)
            if whole is None or whole.is_empty():
                continue
            found: dict[str, list[str]] = {}
            for store in stores:
                rows = asked(store, analysis.name, run)
                if rows is not None:
                    for column, largest, off in differences(whole, rows):
                        found.setdefault(column, [f"{largest:.4g}"]).append(f"{off:.2g}")
            for column, values in found.items():
                click.echo(f"| {analysis.name} | {run} | {column} | {' | '.join(values)} |")


if __name__ == "__main__":
    main()
