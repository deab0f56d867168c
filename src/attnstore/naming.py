"""The vocabulary: names that mean the same in SQL, Python, the command line and the docs."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Collection, Iterable
from typing import Any

from attnstore.errors import UnknownNameError, UsageError

KIND_TEXTS = {
    "cls": "[CLS], by its number",
    "sep": "[SEP], by its number, also where the text itself writes it",
    "special": "any other special token, by its number, also where the text itself writes it",
    "punctuation": "by the text under it",
    "word": "any other token",
    "pad": "in a run with pad_to",
}
KINDS = tuple(KIND_TEXTS)
"""Values of `tokens.kind`, with what decides."""

INTERFACE, EAGER = "interface", "eager"
CAPTURED = {INTERFACE: "transformers' AttentionInterface", EAGER: "output_attentions"}
"""Values of `runs.captured`, with what gave the maps."""

BATCHINGS = (MIXED, EQUAL, SINGLE) = ("mixed", "equal length", "single")
"""Values of `runs.batching`: which inputs may share a forward pass."""

INITS = ("pretrained", "normal", "none")
"""How a fine-tuned model begins: with its weights, with all of them drawn from the normal distribution
of its configuration, or with its weights and an untrained head that is only evaluated."""

METHODS = (GRADIENT_X_INPUT, INTEGRATED_GRADIENTS, LEAVE_ONE_OUT) = (
    "gradient_x_input", "integrated_gradients", "leave_one_out",
)  # fmt: skip
"""Values of `token_importance.method`."""
EXPLAINED = (PREDICTED, GOLD) = ("predicted", "gold")
"""Values of `token_importance.explained`: the output that a model gives, or that of the label."""

PROBES = (ATTENTION, ATTENTION_DISTANCES, DISTANCES, OFFSET, RIGHT_BRANCHING, LEFT_BRANCHING) = (
    "attention", "attention_distances", "distances", "offset", "right_branching", "left_branching",
)  # fmt: skip
"""Values of `probes.variant`: three that are trained, and the baselines beside them."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
"""What a model's or a dataset's name may look like."""


LONGEST_NAME = 200
"""Characters of a name: it becomes a folder's, of at most 255 bytes with its revision."""


def slug(text: str) -> str:
    """A valid name made from any text: other characters become '-', and what is too long is cut."""
    found = re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-._+")[:LONGEST_NAME]
    return found.rstrip("-._+") or "unnamed"


def near(word: str, known: Iterable[str], n: int = 3) -> str:
    """The near matches of `word`, as the end of an error message: '; did you mean …?' or ''."""
    lowered = {k.lower(): k for k in known}
    found = difflib.get_close_matches(word.lower(), lowered, n=n, cutoff=0.5)
    return f"; did you mean {' or '.join(lowered[f] for f in found)}?" if found else ""


CAPTURE_VERSION = 2
"""Raised when weights, statistics or tokens of the same input would be stored differently; a run
of another version is another run."""

ROW_OFF = 1e-3
"""How far the sum of a map's row may lie from 1 in float32: more is not stored."""

CLASSES = ("vertical", "diagonal", "vertical+diagonal", "block", "heterogeneous")
"""The classes of Kovaleva et al. 2019, section 4.1; a network's outputs are in this order."""

SURE = 0.8
"""Probability from which the class of a map is not doubtful. The SQL of the analyses has it too."""

OUTSIDE = 0.01
"""Typicality below which a map is outside of what the pattern network knows. SQL has it too."""


def column_of(name: str) -> str:
    """Return the column of `patterns` that holds the probability of a class."""
    return name.replace("+", "_")


def whole_number(what: str, given: Any) -> int:
    """The number of an example, a layer or a head (what: the word for it), of Python or numpy.

    Raises UsageError for anything else: 1.5 is not example 1.
    """
    try:
        return operator.index(given)
    except TypeError:
        raise UsageError(
            f"{given!r} is no {what} number (of type {type(given).__name__}); give a whole "
            "number, they count from 0."
        ) from None


def require_held(run: str, what: str, number: int | None, held: Collection[int]) -> None:
    """Raise UnknownNameError unless the run holds this layer or head (what: the word for it)."""
    if number not in held:
        listed = ", ".join(map(str, held))
        raise UnknownNameError(
            f"Run {run} holds no {what} {number}; its {what}s are {listed} (from 0)."
        )
