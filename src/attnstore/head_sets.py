"""Sets of heads as people write them: `0.3,2.11` is head 3 of layer 0 and head 11 of layer 2.

`LAYER.HEAD`, both from 0, with commas between; heads of one layer also as `2.0-3`, a whole layer as
`4.*`. A set has one canonical text, so that the same heads have the same name everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attnstore.errors import UsageError

Heads = frozenset[tuple[int, int]]
"""Heads as (layer, head), both from 0."""

HEADS, LAYERS = "heads", "layers"
"""Names of two families of sets: each head alone, each whole layer."""

UNIFORM, ZERO = VALUES = ("uniform", "zero")
"""What becomes of a disabled head: attention 1/L to every real token, or no output."""

RANDOM_SETS = 20
"""Random sets beside a set of heads, if nothing else is asked for."""

_ITEM = re.compile(r"(\d{1,4})\.(?:(\d{1,4})(?:-(\d{1,4}))?|\*)", re.ASCII)


def parse_heads(text: str, n_layers: int, n_heads: int) -> Heads:
    """The heads that a text names, of a model of that shape.

    Raises UsageError for a text that is no set of heads, and for a head that the model has not.
    """
    found: set[tuple[int, int]] = set()
    for part in text.split(","):
        item = _ITEM.fullmatch(part.strip())
        if not item:
            raise UsageError(
                f"{part.strip()!r} in {text!r} is no head; write LAYER.HEAD from 0 on, as in "
                "0.3,2.11 (2.0-3 for several heads, 4.* for a whole layer)."
            )
        layer, first, last = int(item[1]), int(item[2] or 0), int(item[3] or item[2] or n_heads - 1)
        if last < first:
            raise UsageError(f"{part.strip()!r} runs down; write it as {layer}.{last}-{first}.")
        found |= {(layer, head) for head in range(first, last + 1)}
    for layer, head in sorted(found):
        if layer >= n_layers or head >= n_heads:
            raise UsageError(
                f"There is no head {layer}.{head}: the model's layers are 0 to {n_layers - 1}, the "
                f"heads of each 0 to {n_heads - 1}."
            )
    return frozenset(found)


def heads_text(heads: Iterable[tuple[int, int]], n_heads: int) -> str:
    """The canonical text of some heads, in order, whole layers as `4.*`; '' for none."""
    by_layer: dict[int, set[int]] = {}
    for layer, head in heads:
        by_layer.setdefault(layer, set()).add(head)
    return ",".join(
        f"{layer}.*" if len(found) == n_heads else ",".join(f"{layer}.{h}" for h in sorted(found))
        for layer, found in sorted(by_layer.items())
    )
