"""The outcome of a search in words: what held-out inputs confirm, and the sets beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from attnstore.experiments.ablation.disabled_scores import GRADIENT, RANDOM
from attnstore.experiments.ablation.held_out import CONFIRMED, flips_interval, verdict
from attnstore.experiments.ablation.random_sets import place


@dataclass(frozen=True)
class Summary:
    """The outcome of a search.

    row: its last round, as view `prunings`; confirmed: the round with the largest set that the
    held-out inputs confirm, or None; sets: the sets beside these two, as view `pruning_sets`;
    n_heads: of the whole model; rounds: run by this call; seconds: wall time.
    """

    row: dict[str, Any]
    confirmed: dict[str, Any] | None
    sets: pl.DataFrame
    n_heads: int
    rounds: int
    seconds: float

    @property
    def verdict(self) -> str | None:
        """Return what held-out inputs say of the set that the search ended with."""
        return verdict(self.row["loss"], self.row["held_low"], self.row["held_high"])

    def lines(self) -> list[str]:
        """Return what is confirmed, what the search did, the sets beside it, and the disabled heads."""
        return [*self._headline(), self._search(), *self._beside(), *self._heads()]

    def _headline(self) -> Iterator[str]:
        row, largest = self.row, self.confirmed
        of = f"{row['model']} over {row['dataset']}"
        if not row["n_disabled"]:
            yield f"{of}: no head can go: without any, {row['metric']} loses more than {row['loss']:g}"
            return
        asked = f"{row['metric']} loses at most {row['loss']:g}"
        if largest is not None:
            yield (
                f"{of}: confirmed: {asked} without {largest['n_disabled']} of {self.n_heads} heads "
                f"({row['value']}); {_lost(largest)}"
            )
        if largest is None or largest["round"] != row["round"]:
            whose = "that the search disables" if largest is None else "that the search went on to"
            yield (
                f"{of}: {self.verdict}: {asked} without the {row['n_disabled']} of {self.n_heads} "
                f"heads {whose} ({row['value']}); {_lost(row)}{_too_few(row)}"
            )

    def _search(self) -> str:
        row = self.row
        return (
            f"search: {row['score']:.4f} of {row['baseline']:.4f} over {row['n']:,} other inputs "
            f"with {self.n_heads - row['n_disabled']} heads left, {self.rounds} rounds run now in "
            f"{self.seconds:.1f} s"
        )

    def _beside(self) -> Iterator[str]:
        """Describe the random sets and the gradient's, for each set that has them."""
        if self.sets.is_empty():
            return
        for row in {r["round"]: r for r in (self.confirmed or self.row, self.row)}.values():
            rows = self.sets.filter(setting=row["disabled"]).drop_nulls("score")
            random = rows.filter(kind=RANDOM)["difference"].to_list()
            parts = []
            if random:
                low, high = np.percentile(random, (2.5, 97.5))
                k, p = place(random, row["held_score"] - row["held_baseline"])
                parts.append(
                    f"{len(random)} random sets of the same layers {np.mean(random):+.4f} on "
                    f"average (95 % of them {low:+.4f} to {high:+.4f}), {k} as good or better (p "
                    f"{p:.3f})"
                )
            parts += [
                f"the heads of least gradient {difference:+.4f}"
                for difference in rows.filter(kind=GRADIENT)["difference"]
            ]
            if parts:
                yield f"beside {row['n_disabled']} heads, held out: {'; '.join(parts)}"

    def _heads(self) -> Iterator[str]:
        if self.verdict != CONFIRMED:
            yield f"confirmed: {self.confirmed['disabled'] if self.confirmed else 'none'}"
        yield f"disabled: {self.row['disabled'] or 'none'}"


def _lost(row: dict[str, Any]) -> str:
    """Return the held-out loss with its interval: a loss is minus a difference."""
    return (
        f"{row['held_n']:,} held-out inputs: lost {row['held_baseline'] - row['held_score']:.4f} "
        f"[{-row['held_high']:.4f}, {-row['held_low']:.4f}], {row['held_score']:.4f} of "
        f"{row['held_baseline']:.4f}"
    )


def _too_few(row: dict[str, Any]) -> str:
    """Say so where no set could be confirmed, because the held-out inputs are too few."""
    least = -flips_interval(0, 0, row["held_n"])[0]
    if row["metric"] != "accuracy" or least <= row["loss"]:
        return ""
    return f"; {row['held_n']:,} inputs cannot confirm a loss below {least:.4f}"
