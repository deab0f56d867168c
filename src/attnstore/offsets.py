"""The profile of a head by relative position: how much ordinary tokens attend at each offset, and where else.

Ordinary tokens are words and punctuation after the first position. Every pair of an ordinary token and a
token of its input is in one group: its offset within a text, or what the other token is. Imports no torch.
"""

from __future__ import annotations

REACH = 10
"""Offsets from -REACH to REACH stand alone."""
OFFSETS = tuple(range(-REACH, REACH + 1))
"""Position of the token that is attended to, less that of the token that attends."""
TARGETS = ("cls", "sep", "special", "first", "far", "other_text")
"""Groups of other tokens: [CLS], [SEP], any other special token, an ordinary token at the first position,
ordinary tokens of the same text farther away than REACH, and those of the other text of a pair."""
N_GROUPS = len(OFFSETS) + len(TARGETS)
"""Groups of a profile: those of OFFSETS, then those of TARGETS."""
TABLE = "offsets"
"""The table of the index, and what `attnstore recompute` is asked for."""
