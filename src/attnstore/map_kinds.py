"""Kinds of maps that a run holds beside its weights, each declared once.

A kind is one number per pair of tokens, once a head or once a layer. Keys, macros, comments and errors take
them from here.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from attnstore.errors import UnknownNameError, UsageError
from attnstore.naming import near

WEIGHTS, NORM, VALUE_ZEROING = "weights", "norm", "value_zeroing"
GRADIENT, GRADIENT_GOLD = "gradient_attention", "gradient_attention_gold"
VALUE_NORM, MIXING = "value_norm", "mixing"
"""Arrays of a run with numbers per token, which are no maps."""

_STEPS = re.compile(rf"({GRADIENT}(?:_gold)?)_([1-9]\d{{0,3}})")


@dataclass(frozen=True)
class MapKind:
    """One kind of maps.

    Attributes:
        name: Its name in SQL and on the command line, and of its array.
        text: What one number is, for people.
        unit: As axes show it.
        per: "head" for one map a head, "layer" for one map a layer.
        stored: True if a run holds an array of it, False if it is computed when it is read.
        precision: Precision of its array; None for that of the run.
        signed: True if its numbers may be negative.
        rows_sum: True if the rows of its maps sum to 1.
        steps: Of a gradient, over how many steps it is integrated; None for the gradient itself.
    """

    name: str
    text: str
    unit: str
    per: Literal["head", "layer"] = "head"
    stored: bool = True
    precision: str | None = "float32"
    signed: bool = False
    rows_sum: bool = False
    steps: int | None = None

    @property
    def per_layer(self) -> bool:
        """Return True for a kind with one map a layer."""
        return self.per == "layer"

    @property
    def command(self) -> str:
        """Return the command, shortened, that adds it to a run that lacks it."""
        return f"attnstore ingest … --maps {self.name}" if self.stored else UPDATE

    @property
    def mask(self) -> int:
        """Return the number that a run's key is combined with by xor; 0 for the weights.

        The macro kind_key computes the same in SQL.
        """
        if self.name == WEIGHTS:
            return 0
        return int.from_bytes(hashlib.md5(self.name.encode()).digest()[8:], "little")


UPDATE = "attnstore ingest … --update"
"""The command, shortened, that adds value norms to a run of an earlier capture."""

KINDS = (
    MapKind(WEIGHTS, "Attention weight", "share of attention", precision=None, rows_sum=True),
    MapKind(NORM, "Norm-based attention (Kobayashi 2020): the weight times the length of the value that it "
            "moves, as a share of its row", "share of what is moved", stored=False, rows_sum=True),
    MapKind(VALUE_ZEROING, "Value zeroing (Mohebbi 2023): cosine distance between a token's output of the layer "
            "with and without the value of the other token", "cosine distance", per="layer"),
    MapKind(GRADIENT, "The weight times the gradient of the predicted label's score by it", "change of the score",
            signed=True),
    MapKind(GRADIENT_GOLD, "The weight times the gradient of the gold label's score by it", "change of the score",
            signed=True),
)  # fmt: skip
"""In the order in which people read them; a gradient may be integrated over K steps, as kind NAME_K."""

WEIGHT_MAPS = KINDS[0]
NAMES = tuple(kind.name for kind in KINDS)
STORED = rf"{VALUE_ZEROING}|{GRADIENT}(_gold)?(_[1-9]\d{{0,3}})?"
"""Regular expression of the names of kinds that a run holds an array of, beside the weights."""
PER_LAYER = tuple(kind.name for kind in KINDS if kind.per_layer)


@cache
def find(name: str) -> MapKind:
    """Return the kind of a name: `norm`, `gradient_attention_gold`, `gradient_attention_20`.

    Raises:
        UnknownNameError: There is no such kind.
    """
    base = re.fullmatch(_STEPS, name)
    for kind in KINDS:
        if kind.name == name:
            return kind
        if base and kind.name == base[1]:
            text = f"{kind.text}, integrated over {base[2]} steps"
            return replace(kind, name=name, text=text, steps=int(base[2]))
    suggestion = near(name, NAMES) or f"; there are {', '.join(NAMES)}"
    raise UnknownNameError(
        f"There is no kind of maps {name!r}{suggestion}" + ("" if suggestion[-1] == "?" else ".")
    )


def require_head(kind: MapKind, head: object) -> None:
    """Raise UsageError for a head that maps of a kind do not have, and for one that is not named."""
    if kind.per_layer and head not in (None, 0):
        raise UsageError(f"Maps of kind {kind.name} are one a layer; leave the head out.")
    if not kind.per_layer and head is None:
        raise UsageError(f"Maps of kind {kind.name} are one a head; name the head.")


def missing(run: str, kind: MapKind, block: int | None = None) -> UnknownNameError:
    """Return the error about a run that lacks a kind. block: the one that lacks it, where others do not."""
    what = f"maps of kind {kind.name}" if kind.stored else "value norms"
    part = "" if block is None else f" of its block {block}"
    use = "" if kind.stored else f", from which maps of kind {kind.name} are made"
    return UnknownNameError(
        f"Run {run} holds no {what}{part}{use}; `{kind.command}` with its model and dataset adds them."
    )


def impossible(run: str, kind: MapKind) -> UnknownNameError:
    """Return the error about a run whose model does not give a kind."""
    what = "" if kind.stored else "value norms, and so "
    return UnknownNameError(
        f"The model of run {run} gives no {what}maps of kind {kind.name}; `attnstore doctor` says what it gives."
    )
