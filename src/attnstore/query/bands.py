"""The band of random weights beside a result: its lowest and highest value over a run's twins.

    -- band: mean BY layer, head

in the header of an analysis gives its result two more columns, `random_low` and `random_high`: the
lowest and highest `mean` of the rows with the same layer and head, where the run is replaced by each of
its random-weights twins (view `random_twins`). The SELECT is repeated for each twin, with its name
in the place of `$run`, so it is planned as a question about that run is: inside a SQL text by `text`, in one statement;
by `beside` from answers to one question after another, which takes the memory of one. Without a twin both are NULL, and
nothing more is computed. `KEEP parameter` at the end of the line names a parameter that is the run itself
where a twin stands in for it, unless it is given: what of the run stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from attnstore.query import sql_text

LOW, HIGH = "random_low", "random_high"
RUN = "run"
"""Parameter that twins stand in for, and column that names the run where a result has several."""
TWINS = "SELECT run, twin_run FROM random_twins ORDER BY run, seed, twin_run"
"""Every run with its twins, as `by_run` takes them."""

Twins = Mapping[str, Sequence[str]]
"""Runs of twins, by run."""


@dataclass(frozen=True)
class Band:
    """A column whose band a result has, and the columns by which its rows are matched.

    keep: a parameter that is NULL for the run, and names it where a twin stands in; or None.
    """

    column: str
    keys: tuple[str, ...]
    keep: str | None = None


def by_run(rows: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Group the rows of TWINS by run."""
    twins: dict[str, list[str]] = {}
    for run, twin_run in rows:
        twins.setdefault(run, []).append(twin_run)
    return twins


def text(select: str, band: Band, twins: Twins, every_run: bool = False) -> str:
    """Return the SELECT of an analysis with its band.

    Args:
        select: The SELECT, with `$run` for the run.
        band: Its band.
        twins: Twins of the runs that it may be asked about.
        every_run: It may be asked about all runs, which is `$run` NULL.
    """
    rows = f"(\n{select.rstrip().removesuffix(';')}\n)"
    parts = list(_parts(rows, band, twins, every_run)) if twins else []
    if not parts:
        return f"SELECT *, NULL::DOUBLE AS {LOW}, NULL::DOUBLE AS {HIGH} FROM {rows}"
    keys = ", ".join(f'"{key}"' for key in band.keys)
    same = " AND ".join(f'result."{key}" IS NOT DISTINCT FROM band."{key}"' for key in band.keys)
    return (
        f"SELECT result.* EXCLUDE (row_of_band), band.{LOW}, band.{HIGH}\n"
        f"FROM (SELECT *, row_number() OVER () AS row_of_band FROM {rows}) AS result\n"
        f'LEFT JOIN (SELECT {keys}, min("{band.column}")::DOUBLE AS {LOW}, '
        f'max("{band.column}")::DOUBLE AS {HIGH}\n'
        f"FROM ({' UNION ALL '.join(parts)})\nGROUP BY ALL) AS band ON {same}\nORDER BY row_of_band"
    )


def of_twin(band: Band, values: Mapping[str, Any], run: str, twin_run: str) -> dict[str, Any]:
    """Return the parameters of a question about a run when one of its twins stands in for it."""
    kept = {} if band.keep is None else {band.keep: values.get(band.keep) or run}
    return {**values, RUN: twin_run, **kept}


def beside(
    rows: pl.DataFrame, band: Band, run: str, answers: Sequence[pl.DataFrame]
) -> pl.DataFrame:
    """Add the band to the rows of a run.

    Args:
        rows: The answer about the run.
        band: Its band.
        run: The run.
        answers: The answers about its twins, with the same columns.
    """
    if not answers:
        return rows.with_columns(pl.lit(None, pl.Float64).alias(end) for end in (LOW, HIGH))
    column, keys = pl.col(band.column).cast(pl.Float64), list(band.keys)
    ends = (
        pl.concat([answer.with_columns(pl.lit(run).alias(RUN)) if RUN in keys else answer for answer in answers])
        .group_by(keys)
        .agg(column.min().alias(LOW), column.max().alias(HIGH))
    )  # fmt: skip
    return rows.join(ends, on=keys, how="left", nulls_equal=True, maintain_order="left")


def _parts(rows: str, band: Band, twins: Twins, every_run: bool) -> Iterator[str]:
    """Yield a SELECT of the band's columns for each twin."""
    columns = [f'"{c}"' for c in (*band.keys, band.column) if c != RUN]
    for run, twin_runs in twins.items():
        of_run = [f"{sql_text.literal(run)} AS run"] if RUN in band.keys else []
        for twin_run in twin_runs:
            values = {RUN: sql_text.literal(twin_run)}
            if band.keep is not None:
                values[band.keep] = f"coalesce(${band.keep}, {sql_text.literal(run)})"
            rows_of_twin = sql_text.replaced(rows, values.get)
            selected = ", ".join([*of_run, *columns])
            yield f"SELECT {selected} FROM {rows_of_twin} WHERE $run = {sql_text.literal(run)}"
    if every_run and RUN in band.keys:
        selected = ", ".join(["t.run AS run", *columns])
        yield (
            f"SELECT {selected} FROM {rows} r JOIN random_twins t ON t.twin_run = r.run "
            "WHERE $run IS NULL"
        )
