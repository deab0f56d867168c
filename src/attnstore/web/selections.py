"""A selection of a run's heads and inputs, as an address has it: `s.heads=0.3,2.*&s.length=10..20`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from attnstore.errors import UsageError
from attnstore.head_sets import Heads, heads_text, parse_heads
from attnstore.web.addresses import whole
from attnstore.web.labels import Called

Range = tuple[float, float]
PREFIX = "s."
"""Begins the names of an address that select."""
OPEN = 1e300
"""End of a range that leaves nothing out."""
_NAMED = 4  # heads that are named one by one


@dataclass(frozen=True)
class Selection:
    """What is selected; None where nothing is.

    Attributes:
        heads: Heads.
        value: Inputs, by the lowest and highest value of the measure that is shown.
        length: Inputs, by their length in tokens.
        labels: Inputs, by their labels.
        inputs: Inputs, one by one.
    """

    heads: Heads | None = None
    value: Range | None = None
    length: Range | None = None
    labels: tuple[str, ...] | None = None
    inputs: tuple[int, ...] | None = None

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) is not None for field in fields(self))


def parse(query: Mapping[str, str], run: Mapping[str, Any]) -> Selection:
    """Read the selection of an address.

    Raises:
        UsageError: A part of it is no selection, or names a head that the run has not.
    """
    texts = {n: query[PREFIX + n] for n in _READ if query.get(PREFIX + n)}
    parts = {name: _READ[name](text) for name, text in texts.items() if name != "heads"}
    if "heads" in texts:
        parts["heads"] = _heads(texts["heads"], run)
    return Selection(**parts)


def _heads(text: str, run: Mapping[str, Any]) -> Heads:
    """Read heads among those that a run holds; a whole layer is all that it holds of it."""
    layers, heads = list(run["layers"]), list(run["heads"])
    asked = parse_heads(text, max(layers) + 1, max(heads) + 1)
    held = frozenset((layer, head) for layer, head in asked if layer in layers and head in heads)
    if not held:
        raise UsageError(f"The run holds none of the heads {text!r}; select some of its grid.")
    return held


def _range(text: str) -> Range:
    ends = re.fullmatch(r"([-+\d.eE]+)\.\.([-+\d.eE]+)", text)
    try:
        low, high = (float(end) for end in ends.groups()) if ends else (math.nan, math.nan)
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UsageError(
            f"{text[:40]!r} in the address is no range; write LOW..HIGH, as in 0.2..0.5."
        )
    return min(low, high), max(low, high)


def _labels(text: str) -> tuple[str, ...]:
    try:
        labels = json.loads(text)
    except (ValueError, RecursionError):
        labels = None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise UsageError(f'{text[:40]!r} in the address are no labels; write ["a", "b"].')
    return tuple(labels)


def _inputs(text: str) -> tuple[int, ...]:
    return tuple(sorted({whole("s.inputs", part) for part in text.split(",")}))


def _end(end: float, word: str) -> str:
    """Return an end of a range in words; nothing for one that leaves nothing out."""
    return "" if abs(end) >= OPEN else f"{word} {end:.4g} "


_READ: dict[str, Any] = {
    "heads": None, "value": _range, "length": _range, "labels": _labels, "inputs": _inputs,
}  # fmt: skip


def address(selection: Selection, run: Mapping[str, Any]) -> dict[str, str]:
    """Return the part of an address that has a selection."""
    texts: dict[str, str] = {}
    if selection.heads is not None:
        texts["heads"] = heads_text(selection.heads, len(run["heads"]))
    for name in ("value", "length"):
        ends = getattr(selection, name)
        if ends is not None:
            texts[name] = f"{ends[0]!r}..{ends[1]!r}"
    if selection.labels is not None:
        texts["labels"] = json.dumps(selection.labels, ensure_ascii=False)
    if selection.inputs is not None:
        texts["inputs"] = ",".join(map(str, selection.inputs))
    return {PREFIX + name: text for name, text in texts.items()}


def parts(
    selection: Selection, run: Mapping[str, Any], measure: str, called: Called
) -> list[tuple[str, dict[str, str]]]:
    """Return each part of a selection in words, and the address of the selection without it.

    called: names a label of a dataset.
    """
    words: dict[str, str] = {}
    if selection.heads is not None:
        n = len(selection.heads)
        few = heads_text(selection.heads, len(run["heads"])) if n <= _NAMED else ""
        words["heads"] = f"heads {few}" if few else f"{n} heads"
    for name, noun in (("value", measure.replace("_", " ")), ("length", "length")):
        ends = getattr(selection, name)
        if ends is not None:
            words[name] = f"{noun} {_end(ends[0], 'from')}{_end(ends[1], 'to')}".strip()
    if selection.labels is not None:
        names = [called(label, run["dataset"]) for label in selection.labels]
        words["labels"] = "label " + " or ".join(names)
    if selection.inputs is not None:
        n = len(selection.inputs)
        words["inputs"] = f"{n} chosen input{'s' if n != 1 else ''}"
    return [
        (text, address(replace(selection, **{name: None}), run)) for name, text in words.items()
    ]
