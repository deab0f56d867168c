"""One layer's attention a few heads at a time, for inputs whose maps are large.

All heads of a layer over 4096 tokens are 800 MB of float32, and eager attention holds them two or
three times. A head's map depends on no other head, so that the architecture's own attention function
can be called for some heads after another, with the matching slices of its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

OnHeads = Callable[[int, int, torch.Tensor], None]
"""Called with the layer, the first head and the weights (batch, some heads, L, L) from it on."""

CELLS_AT_ONCE = 1 << 25
"""Weights of one layer that are computed at once: 128 MiB of float32."""


def heads_at_once(length: int) -> int:
    """Count the heads whose maps of an input of that many tokens are computed at once."""
    return max(1, CELLS_AT_ONCE // length**2)


def attention(
    eager: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    at_once: int,
    on_heads: Callable[[int, torch.Tensor], None],
) -> torch.Tensor:
    """Call an attention function for some heads after another.

    eager: the function; args: its query (batch, heads, L, width), key and value (of as many heads
    or fewer, each shared by a group), mask (batch, 1 or heads, L, L) and what else; on_heads: called
    with the first head of each turn and its weights. Returns the output (batch, L, heads, width).
    """
    n_heads, n_keys = args[0].shape[1], args[1].shape[1]
    outputs = []
    for heads, keys in _turns(n_heads, n_keys, at_once):

        def of_turn(value: Any, heads: slice = heads, keys: slice = keys) -> Any:
            if not isinstance(value, torch.Tensor) or value.ndim != 4:
                return value
            part = {n_keys: keys, n_heads: heads}.get(value.shape[1])
            return value if part is None or value.shape[1] == 1 else value[:, part]

        output, weights = eager(
            module, *map(of_turn, args), **{name: of_turn(value) for name, value in kwargs.items()}
        )
        on_heads(heads.start, weights)
        outputs.append(output)
        del weights
    return torch.cat(outputs, dim=2)


def _turns(n_heads: int, n_keys: int, at_once: int) -> Iterator[tuple[slice, slice]]:
    """Yield the heads of each turn, and the keys that they share: whole groups, at least one."""
    group = n_heads // n_keys
    step = max(1, at_once // group)
    for first in range(0, n_keys, step):
        keys = slice(first, min(first + step, n_keys))
        yield slice(keys.start * group, keys.stop * group), keys
