"""A classifier in stages: embeddings, each layer's attention and the rest of the layer, task head.

In stages, layers below a disabled head run once for all heads, a layer's queries, keys and values run
once for all its heads, and the last layer runs for the one token that the task head reads.
`models.families` lists the layers that can be split. Compare with the model's own forward pass before use.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import relu, scaled_dot_product_attention

from attnstore.models import families
from attnstore.models.families import Layer

Tensor = torch.Tensor


@dataclass(frozen=True)
class Stages:
    """A model in stages. embed: hidden states (inputs, L, width) of a batch of model inputs;
    head: outputs (inputs, labels) of hidden states whose first token is [CLS]."""

    embed: Callable[[dict[str, Any]], Tensor]
    layers: tuple[Layer, ...]
    head: Callable[[Tensor], Tensor]


def stages(model: Any) -> Stages | None:
    """Return the stages of a sequence classifier, or None if its layers are of another kind."""
    base = model.base_model
    encoder = getattr(base, "encoder", None) or getattr(base, "transformer", None)
    modules = getattr(encoder, "layer", None)
    head = _head(model, base)
    if modules is None or head is None or getattr(model.config, "is_decoder", False):
        return None
    layers = [families.layer(module) for module in modules]
    if not layers or None in layers:
        return None
    return Stages(_embed(base), tuple(layer for layer in layers if layer is not None), head)


def _embed(base: Any) -> Callable[[dict[str, Any]], Tensor]:
    parameters = set(inspect.signature(base.embeddings.forward).parameters)
    project = getattr(base, "embeddings_project", None)  # only ELECTRA, if the sizes differ

    def embed(batch: dict[str, Any]) -> Tensor:
        hidden: Tensor = base.embeddings(**{k: v for k, v in batch.items() if k in parameters})
        return project(hidden) if project is not None else hidden

    return embed


def _head(model: Any, base: Any) -> Callable[[Tensor], Tensor] | None:
    """Return the task head as a function of the last hidden states; it reads the first token only."""
    if not hasattr(model, "classifier"):
        return None
    if hasattr(model, "pre_classifier"):
        return lambda hidden: model.classifier(relu(model.pre_classifier(hidden[:, 0])))
    if getattr(base, "pooler", None) is not None:
        return lambda hidden: model.classifier(base.pooler(hidden))
    if isinstance(model.classifier, torch.nn.Linear):
        return None
    return lambda hidden: model.classifier(hidden)


def attend(
    layer: Layer, hidden: Tensor, real: Tensor, n_heads: int, rows: int
) -> tuple[Tensor, Tensor]:
    """Compute each head's output for the first `rows` tokens, and its values.

    hidden: (inputs, L, width); real: (inputs, L), False for padding.
    Returns (inputs, rows, heads, width of a head) and (inputs, L, heads, width of a head).
    """

    def split(projected: Tensor) -> Tensor:
        return projected.view(*projected.shape[:2], n_heads, -1)

    query, key, value = (
        split(layer.query(hidden[:, :rows])),
        split(layer.key(hidden)),
        split(layer.value(hidden)),
    )
    mask = None if bool(real.all()) else real[:, None, None, :]
    outputs = scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask
    )
    return outputs.transpose(1, 2), value


def mean_value(value: Tensor, real: Tensor) -> Tensor:
    """Average the values of the real tokens (uniform weights 1/L), (inputs, 1, heads, width)."""
    share = real / real.sum(1, keepdim=True)
    return torch.einsum("nlhd,nl->nhd", value, share)[:, None]
