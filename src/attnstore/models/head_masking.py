"""Disabling heads, as a change of the attention inside a model's own forward pass.

`uniform` (Kovaleva et al. 2019, section 4.6): every row of the head becomes 1/L over the real
tokens, so that its output is the mean of their values. `zero` (Michel et al. 2019): the head's
output is nothing, whatever it attends to. `stages` does the same faster, for the models it knows.
"""

from __future__ import annotations

from typing import Any

import torch

from attnstore.errors import ModelError
from attnstore.head_sets import ZERO, Heads
from attnstore.models.attention_hook import Change


def disabling(heads: Heads, value: str) -> Change | None:
    """Return a change that disables these heads (None for none); see `capture.Change`.

    With `uniform` the changed weights are handed on: 1/L in every row. With `zero` they stay as the
    head computes them, because only what it passes on is taken away.
    """
    by_layer: dict[int, list[int]] = {}
    for layer, head in sorted(heads):
        by_layer.setdefault(layer, []).append(head)

    def change(
        layer: int, args: tuple[Any, ...], output: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = by_layer.get(layer)
        if not chosen:
            return output, weights
        output = output.clone()
        if value == ZERO:
            output[:, :, chosen] = 0
            return output, weights
        values, mask = args[2], args[3] if len(args) > 3 else None
        if values.shape[1] != weights.shape[1]:
            raise ModelError("Heads that share their values cannot be disabled one by one.")
        rows = uniform(weights, mask)
        weights = weights.clone()
        weights[:, chosen] = rows
        output[:, :, chosen] = (rows @ values[:, chosen]).transpose(1, 2)
        return output, weights

    return change if by_layer else None


def uniform(weights: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return (batch, 1, L, L): each row spread evenly over the tokens that the mask lets it attend to."""
    if mask is None:
        return torch.full_like(weights[:, :1], 1 / weights.shape[-1])
    seen = (mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2).float()
    seen = seen.expand(weights.shape[0], 1, *weights.shape[2:])
    return seen / seen.sum(-1, keepdim=True)
