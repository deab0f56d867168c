"""The outcome of an ablation in words: what changes beyond chance, and the random sets beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from attnstore.experiments.ablation.random_sets import place
from attnstore.uncertainty.significance import mcnemar, q_values

_LEVEL = 0.05
"""A setting changes the score beyond chance if its q-value is below this."""


@dataclass(frozen=True)
class Summary:
    """The outcome of an ablation.

    results: one row per setting and metric, as view `ablations`; sets: their random sets, as view
    `random_sets`; stored: settings run by this call; in_pieces: True if the model ran in stages,
    None if nothing ran; seconds: wall time.
    """

    model: str
    dataset: str
    value: str
    n: int
    results: pl.DataFrame
    sets: pl.DataFrame
    stored: int
    in_pieces: bool | None
    seconds: float

    def lines(self) -> list[str]:
        """Return a summary line, one per metric with its largest changes, and one per set of heads."""
        how = {None: "all stored before", True: "", False: ", one full pass each"}[self.in_pieces]
        now = f"{self.stored:,} of them run now in {self.seconds:.1f} s{how}"
        settings = self.results["setting"].n_unique()
        lines = [
            f"{self.model} over {self.dataset}: {settings:,} settings ({self.value}) over "
            f"{self.n:,} inputs, {now if self.stored else how}"
        ]
        for (metric,), rows in self.results.group_by("metric", maintain_order=True):
            ordered = rows.sort("difference", descending=True, nulls_last=True)
            best, worst = ordered.row(0, named=True), ordered.row(-1, named=True)
            baseline = best["baseline"]
            lines.append(
                f"  {metric}: baseline {'undefined' if baseline is None else f'{baseline:.4f}'}; best "
                f"without {_change(best)}, worst without {_change(worst)}; {_beyond_chance(rows)}"
            )
            lines += self._beside(rows)
        return lines

    def _beside(self, rows: pl.DataFrame) -> Iterator[str]:
        """Describe the random sets of each set of several heads, of one metric."""
        for row in rows.drop_nulls("difference").iter_rows(named=True):
            same = self.sets.filter(setting=row["setting"], metric=row["metric"])
            others = same["difference"].drop_nulls().to_numpy()
            if len(others):
                low, high = np.percentile(others, (2.5, 97.5))
                k, p = place((-others).tolist(), -row["difference"])
                yield (
                    f"    without {_change(row)}; {len(others)} random sets with as many heads of each "
                    f"layer {others.mean():+.4f} on average (95 % of them {low:+.4f} to "
                    f"{high:+.4f}), {k} lose as much or more (p {p:.3f})"
                )


def _beyond_chance(rows: pl.DataFrame) -> str:
    """Count the settings of one metric that change it, corrected for their number."""
    q = q_values(_p_values(rows))
    rises = (rows["difference"] > 0).fill_null(False).to_numpy()
    better, worse = int((q[rises] < _LEVEL).sum()), int((q[~rises] < _LEVEL).sum())
    return f"{better} better and {worse} worse beyond chance (q below {_LEVEL:g})"


def _p_values(rows: pl.DataFrame) -> Any:
    """Return the p of each setting, as macro `ablation_p`."""
    resampled = np.full(len(rows), np.nan)
    if "bootstrap_p" in rows.columns:  # not in rows of an earlier version
        resampled = rows["bootstrap_p"].cast(pl.Float64).to_numpy()
    if rows["metric"][0] != "accuracy":
        return resampled
    p = mcnemar(rows["to_right"].to_numpy(), rows["to_wrong"].to_numpy())
    if "sources" not in rows.columns:
        return p
    shared = (rows["sources"] < rows["n"]).fill_null(False).to_numpy()
    return np.where(shared, np.fmax(p, resampled), p)


def _change(row: dict[str, Any]) -> str:
    if row["difference"] is None or row["low"] is None:
        return f"{row['setting']} (undefined)"
    ends = f"{row['low']:+.4f} to {row['high']:+.4f}"
    return f"{row['setting']} ({row['difference']:+.4f}, 95 % {ends})"
