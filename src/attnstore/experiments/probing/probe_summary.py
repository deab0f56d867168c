"""The outcome of a probe in words: how many links each variant gets right."""

from __future__ import annotations

from dataclasses import dataclass

UNSOLVED = 1e-5
"""Largest derivative at the end of a training, per link, without a warning."""


@dataclass(frozen=True)
class Summary:
    """The outcome of a probe.

    Attributes:
        run, annotation, by, folds: What was asked.
        n: Links that each variant was scored on.
        uas: Share of them whose head is right, by variant.
        gradient: Largest derivative at the end of a training.
        fits: Fits that the store holds: one per variant and fold.
        stored: Fits of this call.
        seconds: Wall time of this call.
    """

    run: str
    annotation: str
    by: str
    folds: int
    n: int
    uas: dict[str, float]
    gradient: float
    fits: int
    stored: int
    seconds: float

    def lines(self) -> list[str]:
        """Return one line, and a warning about a training that did not end."""
        shares = ", ".join(f"{variant} {uas:.1%}" for variant, uas in self.uas.items())
        how = f"{self.stored} of {self.fits} fits now in {self.seconds:.1f} s"
        lines = [
            f"{self.run} by {self.by}: heads of {self.n:,} links of {self.annotation} found out of sample "
            f"({self.folds} folds): {shares}; {how}"
        ]
        if self.gradient > UNSOLVED:
            lines.append(
                f"  a training stopped before its minimum (largest derivative {self.gradient:.1g}); "
                "view probes has each."
            )
        return lines
