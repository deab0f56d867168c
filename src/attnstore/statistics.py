"""The statistics of a map: the columns of `map_stats` beside its keys, each declared once.

A new one is an entry of `STATISTICS` with a `per_row`, at the end: capture computes it, and
`attnstore recompute NAME` fills it for the runs that the store holds, from their arrays. Tables,
views, comments, checks, docs/sql.md and the explorer take it from here. Imports no torch: a
`per_row` uses the methods of the tensor it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attnstore.errors import UnknownNameError
from attnstore.naming import near

PerRow = Callable[[Any, Any], Any]
"""(weights, marks) to one number per from-token.

weights: (n, H, R, L) float32 tensor, the rows of R from-tokens of n inputs of one length L over H
heads; marks: `capture.statistics.Marks` of these inputs, which says what their tokens are; returns
(n, H, R), NaN where a row has no value. The statistic is the mean over rows, or their largest.
"""


@dataclass(frozen=True)
class Statistic:
    """One column of `map_stats`: a number per map.

    text: what it is, for people; unit: as axes show it; high: the largest value, in SQL over
    `length` (the smallest is 0); slack: how far rounding may move it out of that range; per_row:
    its formula, None for those that one fused kernel computes together (`capture.statistics`);
    largest: True for the largest row instead of the mean.
    """

    name: str
    text: str
    unit: str = "share of attention"
    high: str = "1"
    slack: float = 1e-3
    per_row: PerRow | None = None
    largest: bool = False

    @property
    def out_of_range(self) -> str:
        """The SQL condition that a value of it in table `s` cannot be right."""
        return f's."{self.name}" NOT BETWEEN -{self.slack} AND {self.high} + {self.slack}'


STATISTICS = (
    Statistic("entropy", "Mean over from-tokens of the entropy of their weights, in nats",
              "nats", "ln(length)", 1e-2),
    Statistic("self", "Mean weight from a token to itself"),
    Statistic("previous", "Mean weight to the token before, over tokens that have one; NULL for length 1"),
    Statistic("next", "Mean weight to the token after, over tokens that have one; NULL for length 1"),
    Statistic("cls", "Mean over from-tokens of the summed weight to all [CLS] (kind cls); NULL for an "
              "input without any"),
    Statistic("sep", "Mean over from-tokens of the summed weight to all [SEP] (kind sep); NULL for an "
              "input without any"),
    Statistic("punctuation", "Mean over from-tokens of the summed weight to punctuation"),
    Statistic("same_segment", "Mean over from-tokens of the summed weight to tokens of their own segment"),
    Statistic("mean_distance", "Mean over from-tokens of the expected distance |from - to|, in tokens",
              "tokens", "length - 1", 1e-2),
    Statistic("max", "Largest weight of the map", largest=True),
    Statistic("first", "Mean over from-tokens of the weight to the first token, whatever it is: the sink of "
              "models without [CLS]; NULL in runs of versions before 2"),
    Statistic("sink", "Mean over from-tokens of the share that attention sinks take, which is in no weight; "
              "NULL for a model without them"),
)  # fmt: skip
"""In the order of the columns."""

NAMES = tuple(statistic.name for statistic in STATISTICS)
FUSED = tuple(statistic.name for statistic in STATISTICS if statistic.per_row is None)


def find(name: str) -> Statistic:
    """Return the statistic of a name. Raises UnknownNameError."""
    for statistic in STATISTICS:
        if statistic.name == name:
            return statistic
    suggestion = near(name, NAMES) or f"; there are {', '.join(NAMES)}"
    raise UnknownNameError(f"There is no statistic {name!r}{suggestion}.")
