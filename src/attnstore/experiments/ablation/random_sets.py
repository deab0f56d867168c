"""Random sets of heads like a set: as many heads, and as many of each layer.

    draw(frozenset({(0, 3), (2, 11)}), n_heads=12, n=20)

What disabling a set does is only worth a sentence beside what disabling any other such set does
(Prasanna et al. 2020; Budhraja et al. 2020).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from itertools import chain, combinations, product
from math import comb, prod

import numpy as np

from attnstore.errors import UsageError
from attnstore.head_sets import Heads, heads_text


def check_number(n: int) -> None:
    """Refuse an impossible number of random sets. Raises UsageError."""
    if n < 0:
        raise UsageError(f"The random sets are {n}; give 0 (none) or more.")


def alike(heads: Heads, n_heads: int) -> int:
    """Count the other sets with as many heads of each layer; 0 for whole layers."""
    return prod(comb(n_heads, k) for k in _profile(heads).values()) - 1


def draw(heads: Heads, n_heads: int, n: int) -> list[Heads]:
    """Draw n other sets with as many heads of each layer, no set twice; all of them if there are no more.

    The draw follows from the set alone, and the first sets of a longer draw are those of a shorter one.
    """
    if alike(heads, n_heads) <= n:
        return [other for other in _all(heads, n_heads) if other != heads]
    seed = hashlib.sha256(heads_text(heads, n_heads).encode()).digest()[:8]
    generator = np.random.default_rng(int.from_bytes(seed))
    drawn: dict[Heads, None] = {}
    while len(drawn) < n:
        other = frozenset(
            (layer, int(head))
            for layer, k in sorted(_profile(heads).items())
            for head in generator.choice(n_heads, k, replace=False)
        )
        if other != heads:
            drawn.setdefault(other)
    return list(drawn)


def _profile(heads: Heads) -> Counter[int]:
    """Count the heads of each layer."""
    return Counter(layer for layer, _ in heads)


def _all(heads: Heads, n_heads: int) -> list[Heads]:
    """List every set with as many heads of each layer, itself included."""
    per_layer = [
        [[(layer, head) for head in chosen] for chosen in combinations(range(n_heads), k)]
        for layer, k in sorted(_profile(heads).items())
    ]
    return [frozenset(chain.from_iterable(parts)) for parts in product(*per_layer)]


def place(values: Sequence[float], value: float) -> tuple[int, float]:
    """Return how many of the values reach a value, and the chance of that: (1 + k) / (1 + all)."""
    k = sum(other >= value - 1e-12 for other in values)
    return k, (1 + k) / (1 + len(values))
