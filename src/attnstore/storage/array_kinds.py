"""The arrays that a run may hold beside `maps` and `received`: a new one is one entry, here or in `map_kinds`.

Each is packed like them, at the same offsets: along cells as `maps`, or along tokens as `received`.
Its shards are committed by the fragments of `array_blocks`, block by block, so a run may hold an
array of some of its blocks, or none of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from attnstore import map_kinds
from attnstore.errors import UnknownNameError
from attnstore.storage.precision import FLOAT32, Precision


@dataclass(frozen=True)
class ArrayKind:
    """One array: (layer, middle, cell or token) float32, NaN where there is no number.

    middle: name of its second axis, which has the heads of the run or, where they are named, the
    `components`; last: cell or token.
    """

    name: str
    middle: str
    last: str
    components: tuple[str, ...] = ()

    @property
    def precision(self) -> Precision:
        """Return how its numbers are stored."""
        return FLOAT32

    def rows(self, heads: Sequence[int]) -> int:
        """Count its second axis in a run of these heads."""
        return len(self.components) or len(heads)


VALUE_NORM = ArrayKind(map_kinds.VALUE_NORM, "head", "token")
"""Length of what a token passes on if it gets the whole weight; see `docs/beyond-weight.md`."""
MIXING = ArrayKind(map_kinds.MIXING, "ratio", "token", ("attn_n", "attn_res_n", "attn_res_ln_n"))
"""Share of a token's vector that comes from other tokens; see `docs/beyond-weight.md`."""
CAPTURED = (VALUE_NORM, MIXING)
"""The arrays that capture writes with every block; runs of an earlier capture lack them."""


def find(name: str) -> ArrayKind:
    """Return the kind of an array. Raises UnknownNameError."""
    for kind in CAPTURED:
        if kind.name == name:
            return kind
    with contextlib.suppress(UnknownNameError):
        maps = map_kinds.find(name)
        if maps.stored and maps.name != map_kinds.WEIGHTS:
            one = ("all_heads",) if maps.per_layer else ()
            return ArrayKind(name, "map" if maps.per_layer else "head", "cell", one)
    raise UnknownNameError(
        f"This version of attnstore knows no array {name!r} of a run; upgrade it."
    )


def part(name: str, block: int) -> str:
    """Return the part under which `array_blocks` keeps the shards of a block in an array."""
    return f"{name}-{block:06d}"


def split(part: str) -> tuple[str, str]:
    """Return the array and the part of the block, as '000012', of a part of `array_blocks`."""
    name, _, block = part.rpartition("-")
    return name, block
