"""The outcome of an attribution in words: what is stored, and how far integration is off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from attnstore.naming import INTEGRATED_GRADIENTS, PREDICTED

OFF = 0.05
"""Largest share of an input's summed importance by which the integral may be off without a warning."""


@dataclass(frozen=True)
class Summary:
    """The outcome of an attribution.

    n, tokens: inputs and tokens of a method; steps: of integrated gradients; delta: mean and largest
    distance of an input's values from what they should sum to, in the unit of the output; off: the
    inputs where it is above OFF of their summed |value|; stored: inputs computed by this call;
    seconds: wall time.
    """

    model: str
    dataset: str
    methods: tuple[str, ...]
    target: str
    n: int
    tokens: int
    steps: int | None
    delta: tuple[float, float] | None
    off: int
    stored: int
    seconds: float

    @classmethod
    def of(
        cls,
        rows: pl.DataFrame,
        methods: Sequence[str],
        target: str,
        stored: int,
        seconds: float,
    ) -> Summary:
        """Summarize rows of table `token_importance`."""
        model, dataset = rows.select("model", "dataset").row(0)
        one = rows.filter(method=methods[0])
        integrated = rows.filter(method=INTEGRATED_GRADIENTS)
        error = integrated["delta"].abs()
        size = integrated["values"].list.eval(pl.element().cast(pl.Float64).abs()).list.sum()
        delta = steps = None
        if len(integrated):
            mean, largest = error.mean(), error.max()
            assert isinstance(mean, float)
            assert isinstance(largest, float)
            delta, steps = (mean, largest), integrated["steps"][0]
        return cls(
            model, dataset, tuple(methods), target, len(one), int(one["tokens"].list.len().sum()),
            steps, delta, int((error > OFF * size).sum()), stored, seconds,
        )  # fmt: skip

    def lines(self) -> list[str]:
        """Return a summary line, and one about the error of integration."""
        output = "predicted output" if self.target == PREDICTED else "output of the label"
        how = f"{self.stored:,} computed now in {self.seconds:.1f} s" if self.stored else "all stored before"  # fmt: skip
        lines = [
            f"{self.model} over {self.dataset}: importance of {self.tokens:,} tokens of {self.n:,} "
            f"inputs for the {output} by {', '.join(self.methods)}; {how}"
        ]
        if self.delta is not None:
            lines.append(
                f"  {INTEGRATED_GRADIENTS}: {self.steps} steps leave {self.delta[0]:.2g} of the output "
                f"unexplained on average, {self.delta[1]:.2g} at most"
            )
        if self.off:
            lines.append(
                f"  {self.off:,} inputs are off by more than {OFF:.0%} of their summed importance; "
                "give more --steps."
            )
        return lines
